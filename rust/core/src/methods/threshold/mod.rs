//! The exact k-th largest magnitude of more entries than fit in memory, and which of its equals belong to the k.
//!
//! A sample brackets the threshold; one pass counts what lies above the bracket and keeps what lies within; the answer
//! is then selected exactly. Where the bracket missed, a radix search over the data itself answers instead: slower, and
//! right for any data. The sample decides how fast the answer comes, never what it is.

mod bracket;
mod finder;
mod radix;

pub use bracket::{Spread, sample_size};
pub use finder::{Finder, GRIDS};

use crate::error::Result;
use crate::kernels::level::Level;
use crate::kernels::real::{Key, Real};
use crate::kernels::trim::{keep_between, keep_from};

/// Entries in the order of their positions: what a search reads when it has to look at the data again.
pub trait Entries<R> {
    /// Hands out the entries of tile `tile`, in order, in pieces, each with the position of its first entry.
    fn visit(&mut self, tile: u64, each: &mut dyn FnMut(u64, &[R])) -> Result<()>;
    fn tiles(&self) -> u64;
}

/// The `k` largest entries: those with a larger key, and those with this key whose position is below the cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threshold<K> {
    pub key: K,
    pub cut: u64,
}

impl<K: Key> Threshold<K> {
    pub const NOTHING: Self = Self { key: K::MAX, cut: 0 };
    pub const EVERYTHING: Self = Self { key: K::ZERO, cut: u64::MAX };

    /// The smallest key that belongs, before the cut and behind it.
    fn lows(self) -> (K, K) {
        let behind = if self.key == K::MAX { K::MAX } else { K::of(self.key.to_u64() + 1) };
        (self.key, behind)
    }

    /// The smallest key that belongs, if it is the same for all `len` entries from `first` on.
    pub fn low(self, first: u64, len: usize) -> Option<K> {
        match self.split(first, len) {
            0 => Some(self.lows().1),
            split if split == len => Some(self.lows().0),
            _ => None,
        }
    }

    /// How many of `len` entries from `first` on lie before the cut.
    fn split(self, first: u64, len: usize) -> usize {
        self.cut.saturating_sub(first).min(len as u64) as usize
    }
}

/// Zeroes what does not belong to the largest. `first` is the position of `x[0]`.
pub fn keep_largest<R: Real>(level: Level, x: &mut [R], first: u64, keep: Threshold<R::Bits>) {
    let (before, behind) = x.split_at_mut(keep.split(first, x.len()));
    let (low_before, low_behind) = keep.lows();
    keep_from(level, before, low_before);
    keep_from(level, behind, low_behind);
}

/// Zeroes what belongs to `drop` or does not belong to `keep`.
pub fn keep_window<R: Real>(
    level: Level,
    x: &mut [R],
    first: u64,
    keep: Threshold<R::Bits>,
    drop: Threshold<R::Bits>,
) {
    let mut cuts = [keep.split(first, x.len()), drop.split(first, x.len()), x.len()];
    cuts.sort_unstable();
    let mut start = 0;
    for end in cuts {
        let at = first + start as u64;
        let low = if at < keep.cut { keep.lows().0 } else { keep.lows().1 };
        let high = if at < drop.cut { drop.lows().0 } else { drop.lows().1 };
        keep_between(level, &mut x[start..end], low, high);
        start = end;
    }
}

#[cfg(test)]
mod tests;
