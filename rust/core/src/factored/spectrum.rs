//! The spectrum of a module by either route.
//!
//! Columns side by side are M = X·Y, where X (out × R) holds the scaled B and Y is block-diagonal, one block of A for
//! each term; a sum has all of A as its one block; rows one below the other are columns of the transpose. With M =
//! U·Σ·Vᵀ, both routes give U as X·`basis` and Uᵀ·M as `coordinates`·Y: small matrices. Nothing tall is ever held.

use std::ops::Range;

use super::cut::{Cut, Selection};
use super::request::Route;
use super::stack::{Scratch, Stack, TILE_ROWS};
use crate::error::{Error, Result};
use crate::linalg::{Gram, Mat, MatRef, NoConvergence, Triangle, eigen, largest_row_sum, product, root, svd};

/// M = X·Y of a module.
pub struct Problem<'a> {
    pub x: Stack<'a>,
    /// The transposes of the blocks of Y.
    pub y: Vec<Stack<'a>>,
    /// What each column of X is to be multiplied by.
    pub scales: Vec<f64>,
    pub cut: Cut,
}

/// Singular values and vectors in terms of the factors.
pub struct Spectrum {
    pub route: Route,
    pub sigma: Vec<f64>,
    pub selection: Selection,
    /// R × kept: U = X·basis.
    pub basis: Mat<f64>,
    /// kept × R: Uᵀ·M = coordinates·Y.
    pub coordinates: Mat<f64>,
    /// The sum of each column of X.
    pub sums: Vec<f64>,
}

/// Columns of X, and rows of Y, that are not zero: the rest takes no part, and comes back as exact zeros.
struct Active {
    columns: Vec<usize>,
    /// Those of each block of Y.
    blocks: Vec<Range<usize>>,
}

impl Active {
    fn new(problem: &Problem<'_>, is_active: impl Fn(usize) -> bool) -> Self {
        let (mut columns, mut blocks, mut first) = (Vec::new(), Vec::new(), 0);
        for block in &problem.y {
            let (begin, end) = (columns.len(), first + block.columns());
            columns.extend((first..end).filter(|&column| is_active(column)));
            blocks.push(begin..columns.len());
            first = end;
        }
        Self { columns, blocks }
    }
}

impl Problem<'_> {
    pub fn columns(&self) -> usize {
        self.scales.len()
    }

    /// Singular values that M has at the most.
    fn limit(&self, active: usize) -> usize {
        active.min(self.x.long).min(self.y.iter().map(|block| block.long).sum())
    }

    fn error(&self, reason: &str) -> Error {
        Error::tensor(self.x.module, reason)
    }

    fn no_convergence(&self) -> impl FnOnce(NoConvergence) -> Error {
        let error = self.error("its singular values could not be computed: the iteration does not end");
        |NoConvergence| error
    }

    /// By the eigenvalues of Lᵀ·XᵀX·L, where Y·Yᵀ = L·Lᵀ. `None` where these do not settle what counts.
    pub fn by_gram(&self, scratch: &mut Scratch) -> Result<Option<Spectrum>> {
        let mut sums = vec![0.0; self.columns()];
        let x = gram(&self.x, scratch, &mut sums)?;
        let y: Vec<_> = self.y.iter().map(|y| gram(y, scratch, &mut [])).collect::<Result<_>>()?;
        let y_squares: Vec<f64> = y.iter().flat_map(|y| (0..y.nrows()).map(|i| y[(i, i)])).collect();
        let x_square = |column: usize| x[(column, column)] * self.scales[column] * self.scales[column];
        if !(0..self.columns()).all(|column| (x_square(column) * y_squares[column]).is_finite()) {
            return Err(self.error("its factors are too large for float64"));
        }
        let active = Active::new(self, |column| x_square(column) > 0.0 && y_squares[column] > 0.0);
        // The rows of Y are brought to norms near 1 by powers of two, which round nothing.
        let level: Vec<f64> = active.columns.iter().map(|&c| (y_squares[c].log2() / 2.0).round().exp2()).collect();
        let x = Mat::from_fn(level.len(), level.len(), |i, j| {
            let (row, column) = (active.columns[i], active.columns[j]);
            x[(row, column)] * (self.scales[row] * level[i]) * (self.scales[column] * level[j])
        });
        let (mut roots, mut y_norm) = (Vec::new(), 0.0);
        let mut first = 0;
        for (y, block) in y.iter().zip(&active.blocks) {
            let columns = |i: usize| active.columns[block.start + i] - first;
            let scaled = Mat::from_fn(block.len(), block.len(), |i, j| {
                y[(columns(i), columns(j))] / level[block.start + i] / level[block.start + j]
            });
            y_norm = largest_row_sum(scaled.as_ref()).max(y_norm);
            roots.push(root(scaled.as_ref()).map_err(self.no_convergence())?);
            first += y.nrows();
        }
        let (squares, vectors) = eigen(between(&roots, &active, &x)).map_err(self.no_convergence())?;
        let limit = self.limit(level.len());
        let sigma: Vec<f64> = squares[..limit].iter().map(|square| square.max(0.0).sqrt()).collect();
        let uncertainty = 4.0 * f64::EPSILON * largest_row_sum(x.as_ref()) * y_norm;
        let selection = self.cut.select(&sigma, 0.0);
        if !selection.is_settled(&sigma, uncertainty) {
            return Ok(None);
        }
        let mut basis = Mat::zeros(level.len(), selection.kept);
        for (root, block) in roots.iter().zip(&active.blocks) {
            let vectors = vectors.as_ref().submatrix(block.start, 0, block.len(), selection.kept);
            basis.as_mut().subrows_mut(block.start, block.len()).copy_from(product(root.as_ref(), vectors));
        }
        for (column, sigma) in sigma[..selection.kept].iter().enumerate() {
            basis.col_mut(column).iter_mut().for_each(|x| *x /= sigma);
        }
        let coordinates = product(basis.transpose(), x.as_ref());
        let (basis, coordinates) = self.spread(&active, &level, &basis, &coordinates);
        Ok(Some(Spectrum { route: Route::Gram, sigma, selection, basis, coordinates, sums }))
    }

    /// By the singular values of R·Tᵀ, where X = Q·R and Yᵀ = Q'·T.
    pub fn by_householder(&self, scratch: &mut Scratch) -> Result<Spectrum> {
        let mut sums = vec![0.0; self.columns()];
        let mut x = triangle(&self.x, scratch, &mut sums)?;
        for (column, &scale) in self.scales.iter().enumerate() {
            x.col_mut(column).iter_mut().for_each(|x| *x *= scale);
        }
        let y: Vec<_> = self.y.iter().map(|y| triangle(y, scratch, &mut [])).collect::<Result<_>>()?;
        let norms = |m: &Mat<f64>| (0..m.ncols()).map(|c| m.col(c).norm_l2()).collect::<Vec<_>>();
        let (x_norms, y_norms) = (norms(&x), y.iter().flat_map(norms).collect::<Vec<_>>());
        if !x_norms.iter().zip(&y_norms).all(|(x, y)| (x * y).is_finite()) {
            return Err(self.error("its factors are too large for float64"));
        }
        let active = Active::new(self, |column| x_norms[column] > 0.0 && y_norms[column] > 0.0);
        let x = Mat::from_fn(x.nrows(), active.columns.len(), |i, j| x[(i, active.columns[j])]);
        let mut roots = Vec::new();
        let mut first = 0;
        for (y, block) in y.iter().zip(&active.blocks) {
            // Tᵀ without the rows that are zero.
            let row = |i: usize| active.columns[block.start + i] - first;
            roots.push(Mat::from_fn(block.len(), y.nrows(), |i, j| y[(j, row(i))]));
            first += y.ncols();
        }
        let found = svd(side_by_side(&roots, &active, &x).as_ref()).map_err(self.no_convergence())?;
        let sigma = found.values[..self.limit(active.columns.len()).min(found.values.len())].to_vec();
        // Rounding, were all of X and Y to point one way.
        let weighted = active.columns.iter().map(|&c| (x_norms[c] * y_norms[c]).powi(2)).sum::<f64>().sqrt();
        let noise = 8.0 * f64::EPSILON * weighted * (active.columns.len() as f64).sqrt();
        let selection = self.cut.select(&sigma, noise);
        let mut basis = Mat::zeros(active.columns.len(), selection.kept);
        let mut first = 0;
        for (root, block) in roots.iter().zip(&active.blocks) {
            let vectors = found.right.as_ref().submatrix(first, 0, root.ncols(), selection.kept);
            basis.as_mut().subrows_mut(block.start, block.len()).copy_from(product(root.as_ref(), vectors));
            first += root.ncols();
        }
        for (column, sigma) in sigma[..selection.kept].iter().enumerate() {
            basis.col_mut(column).iter_mut().for_each(|x| *x /= sigma);
        }
        let left = found.left.as_ref().subcols(0, selection.kept);
        let coordinates = product(left.transpose(), x.as_ref());
        let level = vec![1.0; active.columns.len()];
        let (basis, coordinates) = self.spread(&active, &level, &basis, &coordinates);
        Ok(Spectrum { route: Route::Householder, sigma, selection, basis, coordinates, sums })
    }

    /// Takes the levels back, and puts zeros where columns took no part.
    fn spread(
        &self,
        active: &Active,
        level: &[f64],
        basis: &Mat<f64>,
        coordinates: &Mat<f64>,
    ) -> (Mat<f64>, Mat<f64>) {
        let kept = basis.ncols();
        let mut spread = (Mat::zeros(self.columns(), kept), Mat::zeros(kept, self.columns()));
        for (from, (&to, &level)) in active.columns.iter().zip(level).enumerate() {
            for k in 0..kept {
                spread.0[(to, k)] = basis[(from, k)] * level;
                spread.1[(k, to)] = coordinates[(k, from)] / level;
            }
        }
        spread
    }
}

/// The sum of some numbers, several at a time: one after the other would wait for each addition.
fn total(x: &[f64]) -> f64 {
    let (whole, rest) = x.as_chunks::<16>();
    let mut sums = [0.0; 16];
    for part in whole {
        sums.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
    }
    sums.iter().chain(rest).sum()
}

fn gram(stack: &Stack<'_>, scratch: &mut Scratch, sums: &mut [f64]) -> Result<Mat<f64>> {
    let mut gram = Gram::new(stack.level, stack.columns());
    stack.for_tiles(scratch, |tile| {
        gram.add(tile);
        sums.iter_mut().enumerate().for_each(|(column, sum)| *sum += total(tile.column(column)));
    })?;
    Ok(gram.finish())
}

fn triangle(stack: &Stack<'_>, scratch: &mut Scratch, sums: &mut [f64]) -> Result<Mat<f64>> {
    let mut triangle = Triangle::new(stack.columns(), TILE_ROWS);
    stack.for_tiles(scratch, |tile| {
        triangle.add(tile);
        sums.iter_mut().enumerate().for_each(|(column, sum)| *sum += total(tile.column(column)));
    })?;
    Ok(triangle.finish())
}

/// x·blkdiag(roots).
fn side_by_side(roots: &[Mat<f64>], active: &Active, x: &Mat<f64>) -> Mat<f64> {
    let mut out = Mat::zeros(x.nrows(), roots.iter().map(Mat::ncols).sum());
    let mut first = 0;
    for (root, block) in roots.iter().zip(&active.blocks) {
        let these = product(x.as_ref().subcols(block.start, block.len()), root.as_ref());
        out.as_mut().subcols_mut(first, root.ncols()).copy_from(these);
        first += root.ncols();
    }
    out
}

/// blkdiag(roots)ᵀ·x·blkdiag(roots).
fn between(roots: &[Mat<f64>], active: &Active, x: &Mat<f64>) -> Mat<f64> {
    let wide = side_by_side(roots, active, x);
    let turned: MatRef<'_, f64> = wide.transpose();
    side_by_side(roots, active, &turned.to_owned())
}
