//! What the engine asks of a method: measuring passes over tiles, then one writing pass.

use std::ops::{Deref, Range};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::counts::Counts;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::kernels::reduce::LEAF;
use crate::source::Bytes;

/// An input tensor: bytes of a file, or bytes that are computed while they are read.
#[derive(Clone)]
pub struct Stored<'a> {
    pub bytes: Origin<'a>,
    pub begin: u64,
    pub dtype: Dtype,
}

#[derive(Clone)]
pub enum Origin<'a> {
    File(&'a dyn Bytes),
    Computed(Arc<dyn Bytes + Send + 'a>),
}

impl<'a> Deref for Origin<'a> {
    type Target = dyn Bytes + 'a;

    fn deref(&self) -> &Self::Target {
        match self {
            Self::File(bytes) => *bytes,
            Self::Computed(bytes) => &**bytes,
        }
    }
}

/// The inputs of one output tensor and what is known about it beforehand.
pub struct Tensor<'a> {
    pub name: &'a str,
    pub elements: u64,
    /// Length of the last dimension.
    pub row: u64,
    pub dtype: Dtype,
    /// The base first, where the method has one.
    pub inputs: Vec<Stored<'a>>,
}

impl Tensor<'_> {
    /// Whether any input is computed while it is read.
    pub fn is_computed(&self) -> bool {
        self.inputs.iter().any(|input| matches!(input.bytes, Origin::Computed(_)))
    }

    /// Cuts a range into pieces to read, each a whole number of blocks long but for the last.
    pub fn pieces(&self, range: Range<u64>, block: usize) -> impl Iterator<Item = Range<u64>> + use<> {
        let read = if self.is_computed() { COMPUTED_READ } else { READ };
        let step = (read / block as u64).max(1) * block as u64;
        (range.start..range.end).step_by(step as usize).map(move |start| start..(start + step).min(range.end))
    }

    /// The bytes of a range of elements of one input.
    pub fn read<'b>(&'b self, input: usize, range: &Range<u64>, buffer: &'b mut Vec<u8>) -> Result<&'b [u8]> {
        let stored = &self.inputs[input];
        let size = stored.dtype.size() as u64;
        stored.bytes.read(stored.begin + range.start * size, ((range.end - range.start) * size) as usize, buffer)
    }

    /// The bytes of a range of elements of every input.
    pub fn read_all<'b>(&'b self, range: &Range<u64>, buffers: &'b mut Buffers) -> Result<Vec<&'b [u8]>> {
        let (count, buffers) = (self.inputs.len(), buffers.of(self.inputs.len())?);
        buffers.iter_mut().take(count).enumerate().map(|(i, b)| self.read(i, range, b)).collect()
    }

    /// The bytes of a range of elements of one input, in the first buffer.
    pub fn read_one<'b>(&'b self, input: usize, range: &Range<u64>, buffers: &'b mut Buffers) -> Result<&'b [u8]> {
        self.read(input, range, &mut buffers.of(1)?[0])
    }

    /// The bytes of a range of elements of two inputs.
    pub fn read_pair<'b>(
        &'b self,
        first: usize,
        second: usize,
        range: &Range<u64>,
        buffers: &'b mut Buffers,
    ) -> Result<[&'b [u8]; 2]> {
        let (one, other) = buffers.of(2)?.split_at_mut(1);
        Ok([self.read(first, range, &mut one[0])?, self.read(second, range, &mut other[0])?])
    }

    /// Says that nothing in this pass will read this range again.
    pub fn release(&self, range: &Range<u64>) {
        for stored in &self.inputs {
            let size = stored.dtype.size() as u64;
            stored.bytes.release(stored.begin + range.start * size, (range.end - range.start) * size);
        }
    }
}

/// Elements of one input that are read at a time: they stay in the second-level cache until they are used.
const READ: u64 = 1 << 16;

/// The same for what is computed while it is read: enough rows for a panel of a factor to be worth loading.
pub const COMPUTED_READ: u64 = 1 << 18;

/// A thread's reading buffers, one for each input, and the flag that tells it to stop: some passes read a whole tensor,
/// or all of them, in one go.
#[derive(Default)]
pub struct Buffers {
    inputs: Vec<Vec<u8>>,
    cancelled: Arc<AtomicBool>,
}

impl Buffers {
    /// Reading through them fails once `cancelled` is set.
    pub fn new(cancelled: Arc<AtomicBool>) -> Self {
        Self { inputs: Vec::new(), cancelled }
    }

    /// At least `count` buffers.
    fn of(&mut self, count: usize) -> Result<&mut [Vec<u8>]> {
        if self.cancelled.load(Ordering::Acquire) {
            return Err(Error::Interrupted);
        }
        self.inputs.resize_with(count.max(self.inputs.len()), Vec::new);
        Ok(&mut self.inputs)
    }
}

/// How a pass cuts a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tiling {
    /// Equal runs of elements.
    Flat,
    /// Runs of whole rows.
    Rows,
    /// Runs of this many elements, however large a tile is.
    Runs(u64),
    /// One piece, of which little is read.
    Whole,
}

impl Tiling {
    /// Elements of a leaf, over which sums are taken: tiles of elements or of whole rows begin and end at its multiples.
    pub fn leaf(self, row: u64) -> u64 {
        match self {
            Self::Rows => (LEAF as u64 / row.max(1)).max(1) * row.max(1),
            _ => LEAF as u64,
        }
    }
}

/// A method applied to one tensor, with its numbers resolved.
pub trait Operation: Send + Sync {
    /// The measuring passes, in order, and how each cuts the tensor.
    fn measures(&self) -> &[Tiling] {
        &[]
    }

    /// Whether a measuring pass reads the whole tensor, rather than a sample of it.
    fn reads_all(&self, _pass: usize) -> bool {
        true
    }

    /// How the writing pass cuts the tensor.
    fn tiling(&self) -> Tiling {
        Tiling::Flat
    }

    /// Whether a measure ranges over several tensors: all of them are then measured before any is written.
    fn is_model_wide(&self) -> bool {
        false
    }

    /// Folds a tile into a measure. Tiles come from several threads, in any order.
    fn measure(&self, _pass: usize, _range: Range<u64>, _buffers: &mut Buffers) -> Result<()> {
        Ok(())
    }

    /// Called once when every tile of a pass was measured.
    fn resolve(&self, _pass: usize, _buffers: &mut Buffers) -> Result<()> {
        Ok(())
    }

    /// Called once when all of the result is written: what was measured may go.
    fn forget(&self) {}

    /// Writes a tile of the result.
    fn merge(&self, range: Range<u64>, buffers: &mut Buffers, out: &mut [u8]) -> Result<Counts>;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Memory;

    #[test]
    fn nothing_is_read_once_the_run_is_cancelled() {
        let bytes = Memory(&[1, 2]);
        let stored = Stored { bytes: Origin::File(&bytes), begin: 0, dtype: Dtype::U8 };
        let tensor =
            Tensor { name: "w", elements: 2, row: 2, dtype: Dtype::U8, inputs: vec![stored.clone(), stored] };
        let cancelled = Arc::new(AtomicBool::new(false));
        let mut buffers = Buffers::new(Arc::clone(&cancelled));
        assert_eq!(tensor.read_one(1, &(1..2), &mut buffers).unwrap(), [2]);
        cancelled.store(true, Ordering::Release);
        assert!(matches!(tensor.read_one(0, &(0..2), &mut buffers), Err(Error::Interrupted)));
        assert!(matches!(tensor.read_pair(0, 1, &(0..2), &mut buffers), Err(Error::Interrupted)));
        assert!(matches!(tensor.read_all(&(0..2), &mut buffers), Err(Error::Interrupted)));
    }
}
