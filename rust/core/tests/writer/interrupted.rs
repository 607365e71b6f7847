//! Runs that stop halfway, and those that go on from there.

use carrick_core::counts::Counts;
use std::fs;
use std::path::Path;
use std::thread;

use carrick_core::error::Error;
use carrick_core::plan::{FileRecord, Plan};
use carrick_core::writer::{Resume, Writer, WriterOptions, clear, commit, resume};
use proptest::prelude::*;

use crate::harness::{assert_shards, bytes, checksum_of, fill_all, plan, tiles, within_a_minute};
use crate::whole::{options, shards};

const SMALL: WriterOptions = WriterOptions { block_bytes: 4096, blocks: 4, direct: true, in_flight: 2 };

/// Does what the folder does not hold yet, in tiles of up to 1000 bytes; says how many tensors it held.
fn go_on(partial: &Path, plan: &Plan, options: WriterOptions) -> usize {
    let resumed = resume(partial, plan).unwrap();
    for done in resumed.finished() {
        assert_eq!(done.checksum, checksum_of(plan, done.job));
    }
    let writer = Writer::create(partial, plan, &resumed.kept(plan).unwrap(), options).unwrap();
    fill_all(&writer, plan, &tiles(plan, resumed.finished(), 1000, 5), 2, None).unwrap();
    writer.finish().unwrap();
    assert_shards(partial, plan, ".part");
    resumed.finished().len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    /// Cancelled, dropped, and cancelled again, with other blocks and threads each time.
    #[test]
    fn resumed_runs_give_the_same_bytes(
        shards in shards(), runs in prop::collection::vec((options(), 1usize..5, 0usize..200), 1..4), last in options(),
    ) {
        within_a_minute(move || {
            let folder = tempfile::tempdir().unwrap();
            let partial = folder.path().join("out.carrick-partial");
            let plan = plan(&shards);
            let mut held = 0;
            for (options, threads, cancel_at) in runs {
                let resumed = resume(&partial, &plan).unwrap();
                assert!(resumed.finished().len() >= held, "lost {held} finished tensors");
                held = resumed.finished().len();
                let writer = Writer::create(&partial, &plan, &resumed.kept(&plan).unwrap(), options).unwrap();
                let tiles = tiles(&plan, resumed.finished(), 2000, cancel_at as u64);
                match fill_all(&writer, &plan, &tiles, threads, Some(cancel_at)) {
                    Ok(()) if cancel_at >= tiles.len() => {}
                    Ok(()) | Err(Error::Interrupted) => {}
                    Err(error) => panic!("{error}"),
                }
                drop(writer);
            }
            assert!(go_on(&partial, &plan, last) >= held);
        });
    }
}

/// A run of two shards that was cancelled when the first three of its five tensors were complete.
fn interrupted(partial: &Path) -> Plan {
    let plan = plan(&[vec![5000, 0, 12_000], vec![9000, 100]]);
    let writer = Writer::create(partial, &plan, &[], SMALL).unwrap();
    let all = tiles(&plan, &[], 1000, 3);
    let first: Vec<_> = all.into_iter().filter(|tile| tile.job < 3).collect();
    fill_all(&writer, &plan, &first, 2, None).unwrap();
    drop(writer);
    assert_eq!(resume(partial, &plan).unwrap().finished().len(), 3);
    plan
}

#[test]
fn kept_bytes_are_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let plan = interrupted(folder.path());
    let path = folder.path().join("model-00001-of-00002.safetensors.part");
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    let writer =
        Writer::create(folder.path(), &plan, &resume(folder.path(), &plan).unwrap().kept(&plan).unwrap(), SMALL);
    let twice = writer.unwrap().fill(0, 4999, 1, |_| Ok(()));
    assert!(matches!(twice, Err(Error::Plan { .. })));
    assert_eq!(go_on(folder.path(), &plan, SMALL), 3);
    assert!(fs::metadata(&path).unwrap().modified().unwrap() >= before);
}

#[test]
fn a_torn_line_is_as_if_never_begun() {
    let folder = tempfile::tempdir().unwrap();
    let plan = interrupted(folder.path());
    let journal = folder.path().join("journal.jsonl");
    let whole = fs::read(&journal).unwrap();
    let first = whole.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    for cut in 0..whole.len() {
        fs::write(&journal, &whole[..cut]).unwrap();
        let lines = whole[..cut].iter().filter(|&&byte| byte == b'\n').count();
        match resume(folder.path(), &plan).unwrap() {
            Resume::Stale { .. } => assert!(cut < first),
            Resume::Continue(finished) => assert_eq!(finished.len(), lines - 1, "cut at {cut}"),
            Resume::Fresh => panic!("a journal is there"),
        }
    }
    // Power loss can leave zeros where a line was to be.
    fs::write(&journal, [&whole[..], &[0; 100], b"\n"].concat()).unwrap();
    assert_eq!(resume(folder.path(), &plan).unwrap().finished().len(), 3);
    fs::write(&journal, &whole[..whole.len() - 5]).unwrap();
    assert_eq!(go_on(folder.path(), &plan, SMALL), 2);
}

#[test]
fn another_run_is_stale() {
    let folder = tempfile::tempdir().unwrap();
    let plan = interrupted(folder.path());
    let stale = |change: &dyn Fn(&mut Plan)| {
        let mut other = plan.clone();
        change(&mut other);
        match resume(folder.path(), &other).unwrap() {
            Resume::Stale { reason } => reason,
            other => panic!("{other:?}"),
        }
    };
    assert!(stale(&|plan| plan.seed = 2).contains("another plan"));
    assert!(stale(&|plan| plan.jobs[0].method.name = "cast".to_owned()).contains("another plan"));
    let changes: [&dyn Fn(&mut FileRecord); 4] =
        [&|file| file.size += 1, &|file| file.mtime_ns += 1, &|file| file.inode += 1, &|file| {
            file.header_hash.push('0');
        }];
    for change in changes {
        assert!(stale(&|plan| change(&mut plan.files[0])).contains("/in/a.safetensors"));
    }
    let journal = folder.path().join("journal.jsonl");
    let text = fs::read_to_string(&journal).unwrap();
    fs::write(
        &journal,
        text.replacen(concat!(r#""engine":""#, env!("CARGO_PKG_VERSION")), r#""engine":"0.0.0-x"#, 1),
    )
    .unwrap();
    assert!(stale(&|_| {}).contains("version 0.0.0-x"));
    fs::write(&journal, "{}\n").unwrap();
    assert!(stale(&|_| {}).contains("readable"));

    // The next writer begins afresh, without the shards of the other.
    let other = crate::harness::plan(&[vec![300]]);
    assert_eq!(go_on(folder.path(), &other, SMALL), 0);
    let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["journal.jsonl", "model-00001-of-00001.safetensors.part"]);
}

#[test]
fn entries_count_only_with_their_shard() {
    let folder = tempfile::tempdir().unwrap();
    let partial = folder.path();
    let plan = plan(&[vec![5000], vec![6000]]);
    assert_eq!(go_on(partial, &plan, SMALL), 0);
    let second = partial.join("model-00002-of-00002.safetensors.part");
    fs::remove_file(&second).unwrap();
    let jobs = |resumed: &Resume| resumed.finished().iter().map(|done| done.job).collect::<Vec<_>>();
    let resumed = resume(partial, &plan).unwrap();
    assert_eq!(jobs(&resumed), [0]);

    // Made anew and left empty: the old entry must not speak for the new file.
    drop(Writer::create(partial, &plan, &resumed.kept(&plan).unwrap(), SMALL).unwrap());
    assert_eq!(jobs(&resume(partial, &plan).unwrap()), [0]);
    assert_eq!(go_on(partial, &plan, SMALL), 1);

    fs::OpenOptions::new().write(true).open(&second).unwrap().set_len(6000).unwrap();
    assert_eq!(jobs(&resume(partial, &plan).unwrap()), [0]);
    let both = vec![vec![0..5000], vec![0..6000]];
    assert!(matches!(Writer::create(partial, &plan, &both, SMALL), Err(Error::Format { .. })));
}

#[test]
fn entries_about_bytes_that_are_not_kept_go() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(&[vec![5000, 6000]]);
    assert_eq!(go_on(folder.path(), &plan, SMALL), 0);
    let mut kept = resume(folder.path(), &plan).unwrap().kept(&plan).unwrap();
    kept[0].remove(0);
    drop(Writer::create(folder.path(), &plan, &kept, SMALL).unwrap());
    assert_eq!(resume(folder.path(), &plan).unwrap().kept(&plan).unwrap(), kept);
    drop(Writer::create(folder.path(), &plan, &[], SMALL).unwrap());
    assert_eq!(resume(folder.path(), &plan).unwrap(), Resume::Continue(Vec::new()));
    assert_eq!(go_on(folder.path(), &plan, SMALL), 0);
}

#[test]
fn goes_on_after_an_interrupted_commit() {
    let folder = tempfile::tempdir().unwrap();
    let (partial, out) = (folder.path().join("out.carrick-partial"), folder.path().join("out"));
    let plan = plan(&[vec![5000], vec![6000]]);
    assert_eq!(go_on(&partial, &plan, SMALL), 0);
    let name = &plan.shards[0].name;
    fs::rename(partial.join(format!("{name}.part")), partial.join(name)).unwrap();
    assert_eq!(go_on(&partial, &plan, SMALL), 2);
    let names: Vec<String> = plan.shards.iter().map(|shard| shard.name.clone()).collect();
    commit(&partial, &out, &names, false).unwrap();
    assert_shards(&out, &plan, "");
    assert_eq!(fs::read_dir(&out).unwrap().count(), 2);
}

#[test]
fn clear_leaves_what_is_not_ours() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["a.safetensors", "config.json", "journal.jsonl", "journal.jsonl.new", "b.safetensors.part"];
    for (place, left) in [("elsewhere", 2), ("out.carrick-partial", 1)] {
        let place = folder.path().join(place);
        fs::create_dir(&place).unwrap();
        names.iter().for_each(|name| fs::write(place.join(name), "x").unwrap());
        clear(&place).unwrap();
        assert_eq!(fs::read_dir(&place).unwrap().count(), left);
        assert!(place.join("config.json").exists());
    }
    clear(&folder.path().join("nowhere")).unwrap();
}

#[test]
fn an_error_in_a_tile_does_not_hang() {
    within_a_minute(|| {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(&[vec![100_000]]);
        let writer = Writer::create(folder.path(), &plan, &[], WriterOptions { blocks: 1, ..SMALL }).unwrap();
        let failed: Result<(), _> = writer.fill(0, 0, 10, |_| Err(Error::tensor("a", "not finite")));
        assert!(matches!(failed, Err(Error::Tensor { .. })));
        thread::scope(|scope| {
            // Waits for a block that can never be complete, until the run is cancelled.
            let waiting = scope.spawn(|| writer.fill(0, 50_000, 10, |_| Ok(())));
            thread::sleep(std::time::Duration::from_millis(50));
            assert!(!waiting.is_finished());
            writer.cancel();
            assert!(matches!(waiting.join().unwrap(), Err(Error::Interrupted)));
        });
        assert!(matches!(writer.fill(0, 90_000, 10, |_| Ok(())), Err(Error::Interrupted)));
        assert!(matches!(writer.finish(), Err(Error::Interrupted)));
    });
}

#[test]
fn a_failed_write_reaches_everybody() {
    within_a_minute(|| {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(&[vec![400_000]]);
        let writer = Writer::create(folder.path(), &plan, &[], SMALL).unwrap();
        fs::remove_file(folder.path().join("model-00001-of-00001.safetensors.part")).unwrap();
        let filled = fill_all(&writer, &plan, &tiles(&plan, &[], 1000, 1), 3, None);
        assert!(matches!(&filled, Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound));
        assert!(matches!(writer.fill(0, 0, 1, |_| Ok(())), Err(Error::Io { .. })));
        assert!(matches!(writer.finish(), Err(Error::Io { .. })));
        assert_eq!(resume(folder.path(), &plan).unwrap().finished(), []);
    });
}

#[test]
fn entries_are_recorded_while_the_run_goes_on() {
    within_a_minute(|| {
        let folder = tempfile::tempdir().unwrap();
        let plan = plan(&[vec![10_000, 10_000]]);
        let writer = Writer::create(folder.path(), &plan, &[], SMALL).unwrap();
        for begin in (0..16_000).step_by(4000) {
            writer
                .fill(0, begin, 4000, |slice| {
                    slice.copy_from_slice(&bytes(0, begin..begin + 4000));
                    Ok(())
                })
                .unwrap();
        }
        writer.finished(0, checksum_of(&plan, 0), Counts::default());
        while resume(folder.path(), &plan).unwrap().finished().is_empty() {
            thread::sleep(std::time::Duration::from_millis(20));
        }
    });
}
