//! The data section of a safetensors file, read by position or through a mapping.
//!
//! Reading by position is safe whatever happens to the file. A mapping is a view without a copy, but a file that becomes
//! shorter while it is mapped ends the process (SIGBUS): it is for files on storage that nobody else writes to.

use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::{Mmap, MmapOptions};
use xxhash_rust::xxh3::xxh3_128;

use super::positional;
use super::{Bytes, header, identity};
use crate::error::{Error, Result};
use crate::plan::FileRecord;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadMode {
    Pread,
    Mmap,
}

/// An open input file that was the file of the plan when it was opened.
pub struct InputFile {
    path: PathBuf,
    file: File,
    identity: identity::Identity,
    data_start: u64,
    /// Of the whole file, so that places in the mapping are places in the file.
    map: Option<Mmap>,
}

/// Opens the files of a plan, in its order.
pub fn open_all(records: &[FileRecord], mode: ReadMode) -> Result<Vec<InputFile>> {
    records.iter().map(|record| InputFile::open(record, mode)).collect()
}

impl InputFile {
    /// Opens the file that a plan recorded.
    ///
    /// # Errors
    ///
    /// [`Error::Changed`] where size, inode, mtime or header differ from the record; [`Error::Format`] and [`Error::Io`]
    /// where the file cannot be opened as a safetensors file at all.
    pub fn open(record: &FileRecord, mode: ReadMode) -> Result<Self> {
        let path = record.path.as_path();
        let planned = identity::Identity { size: record.size, mtime_ns: record.mtime_ns, inode: record.inode };
        let (file, identity) = identity::open_regular(path)?;
        require_same(path, planned, identity)?;
        let json = header::read_json(&file, path, identity.size)?;
        let data_start = header::PREFIX + json.len() as u64;
        if data_start != record.data_start || header::hex(xxh3_128(&json)) != record.header_hash {
            return Err(changed(path, "its header is not the one that the plan was made from"));
        }
        positional::will_read_on(&file, data_start);
        let map = match mode {
            ReadMode::Pread => None,
            ReadMode::Mmap => Some(map_whole(&file, path, identity.size)?),
        };
        Ok(Self { path: path.to_path_buf(), file, identity, data_start, map })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the data section.
    pub fn data_bytes(&self) -> u64 {
        self.identity.size - self.data_start
    }

    /// Whether the open file is still what it was when it was opened; asked at the end of a run, it finds a file that
    /// was overwritten in place while it was read.
    ///
    /// # Errors
    ///
    /// [`Error::Changed`] where it is not.
    pub fn require_unchanged(&self) -> Result<()> {
        let metadata = self.file.metadata().map_err(Error::io(&self.path))?;
        require_same(&self.path, self.identity, identity::Identity::of(&metadata))
    }

    /// The place in the file of a range of the data section, `None` where a part of it lies outside.
    fn place(&self, begin: u64, len: u64) -> Option<u64> {
        begin.checked_add(len).filter(|&end| end <= self.data_bytes()).map(|_| self.data_start + begin)
    }
}

impl Bytes for InputFile {
    fn read<'a>(&'a self, begin: u64, len: usize, buffer: &'a mut Vec<u8>) -> Result<&'a [u8]> {
        let outside = || {
            let have = self.data_bytes();
            Error::plan(format!("{len} bytes from {begin} on lie outside the {have} of {}", self.path.display()))
        };
        let place = self.place(begin, len as u64).ok_or_else(outside)?;
        if let Some(map) = &self.map {
            return map.get(place as usize..place as usize + len).ok_or_else(outside);
        }
        if buffer.len() < len {
            buffer.resize(len, 0);
        }
        let bytes = &mut buffer[..len];
        let filled = positional::fill(&self.file, bytes, place).map_err(Error::io(&self.path))?;
        if filled < len {
            let reason = format!("it shrank during the run: byte {} could not be read", place + filled as u64);
            return Err(changed(&self.path, reason));
        }
        Ok(bytes)
    }

    /// Takes the pages out of this process; the kernel's page cache keeps them, for whoever reads the file next.
    fn release(&self, begin: u64, len: u64) {
        if let (Some(place), Some(map)) = (self.place(begin, len), &self.map) {
            unmap_pages(map, place as usize, len as usize);
        }
    }
}

fn map_whole(file: &File, path: &Path, size: u64) -> Result<Mmap> {
    let len =
        usize::try_from(size).map_err(|_| Error::format(path, "it is too large to map here; read with pread"))?;
    // SAFETY: the mapping is shared and read-only, and lives no longer than it is held. What cannot be guaranteed is that
    // nobody changes the file meanwhile: bytes written to it appear in slices that were handed out (numbers are made of
    // them, any bytes will do), and reading beyond the end of a file that was cut is a SIGBUS, which ends the process.
    // That is why `Pread` is the mode for storage that is not trusted and why this mode has to be chosen.
    unsafe { MmapOptions::new().len(len).map(file) }.map_err(Error::io(path))
}

/// A fault maps the cached pages around it, up to a whole large folio, and so brings pages back that were released.
#[cfg(unix)]
const FAULT_REACH: usize = 2 << 20;

/// How far behind its last reader a file is released once more: another thread, which was held up, may still have been
/// reading there and have brought pages back.
#[cfg(unix)]
const TRAIL: usize = 32 * FAULT_REACH;

#[cfg(unix)]
fn unmap_pages(map: &Mmap, place: usize, len: usize) {
    // Whole reaches alone, behind the last tile of each: one call for many tiles.
    let reach = |place: usize| place / FAULT_REACH * FAULT_REACH;
    let end = if place + len < map.len() { reach(place + len) } else { map.len() };
    if reach(place) >= end {
        return;
    }
    let begin = reach(place).saturating_sub(TRAIL);
    // SAFETY: the pages are those of a shared, read-only mapping of a file: whoever touches one again, because it shares a
    // page with this range or is read once more, gets the same bytes from the file again.
    let _ = unsafe { map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, begin, end - begin) };
}

#[cfg(not(unix))]
fn unmap_pages(_map: &Mmap, _place: usize, _len: usize) {}

fn require_same(path: &Path, before: identity::Identity, now: identity::Identity) -> Result<()> {
    before.changes_to(&now).map_or(Ok(()), |reason| Err(changed(path, reason)))
}

fn changed(path: &Path, reason: impl Into<String>) -> Error {
    Error::Changed { path: path.to_path_buf(), reason: reason.into() }
}

#[cfg(test)]
mod tests;
