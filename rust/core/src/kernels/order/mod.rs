//! The entries of a row in ascending order of magnitude.

mod buckets;

use super::level::Level;
use super::real::{Key, Real};
use buckets::{Buckets, MAX_ROW};

/// An entry's key and its place in the row.
pub type Entry<K> = (K, u32);

/// Bits that one pass of the radix sort looks at.
const DIGIT: u32 = 11;

/// A row's entries in ascending order of magnitude; among equals the lower index counts as the larger.
pub struct Order<R: Real> {
    sorted: Vec<Entry<R::Bits>>,
    buckets: Buckets,
    other: Vec<Entry<R::Bits>>,
    counts: Vec<u32>,
}

impl<R: Real> Default for Order<R> {
    fn default() -> Self {
        Self { sorted: Vec::new(), buckets: Buckets::default(), other: Vec::new(), counts: Vec::new() }
    }
}

impl<R: Real> Order<R> {
    /// Sorts a row: by buckets where its entries spread over them.
    pub fn sort(&mut self, level: Level, row: &[R]) -> &[Entry<R::Bits>] {
        self.sorted.resize(row.len(), (R::Bits::ZERO, 0));
        if row.len() > MAX_ROW || !self.buckets.sort(level, row, &mut self.sorted) {
            self.sort_by_digits(row);
        }
        &self.sorted
    }

    /// Sorts by digits from the lowest on, beginning with the row read backwards: each pass keeps the order of equals.
    /// Digits that all keys share are passed over: bfloat16 differences leave the low ones empty.
    fn sort_by_digits(&mut self, row: &[R]) {
        self.sorted.clear();
        self.sorted.extend((0..row.len()).rev().map(|place| (row[place].key(), place as u32)));
        self.other.clone_from(&self.sorted);
        let first = self.sorted.first().map_or(0, |entry| entry.0.to_u64());
        let differing = self.sorted.iter().fold(0, |bits, entry| bits | (entry.0.to_u64() ^ first));
        let mut shift = differing.trailing_zeros();
        while shift < 64 && differing >> shift != 0 {
            self.pass(shift);
            shift += DIGIT;
        }
    }

    fn pass(&mut self, shift: u32) {
        let digit = |key: R::Bits| (key.to_u64() >> shift) as usize & ((1 << DIGIT) - 1);
        self.counts.clear();
        self.counts.resize(1 << DIGIT, 0);
        self.sorted.iter().for_each(|entry| self.counts[digit(entry.0)] += 1);
        let mut next = 0;
        for count in &mut self.counts {
            next += std::mem::replace(count, next);
        }
        for &entry in &self.sorted {
            let place = &mut self.counts[digit(entry.0)];
            self.other[*place as usize] = entry;
            *place += 1;
        }
        std::mem::swap(&mut self.sorted, &mut self.other);
    }
}

#[cfg(test)]
mod tests;
