//! Sorting a row by about as many buckets as it has entries, and what shares a bucket by insertion.
//!
//! The differences of a row lie around zero in a bell: x ↦ |x|/(|x| + c), with c near their mean magnitude, spreads them
//! nearly evenly, and each step of it is monotone in floating point. What that leaves unordered is little: an entry has
//! about one neighbour in its bucket, and among bfloat16 differences that is mostly its equal.

use super::Entry;
use crate::kernels::level::{Level, multiversion};
use crate::kernels::real::{Key, Real};

/// The longest row: its places fit 16 bits.
pub const MAX_ROW: usize = u16::MAX as usize;

/// Bits of a bucket's number at the most, so that the last one's fits 16 bits too.
const MAX_BITS: u32 = 15;

/// Moves of an insertion for each entry, above which the digits' sort is cheaper.
const MOVES: usize = 8;

/// Working space: the bucket of each entry, and where each bucket's next entry goes.
#[derive(Default)]
pub struct Buckets {
    numbers: Vec<u16>,
    next: Vec<u16>,
}

impl Buckets {
    /// Sorts a row of `MAX_ROW` entries or fewer by (key, lower place last); false, with nothing useful in `sorted`,
    /// where its entries do not spread or are not all finite.
    pub fn sort<R: Real>(&mut self, level: Level, row: &[R], sorted: &mut [Entry<R::Bits>]) -> bool {
        let centre = centre(level, row);
        if !(centre > R::ZERO && centre < R::of(f64::INFINITY)) {
            return false;
        }
        let bits = row.len().next_power_of_two().trailing_zeros().min(MAX_BITS);
        self.numbers.resize(row.len(), 0);
        number(level, row, centre, bits, &mut self.numbers);
        self.next.clear();
        self.next.resize((1 << bits) + 1, 0);
        distribute(level, row, &self.numbers, &mut self.next, sorted);
        settle(level, sorted)
    }
}

multiversion! {
    /// One and a half times the mean magnitude, roundly.
    fn centre<R: Real>(row: &[R]) -> R {
        let mut sums = [R::ZERO; 16];
        let (chunks, rest) = row.as_chunks::<16>();
        for chunk in chunks {
            for (sum, x) in sums.iter_mut().zip(chunk) {
                *sum += x.abs();
            }
        }
        for (sum, x) in sums.iter_mut().zip(rest) {
            *sum += x.abs();
        }
        let mut total = R::ZERO;
        sums.iter().for_each(|&sum| total += sum);
        total * R::of(1.5 / row.len().max(1) as f64)
    }
}

multiversion! {
    /// The leading `bits` bits of |x|/(centre + |x|).
    fn number<R: Real>(row: &[R], centre: R, bits: u32, numbers: &mut [u16]) {
        let (one, two) = (R::ONE, R::ONE + R::ONE);
        let unit = one.bits().to_u64();
        // A number in [1, 2] has the fraction's bits behind its exponent.
        let shift = (two.bits().to_u64() - unit).trailing_zeros() - bits;
        for (number, x) in numbers.iter_mut().zip(row) {
            let y = two - centre / (x.abs() + centre);
            *number = ((y.bits().to_u64() - unit) >> shift) as u16;
        }
    }
}

multiversion! {
    /// A counting sort by bucket. Backwards: among equals the lower index counts as the larger.
    fn distribute<R: Real>(row: &[R], numbers: &[u16], next: &mut [u16], sorted: &mut [Entry<R::Bits>]) {
        for &number in numbers {
            next[number as usize] += 1;
        }
        let mut start = 0;
        for count in &mut *next {
            start += std::mem::replace(count, start);
        }
        for (place, (x, &number)) in row.iter().zip(numbers).enumerate().rev() {
            let at = &mut next[number as usize];
            sorted[*at as usize] = (x.key(), place as u32);
            *at += 1;
        }
    }
}

/// Entries that are looked at together.
const CHUNK: usize = 32;

multiversion! {
    /// Insertion sort of what is nearly sorted, equals kept as they come; false where that takes too long.
    fn settle<K: Key>(sorted: &mut [Entry<K>]) -> bool {
        let mut moves = MOVES * sorted.len();
        let mut start = 1;
        while start < sorted.len() {
            let end = (start + CHUNK).min(sorted.len());
            if !sorted[start - 1..].first_chunk().is_some_and(ascends) {
                for at in start..end {
                    match moves.checked_sub(insert(sorted, at)) {
                        Some(left) => moves = left,
                        None => return false,
                    }
                }
            }
            start = end;
        }
        true
    }
}

/// Looks at all of a chunk and the entry before it, since a loop that may end early is not vectorised.
#[inline(always)]
fn ascends<K: Key>(entries: &[Entry<K>; CHUNK + 1]) -> bool {
    // Keys have no sign, so that the difference of two has one where they descend.
    let pairs = entries[..CHUNK].iter().zip(&entries[1..]);
    pairs.fold(0, |signs, (a, b)| signs | b.0.to_u64().wrapping_sub(a.0.to_u64())) >> 63 == 0
}

/// Moves an entry down to its place among those before it; how many it passed.
#[inline(always)]
fn insert<K: Key>(sorted: &mut [Entry<K>], at: usize) -> usize {
    let entry = sorted[at];
    let mut to = at;
    while to > 0 && sorted[to - 1].0 > entry.0 {
        sorted[to] = sorted[to - 1];
        to -= 1;
    }
    sorted[to] = entry;
    at - to
}
