//! The writer as its callers see it.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use super::blocks::{Shared, Stage, State, Stop};
use super::direct::sync_folder;
use super::flush::{self, Files, Recorder};
use super::journal::{Finished, Journal, clear};
use super::pool::{DIRECT_ALIGN, Pool};
use super::prepare::{allocate_all, job_blocks, stages, trusted, write_lone_headers};
use super::ranges::Ranges;
use super::shard::ShardFile;
use crate::counts::Counts;
use crate::error::{Error, Result};
use crate::plan::Plan;

/// Data sections start at, and scratch memory agrees with the file in, a multiple of this.
const TILE_ALIGN: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriterOptions {
    /// Bytes written at once, a multiple of 4096. Multiples of 2 MiB lie on huge pages, which is much faster.
    pub block_bytes: usize,
    /// Buffers of `block_bytes` each. Any number works, [`blocks_needed`] of them keep threads from waiting.
    pub blocks: usize,
    /// Whether to write past the page cache where the file system allows it.
    pub direct: bool,
    /// Blocks written at the same time, each by a thread of its own; through the page cache it is always one.
    /// Measured past it: 2.5 to 3.1 GB/s with one, 3.2 to 4.0 with two, no more with three.
    pub in_flight: usize,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self { block_bytes: 2 << 20, blocks: 8, direct: true, in_flight: 2 }
    }
}

impl WriterOptions {
    /// Bytes the writer allocates at most while `threads` fill tiles of up to `tile_bytes`.
    pub fn memory(&self, threads: usize, tile_bytes: usize) -> usize {
        let scratch = threads * (tile_bytes + TILE_ALIGN);
        self.blocks * self.block_bytes + scratch
    }

    fn check(&self) -> Result<()> {
        let whole = self.block_bytes > 0 && self.block_bytes.is_multiple_of(DIRECT_ALIGN);
        if whole && self.blocks > 0 && self.in_flight > 0 {
            return Ok(());
        }
        let Self { block_bytes, blocks, in_flight, .. } = self;
        let asked = format!("{blocks} blocks of {block_bytes} bytes, {in_flight} in flight");
        Err(Error::plan(format!(
            "writer: {asked}; blocks must be multiples of {DIRECT_ALIGN} bytes and none of these 0"
        )))
    }
}

/// Buffers with which `threads` that claim tiles of `tile_bytes` in file order never wait for one another, only for the
/// disk: each tile may touch `⌈(tile − 1) / block⌉ + 1` blocks that nobody else completes, one block lies ahead of all
/// claimed tiles, one is being written.
pub const fn blocks_needed(threads: usize, tile_bytes: usize, block_bytes: usize) -> usize {
    let touched = if tile_bytes == 0 { 0 } else { (tile_bytes - 1).div_ceil(block_bytes) + 1 };
    threads * touched + 2
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteSummary {
    /// Bytes that went to the shards in this run, headers included.
    pub bytes: u64,
    /// Whether all blocks went past the page cache.
    pub direct: bool,
}

/// Fills the shards of a plan; see the module.
///
/// Dropped without [`finish`](Self::finish) it stops, and records what is complete, so that the run can be resumed.
pub struct Writer {
    shared: Arc<Shared>,
    recorder: Arc<Mutex<Recorder>>,
    threads: Vec<JoinHandle<()>>,
    scratch: Mutex<Vec<Vec<u8>>>,
}

impl Writer {
    /// Creates or reopens `partial/NAME.part` for each shard, with its space allocated. Only one run may write to a folder:
    /// callers hold a lock on it, since what they do there goes on behind the last shard.
    ///
    /// `kept` is, for each shard, the bytes of the data section that a former run finished and that stay as they are:
    /// [`Resume::kept`](super::Resume::kept). Where the folder holds another run and nothing is kept, that run is
    /// deleted first. A full disk shows here, as an I/O error, and leaves no files behind.
    pub fn create(partial: &Path, plan: &Plan, kept: &[Vec<Range<u64>>], options: WriterOptions) -> Result<Self> {
        options.check()?;
        let shards = ShardFile::all(partial, plan)?;
        let kept_of = |shard: usize| kept.get(shard).map_or(&[][..], Vec::as_slice);
        let present = shards.iter().enumerate().map(|(index, shard)| shard.present(kept_of(index)));
        let present = present.collect::<Result<Vec<Ranges>>>()?;
        let pool = Pool::new(options.block_bytes, options.blocks).map_err(Error::io(partial))?;

        let is_new = !partial.exists();
        fs::create_dir_all(partial).map_err(Error::io(partial))?;
        // The journal before the files: a shard made anew must not meet entries about the one that was there.
        let finished = trusted(partial, plan, &shards, &present)?;
        if finished.is_none() {
            clear(partial)?;
        }
        let journal = Journal::begin(partial, plan, finished.as_deref().unwrap_or_default())?;
        if let Err(error) = allocate_all(partial, plan, &shards, kept) {
            if finished.is_none() {
                let _ = clear(partial);
            }
            if is_new {
                let _ = fs::remove_dir(partial);
            }
            return Err(error);
        }
        sync_folder(partial)?;

        let shared = Arc::new(Shared {
            block_bytes: options.block_bytes,
            state: Mutex::new(State::new(stages(&shards, &present, options.block_bytes))),
            pool,
            present,
            ready: Condvar::new(),
            moved: Condvar::new(),
            files: Files::new(options.direct),
            shards,
        });
        write_lone_headers(&shared)?;
        let recorder = Arc::new(Mutex::new(Recorder::new(journal, job_blocks(&shared, plan)?)));
        let threads = Vec::new();
        let mut writer = Self { shared, recorder, threads, scratch: Mutex::default() };
        for _ in 0..options.in_flight {
            writer.start_thread().map_err(Error::io(partial))?;
        }
        Ok(writer)
    }

    fn start_thread(&mut self) -> io::Result<()> {
        let (shared, recorder) = (Arc::clone(&self.shared), Arc::clone(&self.recorder));
        let is_first = self.threads.is_empty();
        let body = move || {
            let run = std::panic::AssertUnwindSafe(|| flush::run(&shared, &recorder, is_first));
            if std::panic::catch_unwind(run).is_err() {
                flush::fail(&shared, Error::plan("the writer thread broke down; this is a defect"));
            }
        };
        self.threads.push(thread::Builder::new().name("carrick-write".to_owned()).spawn(body)?);
        Ok(())
    }

    /// Lets `fill` write bytes `[begin, begin + len)` of the shard's data section where they are needed.
    ///
    /// Many threads may do so at once. Ranges do not overlap, are claimed in the order of shards and bytes, and each
    /// claimed one is filled in the end, or the run cancelled; `len` is at most a block. The address of the slice agrees
    /// with the place in the file modulo 64, so that a tensor's elements are aligned. Its content before is undefined,
    /// but initialised. Waits while no buffer is free; returns at once when the writing failed or was cancelled.
    /// After an error of `fill` itself the bytes are missing for good: the run has failed.
    pub fn fill<T>(
        &self,
        shard: usize,
        begin: u64,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<T>,
    ) -> Result<T> {
        let range = self.shard(shard)?.data(begin, len as u64)?;
        self.shared.lock().check()?;
        if len > self.shared.block_bytes {
            let block_bytes = self.shared.block_bytes;
            return Err(Error::plan(format!("a tile of {len} bytes is larger than a block of {block_bytes}")));
        }
        if len == 0 {
            return fill(&mut []);
        }
        let mut parts = self.shared.parts(shard, range.clone());
        if let (Some((id, part)), None) = (parts.next(), parts.next()) {
            let mut claim = self.shared.claim(id, part)?;
            let value = fill(claim.bytes_mut())?;
            claim.filled();
            return Ok(value);
        }
        self.fill_across(shard, &range, fill)
    }

    /// Fills bytes of two blocks through memory of their own.
    fn fill_across<T>(
        &self,
        shard: usize,
        range: &Range<u64>,
        fill: impl FnOnce(&mut [u8]) -> Result<T>,
    ) -> Result<T> {
        let len = (range.end - range.start) as usize;
        let mut scratch = self.scratch.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default();
        scratch.resize(scratch.len().max(len + TILE_ALIGN), 0);
        let misplaced = (scratch.as_ptr().addr() % TILE_ALIGN) as u64;
        let skip = (range.start.wrapping_sub(misplaced) % TILE_ALIGN as u64) as usize;
        let bytes = &mut scratch[skip..skip + len];
        let value = fill(bytes)?;
        for (id, part) in self.shared.parts(shard, range.clone()) {
            let of_part = (part.start - range.start) as usize..(part.end - range.start) as usize;
            let mut claim = self.shared.claim(id, part)?;
            claim.bytes_mut().copy_from_slice(&bytes[of_part]);
            claim.filled();
        }
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
        Ok(value)
    }

    fn shard(&self, index: usize) -> Result<&ShardFile> {
        let shards = &self.shared.shards;
        shards.get(index).ok_or_else(|| Error::plan(format!("shard {index} is not one of {}", shards.len())))
    }

    /// Says that a tensor's bytes are final: all of them filled. It is recorded as soon as they are safely on
    /// disk.
    pub fn finished(&self, job: usize, checksum: u128, counts: Counts) {
        self.shared.lock().finished.push(Finished { job, checksum, counts });
    }

    /// Stops: whoever waits in [`fill`](Self::fill) or calls it from now on gets [`Error::Interrupted`].
    pub fn cancel(&self) {
        self.announce(Stop::Cancelled);
    }

    fn announce(&self, stop: Stop) {
        self.shared.lock().stop.get_or_insert(stop);
        self.shared.ready.notify_all();
        self.shared.moved.notify_all();
    }

    /// Waits until every byte of every shard is safely on disk and every finished tensor recorded.
    pub fn finish(mut self) -> Result<WriteSummary> {
        self.announce(Stop::Finished);
        self.close();
        let state = self.shared.lock();
        state.check()?;
        for (shard, stages) in self.shared.shards.iter().zip(&state.stages) {
            let missing = stages.iter().filter(|&&stage| stage != Stage::Written).count();
            if missing > 0 {
                let blocks = format!("{missing} blocks of {} bytes", self.shared.block_bytes);
                return Err(Error::plan(format!("{}: {blocks} were never filled", shard.path.display())));
            }
        }
        Ok(WriteSummary { bytes: state.bytes, direct: self.shared.files.direct() })
    }

    /// Ends the threads and records what is complete.
    fn close(&mut self) {
        for thread in self.threads.drain(..) {
            // A panic was caught inside and has become the failure.
            let _ = thread.join();
        }
        let mut recorder = self.recorder.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = recorder.record(&self.shared) {
            flush::fail(&self.shared, error);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.announce(Stop::Cancelled);
            self.close();
        }
    }
}
