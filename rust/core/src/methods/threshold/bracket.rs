//! From a sample to a bracket that almost surely holds the threshold.

use std::ops::Range;

use crate::kernels::real::Key;
use crate::kernels::select::Bracket;

/// Bins of the grid, at the most.
pub const MAX_BINS: u64 = 4096;

/// How many of `total` entries to look at.
pub fn sample_size(total: u64) -> u64 {
    (total / 128).clamp(1 << 14, 1 << 21).min(total)
}

/// Runs of a sample, evenly spread over all entries: one in the middle of each of as many equal parts.
#[derive(Clone, Copy, Debug)]
pub struct Spread {
    pub total: u64,
    pub runs: u64,
}

impl Spread {
    /// Where a run lies.
    pub fn middle(self, run: u64) -> u64 {
        (u128::from(self.total) * (2 * u128::from(run) + 1) / (2 * u128::from(self.runs))) as u64
    }

    /// The runs that lie at these positions.
    pub fn runs_within(self, positions: Range<u64>) -> Range<u64> {
        let (total, runs) = (u128::from(self.total), u128::from(self.runs));
        let first = |at: u64| (2 * runs * u128::from(at)).saturating_sub(total).div_ceil(2 * total.max(1)) as u64;
        first(positions.start)..first(positions.end)
    }
}

/// A bracket and how the keys within it are kept.
///
/// Differences of bfloat16 numbers have few significant bits, and one value can be a fiftieth of a tensor. Keys that lie
/// on a grid of `1 << shift` are therefore counted; the others are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan<K> {
    pub bracket: Bracket<K>,
    pub grid: Option<u32>,
}

impl<K: Key> Plan<K> {
    /// The plan that lists every key.
    pub const ALL: Self = Self { bracket: Bracket { low: K::ZERO, high: K::MAX }, grid: None };

    /// `rank` of `total` entries are wanted; `sample` comes in runs of `run` neighbours.
    pub fn from_sample(sample: &[K], run: usize, rank: u64, total: u64, max_listed: usize) -> Self {
        let mut sorted = sample.to_vec();
        let size = sample.len() as f64;
        let share = rank as f64 / total as f64;
        let middle = size * share;
        let pivot = (middle as usize).min(sorted.len().saturating_sub(1));
        let pivot =
            if sorted.is_empty() { K::ZERO } else { *sorted.select_nth_unstable_by(pivot, |a, b| b.cmp(a)).1 };
        let deviation = (size * share * (1.0 - share)).sqrt().max(spread_of_runs(sample, run, pivot));
        // Seven deviations, or as many as the list has room for.
        let room = max_listed as f64 * 0.8 / total as f64 * size / 2.0;
        let half = (7.0 * deviation).min(room).max(5.0 * deviation) + 8.0;
        let mut descending = |place: f64| -> Option<K> {
            let place = place as usize;
            (place < sorted.len()).then(|| *sorted.select_nth_unstable_by(place, |a, b| b.cmp(a)).1)
        };
        let high = if middle < half { None } else { descending(middle - half) };
        let low = descending(middle + half).unwrap_or(K::ZERO);
        let high = high.map_or(K::MAX, |key| K::of(key.to_u64() + 1));
        let bracket = Bracket { low, high };
        match grid_for(sample, bracket) {
            Some(shift) => {
                let low = K::of(low.to_u64() >> shift << shift);
                Self { bracket: Bracket { low, high }, grid: Some(shift) }
            }
            None => Self { bracket, grid: None },
        }
    }
}

/// How far the count of keys above `pivot` is likely to be off: neighbouring entries are alike, so that a sample of runs
/// is worth less than its size. (From the differences between runs that follow each other, as the runs are evenly
/// spread: what changes slowly along the data does not make the count wrong.)
fn spread_of_runs<K: Key>(sample: &[K], run: usize, pivot: K) -> f64 {
    let above = |run: &[K]| run.iter().filter(|&&key| key > pivot).count() as f64;
    let mut runs = sample.chunks(run.max(1)).map(above);
    let Some(mut last) = runs.next() else { return 0.0 };
    let mut squares = 0.0;
    for count in runs {
        squares += (count - last) * (count - last);
        last = count;
    }
    (squares / 2.0).sqrt()
}

/// The finest grid with few enough bins, if most of the sample lies on it.
fn grid_for<K: Key>(sample: &[K], bracket: Bracket<K>) -> Option<u32> {
    let width = bracket.high.to_u64() - bracket.low.to_u64();
    let shift = (0..64).find(|&shift| width >> shift <= MAX_BINS - 2)?;
    let mask = (1u64 << shift) - 1;
    let within = sample.iter().filter(|&&key| key >= bracket.low && key < bracket.high);
    let (on, all) = within.fold((0u64, 0u64), |(on, all), key| (on + u64::from(key.to_u64() & mask == 0), all + 1));
    (on * 2 > all).then_some(shift)
}
