//! DELLA's keep probabilities: by the rank of an entry's magnitude within its row.

use crate::kernels::random::keep_below;
use crate::kernels::real::{Key, Real};

/// What happens to an entry of each rank. Computed anew for each entry, since tables of all tensors' rows would add up.
#[derive(Clone, Copy, Debug)]
pub struct ByRank<R> {
    pub columns: usize,
    pub density: f64,
    pub epsilon: f64,
    /// The factor of what is kept; `None`: each entry is divided by its own probability.
    pub factor: Option<R>,
}

impl<R: Real> ByRank<R> {
    /// p = (density − ε) + 2ε·rank/(columns − 1), ranks from 0 on, the smallest magnitude first.
    fn probability(&self, rank: u32) -> f64 {
        match self.columns {
            0 | 1 => self.density,
            _ => (self.density - self.epsilon) + 2.0 * self.epsilon * f64::from(rank) / (self.columns - 1) as f64,
        }
    }

    /// Drops and rescales a row.
    pub fn apply(&self, row: &mut [R], numbers: &[u32], order: &mut Order<R>) {
        // Ranks first, decisions after: whether an entry stays is a coin toss, which no branch can be asked to foresee.
        let ranks = order.ranks(row);
        for ((x, &number), &rank) in row.iter_mut().zip(numbers).zip(ranks) {
            let probability = self.probability(rank);
            let scale = self.factor.unwrap_or_else(|| R::of(1.0 / probability));
            let kept = u64::from(number) < keep_below(probability);
            let mask = R::Bits::of(0u64.wrapping_sub(u64::from(kept)));
            *x = R::from_bits((*x * scale).bits() & mask);
        }
    }
}

/// Bits that one pass of the sort looks at.
const DIGIT: u32 = 11;

/// The ranks of a row's entries in ascending order of magnitude, from 0 on; among equals the lower index counts as the larger.
pub struct Order<R: Real> {
    sorted: Vec<(R::Bits, u32)>,
    other: Vec<(R::Bits, u32)>,
    ranks: Vec<u32>,
    counts: Vec<u32>,
}

impl<R: Real> Default for Order<R> {
    fn default() -> Self {
        Self { sorted: Vec::new(), other: Vec::new(), ranks: Vec::new(), counts: Vec::new() }
    }
}

impl<R: Real> Order<R> {
    /// Sorts by digits from the lowest on, beginning with the row read backwards: each pass keeps the order of equals.
    /// Digits that all keys share are passed over: bfloat16 differences leave the low ones empty.
    fn ranks(&mut self, row: &[R]) -> &[u32] {
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
        self.ranks.resize(row.len(), 0);
        for (rank, &(_, place)) in self.sorted.iter().enumerate() {
            self.ranks[place as usize] = rank as u32;
        }
        &self.ranks
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
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check<R: Real>(row: &[R]) {
        let mut expected: Vec<u32> = (0..row.len() as u32).collect();
        let key = |place: &u32| row[*place as usize].key();
        expected.sort_by(|a, b| key(a).cmp(&key(b)).then(b.cmp(a)));
        let mut ranks = vec![0; row.len()];
        (0u32..).zip(expected).for_each(|(rank, place)| ranks[place as usize] = rank);
        assert_eq!(Order::default().ranks(row), ranks);
    }

    proptest! {
        #[test]
        fn rows_are_ordered_by_magnitude(
            row in prop::collection::vec(prop_oneof![any::<f32>(), Just(0.0), Just(-0.0), (-9i32..9).prop_map(|x| x as f32)], 0..200),
        ) {
            check(&row);
            check(&row.iter().map(|&x| f64::from(x) * 1.000_000_1).collect::<Vec<_>>());
        }
    }
}
