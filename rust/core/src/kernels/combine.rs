//! Sums of models and of task vectors. Products and sums round apart: there is no fused multiply-add anywhere, since
//! not every machine has one.

use std::ops::Range;

use super::level::{Level, multiversion};
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

multiversion! {
    /// out ← [base +] Σ cᵢ·xᵢ of N vectors, the sum begun at +0, with nothing but the result going to memory.
    fn combine_of<R: Real; const N>(vectors: [&[R]; N], coefficients: [R; N], base: Option<&[R]>, out: &mut [R]) {
        let len = out.len();
        let vectors = vectors.map(|x| &x[..len]);
        let sum = |k: usize| {
            let mut sum = R::ZERO;
            for i in 0..N {
                // SAFETY: `k` is a place in `out`, and all are as long. A check that stays in the loop takes its last
                // round out of registers.
                sum += coefficients[i] * unsafe { *vectors[i].get_unchecked(k) };
            }
            sum
        };
        if let Some(base) = base {
            for (k, (out, &base)) in out.iter_mut().zip(&base[..len]).enumerate() {
                *out = base + sum(k);
            }
        } else {
            for (k, out) in out.iter_mut().enumerate() {
                *out = sum(k);
            }
        }
    }
}

/// out ← [base +] Σ cᵢ·xᵢ of a range of the vectors. The steps one by one, which many vectors take, give the same bits.
pub fn combine<R: Real>(
    level: Level,
    vectors: &[Vec<R>],
    range: &Range<usize>,
    coefficients: &[R],
    base: Option<&[R]>,
    out: &mut [R],
) {
    match (vectors, coefficients) {
        ([a, b], &[k, l]) => combine_of(level, [a, b].map(|x| &x[range.clone()]), [k, l], base, out),
        ([a, b, c], &[k, l, m]) => combine_of(level, [a, b, c].map(|x| &x[range.clone()]), [k, l, m], base, out),
        ([a, b, c, d], &[k, l, m, n]) => {
            combine_of(level, [a, b, c, d].map(|x| &x[range.clone()]), [k, l, m, n], base, out);
        }
        _ => {
            out.fill(R::ZERO);
            for (x, &coefficient) in vectors.iter().zip(coefficients) {
                add_scaled(level, out, &x[range.clone()], coefficient);
            }
            if let Some(base) = base {
                add_to_base(level, out, base, R::ONE);
            }
        }
    }
}

multiversion! {
    /// sum ← (w·sum + Σ wᵢ·xᵢ) [/ divisor] of N more vectors.
    fn sum_weighted_of<R: Real; const N>(
        sum: &mut [R],
        weight: R,
        vectors: [&[R]; N],
        weights: [R; N],
        divisor: Option<R>,
    ) {
        let len = sum.len();
        let vectors = vectors.map(|x| &x[..len]);
        let add = |first: R, k: usize| {
            let mut sum = weight * first;
            for i in 0..N {
                // SAFETY: `k` is a place in `sum`, and all are as long; unchecked for the same reason as above.
                sum += weights[i] * unsafe { *vectors[i].get_unchecked(k) };
            }
            sum
        };
        if let Some(divisor) = divisor {
            for (k, sum) in sum.iter_mut().enumerate() {
                *sum = add(*sum, k) / divisor;
            }
        } else {
            for (k, sum) in sum.iter_mut().enumerate() {
                *sum = add(*sum, k);
            }
        }
    }
}

/// sum ← (w·sum + Σ wᵢ·xᵢ) [/ divisor]. The vectors may be longer than the sum.
pub fn sum_weighted<R: Real>(
    level: Level,
    sum: &mut [R],
    weight: R,
    vectors: &[impl AsRef<[R]>],
    weights: &[R],
    divisor: Option<R>,
) {
    assert!(vectors.len() == weights.len(), "a weight for each vector");
    match (vectors, weights) {
        ([], _) => sum_weighted_of(level, sum, weight, [], [], divisor),
        ([a], &[k]) => sum_weighted_of(level, sum, weight, [a.as_ref()], [k], divisor),
        ([a, b], &[k, l]) => sum_weighted_of(level, sum, weight, [a, b].map(AsRef::as_ref), [k, l], divisor),
        ([a, b, c, rest @ ..], &[k, l, m, ref others @ ..]) => {
            let last = rest.is_empty();
            sum_weighted_of(level, sum, weight, [a, b, c].map(AsRef::as_ref), [k, l, m], divisor.filter(|_| last));
            if !last {
                sum_weighted(level, sum, R::ONE, rest, others, divisor);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::reduce::tests::{bits, entry};
    use proptest::prelude::*;

    /// [base +] Σ cᵢ·xᵢ, one rounding after the other.
    fn check_combine<R: Real>(vectors: &[Vec<R>], range: &Range<usize>, coefficients: &[R], base: Option<&[R]>) {
        let entry = |(k, place): (usize, usize)| {
            let mut sum = R::ZERO;
            for (x, &c) in vectors.iter().zip(coefficients) {
                sum += c * x[place];
            }
            base.map_or(sum, |base| base[k] + sum)
        };
        let expected: Vec<R> = range.clone().enumerate().map(entry).collect();
        for level in Level::available() {
            let mut out = vec![R::NAN; range.len()];
            combine(level, vectors, range, coefficients, base, &mut out);
            assert_eq!(bits(&out), bits(&expected), "{} vectors, {}", vectors.len(), level.name());
        }
    }

    /// (Σ wᵢ·xᵢ) [/ divisor] by the steps that each go through memory.
    fn check_sum<R: Real>(vectors: &[Vec<R>], weights: &[R], divisor: Option<R>) {
        let mut expected = vectors[0].clone();
        scale(Level::SCALAR, &mut expected, weights[0]);
        for (x, &weight) in vectors.iter().zip(weights).skip(1) {
            add_scaled(Level::SCALAR, &mut expected, x, weight);
        }
        if let Some(divisor) = divisor {
            divide(Level::SCALAR, &mut expected, divisor);
        }
        for level in Level::available() {
            let mut sum = vectors[0].clone();
            sum_weighted(level, &mut sum, weights[0], &vectors[1..], &weights[1..], divisor);
            assert_eq!(bits(&sum), bits(&expected), "{} vectors, {}", vectors.len(), level.name());
        }
    }

    proptest! {
        #[test]
        fn all_at_once_has_the_bits_of_the_steps(
            entries in prop::collection::vec(prop::array::uniform9(entry()), 0..100),
            factors in prop::array::uniform9(entry()),
            n in 1usize..9,
            skipped in 0usize..9,
        ) {
            let vectors: Vec<Vec<f32>> = (0..9).map(|i| entries.iter().map(|x| x[i]).collect()).collect();
            let (vectors, base) = (&vectors[..n], &vectors[8]);
            let range = skipped.min(entries.len())..entries.len();
            let third = |x: &f32| f64::from(*x) / 3.0;
            let wide = |x: &[f32]| x.iter().map(third).collect::<Vec<f64>>();
            let wide_vectors: Vec<Vec<f64>> = vectors.iter().map(|x| wide(x)).collect();
            for based in [false, true] {
                let base = based.then_some(&base[range.clone()]);
                check_combine(vectors, &range, &factors[..n], base);
                check_combine(&wide_vectors, &range, &wide(&factors[..n]), base.map(wide).as_deref());
            }
            for divisor in [None, Some(factors[8])] {
                check_sum(vectors, &factors[..n], divisor);
                check_sum(&wide_vectors, &wide(&factors[..n]), divisor.as_ref().map(third));
            }
        }
    }
}
