//! The last step: a finished partial folder becomes the model, whole, in one rename.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::time::{SystemTime, UNIX_EPOCH};

use super::direct::sync_folder;
use super::journal::{JOURNAL, JOURNAL_NEW, remove_if_there};
use super::shard::{named_path, part_path};
use crate::error::{Error, Result};

/// Gives the shards in `partial` their names and renames the folder to `out`, all of it safe against power loss.
///
/// An `out` that exists and is not an empty folder is refused, or with `force` moved aside to `OUT.carrick-old-…` and
/// deleted once the new one stands in its place. Interrupted anywhere, the same call finishes the work.
pub fn commit(partial: &Path, out: &Path, shards: &[String], force: bool) -> Result<()> {
    let (partial, out) = (&without_slash(partial), &without_slash(out));
    if !partial.exists() && is_committed(partial, out, shards)? {
        return finish_up(out, force);
    }
    let replaced = is_taken(out)?;
    if replaced && !force {
        let reason = "exists already; give --force to replace it, or choose another name";
        return Err(Error::io(out)(io::Error::new(io::ErrorKind::AlreadyExists, reason)));
    }
    let old = unique_sibling(out)?;
    // Before the shards have names, since it takes long: from the first name on, a few renames are all that is left.
    sync_files(partial)?;
    for shard in shards {
        name_shard(partial, shard)?;
    }
    sync_folder(partial)?;
    if replaced {
        fs::rename(out, &old).map_err(Error::io(out))?;
    }
    if let Err(error) = move_into_place(partial, out) {
        if replaced {
            // Nothing was lost: the old model gets its name back.
            let _ = fs::rename(&old, out);
        }
        return Err(error);
    }
    finish_up(out, force)
}

fn name_shard(partial: &Path, name: &str) -> Result<()> {
    let (part, named) = (part_path(partial, name)?, named_path(partial, name)?);
    match fs::rename(&part, &named) {
        // An earlier, interrupted commit has done it.
        Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_file() => Ok(()),
        result => result.map_err(Error::io(&part)),
    }
}

/// Whether `out` is what a commit of `partial` makes: asked where there is no `partial` any more.
fn is_committed(partial: &Path, out: &Path, shards: &[String]) -> Result<bool> {
    let mut all = !shards.is_empty() && out.is_dir();
    for shard in shards {
        part_path(partial, shard)?;
        all &= named_path(out, shard)?.is_file();
    }
    Ok(all)
}

/// Whether something stands in the way at `out`; a link is something, whatever it points to.
fn is_taken(out: &Path) -> Result<bool> {
    match fs::symlink_metadata(out) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io(out)(error)),
        Ok(metadata) if metadata.is_dir() => Ok(fs::read_dir(out).map_err(Error::io(out))?.next().is_some()),
        Ok(_) => Ok(true),
    }
}

fn move_into_place(partial: &Path, out: &Path) -> Result<()> {
    if cfg!(not(unix)) && out.is_dir() {
        // Elsewhere a rename does not replace an empty folder.
        fs::remove_dir(out).map_err(Error::io(out))?;
    }
    fs::rename(partial, out).map_err(Error::io(partial))
}

/// Makes the rename last, then deletes what `force` has replaced, also by a commit that was interrupted here.
fn finish_up(out: &Path, force: bool) -> Result<()> {
    // Only now: up to here a run that begins again knows what it has.
    for journal in [JOURNAL_NEW, JOURNAL] {
        remove_if_there(&out.join(journal))?;
    }
    let folder = parent(out);
    sync_folder(&folder)?;
    if !force {
        return Ok(());
    }
    let prefix = old_prefix(out)?;
    for entry in fs::read_dir(&folder).map_err(Error::io(&folder))? {
        let entry = entry.map_err(Error::io(&folder))?;
        if !entry.file_name().as_encoded_bytes().starts_with(prefix.as_encoded_bytes()) {
            continue;
        }
        let path = entry.path();
        let is_folder = entry.file_type().map_err(Error::io(&path))?.is_dir();
        let removed = if is_folder { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(Error::io(&path))?;
    }
    Ok(())
}

/// Syncs every file below the folder; not those that links point to.
fn sync_files(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io(folder))? {
        let entry = entry.map_err(Error::io(folder))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(Error::io(&path))?;
        if kind.is_dir() {
            sync_files(&path)?;
            sync_folder(&path)?;
        } else if kind.is_file() {
            let file = File::options().read(true).write(cfg!(windows)).open(&path);
            file.and_then(|file| file.sync_all()).map_err(Error::io(&path))?;
        }
    }
    Ok(())
}

fn old_prefix(out: &Path) -> Result<OsString> {
    match out.file_name() {
        Some(name) => Ok([name, OsStr::new(".carrick-old-")].into_iter().collect()),
        None => Err(Error::io(out)(io::Error::new(io::ErrorKind::InvalidInput, "is not a name for a folder"))),
    }
}

fn unique_sibling(out: &Path) -> Result<PathBuf> {
    let time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    let mut name = old_prefix(out)?;
    name.push(format!("{}-{time:x}", process::id()));
    Ok(out.with_file_name(name))
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

/// `out/` means `out`: a rename of a link with a slash behind it would follow the link.
fn without_slash(path: &Path) -> PathBuf {
    path.components().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 2] = ["model-1.safetensors", "model-2.safetensors"];

    struct Case {
        folder: tempfile::TempDir,
        partial: PathBuf,
        out: PathBuf,
    }

    impl Case {
        /// A finished partial folder.
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let (partial, out) = (folder.path().join("out.carrick-partial"), folder.path().join("out"));
            let case = Self { folder, partial, out };
            case.fill("new");
            case
        }

        fn fill(&self, text: &str) {
            fs::create_dir_all(self.partial.join("extra")).unwrap();
            for name in ["config.json", "extra/chat.jinja", JOURNAL] {
                fs::write(self.partial.join(name), text).unwrap();
            }
            NAMES.iter().for_each(|name| fs::write(part_path(&self.partial, name).unwrap(), text).unwrap());
        }

        fn commit(&self, force: bool) -> Result<()> {
            commit(&self.partial, &self.out, &NAMES.map(str::to_owned), force)
        }

        fn assert_done(&self, text: &str) {
            for name in NAMES.into_iter().chain(["config.json", "extra/chat.jinja"]) {
                assert_eq!(fs::read_to_string(self.out.join(name)).unwrap(), text);
            }
            assert_eq!(fs::read_dir(&self.out).unwrap().count(), NAMES.len() + 2);
            assert_eq!(fs::read_dir(self.folder.path()).unwrap().count(), 1, "something is left beside");
        }
    }

    #[test]
    fn appears_whole() {
        let case = Case::new();
        case.commit(false).unwrap();
        case.assert_done("new");
    }

    #[test]
    fn rerun_after_the_end_is_fine() {
        let case = Case::new();
        for force in [false, true, true] {
            case.commit(force).unwrap();
            case.assert_done("new");
        }
    }

    #[test]
    fn rerun_after_any_step_is_fine() {
        for named in 0..=NAMES.len() {
            let case = Case::new();
            for name in &NAMES[..named] {
                name_shard(&case.partial, name).unwrap();
            }
            if named == NAMES.len() {
                fs::rename(&case.partial, &case.out).unwrap();
            }
            case.commit(false).unwrap();
            case.assert_done("new");
        }
    }

    #[test]
    fn a_commit_that_fails_keeps_the_journal() {
        let mut case = Case::new();
        case.out = case.folder.path().join("missing").join("out");
        assert!(matches!(case.commit(false), Err(Error::Io { .. })));
        assert!(case.partial.join(JOURNAL).exists(), "a run that begins again does not know what it has");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn any_name_will_do() {
        use std::os::unix::ffi::OsStrExt;

        let mut case = Case::new();
        case.out = case.folder.path().join(OsStr::from_bytes(b"m\xff"));
        case.commit(false).unwrap();
        case.fill("newer");
        case.commit(true).unwrap();
        case.assert_done("newer");
    }

    #[test]
    fn rerun_after_the_old_one_moved_aside() {
        for arrived in [false, true] {
            let case = Case::new();
            let old = unique_sibling(&case.out).unwrap();
            fs::create_dir(&old).unwrap();
            fs::write(old.join(NAMES[0]), "old").unwrap();
            if arrived {
                case.commit(false).unwrap();
                assert!(old.exists(), "deleted without force");
            }
            case.commit(true).unwrap();
            case.assert_done("new");
        }
    }

    #[test]
    fn an_existing_model_needs_force() {
        let case = Case::new();
        case.commit(false).unwrap();
        case.fill("newer");
        let refused = case.commit(false);
        assert!(matches!(&refused, Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists));
        assert!(refused.unwrap_err().to_string().contains("--force"));
        assert!(part_path(&case.partial, NAMES[0]).unwrap().exists(), "a refused commit changed the partial folder");
        assert_eq!(fs::read_to_string(case.out.join(NAMES[0])).unwrap(), "new");
        case.commit(true).unwrap();
        case.assert_done("newer");
    }

    #[test]
    fn an_empty_folder_is_taken_over() {
        let case = Case::new();
        fs::create_dir(&case.out).unwrap();
        case.commit(false).unwrap();
        case.assert_done("new");
    }

    #[test]
    #[cfg(unix)]
    fn links_are_replaced_not_followed() {
        let case = Case::new();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("theirs"), "x").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), &case.out).unwrap();
        assert!(case.commit(false).is_err());
        let with_slash = PathBuf::from(format!("{}/", case.out.display()));
        commit(&case.partial, &with_slash, &NAMES.map(str::to_owned), true).unwrap();
        case.assert_done("new");
        assert_eq!(fs::read_to_string(elsewhere.path().join("theirs")).unwrap(), "x");
    }

    #[test]
    fn a_missing_shard_stops_it() {
        let case = Case::new();
        fs::remove_file(part_path(&case.partial, NAMES[1]).unwrap()).unwrap();
        assert!(matches!(case.commit(true), Err(Error::Io { .. })));
        assert!(!case.out.exists() && case.partial.join(JOURNAL).exists());
        fs::remove_dir_all(&case.partial).unwrap();
        assert!(case.commit(false).is_err(), "nothing is there at all");
    }

    #[test]
    fn names_with_paths_are_refused() {
        let case = Case::new();
        let outside = commit(&case.partial, &case.out, &["../x".to_owned()], true);
        assert!(matches!(outside, Err(Error::Plan { .. })));
    }
}
