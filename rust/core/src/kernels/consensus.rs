//! Sign election and disjoint merging.
//!
//! An elected sign is +1, −1 or 0, of the type of the arithmetic; an entry agrees with it when their product is
//! positive, so that zeros, NaN and places where nothing was elected never agree.

use super::level::multiversion;
use super::real::Real;

multiversion! {
    /// votes ← votes + x.
    pub fn vote_by_sum<R: Real>(votes: &mut [R], x: &[R]) {
        for (vote, &x) in votes.iter_mut().zip(x) {
            *vote += x;
        }
    }
}

multiversion! {
    /// votes ← votes + sign(x).
    pub fn vote_by_sign<R: Real>(votes: &mut [R], x: &[R]) {
        for (vote, &x) in votes.iter_mut().zip(x) {
            *vote += x.signum_or_zero();
        }
    }
}

multiversion! {
    /// Turns votes into signs; a vote of exactly zero becomes `zero`.
    pub fn elect<R: Real>(votes: &mut [R], zero: R) {
        for vote in votes {
            let sign = if *vote < R::ZERO { -R::ONE } else { R::ONE };
            *vote = if *vote == R::ZERO { zero } else { sign };
        }
    }
}

multiversion! {
    /// For entries that agree with the elected sign: sum ← sum + factor·x, divisor ← divisor + share.
    pub fn gather<R: Real>(x: &[R], signs: &[R], factor: R, share: R, sums: &mut [R], divisors: &mut [R]) {
        for (((&x, &sign), sum), divisor) in x.iter().zip(signs).zip(sums).zip(divisors) {
            let agrees = x * sign > R::ZERO;
            *sum += if agrees { factor * x } else { R::ZERO };
            *divisor += if agrees { share } else { R::ZERO };
        }
    }
}

multiversion! {
    /// For entries that agree: largest ← max(largest, |factor·x|).
    pub fn gather_largest<R: Real>(x: &[R], signs: &[R], factor: R, largest: &mut [R]) {
        for ((&x, &sign), largest) in x.iter().zip(signs).zip(largest) {
            let size = if x * sign > R::ZERO { (factor * x).abs() } else { R::ZERO };
            *largest = if size > *largest { size } else { *largest };
        }
    }
}

multiversion! {
    /// x ← x·sign.
    pub fn apply_signs<R: Real>(x: &mut [R], signs: &[R]) {
        for (x, &sign) in x.iter_mut().zip(signs) {
            *x = *x * sign;
        }
    }
}

multiversion! {
    /// sum ← sum / divisor, a divisor of exactly zero counting as one.
    pub fn divide_by<R: Real>(sums: &mut [R], divisors: &[R]) {
        for (sum, &divisor) in sums.iter_mut().zip(divisors) {
            *sum = *sum / if divisor == R::ZERO { R::ONE } else { divisor };
        }
    }
}
