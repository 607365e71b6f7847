//! What a subspace holds of a matrix: the leading part of M within the span of a basis, in f64.

use faer::linalg::matmul::matmul;
use faer::linalg::triangular_solve::{solve_lower_triangular_in_place, solve_upper_triangular_in_place};
use faer::{Accum, Mat, MatRef, Par, Side};

use crate::error::{Error, Result};
use crate::linalg::eigen;

/// M restricted to the span of a basis Z: Σᵢ values are the squares of its singular values, the largest first, and
/// Y·T, Z·T its left vectors times the singular values and its right vectors, where Y = M·Z.
pub struct Ritz {
    pub values: Vec<f64>,
    pub t: Mat<f64>,
}

/// Measures the span of `basis`; `image` is the matrix times the basis. The basis may be orthonormal to f32 only:
/// that it is not quite is taken into account.
pub fn ritz(basis: MatRef<'_, f32>, image: MatRef<'_, f32>, name: &str) -> Result<Ritz> {
    let failed = || Error::tensor(name, "its leading directions could not be computed; try the exact route");
    let lower = gram(basis).llt(Side::Lower).map_err(|_| failed())?;
    let mut inner = gram(image);
    // L⁻¹·H·L⁻ᵀ, from both sides.
    solve_lower_triangular_in_place(lower.L(), inner.as_mut(), Par::Seq);
    solve_lower_triangular_in_place(lower.L(), inner.as_mut().transpose_mut(), Par::Seq);
    let (mut values, mut t) = eigen(inner).map_err(|_| failed())?;
    values.iter_mut().for_each(|value| *value = value.max(0.0));
    solve_upper_triangular_in_place(lower.L().transpose(), t.as_mut(), Par::Seq);
    Ok(Ritz { values, t })
}

/// Xᵀ·X in f64.
fn gram(x: MatRef<'_, f32>) -> Mat<f64> {
    let wide = Mat::from_fn(x.nrows(), x.ncols(), |i, j| f64::from(x[(i, j)]));
    let mut out = Mat::zeros(x.ncols(), x.ncols());
    matmul(out.as_mut(), Accum::Replace, wide.transpose(), wide.as_ref(), 1.0, Par::Seq);
    out
}
