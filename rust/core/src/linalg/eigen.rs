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
pub fn eigen(a: MatRef<'_, f64>) -> Result<(Vec<f64>, Mat<f64>), NoConvergence> {
    let found = a.self_adjoint_eigen(Side::Lower).map_err(|_| NoConvergence)?;
    let values: Vec<f64> = found.S().column_vector().iter().rev().copied().collect();
    Ok((values, found.U().reverse_cols().to_owned()))
}

/// The thin singular value decomposition.
pub fn svd(a: MatRef<'_, f64>) -> Result<Svd, NoConvergence> {
    let found = a.thin_svd().map_err(|_| NoConvergence)?;
    let values = found.S().column_vector().iter().copied().collect();
    Ok(Svd { left: found.U().to_owned(), values, right: found.V().to_owned() })
}
