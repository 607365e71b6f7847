//! Where the bytes of the inputs come from: safetensors headers, read as hostile, and ranges of their data sections.
//!
//! A range is asked for by its place in the data section; whether it was read into the caller's buffer or is a view of a
//! mapping is the source's business. Nothing here knows what the bytes mean: [`crate::kernels`] converts them.

mod compare;
mod files;
mod header;
mod identity;
mod positional;

use crate::error::{Error, Result};

pub use compare::{Difference, Region, compare, hash_file};
pub use files::{InputFile, ReadMode, open_all};
pub use header::{Header, MAX_HEADER_BYTES, MAX_RANK, TensorInfo, read_header};

/// Bytes that can be read from any thread, in any order.
pub trait Bytes: Sync {
    /// The bytes `[begin, begin + len)` of the data. `buffer` may be used to hold them: it only ever grows, so that a
    /// caller who keeps it pays for its pages once.
    fn read<'a>(&'a self, begin: u64, len: usize, buffer: &'a mut Vec<u8>) -> Result<&'a [u8]>;

    /// A hint that the range was read for the last time.
    fn release(&self, _begin: u64, _len: u64) {}
}

/// Bytes that are in memory already.
pub struct Memory<'a>(pub &'a [u8]);

impl Bytes for Memory<'_> {
    fn read<'a>(&'a self, begin: u64, len: usize, _buffer: &'a mut Vec<u8>) -> Result<&'a [u8]> {
        let outside = || Error::plan(format!("{len} bytes from byte {begin} on lie outside the {}", self.0.len()));
        let begin = usize::try_from(begin).map_err(|_| outside())?;
        begin.checked_add(len).and_then(|end| self.0.get(begin..end)).ok_or_else(outside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_gives_what_lies_inside_and_refuses_the_rest() {
        let (memory, mut buffer) = (Memory(&[1, 2, 3, 4]), Vec::new());
        assert_eq!(memory.read(1, 2, &mut buffer).unwrap(), [2, 3]);
        assert_eq!(memory.read(4, 0, &mut buffer).unwrap(), [0u8; 0]);
        for (begin, len) in [(3, 2), (5, 0), (u64::MAX, 1), (1, usize::MAX)] {
            assert!(matches!(memory.read(begin, len, &mut buffer), Err(Error::Plan { .. })), "{begin} {len}");
        }
        assert!(buffer.is_empty());
    }
}
