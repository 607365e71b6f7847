//! Small dense matrices in float64: Gram matrices, QR, eigenvalues, singular values.
//!
//! Thin wrappers over faer, sequential: whoever calls them has many matrices to work on at the same time.

mod eigen;
mod gram;
mod qr;
mod root;
mod tile;
mod tolerance;

pub use eigen::{NoConvergence, Svd, eigen, svd};
pub use faer::{Mat, MatRef};
pub use gram::Gram;
pub use qr::Triangle;
pub use root::root;
pub use tile::Tile;
pub use tolerance::Tolerance;

use faer::Par;

/// The product a·b.
pub fn product(a: MatRef<'_, f64>, b: MatRef<'_, f64>) -> Mat<f64> {
    let mut out = Mat::zeros(a.nrows(), b.ncols());
    faer::linalg::matmul::matmul(out.as_mut(), faer::Accum::Replace, a, b, 1.0, Par::Seq);
    out
}

/// The largest sum of magnitudes of a row: no eigenvalue of a symmetric matrix is larger.
pub fn largest_row_sum(a: MatRef<'_, f64>) -> f64 {
    let mut sums = vec![0.0; a.nrows()];
    for column in 0..a.ncols() {
        for (row, sum) in sums.iter_mut().enumerate() {
            *sum += a[(row, column)].abs();
        }
    }
    sums.into_iter().fold(0.0, f64::max)
}

#[cfg(test)]
mod tests;
