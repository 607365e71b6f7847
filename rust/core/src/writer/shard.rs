//! The shards of a plan as files: names, sizes, blocks, and what of them is there already.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::header::shard_header;
use super::ranges::Ranges;
use crate::error::{Error, Result};
use crate::plan::{Plan, is_file_name};

/// An output shard. Ranges and blocks count from the first byte of the file.
pub(super) struct ShardFile {
    /// `partial/NAME.part`.
    pub path: PathBuf,
    pub header: Vec<u8>,
    pub file_bytes: u64,
}

impl ShardFile {
    pub fn all(partial: &Path, plan: &Plan) -> Result<Vec<Self>> {
        if let Some(job) = plan.jobs.iter().find(|job| job.shard >= plan.shards.len()) {
            let shards = plan.shards.len();
            return Err(Error::plan(format!("tensor {:?} lies in shard {} of {shards}", job.name, job.shard)));
        }
        let shard_file = |(index, shard): (usize, &crate::plan::Shard)| {
            let header = shard_header(plan, index)?;
            let path = part_path(partial, &shard.name)?;
            let file_bytes = shard.data_bytes + header.len() as u64;
            Ok(Self { path, header, file_bytes })
        };
        plan.shards.iter().enumerate().map(shard_file).collect()
    }

    pub fn data_start(&self) -> u64 {
        self.header.len() as u64
    }

    pub fn blocks(&self, block_bytes: usize) -> usize {
        self.file_bytes.div_ceil(block_bytes as u64) as usize
    }

    /// Bytes of the file that block `block` holds.
    pub fn block(&self, block: usize, block_bytes: usize) -> Range<u64> {
        let begin = block as u64 * block_bytes as u64;
        begin..(begin + block_bytes as u64).min(self.file_bytes)
    }

    /// Bytes `[begin, begin + len)` of the data section as bytes of the file.
    pub fn data(&self, begin: u64, len: u64) -> Result<Range<u64>> {
        let start = begin.checked_add(self.data_start());
        let range = start.and_then(|start| Some(start..start.checked_add(len)?));
        range.filter(|range| range.end <= self.file_bytes).ok_or_else(|| {
            let data_bytes = self.file_bytes - self.data_start();
            let reason = format!("bytes {begin} to {begin} + {len} do not lie in the {data_bytes} bytes of data");
            Error::plan(format!("{reason} of {}", self.path.display()))
        })
    }

    /// What need not be filled any more: the header, and what a former run finished.
    pub fn present(&self, kept: &[Range<u64>]) -> Result<Ranges> {
        let mut present = Ranges::default();
        let mut disjoint = present.insert(0..self.data_start());
        for range in kept {
            let range = self.data(range.start, range.end.saturating_sub(range.start))?;
            disjoint &= present.insert(range);
        }
        if disjoint { Ok(present) } else { Err(Error::plan(format!("{}: kept ranges overlap", self.path.display()))) }
    }
}

/// `folder/NAME`, where the name is that of a file in it and of nothing else.
pub(super) fn named_path(folder: &Path, name: &str) -> Result<PathBuf> {
    if is_file_name(name) {
        Ok(folder.join(name))
    } else {
        Err(Error::plan(format!("shard name {name:?} is not a plain file name")))
    }
}

/// Where a shard lies until it is committed.
pub(super) fn part_path(partial: &Path, name: &str) -> Result<PathBuf> {
    named_path(partial, name).map(|path| {
        let mut path = path.into_os_string();
        path.push(".part");
        PathBuf::from(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_the_folder() {
        let folder = Path::new("/somewhere");
        assert_eq!(part_path(folder, "model.safetensors").unwrap(), folder.join("model.safetensors.part"));
        for name in ["", ".", "..", "/", "/etc/passwd", "a/b", "a/", "./a", "../a", "a\\b", "a\0b"] {
            assert!(matches!(part_path(folder, name), Err(Error::Plan { .. })), "{name:?}");
        }
    }
}
