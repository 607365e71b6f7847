//! The threads that write full blocks, and the syncing that makes finished tensors count.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::blocks::{BlockId, Failure, FullBlock, Shared, Stage, State};
use super::direct::OutputFile;
use super::journal::{Finished, Journal};
use super::shard::ShardFile;
use crate::error::{Error, Result};

/// How much a power loss can cost: this time, or this many bytes.
const SYNC_EVERY: Duration = Duration::from_secs(1);
const SYNC_BYTES_DIRECT: u64 = 256 << 20;
/// In the page cache unwritten bytes pile up until the kernel stops everybody; synced in small steps they went to disk
/// two to five times as fast, and stopping early does not wait for gigabytes.
const SYNC_BYTES_BUFFERED: u64 = 64 << 20;

/// The output files that are open: few at a time, however many shards there are.
pub(super) struct Files {
    open: Mutex<HashMap<usize, Arc<OutputFile>>>,
    direct: AtomicBool,
}

impl Files {
    pub fn new(direct: bool) -> Self {
        Self { open: Mutex::default(), direct: AtomicBool::new(direct) }
    }

    /// Whether every block so far went past the page cache.
    pub fn direct(&self) -> bool {
        self.direct.load(Ordering::Relaxed)
    }

    pub fn get(&self, index: usize, shard: &ShardFile) -> Result<Arc<OutputFile>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&index) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(OutputFile::open(&shard.path, self.direct())?);
        open.insert(index, Arc::clone(&file));
        Ok(file)
    }

    fn close(&self, index: usize) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&index);
    }

    fn fall_back(&self) {
        self.direct.store(false, Ordering::Relaxed);
    }
}

/// Puts finished tensors on record once they are safe.
pub(super) struct Recorder {
    journal: Journal,
    /// Where each job's bytes lie: its shard and the blocks that hold them.
    blocks: Vec<(usize, Range<usize>)>,
    last: Instant,
    /// After a failed sync nobody knows what is on disk: nothing more is recorded.
    broken: bool,
}

impl Recorder {
    pub fn new(journal: Journal, blocks: Vec<(usize, Range<usize>)>) -> Self {
        Self { journal, blocks, last: Instant::now(), broken: false }
    }

    fn due(&self, shared: &Shared) -> bool {
        let state = shared.lock();
        let limit = if shared.files.direct() { SYNC_BYTES_DIRECT } else { SYNC_BYTES_BUFFERED };
        state.unsynced >= limit || (!state.finished.is_empty() && self.last.elapsed() >= SYNC_EVERY)
    }

    /// Syncs what was written and records the tensors that are complete with it.
    pub fn record(&mut self, shared: &Shared) -> Result<()> {
        self.last = Instant::now();
        if self.broken {
            return Ok(());
        }
        // One look under one lock: what counts as written here is in a file that the sync below covers.
        let (safe, dirty) = {
            let mut state = shared.lock();
            let safe = self.take_complete(&mut state);
            state.unsynced = 0;
            (safe, std::mem::take(&mut state.dirty))
        };
        self.broken = true;
        for &index in &dirty {
            let file = shared.files.get(index, &shared.shards[index])?;
            file.sync().map_err(Error::io(&file.path))?;
            if shared.lock().stages[index].iter().all(|&stage| stage == Stage::Written) {
                shared.files.close(index);
            }
        }
        self.journal.append(&safe)?;
        self.broken = false;
        Ok(())
    }

    fn take_complete(&self, state: &mut State) -> Vec<Finished> {
        let stages = &state.stages;
        let complete = |finished: &mut Finished| {
            let Some((shard, blocks)) = self.blocks.get(finished.job) else { return false };
            stages[*shard][blocks.clone()].iter().all(|&stage| stage == Stage::Written)
        };
        state.finished.extract_if(.., complete).collect()
    }
}

enum Next {
    Write(BlockId, FullBlock),
    Idle,
    Stop,
}

/// What each writer thread does until the writer stops.
pub(super) fn run(shared: &Shared, recorder: &Mutex<Recorder>, is_first: bool) {
    loop {
        if !is_first && !shared.files.direct() {
            // In the page cache two threads writing one file are slower than one. The first may have slept through the
            // call that woke this one.
            shared.ready.notify_all();
            return;
        }
        let result = match next(shared) {
            Next::Write(id, block) => write(shared, id, block),
            Next::Idle => Ok(()),
            Next::Stop => return,
        };
        // One thread records while the others go on writing.
        let result = result.and_then(|()| match recorder.try_lock() {
            Ok(mut recorder) if recorder.due(shared) => recorder.record(shared),
            _ => Ok(()),
        });
        if let Err(error) = result {
            fail(shared, error);
        }
    }
}

/// Waits for a full block. After the end was announced those that are full are still written; after a failure none is.
fn next(shared: &Shared) -> Next {
    let mut state = shared.lock();
    loop {
        if state.failure.is_some() {
            return Next::Stop;
        }
        if let Some(id) = state.ready.pop_front() {
            let Some(block) = state.open.remove(&id) else { continue };
            state.stages[id.0][id.1] = Stage::Writing;
            return Next::Write(id, block.into_full());
        }
        if state.stop.is_some() {
            return Next::Stop;
        }
        let waited = shared.ready.wait_timeout(state, SYNC_EVERY / 2).unwrap_or_else(PoisonError::into_inner);
        if waited.1.timed_out() {
            return Next::Idle;
        }
        state = waited.0;
    }
}

fn write(shared: &Shared, id: BlockId, block: FullBlock) -> Result<()> {
    let shard = &shared.shards[id.0];
    let window = shard.block(id.1, shared.block_bytes);
    let len = (window.end - window.start) as usize;
    let written = shared.files.get(id.0, shard).and_then(|file| {
        let direct = file.write_block(block.bytes(&shared.pool, len), window.start).map_err(Error::io(&file.path))?;
        if !direct {
            shared.files.fall_back();
        }
        Ok(())
    });
    let mut state = shared.lock();
    state.free.push(block.into_slot());
    if written.is_ok() {
        state.stages[id.0][id.1] = Stage::Written;
        state.dirty.insert(id.0);
        state.unsynced += len as u64;
        state.bytes += len as u64;
    }
    shared.moved.notify_all();
    written
}

/// Stops everything with this error, unless an earlier one has.
pub(super) fn fail(shared: &Shared, error: Error) {
    let (path, source) = match error {
        Error::Io { path, source } => (path, source),
        other => (Path::new("output").to_path_buf(), io::Error::other(other.to_string())),
    };
    let mut state = shared.lock();
    state.failure.get_or_insert(Failure { path, source });
    shared.ready.notify_all();
    shared.moved.notify_all();
}
