//! Eigenvalues and singular values, the largest first.

use faer::{Mat, MatRef, Side};

/// An iteration did not come to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoConvergence;

/// a = left · diag(values) · rightᵀ.
pub struct Svd {
    pub left: Mat<f64>,
    pub values: Vec<f64>,
    pub right: Mat<f64>,
}

/// The eigenvalues of a symmetric matrix (its lower triangle is read), descending, and the vectors as columns.
///
/// The matrix is divided by a power of two first, which rounds nothing, to bring its eigenvalues near 1: faer's divide
/// and conquer weighs them against elements of eigenvectors. Of 130 rows whose eigenvalues are all about 1e5 it loses
/// six digits, of 1e-20 all of them (LAPACK's `dstedc` scales as well).
pub fn eigen(mut a: Mat<f64>) -> Result<(Vec<f64>, Mat<f64>), NoConvergence> {
    let size = a.nrows();
    if size == 0 {
        return Ok((Vec::new(), a));
    }
    let mut largest = 0.0f64;
    (0..size).for_each(|j| (j..size).for_each(|i| largest = largest.max(a[(i, j)].abs())));
    let scale = if largest > 0.0 { largest.log2().floor().clamp(-1000.0, 1000.0).exp2() } else { 1.0 };
    (0..size).for_each(|j| (j..size).for_each(|i| a[(i, j)] /= scale));
    let found = a.self_adjoint_eigen(Side::Lower).map_err(|_| NoConvergence)?;
    let values = found.S().column_vector().iter().rev().map(|value| value * scale).collect();
    Ok((values, found.U().reverse_cols().to_owned()))
}

/// The thin singular value decomposition.
pub fn svd(a: MatRef<'_, f64>) -> Result<Svd, NoConvergence> {
    let found = a.thin_svd().map_err(|_| NoConvergence)?;
    let values = found.S().column_vector().iter().copied().collect();
    Ok(Svd { left: found.U().to_owned(), values, right: found.V().to_owned() })
}
