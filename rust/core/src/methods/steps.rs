//! The single steps of TIES on task vectors, as operations of their own: what `carrick.arrays` offers beside the methods.

use std::ops::Range;

use super::operation::{Buffers, Operation, Tensor};
use crate::counts::Counts;
use crate::error::Result;
use crate::kernels::BLOCK;
use crate::kernels::combine::scale;
use crate::kernels::consensus::{divide_by, elect, gather, vote_by_sign, vote_by_sum};
use crate::kernels::convert::Element;
use crate::kernels::level::Level;

/// One of the steps.
#[derive(Clone, Debug)]
pub enum Step<R> {
    /// The sign of the sum of the inputs, each times its weight, or of the sum of their signs.
    ElectSign { weights: Vec<R>, by_count: bool, zero: R },
    /// Σ w·x over the inputs that agree with the signs in the last input, divided by Σ share of those.
    DisjointMean { weights: Vec<R>, shares: Vec<R> },
}

pub struct StepOperation<'a, R> {
    pub level: Level,
    pub tensor: Tensor<'a>,
    pub step: Step<R>,
}

/// Working arrays of one block.
struct Space<R> {
    x: [R; BLOCK],
    signs: [R; BLOCK],
    sums: [R; BLOCK],
    divisors: [R; BLOCK],
}

impl<R: Element> StepOperation<'_, R> {
    /// Leaves the result of one block in `space.sums`.
    fn block(&self, tiles: &[&[u8]], start: usize, len: usize, space: &mut Space<R>) {
        let level = self.level;
        let load = |input: usize, out: &mut [R]| {
            let dtype = self.tensor.inputs[input].dtype;
            let bytes = &tiles[input][start * dtype.size()..(start + len) * dtype.size()];
            R::load(level, dtype, bytes, out);
        };
        let Space { x, signs, sums, divisors } = space;
        let (x, signs) = (&mut x[..len], &mut signs[..len]);
        let (sums, divisors) = (&mut sums[..len], &mut divisors[..len]);
        sums.fill(R::ZERO);
        match &self.step {
            Step::ElectSign { weights, by_count, zero } => {
                for (input, &weight) in weights.iter().enumerate() {
                    load(input, x);
                    if *by_count {
                        vote_by_sign(level, sums, x);
                    } else {
                        scale(level, x, weight);
                        vote_by_sum(level, sums, x);
                    }
                }
                elect(level, sums, *zero);
            }
            Step::DisjointMean { weights, shares } => {
                divisors.fill(R::ZERO);
                load(weights.len(), signs);
                for (input, (&weight, &share)) in weights.iter().zip(shares).enumerate() {
                    load(input, x);
                    gather(level, x, signs, weight, share, sums, divisors);
                }
                divide_by(level, sums, divisors);
            }
        }
    }
}

impl<R: Element> Operation for StepOperation<'_, R> {
    fn merge(&self, range: Range<u64>, buffers: &mut Buffers, out: &mut [u8]) -> Result<Counts> {
        let array = [R::ZERO; BLOCK];
        let mut space = Space { x: array, signs: array, sums: array, divisors: array };
        let (size, mut written) = (self.tensor.dtype.size(), 0);
        for piece in self.tensor.pieces(range, BLOCK) {
            let tiles = self.tensor.read_all(&piece, buffers)?;
            let elements = (piece.end - piece.start) as usize;
            for start in (0..elements).step_by(BLOCK) {
                let len = BLOCK.min(elements - start);
                self.block(&tiles, start, len, &mut space);
                R::store(self.level, self.tensor.dtype, &space.sums[..len], &mut out[written..written + len * size]);
                written += len * size;
            }
        }
        Ok(Counts::default())
    }
}
