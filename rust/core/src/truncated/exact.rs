//! The whole spectrum, from the Gram matrix of the smaller side in f64.
//!
//! A Gram matrix squares the singular values: those below 1e-8 of the largest are lost in its rounding. So are they in
//! that of f32 factors.

use faer::linalg::matmul::matmul;
use faer::linalg::matmul::triangular::{BlockStructure, matmul as triangular};
use faer::{Accum, Mat, MatRef, Par};

use super::{Found, Keep, count};
use crate::error::{Error, Result};
use crate::linalg::eigen;

/// Columns that are converted at a time.
const STRIP: usize = 256;

/// Bytes of working arrays.
pub fn workspace(rows: u64, columns: u64) -> u64 {
    let small = rows.min(columns);
    // The Gram matrix, its vectors, and what the decomposition takes itself.
    small * small * 8 * 5 + small * STRIP as u64 * 8
}

/// The leading part of the matrix.
pub fn leading(matrix: MatRef<'_, f32>, norm2: f64, keep: Keep, name: &str) -> Result<Found> {
    let wide = matrix.nrows() <= matrix.ncols();
    let gram = if wide { gram(matrix) } else { gram(matrix.transpose()) };
    let failed = |_| Error::tensor(name, "the decomposition of its Gram matrix does not converge");
    let size = gram.nrows();
    let (mut values, found) = eigen(gram).map_err(failed)?;
    values.iter_mut().for_each(|value| *value = value.max(0.0));
    let kept = count(&values, norm2, keep);
    let sigma: Vec<f64> = values[..kept].iter().map(|value| value.sqrt()).collect();
    let mut vectors = Mat::from_fn(size, kept, |i, j| found[(i, j)] as f32);
    drop(found);
    let (b, at) = if wide {
        // Rows of A are those of Uᵀ·M, brought to length 1; what that takes away goes to B.
        let mut at = product(matrix.transpose(), vectors.as_ref());
        for (j, &sigma) in sigma.iter().enumerate() {
            at.col_mut(j).iter_mut().for_each(|x| *x = (f64::from(*x) / sigma) as f32);
            vectors.col_mut(j).iter_mut().for_each(|x| *x = (f64::from(*x) * sigma) as f32);
        }
        (vectors, at)
    } else {
        (product(matrix, vectors.as_ref()), vectors)
    };
    Ok(Found { b, at, sigma })
}

/// The lower triangle of X·Xᵀ.
fn gram(x: MatRef<'_, f32>) -> Mat<f64> {
    let mut out = Mat::zeros(x.nrows(), x.nrows());
    for start in (0..x.ncols()).step_by(STRIP) {
        let part = x.subcols(start, STRIP.min(x.ncols() - start));
        let part = Mat::from_fn(part.nrows(), part.ncols(), |i, j| f64::from(part[(i, j)]));
        triangular(
            out.as_mut(),
            BlockStructure::TriangularLower,
            Accum::Add,
            part.as_ref(),
            BlockStructure::Rectangular,
            part.transpose(),
            BlockStructure::Rectangular,
            1.0,
            Par::Seq,
        );
    }
    out
}

fn product(left: MatRef<'_, f32>, right: MatRef<'_, f32>) -> Mat<f32> {
    let mut out = Mat::zeros(left.nrows(), right.ncols());
    matmul(out.as_mut(), Accum::Replace, left, right, 1.0f32, Par::Seq);
    out
}
