//! Sums in float64 with a fixed order: sixteen running sums over the elements of a leaf, then a tree over the sixteen.
//! Neither the width of a register nor the cutting into tiles shows in the result.

use std::ops::Range;

use super::level::{Level, multiversion};
use super::real::{Key, Real};

/// Elements of one leaf. Tiles over which sums are taken begin and end at multiples of it.
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
    /// sums[k] ← sums[k] + a[k]·b[k].
    pub fn add_products<R: Real>(sums: &mut [f64], a: &[R], b: &[R]) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a.to_f64() * b.to_f64();
        }
    }
}

/// Pairs i ≤ j below n, row by row.
#[inline(always)]
fn pairs(n: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).flat_map(move |i| (i..n).map(move |j| (i, j)))
}

/// Lanes whose sums of all pairs stay in registers while a block is walked through.
const GROUP: usize = 8;

multiversion! {
    /// Adds Σ a·b of every pair i ≤ j of N vectors, the pairs row by row, and converts each entry once instead of once
    /// a pair.
    ///
    /// A lane adds the same products in the same order as [`add_dot`] of that pair, so that both give the same bits.
    fn add_dots_of<R: Real; const N>(lanes: &mut [Lanes], vectors: [&[R]; N]) {
        let len = vectors.iter().map(|x| x.len()).min().unwrap_or(0);
        let whole = len / 16 * 16;
        for first in [0, GROUP] {
            let mut sums = [[[0f64; GROUP]; N]; N];
            for ((i, j), lanes) in pairs(N).zip(lanes.iter()) {
                sums[i][j].copy_from_slice(&lanes.0[first..first + GROUP]);
            }
            let mut start = first;
            while start < whole {
                let mut wide = [[0f64; GROUP]; N];
                for i in 0..N {
                    let entries = &vectors[i][start..start + GROUP];
                    for lane in 0..GROUP {
                        wide[i][lane] = entries[lane].to_f64();
                    }
                }
                for i in 0..N {
                    for j in i..N {
                        for lane in 0..GROUP {
                            sums[i][j][lane] += wide[i][lane] * wide[j][lane];
                        }
                    }
                }
                start += 16;
            }
            for ((i, j), lanes) in pairs(N).zip(lanes.iter_mut()) {
                lanes.0[first..first + GROUP].copy_from_slice(&sums[i][j]);
            }
        }
        for ((i, j), lanes) in pairs(N).zip(lanes.iter_mut()) {
            let (a, b) = (&vectors[i][whole..len], &vectors[j][whole..len]);
            for ((sum, a), b) in lanes.0.iter_mut().zip(a).zip(b) {
                *sum += a.to_f64() * b.to_f64();
            }
        }
    }
}

/// Adds the dot products of every pair i ≤ j of a range of the vectors: (0, 0), (0, 1), …, (1, 1), ….
pub fn add_dots<R: Real>(level: Level, lanes: &mut [Lanes], vectors: &[Vec<R>], range: &Range<usize>) {
    match vectors {
        [a, b] => add_dots_of(level, lanes, [a, b].map(|x| &x[range.clone()])),
        [a, b, c] => add_dots_of(level, lanes, [a, b, c].map(|x| &x[range.clone()])),
        [a, b, c, d] => add_dots_of(level, lanes, [a, b, c, d].map(|x| &x[range.clone()])),
        _ => {
            for ((i, j), lanes) in pairs(vectors.len()).zip(lanes) {
                add_dot(level, lanes, &vectors[i][range.clone()], &vectors[j][range.clone()]);
            }
        }
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
    /// Whether any entry is infinite or NaN.
    pub fn any_special<R: Real>(a: &[R]) -> bool {
        let mut largest = <R::Bits as Key>::ZERO;
        for a in a {
            largest = largest.max(a.key());
        }
        largest.to_u64() + 1 >= R::NAN_KEY.to_u64()
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Any bits at all, and often the numbers that break sums.
    pub fn entry() -> impl Strategy<Value = f32> {
        let odd = vec![0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MIN_POSITIVE / 8.0, f32::MAX];
        prop_oneof![4 => -2f32..2.0, 1 => any::<u32>().prop_map(f32::from_bits), 1 => prop::sample::select(odd)]
    }

    /// The bits, all NaN being equal: no NaN's payload is ever stored.
    pub fn bits<R: Real>(values: &[R]) -> Vec<u64> {
        let bits = |&x: &R| if x.to_f64().is_nan() { u64::MAX } else { x.bits().to_u64() };
        values.iter().map(bits).collect()
    }

    fn check<R: Real>(vectors: &[Vec<R>], range: &Range<usize>, cut: usize) {
        let n = vectors.len();
        let mut expected = Vec::new();
        for (i, a) in vectors.iter().enumerate() {
            for b in &vectors[i..] {
                let mut lanes = [0f64; 16];
                for (k, place) in range.clone().enumerate() {
                    lanes[k % 16] += a[place].to_f64() * b[place].to_f64();
                }
                expected.push(lanes);
            }
        }
        for level in Level::available() {
            let mut lanes = vec![Lanes::default(); expected.len()];
            let middle = (range.start + cut / 16 * 16).min(range.end);
            add_dots(level, &mut lanes, vectors, &(range.start..middle));
            add_dots(level, &mut lanes, vectors, &(middle..range.end));
            for (lanes, expected) in lanes.iter().zip(&expected) {
                assert_eq!(bits(&lanes.0), bits(expected), "{n} vectors, {}", level.name());
            }
        }
    }

    #[test]
    fn products_are_added_place_by_place() {
        let a: Vec<f32> = (0..37).map(|k| 0.1 * k as f32 - 1.0).collect();
        let b: Vec<f32> = (0..37).map(|k| 3.0 - 0.7 * k as f32).collect();
        let start: Vec<f64> = (0..37).map(|k| f64::from(k) / 3.0).collect();
        let expected: Vec<f64> = (0..37).map(|k| start[k] + f64::from(a[k]) * f64::from(b[k])).collect();
        for level in Level::available() {
            let mut sums = start.clone();
            add_products(level, &mut sums, &a, &b);
            assert_eq!(bits(&sums), bits(&expected), "{}", level.name());
        }
    }

    #[test]
    fn a_single_special_entry_is_seen() {
        for (place, value) in
            (0..70).flat_map(|place| [f32::NAN, -f32::NAN, f32::INFINITY, -f32::INFINITY].map(|x| (place, x)))
        {
            let mut x = vec![f32::MAX; 70];
            for level in Level::available() {
                assert!(!any_special(level, &x));
            }
            x[place] = value;
            for level in Level::available() {
                assert!(any_special(level, &x), "{value} at {place}");
                assert!(any_special(level, &x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>()));
            }
        }
        assert!(!any_special(Level::detect(), &[0.0, -f64::MAX, 5e-324]));
    }

    proptest! {
        #[test]
        fn all_pairs_at_once_have_the_bits_of_one_by_one(
            entries in prop::collection::vec(prop::array::uniform5(entry()), 0..150),
            n in 1usize..6,
            skipped in 0usize..9,
            cut in 0usize..100,
        ) {
            let vectors: Vec<Vec<f32>> = (0..n).map(|i| entries.iter().map(|x| x[i]).collect()).collect();
            let range = skipped.min(entries.len())..entries.len();
            check(&vectors, &range, cut);
            // Products of doubles are not exact: the order of the roundings shows.
            let third = |x: &f32| f64::from(*x) / 3.0;
            let vectors: Vec<Vec<f64>> = vectors.iter().map(|x| x.iter().map(third).collect()).collect();
            check(&vectors, &range, cut);
        }
    }
}
