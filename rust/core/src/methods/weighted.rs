//! Σ wᵢ·xᵢ of the models themselves: linear, passthrough, and the change of a type.

use std::ops::Range;

use super::operation::{Buffers, Operation, Tensor};
use super::options::Options;
use super::table::Method;
use crate::counts::Counts;
use crate::error::{Error, Result};
use crate::kernels::BLOCK;
use crate::kernels::combine::{add_scaled, divide, scale};
use crate::kernels::convert::{Element, count_overflow, count_special};
use crate::kernels::level::Level;
use crate::plan::Job;

/// A weighted sum over a divisor.
pub struct Weighted<'a, R> {
    level: Level,
    tensor: Tensor<'a>,
    weights: Vec<R>,
    divisor: R,
}

impl<'a, R: Element> Weighted<'a, R> {
    /// `method` is `None` for a mere change of type.
    pub fn new(level: Level, tensor: Tensor<'a>, method: Option<&Method>, job: &Job) -> Result<Self> {
        if job.inputs.is_empty()
            || (method.is_none_or(|method| method.name == "passthrough") && job.inputs.len() != 1)
        {
            return Err(Error::plan(format!("{}: {} inputs for {}", job.name, job.inputs.len(), job.method.name)));
        }
        let Some(method) = method else {
            return Ok(Self { level, tensor, weights: vec![R::ONE], divisor: R::ONE });
        };
        let options = Options::new(method, &job.method.options, false)?;
        let name = if method.name == "passthrough" { "scale" } else { "weight" };
        let weights = job.inputs.iter().map(|input| Options::new(method, &input.parameters, true)?.number(name));
        let weights = weights.collect::<Result<Vec<f64>>>()?;
        let sum: f64 = weights.iter().sum();
        let divides = options.has("normalize") && options.switch("normalize")? && sum.abs() >= 1e-8;
        Ok(Self {
            level,
            tensor,
            weights: weights.into_iter().map(R::of).collect(),
            divisor: if divides { R::of(sum) } else { R::ONE },
        })
    }

    fn block(&self, tiles: &[&[u8]], range: Range<usize>, x: &mut [R], sum: &mut [R], out: &mut [u8]) -> Counts {
        let (level, mut counts) = (self.level, Counts::default());
        for (i, (&weight, stored)) in self.weights.iter().zip(&self.tensor.inputs).enumerate() {
            let size = stored.dtype.size();
            let bytes = &tiles[i][range.start * size..range.end * size];
            let target = if i == 0 { &mut *sum } else { &mut *x };
            if R::load(level, stored.dtype, bytes, target) {
                let (infinite, nan) = count_special(stored.dtype, bytes);
                counts += Counts { nan, infinite, overflow: 0 };
            }
            if i > 0 {
                add_scaled(level, sum, x, weight);
            } else if weight != R::ONE {
                scale(level, sum, weight);
            }
        }
        if self.divisor != R::ONE {
            divide(level, sum, self.divisor);
        }
        if R::store(level, self.tensor.dtype, sum, out) {
            counts.overflow += count_overflow(self.tensor.dtype, sum, out);
        }
        counts
    }
}

impl<R: Element> Operation for Weighted<'_, R> {
    fn merge(&self, range: Range<u64>, buffers: &mut Buffers, out: &mut [u8]) -> Result<Counts> {
        let (mut x, mut sum) = ([R::ZERO; BLOCK], [R::ZERO; BLOCK]);
        let (size, mut counts, mut written) = (self.tensor.dtype.size(), Counts::default(), 0);
        for piece in self.tensor.pieces(range, BLOCK) {
            let tiles = self.tensor.read_all(&piece, buffers)?;
            let elements = (piece.end - piece.start) as usize;
            for start in (0..elements).step_by(BLOCK) {
                let len = BLOCK.min(elements - start);
                let out = &mut out[written..written + len * size];
                counts += self.block(&tiles, start..start + len, &mut x[..len], &mut sum[..len], out);
                written += len * size;
            }
            self.tensor.release(&piece);
        }
        Ok(counts)
    }
}
