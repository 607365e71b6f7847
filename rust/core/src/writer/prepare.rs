//! What happens before the first byte is filled: the files and their space, and what a former run left of them.

use std::fs;
use std::ops::Range;
use std::path::Path;

use super::blocks::{Shared, Stage};
use super::direct::{allocate, require_space};
use super::header::job_bytes;
use super::journal::{Finished, Resume, resume};
use super::ranges::Ranges;
use super::shard::{ShardFile, named_path};
use crate::error::{Error, Result};
use crate::plan::{Job, Plan};

/// The journal's entries about tensors that are kept; `None` where there is nothing to go on from, and all begins afresh.
pub(super) fn trusted(
    partial: &Path,
    plan: &Plan,
    shards: &[ShardFile],
    present: &[Ranges],
) -> Result<Option<Vec<Finished>>> {
    let keeps = |(shard, present): (&ShardFile, &Ranges)| present.covered(shard.data_start()..shard.file_bytes) > 0;
    let resumed = resume(partial, plan)?;
    if !matches!(resumed, Resume::Continue(_)) && !shards.iter().zip(present).any(keeps) {
        return Ok(None);
    }
    let mut trusted = Vec::new();
    for &finished in resumed.finished() {
        let job = &plan.jobs[finished.job];
        let bytes = job_bytes(job)?;
        let range = shards[job.shard].data(bytes.start, bytes.end - bytes.start)?;
        if present[job.shard].contains(range) {
            trusted.push(finished);
        }
    }
    Ok(Some(trusted))
}

/// Makes the files, or takes up those that are kept. After an error those made for nothing are gone.
pub(super) fn allocate_all(
    partial: &Path,
    plan: &Plan,
    shards: &[ShardFile],
    kept: &[Vec<Range<u64>>],
) -> Result<()> {
    let keep = |index: usize| kept.get(index).is_some_and(|kept| kept.iter().any(|range| !range.is_empty()));
    for (index, (file, shard)) in shards.iter().zip(&plan.shards).enumerate() {
        let named = named_path(partial, &shard.name)?;
        if keep(index) && !file.path.exists() && named.exists() {
            // A commit was interrupted after it had given the shard its name.
            fs::rename(&named, &file.path).map_err(Error::io(&named))?;
        }
    }
    require_space(partial, shards.iter().map(|shard| (shard.path.as_path(), shard.file_bytes)))?;
    for (index, file) in shards.iter().enumerate() {
        if let Err(error) = allocate(&file.path, file.file_bytes, keep(index)) {
            for (_, made) in shards[..=index].iter().enumerate().filter(|&(made, _)| !keep(made)) {
                let _ = fs::remove_file(&made.path);
            }
            return Err(error);
        }
    }
    Ok(())
}

pub(super) fn stages(shards: &[ShardFile], present: &[Ranges], block_bytes: usize) -> Vec<Vec<Stage>> {
    let stage = |shard: &ShardFile, present: &Ranges, block| {
        if present.contains(shard.block(block, block_bytes)) { Stage::Written } else { Stage::Missing }
    };
    let of_shard = |(shard, present): (&ShardFile, &Ranges)| {
        (0..shard.blocks(block_bytes)).map(|block| stage(shard, present, block)).collect()
    };
    shards.iter().zip(present).map(of_shard).collect()
}

/// Writes the parts of headers in blocks that nobody will fill: all of their data is kept, or there is none.
pub(super) fn write_lone_headers(shared: &Shared) -> Result<()> {
    for (index, shard) in shared.shards.iter().enumerate() {
        for block in 0..shard.header.len().div_ceil(shared.block_bytes) {
            let mut state = shared.lock();
            if state.stages[index][block] != Stage::Written {
                continue;
            }
            let window = shard.block(block, shared.block_bytes);
            let header = &shard.header[window.start as usize..shard.header.len().min(window.end as usize)];
            state.dirty.insert(index);
            state.bytes += header.len() as u64;
            drop(state);
            let file = shared.files.get(index, shard)?;
            file.write_all(header, window.start).map_err(Error::io(&file.path))?;
        }
    }
    Ok(())
}

pub(super) fn job_blocks(shared: &Shared, plan: &Plan) -> Result<Vec<(usize, Range<usize>)>> {
    let blocks = |job: &Job| {
        let bytes = job_bytes(job)?;
        let mut parts = shared.parts(job.shard, shared.shards[job.shard].data(bytes.start, bytes.end - bytes.start)?);
        let first = parts.next().map_or(0, |((_, block), _)| block);
        Ok((
            job.shard,
            first..parts.last().map_or(first + usize::from(!bytes.is_empty()), |((_, block), _)| block + 1),
        ))
    };
    plan.jobs.iter().map(blocks).collect()
}
