//! Runs that come to their end, and requests that are refused.

use carrick_core::counts::Counts;
use std::thread;
use std::time::Duration;

use carrick_core::error::Error;
use carrick_core::writer::{Resume, WriteSummary, Writer, WriterOptions, blocks_needed, job_bytes, resume};
use proptest::prelude::*;

use crate::harness::{assert_shards, bytes, checksum_of, fill_all, plan, tiles, within_a_minute};

pub fn options() -> impl Strategy<Value = WriterOptions> {
    let block_bytes = prop_oneof![Just(4096), Just(8192), Just(12288), Just(65536), Just(2 << 20)];
    (block_bytes, 1usize..5, any::<bool>(), 1usize..4)
        .prop_map(|(block_bytes, blocks, direct, in_flight)| WriterOptions { block_bytes, blocks, direct, in_flight })
}

pub fn shards() -> impl Strategy<Value = Vec<Vec<u64>>> {
    let size = prop_oneof![Just(0), 1u64..9, 1u64..3000, 4000u64..4200, 1u64..60_000];
    prop::collection::vec(prop::collection::vec(size, 0..10), 1..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(160))]

    #[test]
    fn every_byte_in_its_place(
        shards in shards(), options in options(), threads in 1usize..6, largest in 1u64..8000, seed in any::<u64>(),
    ) {
        within_a_minute(move || {
            let folder = tempfile::tempdir().unwrap();
            let partial = folder.path().join("out.carrick-partial");
            let plan = plan(&shards);
            let writer = Writer::create(&partial, &plan, &[], options).unwrap();
            let tiles = tiles(&plan, &[], largest.min(options.block_bytes as u64), seed);
            fill_all(&writer, &plan, &tiles, threads, None).unwrap();
            let summary = writer.finish().unwrap();
            assert_shards(&partial, &plan, ".part");
            let sizes = plan.shards.iter().map(|shard| partial.join(format!("{}.part", shard.name)));
            let on_disk: u64 = sizes.map(|path| path.metadata().unwrap().len()).sum();
            assert_eq!(summary.bytes, on_disk);
            assert!(options.direct || !summary.direct);
            let Resume::Continue(finished) = resume(&partial, &plan).unwrap() else { panic!("not to be continued") };
            assert_eq!(finished.len(), plan.jobs.len());
            for done in finished {
                assert_eq!(done.checksum, checksum_of(&plan, done.job));
            }
        });
    }
}

fn small() -> WriterOptions {
    WriterOptions { block_bytes: 4096, blocks: 4, direct: false, in_flight: 1 }
}

/// One shard of three jobs of 10 000 bytes, and a writer for it.
fn writer(folder: &tempfile::TempDir) -> Writer {
    Writer::create(&folder.path().join("partial"), &plan(&[vec![10_000; 3]]), &[], small()).unwrap()
}

fn fill(writer: &Writer, begin: u64, len: usize) -> carrick_core::error::Result<()> {
    writer.fill(0, begin, len, |slice| {
        slice.copy_from_slice(&bytes(0, begin..begin + len as u64));
        Ok(())
    })
}

fn reason<T>(result: carrick_core::error::Result<T>) -> String {
    match result {
        Err(Error::Plan { reason }) => reason,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("accepted"),
    }
}

#[test]
fn overlap_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let writer = writer(&folder);
    fill(&writer, 0, 100).unwrap();
    fill(&writer, 100, 4096).unwrap();
    for (begin, len) in [(0, 1), (99, 2), (99, 1), (50, 10), (4000, 300)] {
        assert!(reason(fill(&writer, begin, len)).contains("twice"), "{begin} {len}");
    }
    let inside = writer.fill(0, 6000, 10, |_| {
        assert!(reason(fill(&writer, 6009, 10)).contains("twice"));
        Ok(())
    });
    inside.unwrap();
}

#[test]
fn ranges_outside_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let writer = writer(&folder);
    assert!(reason(fill(&writer, 29_999, 2)).contains("do not lie"));
    assert!(reason(writer.fill(0, u64::MAX, 8, |_| Ok(()))).contains("do not lie"));
    assert!(reason(writer.fill(1, 0, 8, |_| Ok(()))).contains("shard 1"));
    assert!(reason(fill(&writer, 0, 4097)).contains("larger than a block"));
}

#[test]
fn unusable_options_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(&[vec![1]]);
    for options in [
        WriterOptions { block_bytes: 0, ..small() },
        WriterOptions { block_bytes: 5000, ..small() },
        WriterOptions { blocks: 0, ..small() },
        WriterOptions { in_flight: 0, ..small() },
    ] {
        assert!(reason(Writer::create(&folder.path().join("partial"), &plan, &[], options)).contains("writer"));
    }
    assert!(!folder.path().join("partial").exists());
}

#[test]
fn missing_bytes_are_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let writer = writer(&folder);
    for begin in (0..27_000).step_by(1000) {
        fill(&writer, begin, 1000).unwrap();
    }
    assert!(reason(writer.finish()).contains("never filled"));
}

#[test]
fn a_slow_thread_keeps_the_first_block() {
    within_a_minute(|| {
        let folder = tempfile::tempdir().unwrap();
        let partial = folder.path().join("partial");
        let plan = plan(&[vec![200_000]]);
        let options = WriterOptions { blocks: 2, ..small() };
        let writer = Writer::create(&partial, &plan, &[], options).unwrap();
        let fill = |tile: u64, len| fill(&writer, tile * 4096, len).unwrap();
        thread::scope(|scope| {
            // The first tile comes last: the others run ahead until the buffers but one are taken, and wait.
            scope.spawn(move || {
                thread::sleep(Duration::from_millis(200));
                fill(0, 4096);
            });
            scope.spawn(move || {
                fill(1, 4096);
                (2..48).for_each(|tile| fill(tile, 4096));
                fill(48, 200_000 - 48 * 4096);
            });
        });
        writer.finish().unwrap();
        assert_shards(&partial, &plan, ".part");
    });
}

#[test]
#[cfg(unix)]
fn a_full_disk_shows_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let partial = folder.path().join("partial");
    // More than any disk has, and refused without trying: filling this one would disturb others.
    for sizes in [vec![vec![100], vec![1 << 60]], vec![vec![1 << 59], vec![1 << 59]]] {
        match Writer::create(&partial, &plan(&sizes), &[], small()) {
            Err(Error::Io { source, .. }) => assert_eq!(source.kind(), std::io::ErrorKind::StorageFull),
            Err(error) => panic!("another error: {error}"),
            Ok(_) => panic!("accepted"),
        }
        assert!(!partial.exists());
    }
}

#[test]
fn an_empty_plan_gives_headers() {
    let folder = tempfile::tempdir().unwrap();
    let plan = plan(&[vec![], vec![0, 0]]);
    let writer = Writer::create(folder.path(), &plan, &[], small()).unwrap();
    for job in 0..2 {
        writer
            .fill(1, job_bytes(&plan.jobs[job]).unwrap().start, 0, |slice| {
                assert!(slice.is_empty());
                Ok(())
            })
            .unwrap();
        writer.finished(job, checksum_of(&plan, job), Counts::default());
    }
    assert!(matches!(writer.finish(), Ok(WriteSummary { bytes: 256 | 320, .. })));
    assert_shards(folder.path(), &plan, ".part");
    assert_eq!(resume(folder.path(), &plan).unwrap().finished().len(), 2);
}

#[test]
fn enough_buffers() {
    assert_eq!(blocks_needed(2, 128 << 10, 2 << 20), 6);
    assert_eq!(blocks_needed(3, 1, 4096), 5);
    assert_eq!(blocks_needed(1, 3 * 4096, 4096), 6);
}
