//! DELLA's keep probabilities: by the rank of an entry's magnitude within its row.

use crate::kernels::level::Level;
use crate::kernels::order::Order;
use crate::kernels::random::keep_below;
use crate::kernels::real::{Key, Real};

/// What happens to an entry of each rank.
#[derive(Clone, Copy, Debug, PartialEq)]
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
    pub fn apply(&self, level: Level, row: &mut [R], numbers: &[u32], space: &mut Ranks<R>) {
        let sorted = space.order.sort(level, row);
        let fates = space.fates.of(self, row.len());
        for (&(_, place), fate) in sorted.iter().zip(fates) {
            let place = place as usize;
            // Whether an entry stays is a coin toss, which no branch can be asked to foresee: the sign is the mask.
            let mask = u64::from(numbers[place]).wrapping_sub(fate.below).cast_signed() >> 63;
            row[place] = R::from_bits((row[place] * fate.scale).bits() & R::Bits::of(mask.cast_unsigned()));
        }
    }
}

/// Working space of a row.
pub struct Ranks<R: Real> {
    order: Order<R>,
    fates: Fates<R>,
}

impl<R: Real> Default for Ranks<R> {
    fn default() -> Self {
        Self { order: Order::default(), fates: Fates { rule: None, by_rank: Vec::new() } }
    }
}

/// An entry stays where its number is below `below`, times `scale`.
struct Fate<R> {
    below: u64,
    scale: R,
}

/// The fates of one kind of row, the last one asked for: tables of all tensors' rows would add up, and models whose
/// parameters differ, so that each computes them anew, are rare.
struct Fates<R> {
    rule: Option<ByRank<R>>,
    by_rank: Vec<Fate<R>>,
}

impl<R: Real> Fates<R> {
    fn of(&mut self, rule: &ByRank<R>, len: usize) -> &[Fate<R>] {
        if self.rule.as_ref() != Some(rule) || self.by_rank.len() != len {
            self.by_rank.clear();
            self.by_rank.extend((0..len as u32).map(|rank| {
                let probability = rule.probability(rank);
                let scale = rule.factor.unwrap_or_else(|| R::of(1.0 / probability));
                Fate { below: keep_below(probability), scale }
            }));
            self.rule = Some(*rule);
        }
        &self.by_rank
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Entry by entry, the rank counted.
    fn expected<R: Real>(rule: &ByRank<R>, row: &[R], numbers: &[u32]) -> Vec<R::Bits> {
        let fate = |at: usize| {
            let below = |other: usize| (row[other].key(), at) < (row[at].key(), other);
            let rank = (0..row.len()).filter(|&other| below(other)).count() as f64;
            let spread =
                if row.len() > 1 { 2.0 * rule.epsilon * rank / (row.len() - 1) as f64 } else { rule.epsilon };
            let probability = rule.density - rule.epsilon + spread;
            let kept = f64::from(numbers[at]) < (probability * 4_294_967_296.0).round();
            let scale = rule.factor.unwrap_or(R::of(1.0 / probability));
            if kept { row[at] * scale } else { R::ZERO }
        };
        (0..row.len()).map(|at| fate(at).bits()).collect()
    }

    fn check<R: Real>(values: &[f64]) {
        let mut space = Ranks::default();
        let rules = |columns| {
            let rule = ByRank { columns, density: 0.5, epsilon: 0.125, factor: None };
            // Each differs from the one before it in one thing, the last in none.
            let other = ByRank { density: 0.625, ..rule };
            let flat = ByRank { epsilon: 0.0, ..other };
            [
                rule,
                other,
                flat,
                ByRank { factor: Some(R::of(3.0)), ..flat },
                ByRank { factor: None, ..flat },
                rule,
                rule,
            ]
        };
        for len in [0, 1, 2, values.len() / 2, values.len()] {
            let row: Vec<R> = values[..len].iter().map(|&x| R::of(x)).collect();
            let numbers: Vec<u32> = (0..len as u32).map(|at| (at + 1).wrapping_mul(0x9E37_79B9)).collect();
            for rule in rules(len) {
                for level in Level::available() {
                    let mut dropped = row.clone();
                    rule.apply(level, &mut dropped, &numbers, &mut space);
                    let dropped: Vec<_> = dropped.iter().map(|x| x.bits()).collect();
                    assert!(dropped == expected(&rule, &row, &numbers), "{rule:?}, {level:?}");
                }
            }
        }
    }

    #[test]
    fn each_entry_meets_the_fate_of_its_rank() {
        let mut values: Vec<f64> = (0..300).map(|at| f64::from(at * 7919 % 301 - 150) / 64.0).collect();
        values.extend([0.0, -0.0, -0.0, f64::INFINITY, 2.0, 2.0, -2.0, 1e-40]);
        check::<f32>(&values);
        check::<f64>(&values);
    }
}
