//! DELLA's keep probabilities: by the rank of an entry's magnitude within its row.

use crate::kernels::random::keep_below;
use crate::kernels::real::Real;

/// What to do with each rank of a row, the smallest magnitude first.
pub struct RankTable<R> {
    below: Vec<u64>,
    scale: Vec<R>,
}

impl<R: Real> RankTable<R> {
    /// p = (density − ε) + 2ε·(rank − 1)/(columns − 1). `scaled`: a kept entry is divided by its p; otherwise it is
    /// multiplied by `factor`.
    pub fn new(columns: usize, density: f64, epsilon: f64, scaled: bool, factor: f64) -> Self {
        let probability = |rank: usize| match columns {
            0 | 1 => density,
            _ => (density - epsilon) + 2.0 * epsilon * rank as f64 / (columns - 1) as f64,
        };
        let scale = |p: f64| R::of(if scaled { 1.0 / p } else { factor });
        Self {
            below: (0..columns).map(|rank| keep_below(probability(rank))).collect(),
            scale: (0..columns).map(|rank| scale(probability(rank))).collect(),
        }
    }

    /// Drops and rescales a row. `order` is working space.
    pub fn apply(&self, row: &mut [R], numbers: &[u32], order: &mut Vec<(R::Bits, u32)>) {
        order.clear();
        order.extend(row.iter().enumerate().map(|(place, x)| (x.key(), place as u32)));
        // Among equals the lower index counts as the larger.
        order.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        for (rank, &(_, place)) in order.iter().enumerate() {
            let place = place as usize;
            let kept = u64::from(numbers[place]) < self.below[rank];
            row[place] = if kept { row[place] * self.scale[rank] } else { R::ZERO };
        }
    }
}
