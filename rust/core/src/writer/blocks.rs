//! Blocks on their way from being filled to being written, shared by the threads that do either.
//!
//! A file is cut every `block_bytes`. A block is opened by the first thread that has bytes for it, filled by any number
//! of threads at once, each in its own range, and is ready for the file when no byte is missing.
//!
//! # Why this does not hang
//!
//! Callers claim tiles in file order and fill each of them in the end. Take the first byte that is not filled: its block
//! is open, or it is the lowest one not opened yet. The last free buffer is kept for just that block ([`Shared::open`]),
//! so the buffers of higher blocks are never all there are, and those of lower blocks, which are full, come back from the
//! file. So the thread with the first missing byte always goes on, with any number of buffers; more of them only
//! mean that threads wait less for one another.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::direct::OutputFile;
use super::journal::Finished;
use super::pool::{Pool, Slot};
use super::ranges::Ranges;
use super::shard::ShardFile;
use crate::error::{Error, Result};

/// A block by its shard and its place in the file.
pub(super) type BlockId = (usize, usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Missing,
    Open,
    Writing,
    Written,
}

/// A block in memory. Its ranges are those of the file.
pub(super) struct Block {
    slot: Slot,
    /// Bytes that a thread has been given to fill, whether it has done so or not.
    claimed: Ranges,
    filled: Ranges,
}

impl Block {
    /// The buffer of a block that is full and out of the table, to be written.
    pub fn into_full(self) -> FullBlock {
        FullBlock { slot: self.slot }
    }
}

/// A block that only its writer thread knows of.
pub(super) struct FullBlock {
    slot: Slot,
}

impl FullBlock {
    /// The first `len` bytes, at most a block.
    pub fn bytes<'a>(&'a self, pool: &'a Pool, len: usize) -> &'a [u8] {
        // SAFETY: `len` bytes lie in the buffer; all claims on the block are filled and gone, and no new ones are made.
        unsafe { std::slice::from_raw_parts(pool.address(&self.slot).as_ptr(), len.min(pool.block_bytes())) }
    }

    pub fn into_slot(self) -> Slot {
        self.slot
    }
}

/// Why the writer threads stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    Finished,
    Cancelled,
}

/// The error that stopped the writing, kept so that every thread can be told.
pub(super) struct Failure {
    pub path: PathBuf,
    pub source: io::Error,
}

impl Failure {
    fn to_error(&self) -> Error {
        let source = match self.source.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(self.source.kind(), self.source.to_string()),
        };
        Error::Io { path: self.path.clone(), source }
    }
}

/// What changes while the writer runs.
pub(super) struct State {
    pub free: Vec<Slot>,
    /// Buffers of the pool that have come into use at all.
    used: usize,
    pub open: HashMap<BlockId, Block>,
    /// Full blocks, in the order in which they became so.
    pub ready: VecDeque<BlockId>,
    pub stages: Vec<Vec<Stage>>,
    /// Where the search for the lowest block not opened yet goes on.
    lowest: BlockId,
    /// Tensors said to be final and not in the journal yet.
    pub finished: Vec<Finished>,
    /// Shards written to since they were last synced.
    pub dirty: BTreeSet<usize>,
    pub unsynced: u64,
    pub bytes: u64,
    pub stop: Option<Stop>,
    pub failure: Option<Failure>,
}

impl State {
    pub fn new(stages: Vec<Vec<Stage>>) -> Self {
        Self {
            free: Vec::new(),
            used: 0,
            open: HashMap::new(),
            ready: VecDeque::new(),
            stages,
            lowest: (0, 0),
            finished: Vec::new(),
            dirty: BTreeSet::new(),
            unsynced: 0,
            bytes: 0,
            stop: None,
            failure: None,
        }
    }

    pub fn check(&self) -> Result<()> {
        match (&self.failure, self.stop) {
            (Some(failure), _) => Err(failure.to_error()),
            (None, Some(Stop::Cancelled)) => Err(Error::Interrupted),
            _ => Ok(()),
        }
    }

    fn lowest_missing(&mut self) -> BlockId {
        let (mut shard, mut block) = self.lowest;
        while let Some(stages) = self.stages.get(shard) {
            match stages[block..].iter().position(|&stage| stage == Stage::Missing) {
                Some(ahead) => {
                    block += ahead;
                    break;
                }
                None => (shard, block) = (shard + 1, 0),
            }
        }
        self.lowest = (shard, block);
        self.lowest
    }
}

/// What the threads that fill and those that write have in common.
pub(super) struct Shared {
    pub block_bytes: usize,
    pub shards: Vec<ShardFile>,
    /// For each shard, what need not be filled.
    pub present: Vec<Ranges>,
    pub pool: Pool,
    pub state: Mutex<State>,
    /// A block is ready, or the end has come.
    pub ready: Condvar,
    /// A buffer is free, a block was opened or written, or the end has come.
    pub moved: Condvar,
    pub files: super::flush::Files,
}

impl Shared {
    pub fn lock(&self) -> MutexGuard<'_, State> {
        // The state is consistent whenever the lock is free: nothing that can panic happens halfway through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.moved.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// The parts of a shard's bytes that lie in one block each.
    pub fn parts(&self, shard: usize, range: Range<u64>) -> impl Iterator<Item = (BlockId, Range<u64>)> + use<> {
        let size = self.block_bytes as u64;
        (range.start / size..range.end.div_ceil(size)).map(move |block| {
            let part = range.start.max(block * size)..range.end.min((block + 1) * size);
            ((shard, block as usize), part)
        })
    }

    /// Gives the caller, and nobody else, bytes `range` of a block to fill.
    pub fn claim(&self, id: BlockId, range: Range<u64>) -> Result<Claim<'_>> {
        let mut state = self.open(self.lock(), id)?;
        let Some(block) = state.open.get_mut(&id).filter(|_| !range.is_empty()) else {
            return Err(self.written_twice(id.0, &range));
        };
        if !block.claimed.insert(range.clone()) {
            return Err(self.written_twice(id.0, &range));
        }
        let skip = (range.start - id.1 as u64 * self.block_bytes as u64) as usize;
        // SAFETY: `range` lies in the block, so `skip` lies in its buffer.
        let bytes = unsafe { self.pool.address(&block.slot).add(skip) };
        Ok(Claim { shared: self, id, range, bytes })
    }

    fn written_twice(&self, shard: usize, range: &Range<u64>) -> Error {
        let path = self.shards[shard].path.display();
        Error::plan(format!("bytes {} to {} of {path} would be written twice", range.start, range.end))
    }

    /// Waits until the block is open, opening it if no other thread has.
    fn open<'a>(&'a self, mut state: MutexGuard<'a, State>, id: BlockId) -> Result<MutexGuard<'a, State>> {
        loop {
            state.check()?;
            if state.stages[id.0][id.1] != Stage::Missing {
                return Ok(state);
            }
            let untouched = self.pool.blocks() - state.used;
            let spare = if state.lowest_missing() == id { 0 } else { 1 };
            if state.free.len() + untouched > spare {
                break;
            }
            state = self.wait(state);
        }
        let slot = match state.free.pop() {
            Some(slot) => slot,
            None => {
                state.used += 1;
                self.pool.slot(state.used - 1).ok_or_else(|| Error::plan("the writer lost count of its buffers"))?
            }
        };
        // Reading under the lock stops the others for a moment: only at the edges of what a former run finished.
        if let Err(error) = self.preload(id, &slot) {
            state.free.push(slot);
            return Err(error);
        }
        let window = self.shards[id.0].block(id.1, self.block_bytes);
        let mut present = Ranges::default();
        for part in self.present[id.0].within(window) {
            // Parts of one set do not overlap.
            let _ = present.insert(part);
        }
        state.open.insert(id, Block { slot, claimed: present.clone(), filled: present });
        state.stages[id.0][id.1] = Stage::Open;
        self.moved.notify_all();
        Ok(state)
    }

    /// Puts what the block already has into its buffer: the header, and bytes of a former run from the file.
    fn preload(&self, id: BlockId, slot: &Slot) -> Result<()> {
        let shard = &self.shards[id.0];
        let window = shard.block(id.1, self.block_bytes);
        let len = (window.end - window.start) as usize;
        // SAFETY: the slot was taken a moment ago and no claim on it exists, so the buffer is ours alone.
        let buffer = unsafe { std::slice::from_raw_parts_mut(self.pool.address(slot).as_ptr(), len) };
        for part in self.present[id.0].within(window.clone()) {
            let bytes = &mut buffer[(part.start - window.start) as usize..(part.end - window.start) as usize];
            let in_header = part.end.min(shard.data_start()).saturating_sub(part.start) as usize;
            if in_header > 0 {
                bytes[..in_header].copy_from_slice(&shard.header[part.start as usize..][..in_header]);
            }
            if in_header < bytes.len() {
                let file: &OutputFile = &*self.files.get(id.0, shard)?;
                let begin = part.start + in_header as u64;
                file.read_all(&mut bytes[in_header..], begin).map_err(Error::io(&file.path))?;
            }
        }
        Ok(())
    }
}

/// A range of an open block that one thread fills.
pub(super) struct Claim<'a> {
    shared: &'a Shared,
    id: BlockId,
    range: Range<u64>,
    bytes: NonNull<u8>,
}

impl Claim<'_> {
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let len = (self.range.end - self.range.start) as usize;
        // SAFETY: the range was not claimed before and is not filled, so these bytes are ours alone: the block is read
        // only once all of it is filled. The pool outlives the claim, which borrows it.
        unsafe { std::slice::from_raw_parts_mut(self.bytes.as_ptr(), len) }
    }

    /// Says that every byte is there. A claim dropped without this leaves the block incomplete for good.
    pub fn filled(self) {
        let Self { shared, id, range, .. } = self;
        let window = shared.shards[id.0].block(id.1, shared.block_bytes);
        let mut state = shared.lock();
        let Some(block) = state.open.get_mut(&id) else { return };
        let added = block.filled.insert(range);
        debug_assert!(added, "a claim was filled twice");
        if block.filled.contains(window) {
            state.ready.push_back(id);
            shared.ready.notify_one();
        }
    }
}
