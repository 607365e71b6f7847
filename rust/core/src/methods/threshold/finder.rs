//! One search: fed with tiles from several threads, then resolved.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use super::bracket::{MAX_BINS, Plan};
use super::radix::radix_search;
use super::{Entries, Threshold};
use crate::error::Result;
use crate::kernels::level::Level;
use crate::kernels::real::{Key, Real};
use crate::kernels::reduce::count_equal;
use crate::kernels::select::{Bracket, Found};

/// Spans at the most: what is kept apart, so that the place of the cut is known to within one of them.
const SPANS: u64 = 32;

/// Bytes of the grids of one search, at the most.
pub const GRIDS: u64 = SPANS * MAX_BINS * 4;

/// Looks for the `rank` largest of `total` entries that come in tiles.
pub struct Finder<R: Real> {
    rank: u64,
    total: u64,
    /// Keep all entries that are as large as the last one.
    with_equals: bool,
    plan: OnceLock<Plan<R::Bits>>,
    tiles_per_span: u64,
    tiles: u64,
    /// Made when the search begins and freed when it ends: a model may have thousands of tensors.
    spans: RwLock<Vec<Mutex<Span<R::Bits>>>>,
    listed: AtomicUsize,
    /// Keys that are listed at the most; beyond it the search falls back on the data.
    max_listed: usize,
    threshold: OnceLock<Threshold<R::Bits>>,
}

struct Span<K> {
    above: u64,
    grid: Vec<u32>,
    list: Vec<K>,
}

impl<K: Key> Span<K> {
    fn equal_to(&self, key: K, plan: &Plan<K>) -> u64 {
        match plan.bin(key) {
            Some(bin) => self.grid.get(bin).map_or(0, |&count| u64::from(count)),
            None => self.list.iter().filter(|&&listed| listed == key).count() as u64,
        }
    }
}

impl<K: Key> Plan<K> {
    /// The bin of a key that lies on the grid.
    #[inline]
    fn bin(&self, key: K) -> Option<usize> {
        let shift = self.grid?;
        let offset = key.to_u64() - self.bracket.low.to_u64();
        (offset & ((1 << shift) - 1) == 0).then_some((offset >> shift) as usize)
    }

    /// Bins that the bracket takes.
    fn bins(&self) -> usize {
        ((self.bracket.high.to_u64() - self.bracket.low.to_u64()) >> self.grid.unwrap_or(0)) as usize + 1
    }

    fn key_of(&self, bin: usize) -> K {
        K::of(self.bracket.low.to_u64() + ((bin as u64) << self.grid.unwrap_or(0)))
    }
}

fn lock<K>(span: &Mutex<Span<K>>) -> MutexGuard<'_, Span<K>> {
    // A thread that panicked has already failed the run; counts of a poisoned span are never used.
    span.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<R: Real> Finder<R> {
    pub fn new(rank: u64, total: u64, with_equals: bool, tiles: u64, max_listed: usize) -> Self {
        let tiles_per_span = tiles.div_ceil(SPANS).max(1);
        let threshold = OnceLock::new();
        if rank == 0 {
            let _ = threshold.set(Threshold::NOTHING);
        } else if rank >= total {
            let _ = threshold.set(Threshold::EVERYTHING);
        }
        Self {
            rank,
            total,
            with_equals,
            plan: OnceLock::new(),
            tiles_per_span,
            tiles,
            spans: RwLock::default(),
            listed: AtomicUsize::new(0),
            max_listed,
            threshold,
        }
    }

    /// Whether the entries have to be looked at.
    pub fn is_open(&self) -> bool {
        self.threshold.get().is_none()
    }

    /// The answer; before [`Finder::resolve`], the one that keeps nothing.
    pub fn threshold(&self) -> Threshold<R::Bits> {
        self.threshold.get().copied().unwrap_or(Threshold::NOTHING)
    }

    /// Sets the bracket. `sample` comes in runs of neighbours; `None` where there are too few entries
    /// to sample.
    pub fn set_sample(&self, sample: Option<&[R::Bits]>, run: usize) {
        let plan =
            sample.map_or(Plan::ALL, |sample| Plan::from_sample(sample, run, self.rank, self.total, self.max_listed));
        let _ = self.plan.set(plan);
    }

    fn plan(&self) -> Plan<R::Bits> {
        *self.plan.get_or_init(|| Plan::ALL)
    }

    pub fn bracket(&self) -> Bracket<R::Bits> {
        self.plan().bracket
    }

    /// Adds what a scan of (part of) tile `tile` found.
    pub fn add(&self, tile: u64, found: Found, keys: &[R::Bits]) {
        let plan = self.plan();
        let spans = self.spans();
        let mut span = lock(&spans[(tile / self.tiles_per_span) as usize]);
        span.above += found.above as u64;
        let room = self.max_listed.saturating_sub(self.listed.load(Ordering::Relaxed));
        let Some(shift) = plan.grid else {
            // Beyond the limit it does not matter which keys are missing: the search falls back on the data.
            span.list.extend_from_slice(&keys[..keys.len().min(room)]);
            self.listed.fetch_add(keys.len(), Ordering::Relaxed);
            return;
        };
        let (low, bins) = (plan.bracket.low.to_u64(), plan.bins());
        let Span { grid, list, .. } = &mut *span;
        grid.resize(bins, 0);
        let mask = (1u64 << shift) - 1;
        let mut off_grid = 0;
        for &key in keys {
            let offset = key.to_u64() - low;
            if offset & mask == 0 {
                grid[(offset >> shift) as usize] += 1;
            } else {
                off_grid += 1;
                if off_grid <= room {
                    list.push(key);
                }
            }
        }
        self.listed.fetch_add(off_grid, Ordering::Relaxed);
    }

    fn spans(&self) -> RwLockReadGuard<'_, Vec<Mutex<Span<R::Bits>>>> {
        let read = || self.spans.read().unwrap_or_else(PoisonError::into_inner);
        let spans = read();
        if !spans.is_empty() {
            return spans;
        }
        drop(spans);
        let mut spans = self.spans.write().unwrap_or_else(PoisonError::into_inner);
        if spans.is_empty() {
            let empty = || Mutex::new(Span { above: 0, grid: Vec::new(), list: Vec::new() });
            *spans = (0..self.tiles.div_ceil(self.tiles_per_span)).map(|_| empty()).collect();
        }
        drop(spans);
        read()
    }

    /// Finds the threshold, looking again at the entries only to place the cut, or where the bracket missed.
    pub fn resolve(&self, level: Level, entries: &mut dyn Entries<R>) -> Result<()> {
        if !self.is_open() {
            return Ok(());
        }
        let (key, equals, wanted) = match self.select() {
            Some(answer) => answer,
            None => radix_search(self.rank, entries)?,
        };
        // Which zeros belong to the largest makes no difference: they are kept as what they would be replaced by.
        let all = self.with_equals || wanted == equals || key == R::Bits::ZERO;
        let cut = if all { u64::MAX } else { self.locate(level, key, wanted, entries)? };
        let _ = self.threshold.set(Threshold { key, cut });
        *self.spans.write().unwrap_or_else(PoisonError::into_inner) = Vec::new();
        Ok(())
    }

    /// The key, how many entries have it, and how many of those belong; `None` when the bracket did not hold it.
    fn select(&self) -> Option<(R::Bits, u64, u64)> {
        if self.listed.load(Ordering::Relaxed) > self.max_listed {
            return None;
        }
        let plan = self.plan();
        let mut above = 0;
        let mut list = Vec::new();
        let mut grid: BTreeMap<usize, u64> = BTreeMap::new();
        for span in self.spans().iter() {
            let span = lock(span);
            above += span.above;
            list.extend_from_slice(&span.list);
            for (bin, &count) in span.grid.iter().enumerate().filter(|&(_, &count)| count > 0) {
                *grid.entry(bin).or_default() += u64::from(count);
            }
        }
        let within = list.len() as u64 + grid.values().sum::<u64>();
        if above >= self.rank || above + within < self.rank {
            return None;
        }
        let mut left = self.rank - above;
        if grid.is_empty() {
            let (_, &mut key, _) = list.select_nth_unstable_by(left as usize - 1, |a, b| b.cmp(a));
            let larger = list.iter().filter(|&&listed| listed > key).count() as u64;
            let equals = list.iter().filter(|&&listed| listed == key).count() as u64;
            return Some((key, equals, left - larger));
        }
        let mut counts: BTreeMap<R::Bits, u64> = grid.into_iter().map(|(bin, n)| (plan.key_of(bin), n)).collect();
        for key in list {
            *counts.entry(key).or_default() += 1;
        }
        for (key, count) in counts.into_iter().rev() {
            if left <= count {
                return Some((key, count, left));
            }
            left -= count;
        }
        None
    }

    /// The position behind the last of the first `wanted` entries with this key.
    fn locate(&self, level: Level, key: R::Bits, mut wanted: u64, entries: &mut dyn Entries<R>) -> Result<u64> {
        let plan = self.plan();
        let known = self.listed.load(Ordering::Relaxed) <= self.max_listed
            && key >= plan.bracket.low
            && key < plan.bracket.high;
        let mut first_tile = 0;
        for (index, span) in (0..).zip(self.spans().iter()).filter(|_| known) {
            let equals = lock(span).equal_to(key, &plan);
            if wanted <= equals {
                break;
            }
            wanted -= equals;
            first_tile = (index + 1) * self.tiles_per_span;
        }
        for tile in first_tile..entries.tiles() {
            let mut cut = None;
            entries.visit(tile, &mut |first, x| {
                if cut.is_some() {
                    return;
                }
                let equals = count_equal(level, x, key) as u64;
                if wanted <= equals {
                    let mut places = x.iter().enumerate().filter(|(_, x)| x.key() == key);
                    cut = places.nth(wanted as usize - 1).map(|(place, _)| first + place as u64 + 1);
                } else {
                    wanted -= equals;
                }
            })?;
            if let Some(cut) = cut {
                return Ok(cut);
            }
        }
        Ok(u64::MAX)
    }
}
