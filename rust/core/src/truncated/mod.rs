//! The best low-rank factors of a dense matrix: M ≈ B·A with the singular values on B.
//!
//! [`randomized`] looks for the leading directions alone, by products in f32; [`exact`] takes the whole spectrum from
//! the Gram matrix of the smaller side in f64. Everything here is sequential: callers work on several matrices at once.

mod exact;
pub mod joint;
mod randomized;
mod ritz;

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::kernels::random::StreamKey;

/// A matrix in memory, row by row.
pub struct Matrix {
    pub data: Vec<f32>,
    pub rows: usize,
    pub columns: usize,
    /// The factors wanted are those of the transpose.
    pub transposed: bool,
}

impl Matrix {
    fn view(&self) -> MatRef<'_, f32> {
        let stored = MatRef::from_row_major_slice(&self.data, self.rows, self.columns);
        if self.transposed { stored.transpose() } else { stored }
    }

    fn view_mut(&mut self) -> MatMut<'_, f32> {
        let stored = MatMut::from_row_major_slice_mut(&mut self.data, self.rows, self.columns);
        if self.transposed { stored.transpose_mut() } else { stored }
    }
}

/// How many directions are kept.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Keep {
    /// So many, or as many as the matrix has.
    Rank(usize),
    /// As few as hold this fraction of the squared Frobenius norm.
    Energy(f64),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    #[default]
    Randomized,
    Exact,
}

/// B (rows × rank) and A (rank × columns), row by row; the rows of A are orthonormal.
#[derive(Clone, Debug)]
pub struct Factors {
    pub rank: usize,
    pub b: Vec<f32>,
    pub a: Vec<f32>,
    /// The singular values that are kept, the largest first.
    pub sigma: Vec<f64>,
    /// ‖M − B·A‖ / ‖M‖ in the Frobenius norm, measured.
    pub error: f64,
    /// ‖M‖.
    pub norm: f64,
    pub route: Route,
}

/// Directions below this fraction of the largest singular value are lost in the rounding of the f32 factors.
const RESOLUTION: f64 = f32::EPSILON as f64;

/// Factors as they are found: B by columns, A by rows, both held as columns.
struct Found {
    b: faer::Mat<f32>,
    at: faer::Mat<f32>,
    sigma: Vec<f64>,
}

/// Finds the factors. The matrix is used up: its place holds what the factors leave of it. `seed` and `name` key the
/// random directions of the randomized route.
pub fn truncate(mut matrix: Matrix, keep: Keep, route: Route, seed: u64, name: &str) -> Result<Factors> {
    let norm = norm(&matrix.data);
    if !norm.is_finite() {
        return Err(Error::tensor(name, "holds NaN or infinities, which have no decomposition"));
    }
    let (rows, columns) = (matrix.view().nrows(), matrix.view().ncols());
    if norm == 0.0 || keep == Keep::Rank(0) {
        let error = if norm == 0.0 { 0.0 } else { 1.0 };
        return Ok(Factors { rank: 0, b: vec![], a: vec![], sigma: vec![], error, norm, route });
    }
    let scale = bring_into_range(&mut matrix.data, norm);
    let (found, route) = decompose(matrix.view(), norm / scale, keep, route, StreamKey::new(seed, 0, name), name)?;
    let rank = found.sigma.len();
    let error = residual(&mut matrix, &found) * scale / norm;
    let mut b = vec![0.0; rows * rank];
    let mut a = vec![0.0; rank * columns];
    let scale_f32 = scale as f32;
    for j in 0..rank {
        b.iter_mut().skip(j).step_by(rank).zip(found.b.col(j).iter()).for_each(|(out, &x)| *out = x * scale_f32);
        a[j * columns..(j + 1) * columns].iter_mut().zip(found.at.col(j).iter()).for_each(|(out, &x)| *out = x);
    }
    if b.iter().chain(&a).any(|x| !x.is_finite()) {
        return Err(Error::tensor(name, "its low-rank factors are too large for float32"));
    }
    let sigma = found.sigma.iter().map(|sigma| sigma * scale).collect();
    Ok(Factors { rank, b, a, sigma, error, norm, route })
}

/// By the route that was asked for, or the exact one where nearly all directions are wanted.
fn decompose(
    matrix: MatRef<'_, f32>,
    norm: f64,
    keep: Keep,
    route: Route,
    key: StreamKey,
    name: &str,
) -> Result<(Found, Route)> {
    if route == Route::Randomized
        && let Some(found) = randomized::leading(matrix, norm * norm, keep, key, name)?
    {
        return Ok((found, Route::Randomized));
    }
    Ok((exact::leading(matrix, norm * norm, keep, name)?, Route::Exact))
}

/// Bytes of working arrays beside the matrix itself.
pub fn workspace(rows: u64, columns: u64, keep: Keep, route: Route) -> u64 {
    let small = rows.min(columns);
    let rank = match keep {
        Keep::Rank(rank) => rank as u64,
        Keep::Energy(_) => small,
    };
    let factors = rank.min(small) * (rows + columns) * 16;
    let randomized = randomized::workspace(rows, columns, keep);
    factors + randomized.filter(|_| route == Route::Randomized).unwrap_or_else(|| exact::workspace(rows, columns))
}

/// The least count of leading values that holds what is to be kept; all of them where they do not hold enough.
fn count(values: &[f64], norm2: f64, keep: Keep) -> usize {
    let floor = RESOLUTION * RESOLUTION * values.first().copied().unwrap_or(0.0);
    let real = values.iter().take_while(|&&value| value > floor).count();
    match keep {
        Keep::Rank(rank) => rank.min(real),
        Keep::Energy(energy) => {
            let mut sum = 0.0;
            let reached = values[..real].iter().position(|value| {
                sum += value;
                sum >= energy * norm2
            });
            reached.map_or(real, |place| place + 1)
        }
    }
}

/// ‖M‖, in f64.
fn norm(data: &[f32]) -> f64 {
    let squares = |part: &[f32]| part.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>();
    // Sums of sums stay exact enough, and vectorise.
    data.chunks(64).map(squares).sum::<f64>().sqrt()
}

/// Multiplies by a power of two where squares of the elements could leave the range of f32; returns what undoes it.
fn bring_into_range(data: &mut [f32], norm: f64) -> f64 {
    const SAFE: i32 = 20;
    let exponent = norm.log2().round() as i32;
    if exponent.abs() <= SAFE {
        return 1.0;
    }
    let factor = 2f64.powi(-exponent);
    data.iter_mut().for_each(|x| *x = (f64::from(*x) * factor) as f32);
    2f64.powi(exponent)
}

/// ‖M − B·A‖; the difference takes the place of the matrix.
fn residual(matrix: &mut Matrix, found: &Found) -> f64 {
    matmul(matrix.view_mut(), Accum::Add, found.b.as_ref(), found.at.transpose(), -1.0f32, Par::Seq);
    norm(&matrix.data)
}

#[cfg(test)]
mod tests;
