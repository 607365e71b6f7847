//! Described tensors against plain loops over whole matrices, read in any pieces.

use std::sync::Arc;

use proptest::prelude::*;

use super::{Described, Factors};
use crate::dtype::Dtype;
use crate::error::Error;
use crate::kernels::level::Level;
use crate::plan::{Block, Description, Factor, Place, Product, Replaced};
use crate::source::{Bytes, Memory};

/// One file of f32 elements.
#[derive(Default)]
struct Store(Vec<f32>);

impl Store {
    fn put(&mut self, elements: &[f32]) -> Place {
        let offset = self.0.len() as u64 * 4;
        self.0.extend_from_slice(elements);
        Place { file: 0, offset, dtype: Dtype::F32 }
    }

    fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|x| x.to_le_bytes()).collect()
    }
}

fn numbers(count: usize, seed: &mut u32) -> Vec<f32> {
    let mut next = || {
        *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (*seed >> 9) as f32 / 4_194_304.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn transpose(x: &[f32], rows: usize) -> Vec<f32> {
    let columns = x.len().checked_div(rows).unwrap_or(0);
    (0..x.len()).map(|i| x[(i % rows) * columns + i / rows]).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|raw| f32::from_le_bytes(*raw)).collect()
}

fn read_all(description: &Description, store: &Store, piece: usize, level: Level) -> Result<Vec<f32>, Error> {
    let bytes = store.bytes();
    let memory = Memory(&bytes);
    let factors = Factors::new(0);
    let described = Described::<f32>::new("w", description, level, Arc::new([&memory as &dyn Bytes]), &factors);
    let total = (description.rows * description.columns) as usize;
    let (mut out, mut buffer) = (Vec::new(), Vec::new());
    for first in (0..total).step_by(piece) {
        let len = piece.min(total - first);
        out.extend(floats(described.read(first as u64 * 4, len * 4, &mut buffer)?));
    }
    Ok(out)
}

fn plain(rows: usize, columns: usize) -> Description {
    Description {
        dtype: Dtype::F32,
        rows: rows as u64,
        columns: columns as u64,
        blocks: Vec::new(),
        products: Vec::new(),
        replaced: None,
        magnitude: None,
    }
}

proptest! {
    #[test]
    fn a_base_with_adapters_is_the_sum_in_any_pieces(
        rows in 1usize..12, columns in 1usize..80, ranks in prop::collection::vec((0usize..5, -2.0f64..2.0, any::<[bool; 2]>()), 0..3),
        replaced in any::<bool>(), magnitude in any::<bool>(), piece in 1usize..300, mut seed in any::<u32>(),
    ) {
        let mut store = Store::default();
        let mut description = plain(rows, columns);
        let base = numbers(rows * columns, &mut seed);
        let block = |place| Block { place, rows: rows as u64, columns: columns as u64, row: 0, column: 0, scale: 1.0 };
        description.blocks.push(block(store.put(&base)));
        let mut expected = base;
        for (rank, scale, [left_transposed, right_transposed]) in ranks {
            let (left, right) = (numbers(rows * rank, &mut seed), numbers(rank * columns, &mut seed));
            let turned = |x: &[f32], rows: usize, is: bool| if is { transpose(x, rows) } else { x.to_vec() };
            let stored = [
                store.put(&turned(&left, rows, left_transposed)),
                store.put(&turned(&right, rank, right_transposed)),
            ];
            description.products.push(Product {
                left: Factor { place: stored[0], transposed: left_transposed },
                right: Factor { place: stored[1], transposed: right_transposed },
                rank: rank as u64,
                scale,
            });
            for row in 0..rows {
                for column in 0..columns {
                    let steps = (0..rank).map(|k| (left[row * rank + k], right[k * columns + column]));
                    let sum = steps.fold(0f32, |sum, (a, b)| a.mul_add(b, sum));
                    expected[row * columns + column] += scale as f32 * sum;
                }
            }
        }
        if replaced {
            let new = numbers(columns, &mut seed);
            description.replaced = Some(Replaced { place: store.put(&new), rows: vec![rows as u64 - 1], scale: 1.0 });
            expected[(rows - 1) * columns..].copy_from_slice(&new);
        }
        if magnitude {
            let norms = numbers(rows, &mut seed);
            description.magnitude = Some(store.put(&norms));
            for (row, norm) in expected.chunks_mut(columns).zip(norms) {
                let length = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
                if length > 0.0 {
                    row.iter_mut().for_each(|x| *x *= (f64::from(norm) / length) as f32);
                }
            }
        }
        description.check("w", (rows * columns) as u64).unwrap();
        let got = read_all(&description, &store, piece, Level::SCALAR).unwrap();
        prop_assert_eq!(&got, &expected);
        for level in Level::available() {
            let again = read_all(&description, &store, rows * columns, level).unwrap();
            prop_assert_eq!(&again, &got);
        }
    }

    #[test]
    fn products_alone_are_written_where_they_belong(
        rows in 1usize..30, columns in prop_oneof![1usize..40, 250usize..600], rank in 1usize..6,
        more in any::<bool>(), piece in 1usize..9000, mut seed in any::<u32>(),
    ) {
        let mut store = Store::default();
        let mut description = plain(rows, columns);
        let mut expected = vec![0f32; rows * columns];
        for scale in [1.0, 0.5].into_iter().take(1 + usize::from(more)) {
            let (left, right) = (numbers(rows * rank, &mut seed), numbers(rank * columns, &mut seed));
            let factor = |place| Factor { place, transposed: false };
            let (l, r) = (factor(store.put(&left)), factor(store.put(&right)));
            description.products.push(Product { left: l, right: r, rank: rank as u64, scale });
            for (place, expected) in expected.iter_mut().enumerate() {
                let (row, column) = (place / columns, place % columns);
                let steps = (0..rank).map(|k| (left[row * rank + k], right[k * columns + column]));
                *expected += scale as f32 * steps.fold(0f32, |sum, (a, b)| a.mul_add(b, sum));
            }
        }
        for level in Level::available() {
            prop_assert_eq!(&read_all(&description, &store, piece, level).unwrap(), &expected);
        }
    }

    #[test]
    fn blocks_side_by_side_are_a_concatenation(
        rows in 1usize..6, widths in prop::collection::vec(1usize..6, 1..4), piece in 1usize..50, below in any::<bool>(), mut seed in any::<u32>(),
    ) {
        let mut store = Store::default();
        let all: usize = widths.iter().sum();
        let mut description = if below { plain(all, rows) } else { plain(rows, all) };
        let mut expected = vec![0f32; rows * all];
        let mut first = 0;
        for (number, width) in widths.into_iter().enumerate() {
            let part = numbers(rows * width, &mut seed);
            let scale = number as f64 + 1.0;
            let (height, wide) = if below { (width, rows) } else { (rows, width) };
            let (row, column) = if below { (first, 0) } else { (0, first) };
            description.blocks.push(Block {
                place: store.put(&part), rows: height as u64, columns: wide as u64, row: row as u64, column: column as u64, scale,
            });
            let columns = description.columns as usize;
            for i in 0..part.len() {
                expected[(row + i / wide) * columns + column + i % wide] = part[i] * scale as f32;
            }
            first += width;
        }
        prop_assert_eq!(read_all(&description, &store, piece, Level::SCALAR).unwrap(), expected);
    }
}

#[test]
fn negative_zeros_of_a_block_stay() {
    let mut store = Store::default();
    let mut description = plain(1, 2);
    let place = store.put(&[-0.0, 1.0]);
    description.blocks.push(Block { place, rows: 1, columns: 2, row: 0, column: 0, scale: 1.0 });
    assert!(read_all(&description, &store, 2, Level::SCALAR).unwrap()[0].is_sign_negative());
}

#[test]
fn a_right_factor_longer_than_one_read_is_whole() {
    for (rank, columns) in [(5, 30_000), (2, 70_000)] {
        let mut store = Store::default();
        let mut description = plain(1, columns);
        let (left, right) = (numbers(rank, &mut 1), numbers(rank * columns, &mut 2));
        let [a, b] = [store.put(&left), store.put(&right)].map(|place| Factor { place, transposed: false });
        description.products.push(Product { left: a, right: b, rank: rank as u64, scale: 1.0 });
        let sum = |column: usize| (0..rank).fold(0f32, |sum, k| left[k].mul_add(right[k * columns + column], sum));
        let expected: Vec<f32> = (0..columns).map(sum).collect();
        assert_eq!(read_all(&description, &store, columns, Level::SCALAR).unwrap(), expected);
    }
}

#[test]
fn a_factor_that_is_not_finite_is_refused() {
    let mut store = Store::default();
    let mut description = plain(1, 2);
    let sides = [store.put(&[1.0]), store.put(&[1.0, f32::NAN])];
    let [left, right] = sides.map(|place| Factor { place, transposed: false });
    description.products.push(Product { left, right, rank: 1, scale: 1.0 });
    assert!(matches!(read_all(&description, &store, 2, Level::SCALAR), Err(Error::Tensor { .. })));
}

#[test]
fn the_same_bytes_as_a_factor_of_another_shape_are_another_factor() {
    let mut store = Store::default();
    let (left, right) = (store.put(&[1.0, 2.0]), store.put(&numbers(80, &mut 1)));
    let described = |columns: usize| {
        let mut description = plain(2, columns);
        let [left, right] = [left, right].map(|place| Factor { place, transposed: false });
        description.products.push(Product { left, right, rank: 1, scale: 1.0 });
        description
    };
    let (narrow, wide) = (described(20), described(80));
    let (bytes, factors) = (store.bytes(), Factors::<f32>::new(1 << 20));
    let memory = Memory(&bytes);
    for description in [&narrow, &wide] {
        let one = Described::new("w", description, Level::SCALAR, Arc::new([&memory as &dyn Bytes]), &factors);
        let len = description.columns as usize * 2 * 4;
        let got = floats(one.read(0, len, &mut Vec::new()).unwrap());
        assert_eq!(got, read_all(description, &store, len, Level::SCALAR).unwrap());
    }
}

#[test]
fn what_an_edited_plan_may_say_is_refused_or_counted() {
    let place = |dtype| Place { file: 0, offset: 0, dtype };
    let factor = |dtype| Factor { place: place(dtype), transposed: false };
    let mut description = plain(2, 3);
    description.products.push(Product { left: factor(Dtype::F32), right: factor(Dtype::F64), rank: 1, scale: 1.0 });
    assert!(matches!(description.check("w", 6), Err(Error::Tensor { .. })));
    description.dtype = Dtype::F64;
    assert!(description.check("w", 6).is_ok());
    for (rank, columns) in [(u64::MAX, 3), (1 << 40, 1 << 40), (1, u64::MAX)] {
        description.products[0].rank = rank;
        description.columns = columns;
        assert_eq!(description.factor_bytes(), u64::MAX);
    }
}
