//! Sums of the parts of a tensor: several threads take them, in any order, and they are added in theirs.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Each part brings as many sums as every other.
#[derive(Default)]
pub struct InOrder(Mutex<State>);

#[derive(Default)]
struct State {
    /// The sums of all parts before `next`.
    total: Vec<f64>,
    next: u64,
    /// What came before its turn.
    waiting: BTreeMap<u64, Vec<f64>>,
}

impl InOrder {
    /// Adds part `part`, the first of which is 0, now or when its turn has come.
    pub fn add(&self, part: u64, sums: Vec<f64>) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let State { total, next, waiting } = &mut *state;
        waiting.insert(part, sums);
        while let Some(sums) = waiting.remove(next) {
            *next += 1;
            if total.is_empty() {
                *total = sums;
            } else {
                total.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
            }
        }
    }

    /// The `len` sums of all parts, which are forgotten here; zeros of no part.
    pub fn take(&self, len: usize) -> Vec<f64> {
        let State { mut total, .. } = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        total.resize(len, 0.0);
        total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_added_in_their_order_whenever_they_come() {
        // Any other order gives another sum.
        let parts = [1e16, 1.0, -1e16, 3.0];
        let expected = parts.iter().sum::<f64>();
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]] {
            let sums = InOrder::default();
            for part in order {
                sums.add(part, vec![parts[part as usize], 1.0]);
            }
            assert_eq!(sums.take(2), [expected, 4.0]);
            assert_eq!(sums.take(2), [0.0, 0.0]);
        }
        assert_ne!(expected, parts.iter().rev().sum::<f64>());
    }
}
