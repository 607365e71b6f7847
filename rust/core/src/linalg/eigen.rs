//! Eigenvalues and singular values, the largest first.

use faer::diag::DiagRef;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd_scratch, tridiagonal_self_adjoint_evd};
use faer::{Col, Mat, MatRef, Par};

use super::tridiagonal::Tridiagonal;
use crate::kernels::level::Level;

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
pub fn eigen(a: Mat<f64>) -> Result<(Vec<f64>, Mat<f64>), NoConvergence> {
    let size = a.nrows();
    if size == 0 {
        return Ok((Vec::new(), Mat::new()));
    }
    let mut found = Tridiagonal::new(Level::detect(), a.as_ref());
    drop(a);
    let scale = found.normalize();
    let (mut values, mut vectors) = (Col::zeros(size), Mat::zeros(size, size));
    let scratch = self_adjoint_evd_scratch::<f64>(size, ComputeEigenvectors::Yes, Par::Seq, Default::default());
    tridiagonal_self_adjoint_evd(
        DiagRef::from_slice(&found.diagonal),
        DiagRef::from_slice(&found.below),
        values.as_mut().as_diagonal_mut(),
        Some(vectors.as_mut()),
        Par::Seq,
        MemStack::new(&mut MemBuffer::new(scratch)),
        Default::default(),
    )
    .map_err(|_| NoConvergence)?;
    found.turn(vectors.as_mut());
    Ok((values.iter().rev().map(|value| value * scale).collect(), vectors.reverse_cols().to_owned()))
}

/// The thin singular value decomposition.
pub fn svd(a: MatRef<'_, f64>) -> Result<Svd, NoConvergence> {
    let found = a.thin_svd().map_err(|_| NoConvergence)?;
    let values = found.S().column_vector().iter().copied().collect();
    Ok(Svd { left: found.U().to_owned(), values, right: found.V().to_owned() })
}
