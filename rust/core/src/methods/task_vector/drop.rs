//! Dropping entries of a task vector.

use super::ranks::{ByRank, Ranks};
use super::recipe::{Drop, Model, Recipe, Rescale};
use crate::kernels::combine::scale;
use crate::kernels::level::Level;
use crate::kernels::random::{StreamKey, drop_rescale, fill, keep_below};
use crate::kernels::real::Real;
use crate::methods::operation::Tensor;

/// What happens to the entries of one model. The thresholds of trims lie in the domain; the factor applies to what
/// they leave.
pub enum Dropper<R: Real> {
    Keep,
    DropAll,
    Trim(R),
    Window(R),
    Random { key: StreamKey, below: u64, scale: R },
    Ranked { key: StreamKey, by_rank: ByRank<R> },
}

/// Working space of a drop.
pub struct Space<R: Real> {
    numbers: Vec<u32>,
    ranks: Ranks<R>,
}

impl<R: Real> Default for Space<R> {
    fn default() -> Self {
        Self { numbers: Vec::new(), ranks: Ranks::default() }
    }
}

impl<R: Real> Dropper<R> {
    pub fn new(recipe: &Recipe, model: &Model, tensor: &Tensor<'_>, seed: u64) -> Self {
        let density = model.density;
        let by_density = matches!(recipe.rescale, Rescale::Density | Rescale::Probability) && density > 0.0;
        let factor = if by_density { 1.0 / density } else { 1.0 };
        let key = StreamKey::new(seed, model.index as u64, tensor.name);
        match recipe.drop {
            Drop::Never => Self::Keep,
            Drop::Trim => Self::Trim(R::of(factor)),
            Drop::Window => Self::Window(R::of(factor)),
            Drop::Random | Drop::Ranked if density >= 1.0 => Self::Keep,
            Drop::Random | Drop::Ranked if density <= 0.0 => Self::DropAll,
            Drop::Random => Self::Random { key, below: keep_below(density), scale: R::of(factor) },
            Drop::Ranked => {
                let factor = (recipe.rescale != Rescale::Probability).then(|| R::of(factor));
                let (columns, epsilon) = (tensor.row as usize, model.epsilon);
                Self::Ranked { key, by_rank: ByRank { columns, density, epsilon, factor } }
            }
        }
    }

    /// Applies what does not depend on a threshold. `at` is the index of `x[0]` in its tensor.
    pub fn apply(&self, level: Level, at: u64, x: &mut [R], space: &mut Space<R>) {
        match self {
            Self::Keep => {}
            Self::DropAll => x.fill(R::ZERO),
            Self::Trim(factor) | Self::Window(factor) => {
                if *factor != R::ONE {
                    scale(level, x, *factor);
                }
            }
            Self::Random { key, below, scale } => {
                space.numbers.resize(x.len(), 0);
                fill(level, *key, at, &mut space.numbers);
                drop_rescale(level, x, &space.numbers, *below, *scale);
            }
            Self::Ranked { key, by_rank } => {
                space.numbers.resize(x.len(), 0);
                fill(level, *key, at, &mut space.numbers);
                by_rank.apply(level, x, &space.numbers, &mut space.ranks);
            }
        }
    }
}
