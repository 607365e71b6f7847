//! What the decompositions give back, against the matrices that went in.

use proptest::prelude::*;

use super::*;
use crate::kernels::level::Level;

fn matrix(rows: usize, columns: usize, mut seed: u32) -> Mat<f64> {
    Mat::from_fn(rows, columns, |_, _| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(seed >> 8) / 8_388_608.0 - 1.0
    })
}

fn tiles(x: &Mat<f64>, step: usize) -> Vec<Tile> {
    let firsts = (0..x.nrows()).step_by(step);
    firsts
        .map(|first| {
            let mut tile = Tile::default();
            let rows = step.min(x.nrows() - first);
            tile.reshape(rows, x.ncols());
            for column in 0..x.ncols() {
                for row in 0..rows {
                    tile.elements[column * rows + row] = x[(first + row, column)];
                }
            }
            tile
        })
        .collect()
}

fn close(a: &Mat<f64>, b: &Mat<f64>, bound: f64) -> bool {
    (a - b).norm_l2() <= bound * (1.0 + b.norm_l2())
}

proptest! {
    #[test]
    fn gram_and_triangle_of_tiles_are_those_of_the_whole(
        rows in 1usize..90, columns in 1usize..40, step in 1usize..50, seed in any::<u32>(),
    ) {
        let x = matrix(rows, columns, seed);
        let expected = x.transpose() * &x;
        let mut triangle = Triangle::new(columns, step);
        let mut first: Option<Mat<f64>> = None;
        for level in Level::available() {
            let mut gram = Gram::new(level, columns);
            tiles(&x, step).iter().for_each(|tile| gram.add(tile));
            let gram = gram.finish();
            prop_assert!(close(&gram, &expected, 1e-13));
            prop_assert!(first.get_or_insert_with(|| gram.clone()) == &gram);
        }
        tiles(&x, step).iter().for_each(|tile| triangle.add(tile));
        let r = triangle.finish();
        prop_assert_eq!(r.nrows(), rows.min(columns));
        prop_assert!((0..columns).all(|j| (j + 1..r.nrows()).all(|i| r[(i, j)] == 0.0)));
        prop_assert!(close(&(r.transpose() * &r), &expected, 1e-13));
    }

    #[test]
    fn a_root_squares_to_what_it_was_taken_of(rows in 1usize..20, columns in 1usize..20, seed in any::<u32>()) {
        // With fewer rows than columns it is singular.
        let x = matrix(rows, columns, seed);
        let a = x.transpose() * &x;
        let l = root(a.as_ref()).unwrap();
        prop_assert!(close(&(&l * l.transpose()), &a, 1e-12));
    }

    #[test]
    fn decompositions_multiply_back(rows in 1usize..30, columns in 1usize..30, seed in any::<u32>()) {
        let x = matrix(rows, columns, seed);
        let Svd { left, values, right } = svd(x.as_ref()).unwrap();
        prop_assert!(values.is_sorted_by(|a, b| a >= b));
        let scaled = Mat::from_fn(rows, values.len(), |i, j| left[(i, j)] * values[j]);
        prop_assert!(close(&(scaled * right.transpose()), &x, 1e-13));
        let a = x.transpose() * &x;
        let (values, vectors) = eigen(a.clone()).unwrap();
        prop_assert!(values.is_sorted_by(|a, b| a >= b));
        let scaled = Mat::from_fn(columns, columns, |i, j| vectors[(i, j)] * values[j]);
        prop_assert!(close(&(scaled * vectors.transpose()), &a, 1e-13));
    }
}

/// A symmetric matrix of some kind, whose upper triangle says nothing.
fn symmetric(size: usize, kind: u32, scale: f64, seed: u32) -> Mat<f64> {
    let x = matrix(size, size, seed);
    let at = |i: usize, j: usize| match kind {
        0 => x[(i, j)],
        // Magnitudes from 1 to 1e-12.
        1 => x[(i, j)] * 10f64.powf(-6.0 * (i + j) as f64 / size as f64),
        2 => f64::from(u8::from(i == j)) * x[(i, i)],
        3 => x[(i, 0)] * x[(j, 0)],
        4 => f64::from(u8::from(i <= j + 1)) * x[(i, j)],
        // Two eigenvalues, each many times.
        5 => f64::from(u8::from(i == j)) - 2.0 / size as f64,
        _ => 0.0,
    };
    Mat::from_fn(size, size, |i, j| if i < j { f64::NAN } else { at(i, j) * scale })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]
    #[test]
    fn eigenvectors_of_symmetric_matrices_of_all_kinds(
        size in prop_oneof![0usize..40, 60usize..70, 120usize..140, Just(257)],
        kind in 0u32..7, exponent in -290i32..290, seed in any::<u32>(),
    ) {
        let scale = 10f64.powi(exponent / 2);
        let a = symmetric(size, kind, scale, seed);
        let whole = Mat::from_fn(size, size, |i, j| a[(i.max(j), i.min(j))] / scale);
        let (values, vectors) = eigen(a.clone()).unwrap();
        prop_assert!(values.is_sorted_by(|a, b| a >= b));
        let values: Vec<f64> = values.iter().map(|value| value / scale).collect();
        let bound = 1e-15 * (10 + size) as f64;
        let identity = Mat::<f64>::identity(size, size);
        prop_assert!((vectors.transpose() * &vectors - identity).norm_max() <= bound);
        let scaled = Mat::from_fn(size, size, |i, j| vectors[(i, j)] * values[j]);
        let norm = whole.norm_l2();
        prop_assert!((scaled * vectors.transpose() - &whole).norm_l2() <= bound * norm);
        let expected = whole.self_adjoint_eigenvalues(faer::Side::Lower).unwrap();
        prop_assert!(values.iter().zip(expected.iter().rev()).all(|(x, y)| (x - y).abs() <= bound * norm));
    }
}

#[test]
fn bounds_of_a_small_matrix() {
    let a = Mat::from_fn(2, 2, |i, j| [[3.0, -4.0], [-4.0, 1.0]][i][j]);
    assert_eq!(largest_row_sum(a.as_ref()), 7.0);
    assert_eq!(product(a.as_ref(), a.as_ref())[(0, 0)], 25.0);
}
