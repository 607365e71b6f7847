//! Randomised subspace iteration (Halko, Martinsson, Tropp 2011), carried on until more of it would gain nothing.

use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};

use super::ritz::{Ritz, ritz};
use super::{Found, Keep, count};
use crate::error::{Error, Result};
use crate::kernels::level::Level;
use crate::kernels::random::{StreamKey, fill};

/// Directions beyond those that are wanted.
const OVERSAMPLE: usize = 16;

/// Directions that a search for an energy begins with.
const FIRST: usize = 64;

/// Products with the matrix at the most.
const PASSES: usize = 14;

/// What more passes may still gain by estimate, as a fraction of the squared error: half of it for the error itself.
const GAIN: f64 = 0.01;

/// Changes of a value below this fraction of it, and of the geometric mean of it and the largest, are rounding.
const NOISE: (f64, f64) = (1e-6, 2e-7);

/// How many directions are iterated, if that is worth it: close to all of them, the exact route costs less.
fn width(small: usize, wanted: usize) -> Option<usize> {
    let width = wanted.checked_add(OVERSAMPLE)?;
    (width.checked_mul(3)? < small).then_some(width)
}

/// Bytes of working arrays; `None` where the exact route would be taken.
pub fn workspace(rows: u64, columns: u64, keep: Keep) -> Option<u64> {
    let small = rows.min(columns);
    let width = match keep {
        Keep::Rank(rank) => width(usize::try_from(small).ok()?, rank)? as u64,
        // It may end in the exact route.
        Keep::Energy(_) => return None,
    };
    // A basis, its image and a copy that is decomposed in f32; one of them in f64.
    Some(width * (rows + columns) * 12 + width * rows.max(columns) * 8 + width * width * 64)
}

/// The leading part of the matrix, or `None` where the exact route is the shorter one.
pub fn leading(matrix: MatRef<'_, f32>, norm2: f64, keep: Keep, key: StreamKey, name: &str) -> Result<Option<Found>> {
    let small = matrix.nrows().min(matrix.ncols());
    let mut wanted = match keep {
        Keep::Rank(rank) => rank,
        Keep::Energy(_) => FIRST,
    };
    while let Some(width) = width(small, wanted) {
        if let Some(found) = iterate(matrix, norm2, keep, width, key, name)? {
            return Ok(Some(found));
        }
        wanted *= 2;
    }
    Ok(None)
}

/// One side's basis and its image on the other side.
struct Step {
    basis: Mat<f32>,
    image: Mat<f32>,
    ritz: Ritz,
}

/// Iterates a subspace of `width` directions; `None` where it cannot hold the energy that is wanted.
fn iterate(
    matrix: MatRef<'_, f32>,
    norm2: f64,
    keep: Keep,
    width: usize,
    key: StreamKey,
    name: &str,
) -> Result<Option<Found>> {
    let mut image = product(matrix, random(key, matrix.ncols(), width).as_ref());
    let mut progress = Progress::default();
    let mut right = false;
    for _ in 1..PASSES {
        // The sides take turns: a basis of the images becomes the next basis.
        let basis = image.qr().compute_thin_Q();
        let side = if right { matrix } else { matrix.transpose() };
        image = product(side, basis.as_ref());
        let step = Step { ritz: ritz(basis.as_ref(), image.as_ref(), name)?, basis, image };
        let kept = count(&step.ritz.values, norm2, keep);
        let settled = progress.settled(&step.ritz.values[..width - OVERSAMPLE], norm2);
        // What lies among the extra directions is not found well enough to be kept.
        if settled && kept + OVERSAMPLE > width {
            return Ok(None);
        }
        if settled && right {
            return Ok(Some(step.found(kept)));
        }
        right = !right;
        image = step.image;
    }
    Err(Error::tensor(name, "its leading directions could not be told apart; try the exact route"))
}

/// How the values that are wanted grow from pass to pass.
#[derive(Default)]
struct Progress {
    passes: usize,
    values: Vec<f64>,
    gain: f64,
}

impl Progress {
    /// Whether more passes would gain next to nothing: gains shrink about geometrically.
    fn settled(&mut self, values: &[f64], norm2: f64) -> bool {
        let largest = values.first().copied().unwrap_or(0.0);
        let gain = |(now, before): (&f64, &f64)| {
            let gain = now - before;
            let noise = NOISE.0 * now + NOISE.1 * (now * largest).sqrt();
            if gain > noise { gain } else { 0.0 }
        };
        let gain: f64 = values.iter().zip(&self.values).map(gain).sum();
        // A first guess until two gains are known.
        let ratio = if self.gain > 0.0 { (gain / self.gain).clamp(0.3, 0.95) } else { 0.8 };
        let left = (norm2 - values.iter().sum::<f64>()).max(0.0);
        let known = !self.values.is_empty();
        self.passes += 1;
        (self.values, self.gain) = (values.to_vec(), gain);
        // The last two passes are taken as they are: an even and an odd one.
        self.passes + 2 >= PASSES || (known && gain * ratio / (1.0 - ratio) <= GAIN * left)
    }
}

impl Step {
    /// The factors: the basis is one of the right side here.
    fn found(&self, kept: usize) -> Found {
        let t = Mat::from_fn(self.ritz.t.nrows(), kept, |i, j| self.ritz.t[(i, j)] as f32);
        Found {
            b: product(self.image.as_ref(), t.as_ref()),
            at: product(self.basis.as_ref(), t.as_ref()),
            sigma: self.ritz.values[..kept].iter().map(|value| value.sqrt()).collect(),
        }
    }
}

fn product(left: MatRef<'_, f32>, right: MatRef<'_, f32>) -> Mat<f32> {
    let mut out = Mat::zeros(left.nrows(), right.ncols());
    matmul(out.as_mut(), Accum::Replace, left, right, 1.0f32, Par::Seq);
    out
}

/// Uniform numbers in [−1, 1): the same ones for a matrix of this name on every machine.
fn random(key: StreamKey, rows: usize, columns: usize) -> Mat<f32> {
    let mut numbers = vec![0; rows];
    let mut out = Mat::zeros(rows, columns);
    for j in 0..columns {
        fill(Level::detect(), key, (j * rows) as u64, &mut numbers);
        out.col_mut(j).iter_mut().zip(&numbers).for_each(|(x, &n)| *x = (n >> 8) as f32 / 8_388_608.0 - 1.0);
    }
    out
}
