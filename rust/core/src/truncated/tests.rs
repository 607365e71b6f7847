use faer::Mat;
use proptest::prelude::*;

use super::*;
use crate::linalg::Tolerance;

/// A matrix with these singular values, from two random orthonormal bases.
fn with_spectrum(rows: usize, columns: usize, sigma: &[f64], seed: u32) -> Matrix {
    let mut state = seed | 1;
    let mut next = || {
        // The sum of a few uniform numbers, which is normal enough.
        let mut one = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(state >> 8) / f64::from(1 << 24) - 0.5
        };
        one() + one() + one() + one()
    };
    let mut basis = |rows: usize| Mat::from_fn(rows, sigma.len(), |_, _| next()).qr().compute_thin_Q();
    let (left, right) = (basis(rows), basis(columns));
    let scaled = Mat::from_fn(rows, sigma.len(), |i, j| left[(i, j)] * sigma[j]);
    let product = &scaled * right.transpose();
    let data = (0..rows * columns).map(|place| product[(place / columns, place % columns)] as f32).collect();
    Matrix { data, rows, columns, transposed: false }
}

/// ‖M − B·A‖ / ‖M‖ in f64, from the factors as they are.
fn error(matrix: &Matrix, factors: &Factors) -> f64 {
    let (rows, columns, rank) = (matrix.rows, matrix.columns, factors.rank);
    let (mut rest, mut all) = (0.0, 0.0);
    for i in 0..rows {
        for j in 0..columns {
            let product: f64 = (0..rank)
                .map(|k| {
                    let (b, a) = if matrix.transposed {
                        (factors.b[j * rank + k], factors.a[k * rows + i])
                    } else {
                        (factors.b[i * rank + k], factors.a[k * columns + j])
                    };
                    f64::from(b) * f64::from(a)
                })
                .sum();
            let x = f64::from(matrix.data[i * columns + j]);
            rest += (x - product) * (x - product);
            all += x * x;
        }
    }
    (rest / all).sqrt()
}

fn copy(matrix: &Matrix) -> Matrix {
    Matrix { data: matrix.data.clone(), ..*matrix }
}

fn best(sigma: &[f64], rank: usize) -> f64 {
    let tail = |from: usize| sigma[from.min(sigma.len())..].iter().map(|s| s * s).sum::<f64>();
    (tail(rank) / tail(0)).sqrt()
}

/// Spectra from flat to steep, with and without a gap where they are cut.
fn spectra(size: usize) -> Vec<(&'static str, Vec<f64>)> {
    let of = |f: &dyn Fn(f64) -> f64| (0..size).map(|j| f(j as f64)).collect::<Vec<_>>();
    vec![
        ("flat", of(&|_| 1.0)),
        ("linear", of(&|j| 1.0 - j / size as f64)),
        ("slow power", of(&|j| (1.0 + j).powf(-0.3))),
        ("power", of(&|j| 1.0 / (1.0 + j))),
        ("exponential", of(&|j| (-0.1 * j).exp())),
        ("gap", of(&|j| if j < 16.0 { 10.0 } else { 0.1 })),
        ("no gap at the cut", of(&|j| if j < 40.0 { 1.0 } else { 0.05 })),
        ("one large", of(&|j| if j < 1.0 { 1e4 } else { 1.0 / (1.0 + j) })),
        ("steps", of(&|j| 10f64.powf(-(j / 10.0).floor()))),
    ]
}

#[test]
fn both_routes_come_within_a_hundredth_of_the_best() {
    for (name, sigma) in spectra(300) {
        for (rows, columns) in [(300, 340), (420, 300)] {
            for rank in [1, 16, 60] {
                let matrix = with_spectrum(rows, columns, &sigma, 7);
                for route in [Route::Randomized, Route::Exact] {
                    let factors = truncate(copy(&matrix), Keep::Rank(rank), route, 0, name).unwrap();
                    let (found, best) = (error(&matrix, &factors), best(&sigma, rank));
                    assert_eq!((factors.rank, factors.route), (rank, route), "{name}");
                    assert!(found <= 1.01 * best + 2e-6, "{name} {rows}×{columns} {rank} {route:?}: {found} {best}");
                    assert!(
                        (factors.error - found).abs() <= 1e-3 * found + 2e-7,
                        "{name}: {} {found}",
                        factors.error
                    );
                }
            }
        }
    }
}

#[test]
fn singular_values_lie_on_b_and_rows_of_a_are_orthonormal() {
    let sigma: Vec<f64> = (0..200).map(|j| 3.0 * 0.9f64.powi(j)).collect();
    for (rows, columns) in [(200, 260), (260, 200)] {
        let matrix = with_spectrum(rows, columns, &sigma, 3);
        for route in [Route::Randomized, Route::Exact] {
            let factors = truncate(copy(&matrix), Keep::Rank(10), route, 0, "w").unwrap();
            for (j, (found, wanted)) in factors.sigma.iter().zip(&sigma).enumerate() {
                assert!((found / wanted - 1.0).abs() < 1e-4, "{route:?} {j} {found}");
                for k in 0..10 {
                    let row = |k: usize| &factors.a[k * columns..(k + 1) * columns];
                    let dot: f64 = row(j).iter().zip(row(k)).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
                    assert!((dot - f64::from(u8::from(j == k))).abs() < 2e-6, "{route:?} {j} {k} {dot}");
                    let column = |k: usize| factors.b.iter().skip(k).step_by(10);
                    let dot: f64 = column(j).zip(column(k)).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
                    let wanted = if j == k { factors.sigma[j].powi(2) } else { 0.0 };
                    assert!((dot - wanted).abs() < 1e-5 * 9.0, "{route:?} {j} {k} {dot}");
                }
            }
        }
    }
}

#[test]
fn energy_keeps_as_few_directions_as_hold_it() {
    for (name, sigma) in spectra(400) {
        for energy in [0.3, 0.9, 0.999] {
            let matrix = with_spectrum(400, 430, &sigma, 5);
            let all: f64 = sigma.iter().map(|s| s * s).sum();
            let mut sum = 0.0;
            let least = sigma.iter().position(|s| {
                sum += s * s;
                sum >= energy * all * (1.0 - 1e-6)
            });
            let least = least.unwrap() + 1;
            let exact = truncate(copy(&matrix), Keep::Energy(energy), Route::Exact, 0, name).unwrap();
            assert!(exact.rank.abs_diff(least) <= 1, "{name} {energy} {} {least}", exact.rank);
            let factors = truncate(copy(&matrix), Keep::Energy(energy), Route::Randomized, 0, name).unwrap();
            assert!(1.0 - factors.error.powi(2) >= energy - 1e-5, "{name} {energy} {}", factors.error);
            assert!(factors.rank >= least.saturating_sub(1), "{name} {energy}");
            assert!(factors.rank as f64 <= least as f64 * 1.05 + 2.0, "{name} {energy} {} {least}", factors.rank);
        }
    }
}

#[test]
fn a_transposed_matrix_gives_factors_of_the_transpose() {
    let sigma: Vec<f64> = (0..120).map(|j| 1.0 / (1.0 + f64::from(j))).collect();
    let mut matrix = with_spectrum(120, 150, &sigma, 11);
    matrix.transposed = true;
    for route in [Route::Randomized, Route::Exact] {
        let factors = truncate(copy(&matrix), Keep::Rank(8), route, 0, "w").unwrap();
        assert_eq!((factors.b.len(), factors.a.len()), (150 * 8, 120 * 8));
        assert!(error(&matrix, &factors) <= 1.01 * best(&sigma, 8));
    }
}

#[test]
fn the_same_matrix_gives_the_same_bits_and_other_names_and_seeds_other_starts() {
    let sigma: Vec<f64> = (0..200).map(|j| 1.0 / (1.0 + f64::from(j)).sqrt()).collect();
    let matrix = with_spectrum(200, 200, &sigma, 2);
    let run = |seed, name: &str| truncate(copy(&matrix), Keep::Rank(4), Route::Randomized, seed, name).unwrap();
    let (one, again, other, later) = (run(0, "a"), run(0, "a"), run(0, "b"), run(1, "a"));
    assert_eq!((&one.a, &one.b), (&again.a, &again.b));
    assert_ne!(one.a, other.a);
    assert_ne!(one.a, later.a);
}

#[test]
fn zeros_have_rank_zero_and_rank_deficient_matrices_their_own() {
    let zero = Matrix { data: vec![0.0; 12], rows: 3, columns: 4, transposed: false };
    let factors = truncate(zero, Keep::Rank(2), Route::Randomized, 0, "w").unwrap();
    assert_eq!((factors.rank, factors.error, factors.norm), (0, 0.0, 0.0));
    for (rows, columns) in [(100, 120), (120, 100)] {
        let matrix = with_spectrum(rows, columns, &[3.0, 2.0, 1.0], 9);
        for route in [Route::Randomized, Route::Exact] {
            let factors = truncate(copy(&matrix), Keep::Rank(12), route, 0, "w").unwrap();
            assert!((3..=12).contains(&factors.rank), "{}", factors.rank);
            assert!(error(&matrix, &factors) < 1e-6, "{route:?} {}", error(&matrix, &factors));
        }
    }
}

#[test]
fn what_is_not_finite_is_refused_by_name() {
    for bad in [f32::NAN, f32::INFINITY] {
        let matrix = Matrix { data: vec![1.0, bad, 0.0, 2.0], rows: 2, columns: 2, transposed: false };
        let error = truncate(matrix, Keep::Rank(1), Route::Randomized, 0, "h.0.w").unwrap_err();
        assert!(error.to_string().contains("h.0.w"), "{error}");
    }
}

#[test]
fn tiny_and_huge_elements_keep_their_relative_error() {
    let sigma: Vec<f64> = (0..150).map(|j| 0.8f64.powi(j)).collect();
    let plain = with_spectrum(150, 160, &sigma, 4);
    for power in [-100, -60, 60, 100] {
        let data = plain.data.iter().map(|x| x * 2f32.powi(power)).collect();
        let matrix = Matrix { data, ..plain };
        let factors = truncate(copy(&matrix), Keep::Rank(10), Route::Randomized, 0, "w").unwrap();
        assert!((error(&matrix, &factors) / best(&sigma, 10) - 1.0).abs() < 0.01, "{power}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_shape_and_rank(rows in 1usize..70, columns in 1usize..70, rank in 1usize..80, seed in any::<u32>()) {
        let size = rows.min(columns);
        let sigma: Vec<f64> = (0..size).map(|j| 1.0 / (1.0 + j as f64)).collect();
        let matrix = with_spectrum(rows, columns, &sigma, seed);
        for route in [Route::Randomized, Route::Exact] {
            let factors = truncate(copy(&matrix), Keep::Rank(rank), route, 0, "w").unwrap();
            prop_assert_eq!(factors.rank, rank.min(size));
            prop_assert!(error(&matrix, &factors) <= 1.01 * best(&sigma, rank) + 1e-6);
        }
    }
}

/// Updates that are kept, and what is found about them.
struct Kept {
    updates: Vec<Mat<f32>>,
    coordinates: Vec<Mat<f32>>,
}

impl joint::Updates for Kept {
    fn shape(&self) -> (usize, usize, usize) {
        (self.updates[0].nrows(), self.updates[0].ncols(), self.updates.len())
    }

    fn with(&mut self, index: usize, with: &mut dyn FnMut(MatRef<'_, f32>) -> Result<()>) -> Result<()> {
        with(self.updates[index].as_ref())
    }

    fn coordinates(&mut self, index: usize, found: MatRef<'_, f32>) -> Result<()> {
        self.coordinates.resize_with(self.updates.len(), Mat::new);
        self.coordinates[index] = found.to_owned();
        Ok(())
    }
}

fn find(updates: &[Mat<f32>], relative: f64, memory: u64) -> (joint::Joint, Vec<Mat<f32>>) {
    let mut kept = Kept { updates: updates.to_vec(), coordinates: vec![] };
    let wanted = joint::Wanted { tolerance: Tolerance::Relative(relative), rank: None, memory };
    let found = joint::joint(&mut kept, wanted, "w").unwrap();
    (found, kept.coordinates)
}

/// Updates of one shape, each with singular values that fall off.
fn updates(rows: usize, columns: usize, count: u32) -> Vec<Mat<f32>> {
    let sigma: Vec<f64> = (0..rows.min(columns)).map(|j| 0.8f64.powi(j as i32)).collect();
    let make = |seed| with_spectrum(rows, columns, &sigma, 31 * seed + 1).view().to_owned();
    (0..count).map(make).collect()
}

#[test]
fn a_shared_basis_gives_every_update_back() {
    use joint::Route::{GramJoined, GramShared, Svd};
    for (rows, columns, count, tolerance, route) in [
        (20, 30, 3, 1e-6, GramShared),
        (90, 20, 3, 1e-6, GramJoined),
        (20, 30, 1, 1e-6, GramShared),
        (60, 30, 2, 1e-12, Svd),
        (90, 20, 3, 1e-12, Svd),
    ] {
        let updates = updates(rows, columns, count);
        let (found, coordinates) = find(&updates, tolerance, u64::MAX);
        assert_eq!((found.route, found.rank), (route, rows.min(columns * count as usize)));
        let gram = found.basis.transpose() * &found.basis;
        for i in 0..found.rank {
            for j in 0..found.rank {
                assert!(
                    (gram[(i, j)] - f32::from(u8::from(i == j))).abs() < 2e-3,
                    "{route:?} {i} {j} {}",
                    gram[(i, j)]
                );
            }
        }
        for (update, coordinates) in updates.iter().zip(&coordinates) {
            let gap = &found.basis * coordinates - update;
            assert!(gap.norm_l2() < 3e-6 * update.norm_l2(), "{route:?} {}", gap.norm_l2() / update.norm_l2());
        }
    }
}

#[test]
fn the_routes_find_the_same_basis() {
    let updates = updates(70, 20, 3);
    let (gram, of_gram) = find(&updates, 1e-3, 0);
    let (whole, of_whole) = find(&updates, gram.sigma[gram.rank - 1] / gram.sigma[0] * 0.9, u64::MAX);
    assert_eq!((gram.route, whole.route), (joint::Route::GramJoined, joint::Route::Svd));
    assert_eq!(gram.rank, whole.rank);
    for (one, other) in of_gram.iter().zip(&of_whole) {
        // Rows may differ in sign.
        for j in 0..gram.rank {
            let (one, other) = (one.row(j), other.row(j));
            let (plus, minus) = ((one - other).norm_l2(), (one + other).norm_l2());
            assert!(plus.min(minus) < 1e-4, "{j} {plus} {minus}");
        }
    }
}

#[test]
fn an_update_of_zeros_has_exact_zeros_for_coordinates() {
    for (rows, columns) in [(20, 30), (90, 20)] {
        let mut updates = updates(rows, columns, 3);
        updates[1] = Mat::zeros(rows, columns);
        let (found, coordinates) = find(&updates, 1e-6, 0);
        assert_eq!(found.rank, rows.min(2 * columns));
        assert!((0..found.rank).all(|i| coordinates[1].row(i).iter().all(|&x| x == 0.0)));
        let (found, _) = find(&[Mat::zeros(rows, columns), Mat::zeros(rows, columns)], 1e-6, u64::MAX);
        assert_eq!(found.rank, 0);
    }
}
