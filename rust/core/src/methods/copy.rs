//! Tensors whose bytes are taken as they are.

use std::ops::Range;

use super::operation::{Buffers, Operation, Tensor};
use crate::counts::Counts;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::kernels::BLOCK;
use crate::kernels::convert::{Element, count_special};
use crate::kernels::level::Level;

/// Copies the first input; all others must hold the same bytes.
pub struct Copy<'a> {
    pub tensor: Tensor<'a>,
}

impl Operation for Copy<'_> {
    fn merge(&self, range: Range<u64>, buffers: &mut Buffers, out: &mut [u8]) -> Result<Counts> {
        let mut tiles = self.tensor.read_all(&range, buffers)?.into_iter();
        let Some(first) = tiles.next() else {
            return Err(Error::tensor(self.tensor.name, "nothing to copy"));
        };
        if let Some(other) = tiles.position(|other| other != first) {
            let reason = format!(
                "the {} values of model {} differ from those of the first; they cannot be merged, only copied: take \
                 them from one model",
                self.tensor.dtype,
                other + 1
            );
            return Err(Error::tensor(self.tensor.name, reason));
        }
        out.copy_from_slice(first);
        self.tensor.release(&range);
        let dtype = self.tensor.dtype;
        let (infinite, nan) =
            if dtype.is_float() && has_special(dtype, first) { count_special(dtype, first) } else { (0, 0) };
        Ok(Counts { nan, infinite, overflow: 0 })
    }
}

/// Whether any element is infinite or NaN.
fn has_special(dtype: Dtype, bytes: &[u8]) -> bool {
    let (level, mut narrow, mut wide) = (Level::detect(), [0f32; BLOCK], [0f64; BLOCK]);
    bytes.chunks(BLOCK * dtype.size()).any(|bytes| {
        let len = bytes.len() / dtype.size();
        match dtype {
            Dtype::F64 => f64::load(level, dtype, bytes, &mut wide[..len]),
            _ => f32::load(level, dtype, bytes, &mut narrow[..len]),
        }
    })
}
