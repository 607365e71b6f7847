//! Plans, the bytes they should give, and threads that fill them.

use carrick_core::counts::Counts;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use carrick_core::error::Result;
use carrick_core::plan::Plan;
use carrick_core::writer::{Finished, Writer, checksum, job_bytes};
use serde_json::{Value, json};

/// Job sizes in bytes, by shard.
pub fn plan(shards: &[Vec<u64>]) -> Plan {
    let mut jobs = Vec::new();
    let mut described = Vec::new();
    for (shard, sizes) in shards.iter().enumerate() {
        let mut offset = 0;
        for (index, &size) in sizes.iter().enumerate() {
            jobs.push(json!({
                "name": format!("tensor.{shard}.{index}"), "shape": [size], "dtype": "U8", "shard": shard, "offset": offset,
                "method": {"name": "copy"}, "inputs": [],
            }));
            offset += size;
        }
        let name = format!("model-{:05}-of-{:05}.safetensors", shard + 1, shards.len());
        described.push(json!({"name": name, "data_bytes": offset}));
    }
    let file = json!({"path": "/in/a.safetensors", "size": 9, "mtime_ns": 8, "inode": 7, "header_hash": "6", "data_start": 5});
    serde_json::from_value(json!({
        "format": "carrick-plan", "version": 1, "seed": 1, "files": [file], "shards": described, "jobs": jobs,
    }))
    .unwrap()
}

/// What byte `at` of a shard's data section should be.
pub fn byte(shard: usize, at: u64) -> u8 {
    let mixed = (at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (shard as u64 + 3).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 29) as u8
}

pub fn bytes(shard: usize, range: Range<u64>) -> Vec<u8> {
    range.map(|at| byte(shard, at)).collect()
}

pub fn checksum_of(plan: &Plan, job: usize) -> u128 {
    let range = job_bytes(&plan.jobs[job]).unwrap();
    let bytes = bytes(plan.jobs[job].shard, range);
    checksum::combine(&bytes.chunks(checksum::PIECE).map(checksum::piece).collect::<Vec<_>>())
}

/// Reads a file of the format with nothing but its definition, and compares every tensor.
pub fn assert_shards(folder: &Path, plan: &Plan, suffix: &str) {
    for (shard, described) in plan.shards.iter().enumerate() {
        let file = std::fs::read(folder.join(format!("{}{suffix}", described.name))).unwrap();
        let header_bytes = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
        let header: HashMap<String, Value> = serde_json::from_slice(&file[8..8 + header_bytes]).unwrap();
        let data = &file[8 + header_bytes..];
        assert_eq!((8 + header_bytes) % 64, 0);
        assert_eq!(data.len() as u64, described.data_bytes);
        assert_eq!(header["__metadata__"], json!({"format": "pt"}));
        let jobs: Vec<_> = plan.jobs.iter().filter(|job| job.shard == shard).collect();
        assert_eq!(header.len(), jobs.len() + 1);
        for job in jobs {
            let range = job_bytes(job).unwrap();
            let expected = json!({"dtype": "U8", "shape": job.shape, "data_offsets": [range.start, range.end]});
            assert_eq!(header[&job.name], expected);
            let stored = &data[range.start as usize..range.end as usize];
            assert!(stored == bytes(shard, range), "{} differs in shard {shard}", job.name);
        }
    }
}

/// A piece of a job that one thread fills at once.
#[derive(Clone, Debug)]
pub struct Tile {
    pub job: usize,
    pub shard: usize,
    pub range: Range<u64>,
}

/// The jobs not yet `done`, in pieces of up to `largest` bytes whose lengths follow no pattern.
pub fn tiles(plan: &Plan, done: &[Finished], largest: u64, seed: u64) -> Vec<Tile> {
    let mut tiles = Vec::new();
    let mut state = seed | 1;
    for (job, planned) in plan.jobs.iter().enumerate() {
        if done.iter().any(|done| done.job == job) {
            continue;
        }
        let Range { mut start, end } = job_bytes(planned).unwrap();
        loop {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let stop = end.min(start + 1 + (state >> 33) % largest);
            tiles.push(Tile { job, shard: planned.shard, range: start..stop });
            start = stop;
            if start >= end {
                break;
            }
        }
    }
    tiles
}

/// Fills the tiles with `threads`. Gives the first error of any thread; cancels after `cancel_at` tiles.
pub fn fill_all(
    writer: &Writer,
    plan: &Plan,
    tiles: &[Tile],
    threads: usize,
    cancel_at: Option<usize>,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let left: Vec<AtomicUsize> = plan.jobs.iter().map(|_| AtomicUsize::new(0)).collect();
    for tile in tiles {
        left[tile.job].fetch_add(1, Ordering::Relaxed);
    }
    let work = || -> Result<()> {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if Some(index) == cancel_at {
                writer.cancel();
            }
            let Some(tile) = tiles.get(index) else { return Ok(()) };
            let len = (tile.range.end - tile.range.start) as usize;
            writer.fill(tile.shard, tile.range.start, len, |slice| {
                assert_eq!(slice.len(), len);
                assert!(len == 0 || slice.as_ptr().addr() % 64 == (tile.range.start % 64) as usize);
                slice.copy_from_slice(&bytes(tile.shard, tile.range.clone()));
                Ok(())
            })?;
            if left[tile.job].fetch_sub(1, Ordering::AcqRel) == 1 {
                writer.finished(tile.job, checksum_of(plan, tile.job), Counts::default());
            }
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let results: Vec<_> = workers.into_iter().map(|worker| worker.join().unwrap()).collect();
        results.into_iter().collect()
    })
}

/// Runs the body and fails where it hangs.
pub fn within_a_minute<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    let thread = thread::spawn(move || drop(sender.send(body())));
    match receiver.recv_timeout(Duration::from_secs(60)) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => std::panic::resume_unwind(thread.join().unwrap_err()),
        Ok(value) => value,
    }
}
