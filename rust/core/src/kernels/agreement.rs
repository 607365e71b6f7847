//! Whether two vectors point the same way, entry by entry.

use super::level::multiversion;
use super::real::Real;

/// Entries of two vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// Entries where neither is zero.
    pub shared: u64,
    /// Of those, the ones with different signs.
    pub conflicts: u64,
}

multiversion! {
    /// Counts the signs of two blocks without NaN, shorter than 2³² entries.
    pub fn count_agreement<R: Real>(a: &[R], b: &[R]) -> Signs {
        let (mut shared, mut conflicts) = (0u32, 0u32);
        for (&a, &b) in a.iter().zip(b) {
            // Signs are compared, not multiplied: products of small numbers are zero.
            let both = (a != R::ZERO) & (b != R::ZERO);
            shared += u32::from(both);
            conflicts += u32::from(both & ((a < R::ZERO) != (b < R::ZERO)));
        }
        Signs { shared: u64::from(shared), conflicts: u64::from(conflicts) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::level::Level;
    use proptest::prelude::*;

    #[test]
    fn zeros_have_no_sign_and_small_numbers_have_one() {
        let tiny = f32::from_bits(1);
        let (a, b) = ([0.0, -0.0, 1.0, -tiny, tiny, -2.0], [1.0, -1.0, -0.0, tiny, tiny, 3.0]);
        assert_eq!(count_agreement(Level::SCALAR, &a, &b), Signs { shared: 3, conflicts: 2 });
    }

    proptest! {
        #[test]
        fn every_level_counts_what_the_definition_says(pairs in prop::collection::vec((-2i8..3, -2i8..3), 0..200)) {
            let a: Vec<f64> = pairs.iter().map(|pair| f64::from(pair.0)).collect();
            let b: Vec<f64> = pairs.iter().map(|pair| f64::from(pair.1)).collect();
            let product = |pair: &&(i8, i8)| pair.0 * pair.1;
            let shared = pairs.iter().filter(|pair| product(pair) != 0).count() as u64;
            let conflicts = pairs.iter().filter(|pair| product(pair) < 0).count() as u64;
            for level in Level::available() {
                prop_assert_eq!(count_agreement(level, &a, &b), Signs { shared, conflicts });
            }
        }
    }
}
