//! Keeping entries by the bits of their magnitude.

use super::level::multiversion;
use super::real::Real;

multiversion! {
    /// Zeroes every entry whose key is below `low`.
    pub fn keep_from<R: Real>(x: &mut [R], low: R::Bits) {
        for x in x {
            *x = if x.key() >= low { *x } else { R::ZERO };
        }
    }
}

multiversion! {
    /// Zeroes every entry whose key is below `low` or not below `high`.
    pub fn keep_between<R: Real>(x: &mut [R], low: R::Bits, high: R::Bits) {
        for x in x {
            let key = x.key();
            *x = if (key >= low) & (key < high) { *x } else { R::ZERO };
        }
    }
}
