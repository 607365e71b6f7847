//! The same operations on arrays that are in memory already.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::hooks::Hooks;
use super::pool::{self, Sink};
use super::schedule::Schedule;
use super::work::{RunFactors, Settings, Sources, compile};
use crate::counts::Counts;
use crate::error::{Error, Result};
use crate::plan::Job;
use crate::source::Bytes;

/// Merges one job from `sources` into `out`.
pub fn merge(
    job: &Job,
    sources: Vec<&dyn Bytes>,
    settings: Settings,
    threads: usize,
    out: &mut [u8],
) -> Result<Counts> {
    let jobs = std::slice::from_ref(job);
    let factors = RunFactors::new(0);
    let works = compile(jobs, &Sources { files: sources.into(), factors: &factors }, settings)?;
    let tile = works[0].tile(works[0].operation.tiling(), settings.tile);
    let expected = job.dtype.nbytes(job.elements());
    if expected != Some(out.len() as u64) {
        return Err(Error::plan(format!("{} bytes of output for {:?} of {}", out.len(), job.shape, job.dtype)));
    }
    let bytes = (tile * works[0].size as u64).max(1) as usize;
    let tiles = out.chunks_mut(bytes).map(|tile| Mutex::new(Some(tile))).collect();
    let sink = Slices { tiles, tile, counts: Mutex::default() };
    pool::run(&works, &Schedule::new(&works, settings.tile, &[false]), &sink, threads, &Hooks::default())?;
    Ok(sink.counts.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// The output cut into tiles, each handed out once.
struct Slices<'o> {
    tiles: Vec<Mutex<Option<&'o mut [u8]>>>,
    tile: u64,
    counts: Mutex<Counts>,
}

impl Sink for Slices<'_> {
    fn write(
        &self,
        _job: usize,
        range: Range<u64>,
        merge: &mut dyn FnMut(&mut [u8]) -> Result<Counts>,
    ) -> Result<Counts> {
        if range.is_empty() {
            return Ok(Counts::default());
        }
        let tile = &self.tiles[(range.start / self.tile) as usize];
        let taken = tile.lock().unwrap_or_else(PoisonError::into_inner).take();
        merge(taken.ok_or_else(|| Error::plan("a tile was merged twice"))?)
    }

    fn finish(&self, _job: usize, counts: Counts) -> Result<()> {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner) += counts;
        Ok(())
    }
}
