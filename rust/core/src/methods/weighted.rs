//! Σ wᵢ·xᵢ of the models themselves: linear, passthrough, and the change of a type.

use std::ops::Range;

use super::operation::{Buffers, Operation, Tensor};
use super::options::Options;
use super::table::Method;
use crate::counts::Counts;
use crate::error::{Error, Result};
use crate::kernels::BLOCK;
use crate::kernels::combine::sum_weighted;
use crate::kernels::convert::{Element, count_overflow, count_special};
use crate::kernels::level::Level;
use crate::plan::Job;

/// Inputs that are added to the sum at once.
const TOGETHER: usize = 3;

/// Working arrays of one block: the sum, which begins as the first input, and what is added to it.
type Loaded<R> = [[R; BLOCK]; 1 + TOGETHER];

/// A weighted sum over a divisor.
pub struct Weighted<'a, R> {
    level: Level,
    tensor: Tensor<'a>,
    weights: Vec<R>,
    /// Where it is not one.
    divisor: Option<R>,
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
            return Ok(Self { level, tensor, weights: vec![R::ONE], divisor: None });
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
            divisor: divides.then(|| R::of(sum)).filter(|&sum| sum != R::ONE),
        })
    }

    fn block(&self, tiles: &[&[u8]], range: Range<usize>, loaded: &mut Loaded<R>, out: &mut [u8]) -> Counts {
        let (level, mut counts, len) = (self.level, Counts::default(), range.len());
        let mut load = |input: usize, target: &mut [R]| {
            let dtype = self.tensor.inputs[input].dtype;
            let bytes = &tiles[input][range.start * dtype.size()..range.end * dtype.size()];
            if R::load(level, dtype, bytes, target) {
                let (infinite, nan) = count_special(dtype, bytes);
                counts += Counts { nan, infinite, overflow: 0 };
            }
        };
        let [sum, others @ ..] = loaded;
        let sum = &mut sum[..len];
        load(0, sum);
        let (inputs, mut next, mut weight) = (self.weights.len(), 1, self.weights[0]);
        loop {
            let group = (inputs - next).min(TOGETHER);
            let others = &mut others[..group];
            others.iter_mut().zip(next..).for_each(|(other, input)| load(input, &mut other[..len]));
            let weights = &self.weights[next..next + group];
            next += group;
            let divisor = self.divisor.filter(|_| next == inputs);
            if group > 0 || weight != R::ONE || divisor.is_some() {
                sum_weighted(level, sum, weight, others, weights, divisor);
            }
            if next == inputs {
                break;
            }
            weight = R::ONE;
        }
        if R::store(level, self.tensor.dtype, sum, out) {
            counts.overflow += count_overflow(self.tensor.dtype, sum, out);
        }
        counts
    }
}

impl<R: Element> Operation for Weighted<'_, R> {
    fn merge(&self, range: Range<u64>, buffers: &mut Buffers, out: &mut [u8]) -> Result<Counts> {
        let mut loaded: Loaded<R> = [[R::ZERO; BLOCK]; 1 + TOGETHER];
        let (size, mut counts, mut written) = (self.tensor.dtype.size(), Counts::default(), 0);
        for piece in self.tensor.pieces(range, BLOCK) {
            let tiles = self.tensor.read_all(&piece, buffers)?;
            let elements = (piece.end - piece.start) as usize;
            for start in (0..elements).step_by(BLOCK) {
                let len = BLOCK.min(elements - start);
                let out = &mut out[written..written + len * size];
                counts += self.block(&tiles, start..start + len, &mut loaded, out);
                written += len * size;
            }
            self.tensor.release(&piece);
        }
        Ok(counts)
    }
}
