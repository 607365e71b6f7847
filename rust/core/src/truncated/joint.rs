//! The basis that dense updates share: [D₁ | … | Dₙ] = U·Σ·[V₁ᵀ | … | Vₙᵀ], from a Gram matrix of the smaller side.
//!
//! Where that is the side of the rows, one update is in memory at a time, and each is asked for twice. A Gram matrix in
//! f64 tells singular values apart down to 1e-8 of the largest; where the cut needs more, a decomposition of the whole
//! matrix in f64 takes its place, if there is room for it.

use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{BlockStructure, matmul as triangular};
use faer::reborrow::{Reborrow, ReborrowMut};
use faer::{Accum, Mat, MatMut, MatRef, Par};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::linalg::{Tolerance, eigen};

/// Columns that are converted to f64 at a time.
const STRIP: usize = 256;

/// A cut below this fraction of the largest singular value is beyond a Gram matrix.
const RESOLVED: f64 = 1e-7;

/// Singular values this close to the cut, as a factor, are looked at more exactly.
const NEAR: f64 = 2.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// A Gram matrix of the shared side.
    GramShared,
    /// A Gram matrix of the sides that lie next to each other.
    GramJoined,
    /// A decomposition of the whole matrix.
    Svd,
}

/// What is done about one module.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    pub tolerance: Tolerance,
    /// Directions at the most.
    pub rank: Option<usize>,
    /// Bytes that may be used.
    pub memory: u64,
}

/// U (rows × k) by columns and Σ·Vᵢᵀ (k × columns).
pub struct Joint {
    pub basis: Mat<f32>,
    pub sigma: Vec<f64>,
    /// All singular values that were found, the kept ones first.
    pub rank: usize,
    pub route: Route,
}

/// Updates of one shape, which can be asked for again and again: rows of the shared side, columns of the others.
pub trait Updates {
    /// Rows, columns, and how many there are.
    fn shape(&self) -> (usize, usize, usize);
    /// Loads one; calls `with` with it.
    fn with(&mut self, index: usize, with: &mut dyn FnMut(MatRef<'_, f32>) -> Result<()>) -> Result<()>;
    /// Takes Σ·Vᵢᵀ of one.
    fn coordinates(&mut self, index: usize, found: MatRef<'_, f32>) -> Result<()>;
}

/// Bytes that a module takes, beside the update that is loaded.
pub fn workspace(rows: u64, columns: u64, updates: u64) -> u64 {
    let joined = columns * updates;
    let small = rows.min(joined);
    // The Gram matrix, its vectors and what the decomposition takes; the basis; one update's coordinates.
    let gram = small * small * 8 * 5 + (small + rows) * STRIP as u64 * 8;
    let held = if rows <= joined { 0 } else { rows * joined * 4 + joined * small * 4 };
    gram + held + rows * small * 8 + small * columns * 8
}

/// Bytes of a decomposition of the whole matrix.
fn svd_workspace(rows: u64, joined: u64) -> u64 {
    let small = rows.min(joined);
    rows * joined * 8 * 2 + (rows + joined) * small * 8 * 2 + small * small * 8 * 3
}

/// Finds the basis, and hands over each update's coordinates in it.
pub fn joint(updates: &mut dyn Updates, wanted: Wanted, name: &str) -> Result<Joint> {
    let (rows, columns, count) = updates.shape();
    let joined = columns * count;
    let shared = rows <= joined;
    let (sigma, vectors) = spectrum(if shared { shared_gram(updates)? } else { joined_gram(updates)? }, name)?;
    let cut = wanted.tolerance.cut(&sigma);
    let near = sigma.iter().any(|&s| s > cut / NEAR && s < cut * NEAR && s > 0.0);
    let unresolved = sigma.first().is_some_and(|&first| cut < RESOLVED * first);
    let fits = svd_workspace(rows as u64, joined as u64) + workspace(rows as u64, columns as u64, count as u64)
        <= wanted.memory;
    if (near || unresolved) && fits && sigma.first().is_some_and(|&first| first > 0.0) {
        return whole(updates, wanted, name);
    }
    let rank = wanted.rank(&sigma);
    if shared {
        project(updates, vectors.as_ref().subcols(0, rank))?;
        let basis = Mat::from_fn(rows, rank, |i, j| vectors[(i, j)] as f32);
        return Ok(Joint { basis, sigma, rank, route: Route::GramShared });
    }
    let scaled = Mat::from_fn(joined, rank, |i, j| (vectors[(i, j)] / sigma[j]) as f32);
    let mut basis = Mat::zeros(rows, rank);
    for index in 0..count {
        let part = scaled.as_ref().subrows(index * columns, columns);
        let mut is_zero = false;
        updates.with(index, &mut |update| {
            is_zero = (0..update.nrows()).all(|i| update.row(i).iter().all(|&x| x == 0.0));
            matmul(basis.as_mut(), Accum::Add, update, part, 1.0f32, Par::Seq);
            Ok(())
        })?;
        // What rounding left in the place of a zero update must not take part in a vote.
        let of =
            |j: usize, i: usize| if is_zero { 0.0 } else { (vectors[(index * columns + i, j)] * sigma[j]) as f32 };
        let coordinates = Mat::from_fn(rank, columns, of);
        updates.coordinates(index, coordinates.as_ref())?;
    }
    Ok(Joint { basis, sigma, rank, route: Route::GramJoined })
}

impl Wanted {
    fn rank(&self, sigma: &[f64]) -> usize {
        let cut = self.tolerance.cut(sigma);
        let real = sigma.iter().take_while(|&&value| value > cut && value > 0.0).count();
        self.rank.map_or(real, |rank| rank.min(real))
    }
}

/// Singular values, the largest first, and their vectors, from a Gram matrix whose lower triangle is filled.
fn spectrum(gram: Mat<f64>, name: &str) -> Result<(Vec<f64>, Mat<f64>)> {
    if (0..gram.nrows()).any(|i| !gram[(i, i)].is_finite()) {
        return Err(Error::tensor(name, "differences from the base hold NaN or infinities, which have no basis"));
    }
    let (values, mut vectors) =
        eigen(gram).map_err(|_| Error::tensor(name, "the decomposition of its Gram matrix does not converge"))?;
    // A sign that does not hang on the decomposition: sums of columns are not negative.
    for vector in vectors.col_iter_mut() {
        let sum: f64 = vector.as_ref().iter().sum();
        if sum < 0.0 {
            vector.iter_mut().for_each(|x| *x = -*x);
        }
    }
    Ok((values.into_iter().map(|value| value.max(0.0).sqrt()).collect(), vectors))
}

/// Σ DᵢDᵢᵀ, one update at a time.
fn shared_gram(updates: &mut dyn Updates) -> Result<Mat<f64>> {
    let (rows, columns, count) = updates.shape();
    let mut gram = Mat::zeros(rows, rows);
    for index in 0..count {
        updates.with(index, &mut |update| {
            for start in (0..columns).step_by(STRIP) {
                let part = update.subcols(start, STRIP.min(columns - start));
                add_product(gram.as_mut(), Mat::from_fn(rows, part.ncols(), |i, j| f64::from(part[(i, j)])).as_ref());
            }
            Ok(())
        })?;
    }
    Ok(gram)
}

/// [D₁ | … | Dₙ]ᵀ·[D₁ | … | Dₙ]; all updates are held.
fn joined_gram(updates: &mut dyn Updates) -> Result<Mat<f64>> {
    let (rows, columns, count) = updates.shape();
    let joined = columns * count;
    let mut held: Mat<f32> = Mat::zeros(joined, rows);
    for index in 0..count {
        updates.with(index, &mut |update| {
            held.as_mut().subrows_mut(index * columns, columns).copy_from(update.transpose());
            Ok(())
        })?;
    }
    let mut gram = Mat::zeros(joined, joined);
    for start in (0..rows).step_by(STRIP) {
        let part = held.as_ref().subcols(start, STRIP.min(rows - start));
        add_product(gram.as_mut(), Mat::from_fn(joined, part.ncols(), |i, j| f64::from(part[(i, j)])).as_ref());
    }
    Ok(gram)
}

/// Adds X·Xᵀ to a lower triangle.
fn add_product(gram: MatMut<'_, f64>, x: MatRef<'_, f64>) {
    let (lower, whole) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
    triangular(gram, lower, Accum::Add, x, whole, x.transpose(), whole, 1.0, Par::Seq);
}

/// Uᵀ·Dᵢ of every update, in f64: updates of very different size keep the digits of the small ones.
fn project(updates: &mut dyn Updates, basis: MatRef<'_, f64>) -> Result<()> {
    let (rows, columns, count) = updates.shape();
    let mut found: Mat<f32> = Mat::zeros(basis.ncols(), columns);
    let mut product = Mat::zeros(basis.ncols(), STRIP.min(columns));
    for index in 0..count {
        updates.with(index, &mut |update| {
            for start in (0..columns).step_by(STRIP) {
                let width = STRIP.min(columns - start);
                let part = update.subcols(start, width);
                let part = Mat::from_fn(rows, width, |i, j| f64::from(part[(i, j)]));
                let mut product = product.as_mut().subcols_mut(0, width);
                matmul(product.rb_mut(), Accum::Replace, basis.transpose(), part.as_ref(), 1.0, Par::Seq);
                for j in 0..width {
                    let column = found.col_mut(start + j);
                    column.iter_mut().zip(product.rb().col(j).iter()).for_each(|(x, &wide)| *x = wide as f32);
                }
            }
            Ok(())
        })?;
        updates.coordinates(index, found.as_ref())?;
    }
    Ok(())
}

/// By a decomposition of the whole matrix in f64.
fn whole(updates: &mut dyn Updates, wanted: Wanted, name: &str) -> Result<Joint> {
    let (rows, columns, count) = updates.shape();
    let mut matrix: Mat<f64> = Mat::zeros(rows, columns * count);
    for index in 0..count {
        updates.with(index, &mut |update| {
            for j in 0..columns {
                let column = matrix.col_mut(index * columns + j);
                column.iter_mut().zip(update.col(j).iter()).for_each(|(wide, &x)| *wide = f64::from(x));
            }
            Ok(())
        })?;
    }
    let found = matrix.thin_svd().map_err(|_| Error::tensor(name, "its decomposition does not converge"))?;
    drop(matrix);
    let sigma: Vec<f64> = found.S().column_vector().iter().copied().collect();
    let rank = wanted.rank(&sigma);
    let signs: Vec<f64> =
        (0..rank).map(|j| if found.U().col(j).iter().sum::<f64>() < 0.0 { -1.0 } else { 1.0 }).collect();
    let vectors = Mat::from_fn(rows, rank, |i, j| found.U()[(i, j)] * signs[j]);
    drop(found);
    project(updates, vectors.as_ref())?;
    let basis = Mat::from_fn(rows, rank, |i, j| vectors[(i, j)] as f32);
    Ok(Joint { basis, sigma, rank, route: Route::Svd })
}
