//! Sums in float64 with a fixed order: sixteen running sums over the elements of a leaf, then a tree over the sixteen.
//! Neither the width of a register nor the cutting into tiles shows in the result.

use super::level::multiversion;
use super::real::Real;

/// Elements of one leaf. Tiles begin and end at multiples of it.
pub const LEAF: usize = 1 << 16;

/// The sixteen running sums of a leaf that is under way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lanes([f64; 16]);

impl Lanes {
    pub fn total(self) -> f64 {
        let mut lanes = self.0;
        let mut width = 8;
        while width > 0 {
            for i in 0..width {
                lanes[i] += lanes[i + width];
            }
            width /= 2;
        }
        lanes[0]
    }
}

/// Adds up partial sums of leaves in their order.
pub fn total(leaves: &[f64]) -> f64 {
    leaves.iter().sum()
}

#[inline(always)]
fn fold(lanes: &mut Lanes, len: usize, term: impl Fn(usize) -> f64) {
    let whole = len / 16 * 16;
    let mut sums = lanes.0;
    let mut start = 0;
    while start < whole {
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum += term(start + lane);
        }
        start += 16;
    }
    for i in whole..len {
        sums[i - whole] += term(i);
    }
    lanes.0 = sums;
}

multiversion! {
    /// Adds Σ a·b. Blocks of a leaf come in order, all but the last a multiple of sixteen long.
    pub fn add_dot<R: Real>(lanes: &mut Lanes, a: &[R], b: &[R]) {
        let len = a.len().min(b.len());
        let (a, b) = (&a[..len], &b[..len]);
        fold(lanes, len, |i| a[i].to_f64() * b[i].to_f64());
    }
}

multiversion! {
    /// Adds Σ |a|.
    pub fn add_norm1<R: Real>(lanes: &mut Lanes, a: &[R]) {
        fold(lanes, a.len(), |i| a[i].abs().to_f64());
    }
}

multiversion! {
    /// Positive entries less negative ones.
    pub fn count_signs<R: Real>(a: &[R]) -> i64 {
        let mut count = 0i64;
        for &a in a {
            count += i64::from(a > R::ZERO) - i64::from(a < R::ZERO);
        }
        count
    }
}

multiversion! {
    /// Entries with this key.
    pub fn count_equal<R: Real>(a: &[R], key: R::Bits) -> usize {
        let mut count = 0;
        for &a in a {
            count += usize::from(a.key() == key);
        }
        count
    }
}
