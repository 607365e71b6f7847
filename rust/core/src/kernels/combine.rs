//! Sums of models and of task vectors. Products and sums round apart: there is no fused multiply-add anywhere, since
//! not every machine has one.

use super::level::multiversion;
use super::real::Real;

multiversion! {
    /// x ← w·x.
    pub fn scale<R: Real>(x: &mut [R], weight: R) {
        for x in x {
            *x = weight * *x;
        }
    }
}

multiversion! {
    /// sum ← sum + w·x.
    pub fn add_scaled<R: Real>(sum: &mut [R], x: &[R], weight: R) {
        for (sum, &x) in sum.iter_mut().zip(x) {
            *sum += weight * x;
        }
    }
}

multiversion! {
    /// x ← x / divisor.
    pub fn divide<R: Real>(x: &mut [R], divisor: R) {
        for x in x {
            *x = *x / divisor;
        }
    }
}

multiversion! {
    /// merged ← base + λ·merged.
    pub fn add_to_base<R: Real>(merged: &mut [R], base: &[R], lambda: R) {
        for (merged, &base) in merged.iter_mut().zip(base) {
            *merged = base + lambda * *merged;
        }
    }
}

multiversion! {
    /// sum ← sum + c[i]·x[i].
    pub fn add_product<R: Real>(sum: &mut [R], x: &[R], coefficients: &[R]) {
        for ((sum, &x), &c) in sum.iter_mut().zip(x).zip(coefficients) {
            *sum += c * x;
        }
    }
}
