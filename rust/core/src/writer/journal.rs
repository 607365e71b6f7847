//! What of a run is finished and safely on disk: `journal.jsonl` in the partial folder.
//!
//! The first line says what run this is: the plan, the engine, the input files. Each further line is a tensor whose bytes
//! had reached the disk before the line was written. A last line that was cut off is as if it had never been begun.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::checksum::{from_hex, to_hex};
use super::direct::sync_folder;
use super::header::job_bytes;
use super::shard::{ShardFile, named_path};
use crate::counts::Counts;
use crate::error::{Error, Result};
use crate::plan::{FileRecord, Plan};

pub(super) const JOURNAL: &str = "journal.jsonl";
/// The journal while it is put together anew.
pub(super) const JOURNAL_NEW: &str = "journal.jsonl.new";
/// What the planner calls partial folders.
const PARTIAL_SUFFIX: &str = ".carrick-partial";

/// A tensor that is on disk for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    pub job: usize,
    pub checksum: u128,
    pub counts: Counts,
}

/// What a partial folder holds for a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resume {
    /// No run was begun here.
    Fresh,
    /// Another run was: nothing of it can be used, and the next [`Writer`](super::Writer) deletes it.
    Stale { reason: String },
    /// This run was: these tensors need not be made again. By job.
    Continue(Vec<Finished>),
}

impl Resume {
    pub fn finished(&self) -> &[Finished] {
        match self {
            Self::Continue(finished) => finished,
            _ => &[],
        }
    }

    /// For each shard, the bytes of the finished tensors: what [`Writer::create`](super::Writer::create) keeps.
    pub fn kept(&self, plan: &Plan) -> Result<Vec<Vec<Range<u64>>>> {
        let mut kept = vec![Vec::new(); plan.shards.len()];
        for job in self.finished().iter().filter_map(|finished| plan.jobs.get(finished.job)) {
            let bytes = job_bytes(job)?;
            if let Some(kept) = kept.get_mut(job.shard).filter(|_| !bytes.is_empty()) {
                kept.push(bytes);
            }
        }
        Ok(kept)
    }
}

#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct Identity<'a> {
    plan: Cow<'a, str>,
    engine: Cow<'a, str>,
    files: Vec<InputFile<'a>>,
}

#[derive(PartialEq, Eq, Serialize, Deserialize)]
struct InputFile<'a> {
    path: Cow<'a, Path>,
    size: u64,
    mtime_ns: i64,
    inode: u64,
    header_hash: Cow<'a, str>,
}

#[derive(Serialize, Deserialize)]
struct Entry<'a> {
    job: usize,
    name: Cow<'a, str>,
    checksum: Cow<'a, str>,
    #[serde(flatten)]
    counts: Counts,
}

impl<'a> Identity<'a> {
    fn of(plan: &'a Plan) -> Result<Self> {
        let file = |file: &'a FileRecord| InputFile {
            path: Cow::Borrowed(&file.path),
            size: file.size,
            mtime_ns: file.mtime_ns,
            inode: file.inode,
            header_hash: Cow::Borrowed(&file.header_hash),
        };
        let files = plan.files.iter().map(file).collect();
        Ok(Self { plan: plan_hash(plan)?.into(), engine: env!("CARGO_PKG_VERSION").into(), files })
    }

    /// Why a run with this identity cannot go on from one with `other`.
    fn difference(&self, other: &Self) -> Option<String> {
        if self.engine != other.engine {
            return Some(format!("was begun by version {}", other.engine));
        }
        if let Some((now, _)) = self.files.iter().zip(&other.files).find(|(now, then)| now != then) {
            return Some(format!("was begun with another state of {}", now.path.display()));
        }
        (self != other).then(|| "belongs to another plan".to_owned())
    }
}

/// XXH3-128 of the plan as the engine sees it, in hex.
pub fn plan_hash(plan: &Plan) -> Result<String> {
    let text = serde_json::to_vec(plan).map_err(|error| Error::plan(format!("cannot be written down: {error}")))?;
    Ok(to_hex(xxh3_128(&text)))
}

/// Says what of `plan` the folder `partial` already holds.
pub fn resume(partial: &Path, plan: &Plan) -> Result<Resume> {
    let path = partial.join(JOURNAL);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Resume::Fresh),
        Err(error) => return Err(Error::io(&path)(error)),
    };
    // Only what a line feed ends was written to its end.
    let mut lines = text.split_inclusive(|&byte| byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"));
    let stale = |reason: String| Ok(Resume::Stale { reason: format!("{} {reason}", partial.display()) });
    let Some(then) = lines.next().and_then(|line| serde_json::from_slice::<Identity>(line).ok()) else {
        return stale("has a journal without a readable beginning".to_owned());
    };
    if let Some(difference) = Identity::of(plan)?.difference(&then) {
        return stale(difference);
    }
    let complete = complete_shards(partial, plan)?;
    let mut finished = BTreeMap::new();
    for line in lines {
        // After a line that makes no sense nothing can be trusted.
        let Ok(entry) = serde_json::from_slice::<Entry>(line) else { break };
        let Some(checksum) = from_hex(&entry.checksum) else { break };
        let Some(job) = plan.jobs.get(entry.job).filter(|job| job.name == entry.name) else { break };
        if complete.get(job.shard) == Some(&true) {
            finished.insert(entry.job, Finished { job: entry.job, checksum, counts: entry.counts });
        }
    }
    Ok(Resume::Continue(finished.into_values().collect()))
}

/// For each shard, whether its file is there in its full size, under the name of a part or (where a commit was
/// interrupted) under its own.
fn complete_shards(partial: &Path, plan: &Plan) -> Result<Vec<bool>> {
    let files = ShardFile::all(partial, plan)?;
    let is_complete = |path: &Path, bytes: u64| {
        let metadata = fs::symlink_metadata(path);
        metadata.is_ok_and(|metadata| metadata.is_file() && metadata.len() == bytes)
    };
    let both = |(file, shard): (&ShardFile, &crate::plan::Shard)| {
        let named = named_path(partial, &shard.name)?;
        let part = is_complete(&file.path, file.file_bytes);
        Ok(part || (!file.path.exists() && is_complete(&named, file.file_bytes)))
    };
    files.iter().zip(&plan.shards).map(both).collect()
}

/// Deletes what earlier runs left in a partial folder: the journal first, then the shards. Other files stay.
pub fn clear(partial: &Path) -> Result<()> {
    for name in [JOURNAL, JOURNAL_NEW] {
        remove_if_there(&partial.join(name))?;
    }
    // An interrupted commit leaves shards under their own names. Elsewhere such a file could be somebody's model.
    let ours = partial.file_name().is_some_and(|name| name.to_string_lossy().ends_with(PARTIAL_SUFFIX));
    let entries = match fs::read_dir(partial) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(Error::io(partial))?,
    };
    for entry in entries {
        let path = entry.map_err(Error::io(partial))?.path();
        let is_shard = path.extension().is_some_and(|end| end == "part" || (ours && end == "safetensors"));
        if is_shard && fs::symlink_metadata(&path).is_ok_and(|metadata| !metadata.is_dir()) {
            remove_if_there(&path)?;
        }
    }
    sync_folder(partial)
}

pub(super) fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(path)(error)),
        _ => Ok(()),
    }
}

/// The journal of a run, open for more.
pub(super) struct Journal {
    path: PathBuf,
    file: File,
    names: Vec<String>,
}

impl Journal {
    /// Begins a journal that holds `finished` and nothing else, in one step: entries that a former run made and that
    /// are not trusted now must not come back when their shards exist again.
    pub fn begin(partial: &Path, plan: &Plan, finished: &[Finished]) -> Result<Self> {
        let (path, new) = (partial.join(JOURNAL), partial.join(JOURNAL_NEW));
        let identity = serde_json::to_string(&Identity::of(plan)?);
        let mut text = identity.map_err(|error| Error::plan(format!("cannot be written down: {error}")))?;
        text.push('\n');
        let names: Vec<String> = plan.jobs.iter().map(|job| job.name.clone()).collect();
        text.push_str(&lines(&names, finished));
        remove_if_there(&new)?;
        let mut file = OpenOptions::new().append(true).create_new(true).open(&new).map_err(Error::io(&new))?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(Error::io(&new))?;
        fs::rename(&new, &path).map_err(Error::io(&path))?;
        sync_folder(partial)?;
        Ok(Self { path, file, names })
    }

    /// Adds tensors whose bytes are on disk, and waits until the lines are, too.
    pub fn append(&mut self, finished: &[Finished]) -> Result<()> {
        if finished.is_empty() {
            return Ok(());
        }
        let text = lines(&self.names, finished);
        let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
        written.map_err(Error::io(&self.path))
    }
}

fn lines(names: &[String], finished: &[Finished]) -> String {
    let mut text = String::new();
    for &Finished { job, checksum, counts } in finished {
        let Some(name) = names.get(job) else { continue };
        let entry = Entry { job, name: name.into(), checksum: to_hex(checksum).into(), counts };
        // Numbers and strings can always be written down.
        if let Ok(line) = serde_json::to_string(&entry) {
            text.push_str(&line);
            text.push('\n');
        }
    }
    text
}
