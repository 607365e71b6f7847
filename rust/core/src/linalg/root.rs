//! A square root of a positive semidefinite matrix.

use faer::{Mat, MatRef, Side};

use super::{NoConvergence, eigen};

/// A square L with L·Lᵀ = a, for a symmetric positive semidefinite `a` of unit-like diagonal: the Cholesky factor, or,
/// where `a` is singular to working precision, the eigenvectors times the roots of their eigenvalues.
pub fn root(a: MatRef<'_, f64>) -> Result<Mat<f64>, NoConvergence> {
    if let Ok(factor) = a.llt(Side::Lower)
        && pivots_are_sound(factor.L(), a)
    {
        return Ok(factor.L().to_owned());
    }
    let (values, mut vectors) = eigen(a.to_owned())?;
    for (column, value) in values.into_iter().enumerate() {
        let root = value.max(0.0).sqrt();
        vectors.col_mut(column).iter_mut().for_each(|x| *x *= root);
    }
    Ok(vectors)
}

/// Below this share of its diagonal element a pivot is rounding.
const PIVOT: f64 = 1e-12;

fn pivots_are_sound(factor: MatRef<'_, f64>, a: MatRef<'_, f64>) -> bool {
    (0..a.nrows()).all(|i| factor[(i, i)] * factor[(i, i)] > PIVOT * a[(i, i)])
}
