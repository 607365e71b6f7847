//! Sums over the leaves of a tensor, added up in the order of the leaves, whoever comes first.

use serde::Serialize;

use crate::kernels::agreement::{Signs, count_agreement};
use crate::kernels::level::Level;
use crate::kernels::real::Real;
use crate::kernels::reduce::{Lanes, add_dot};
use crate::methods::in_order::InOrder;

/// Sums over one tensor. Pairs are in the order (0, 0), (0, 1), …, (1, 1), ….
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Sums {
    /// ⟨τᵢ, τⱼ⟩ for i ≤ j.
    pub products: Vec<f64>,
    /// For i < j, entries where neither is zero.
    pub shared: Vec<u64>,
    /// Of those, the ones with different signs.
    pub conflicts: Vec<u64>,
}

/// Sums over one leaf that is under way.
pub struct Leaf {
    products: Vec<Lanes>,
    signs: Vec<Signs>,
}

impl Leaf {
    pub fn new(models: usize) -> Self {
        let (all, unequal) = pairs(models);
        Self { products: vec![Lanes::default(); all], signs: vec![Signs::default(); unequal] }
    }

    /// Adds a block; `vectors` are one for each model.
    pub fn add<R: Real>(&mut self, level: Level, vectors: &[Vec<R>], len: usize) {
        let (mut products, mut signs) = (self.products.iter_mut(), self.signs.iter_mut());
        for (i, a) in vectors.iter().enumerate() {
            for (j, b) in vectors.iter().enumerate().skip(i) {
                let (a, b) = (&a[..len], &b[..len]);
                if let Some(lanes) = products.next() {
                    add_dot(level, lanes, a, b);
                }
                if let Some(sum) = if i < j { signs.next() } else { None } {
                    let block = count_agreement(level, a, b);
                    *sum = Signs { shared: sum.shared + block.shared, conflicts: sum.conflicts + block.conflicts };
                }
            }
        }
    }
}

/// Sums over the leaves so far, which threads bring in any order.
pub struct LeafSums {
    models: usize,
    products: InOrder,
    shared: Vec<u64>,
    conflicts: Vec<u64>,
}

impl LeafSums {
    pub fn new(models: usize) -> Self {
        let (_, unequal) = pairs(models);
        Self { models, products: InOrder::default(), shared: vec![0; unequal], conflicts: vec![0; unequal] }
    }

    pub fn add(&mut self, number: u64, leaf: Leaf) {
        for ((shared, conflicts), signs) in self.shared.iter_mut().zip(&mut self.conflicts).zip(leaf.signs) {
            *shared += signs.shared;
            *conflicts += signs.conflicts;
        }
        self.products.add(number, leaf.products.into_iter().map(Lanes::total).collect());
    }

    /// The sums of all leaves, which are forgotten here.
    pub fn finish(&mut self) -> Sums {
        Sums {
            products: self.products.take(pairs(self.models).0),
            shared: std::mem::take(&mut self.shared),
            conflicts: std::mem::take(&mut self.conflicts),
        }
    }
}

/// Pairs i ≤ j, and pairs i < j.
fn pairs(models: usize) -> (usize, usize) {
    let unequal = models * models.saturating_sub(1) / 2;
    (unequal + models, unequal)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn leaf(values: [f64; 2]) -> Leaf {
        let mut leaf = Leaf::new(2);
        leaf.add(Level::SCALAR, &[vec![values[0]], vec![values[1]]], 1);
        leaf
    }

    #[test]
    fn pairs_come_row_by_row() {
        let mut sums = LeafSums::new(3);
        let mut leaf = Leaf::new(3);
        leaf.add(Level::SCALAR, &[vec![1.0, 2.0], vec![3.0, 0.0], vec![-5.0, 7.0]], 2);
        sums.add(0, leaf);
        let expected =
            Sums { products: vec![5.0, 3.0, 9.0, 9.0, -15.0, 74.0], shared: vec![1, 2, 1], conflicts: vec![0, 1, 1] };
        assert_eq!(sums.finish(), expected);
    }

    proptest! {
        #[test]
        fn the_order_of_arrival_does_not_show(
            values in prop::collection::vec(prop::array::uniform2(-1e3f64..1e3), 1..30),
            seed in any::<u64>(),
        ) {
            let mut order: Vec<usize> = (0..values.len()).collect();
            order.sort_by_key(|&place| (place as u64 + 1).wrapping_mul(seed | 1).rotate_left(17));
            let (mut straight, mut mixed) = (LeafSums::new(2), LeafSums::new(2));
            (0..values.len()).for_each(|place| straight.add(place as u64, leaf(values[place])));
            order.into_iter().for_each(|place| mixed.add(place as u64, leaf(values[place])));
            prop_assert_eq!(mixed.finish(), straight.finish());
        }
    }
}
