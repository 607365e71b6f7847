//! Products of columns with vectors, in float64. Columns lie `stride` apart, the first one at the beginning.
//!
//! Four columns go together, so that vectors are loaded once for four of them; sums have eight lanes. Neither shows the
//! width of a register.

use super::level::multiversion;

/// Columns that go together.
const TOGETHER: usize = 4;

/// Running sums of a dot product.
const LANES: usize = 8;

/// Part of each of four columns from `first` on, the last one again where there are fewer.
#[inline(always)]
fn four(columns: &[f64], stride: usize, first: usize, count: usize, rows: usize) -> [&[f64]; TOGETHER] {
    std::array::from_fn(|k| &columns[(first + k).min(count - 1) * stride..][..rows])
}

/// Σ a·b, over lanes and then over their sums.
#[inline(always)]
fn dots_of_four(columns: &[&[f64]; TOGETHER], x: &[f64]) -> [f64; TOGETHER] {
    let mut sums = [[0.0; LANES]; TOGETHER];
    let whole = x.len() / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        let x = &x[start..start + LANES];
        for (sums, column) in sums.iter_mut().zip(columns) {
            let column = &column[start..start + LANES];
            for lane in 0..LANES {
                sums[lane] += column[lane] * x[lane];
            }
        }
    }
    for (sums, column) in sums.iter_mut().zip(columns) {
        for i in whole..x.len() {
            sums[i - whole] += column[i] * x[i];
        }
    }
    sums.map(|lanes| lanes.iter().sum())
}

multiversion! {
    /// out[k] ← the product of column k with x; there are as many columns as `out` is long.
    pub fn dots(out: &mut [f64], columns: &[f64], stride: usize, x: &[f64]) {
        for first in (0..out.len()).step_by(TOGETHER) {
            let found = dots_of_four(&four(columns, stride, first, out.len(), x.len()), x);
            out[first..].iter_mut().zip(found).for_each(|(out, found)| *out = found);
        }
    }
}

multiversion! {
    /// out ← out − Σ factors[k] · column k.
    pub fn subtract(out: &mut [f64], columns: &[f64], stride: usize, factors: &[f64]) {
        for first in (0..factors.len()).step_by(TOGETHER) {
            let columns = four(columns, stride, first, factors.len(), out.len());
            let factors: [f64; TOGETHER] =
                std::array::from_fn(|k| factors.get(first + k).copied().unwrap_or(0.0));
            for i in 0..out.len() {
                let mut left = out[i];
                for k in 0..TOGETHER {
                    left -= columns[k][i] * factors[k];
                }
                out[i] = left;
            }
        }
    }
}

multiversion! {
    /// y ← S·x, where S is symmetric and `columns` holds its lower triangle. Each element is read once.
    pub fn symmetric(y: &mut [f64], columns: &[f64], stride: usize, x: &[f64]) {
        let size = x.len();
        let y = &mut y[..size];
        y.fill(0.0);
        for first in (0..size).step_by(TOGETHER) {
            let below = (first + TOGETHER).min(size);
            for j in first..below {
                y[j] += columns[j * stride + j] * x[j];
                for i in j + 1..below {
                    y[i] += columns[j * stride + i] * x[j];
                    y[j] += columns[j * stride + i] * x[i];
                }
            }
            if below == size {
                break;
            }
            let four: [&[f64]; TOGETHER] =
                std::array::from_fn(|k| &columns[(first + k) * stride + below..][..size - below]);
            let factors: [f64; TOGETHER] = std::array::from_fn(|k| x[first + k]);
            let (above, y) = y.split_at_mut(below);
            let x = &x[below..];
            let mut sums = [[0.0; LANES]; TOGETHER];
            let whole = x.len() / LANES * LANES;
            for start in (0..whole).step_by(LANES) {
                let (x, y) = (&x[start..start + LANES], &mut y[start..start + LANES]);
                let mut total = [0.0; LANES];
                total.copy_from_slice(y);
                for k in 0..TOGETHER {
                    let column = &four[k][start..start + LANES];
                    for lane in 0..LANES {
                        total[lane] += column[lane] * factors[k];
                        sums[k][lane] += column[lane] * x[lane];
                    }
                }
                y.copy_from_slice(&total);
            }
            for i in whole..x.len() {
                for k in 0..TOGETHER {
                    y[i] += four[k][i] * factors[k];
                    sums[k][i - whole] += four[k][i] * x[i];
                }
            }
            for (y, lanes) in above[first..].iter_mut().zip(sums) {
                *y += lanes.iter().sum::<f64>();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kernels::level::Level;

    fn numbers(len: usize, mut seed: u32) -> Vec<f64> {
        let mut next = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(seed >> 8) / 8_388_608.0 - 1.0
        };
        (0..len).map(|_| next()).collect()
    }

    fn close(found: &[f64], expected: impl Iterator<Item = f64>) -> bool {
        found.iter().zip(expected).all(|(x, y)| (x - y).abs() <= 1e-13 * (1.0 + y.abs()))
    }

    proptest! {
        #[test]
        fn every_level_gives_the_definition_and_the_same_bits(
            rows in 0usize..70, count in 0usize..11, gap in 0usize..3, seed in any::<u32>(),
        ) {
            let stride = rows + gap;
            let columns = numbers(stride * count, seed);
            let (x, factors, start) = (numbers(rows, !seed), numbers(count, seed ^ 7), numbers(rows, seed ^ 9));
            let mut first: Option<(Vec<f64>, Vec<f64>)> = None;
            for level in Level::available() {
                let (mut found, mut left) = (vec![f64::NAN; count], start.clone());
                dots(level, &mut found, &columns, stride, &x);
                subtract(level, &mut left, &columns, stride, &factors);
                let dot = |k: usize| (0..rows).map(|i| columns[k * stride + i] * x[i]).sum::<f64>();
                let rest = |i: usize| start[i] - (0..count).map(|k| columns[k * stride + i] * factors[k]).sum::<f64>();
                prop_assert!(close(&found, (0..count).map(dot)));
                prop_assert!(close(&left, (0..rows).map(rest)));
                prop_assert_eq!(first.get_or_insert_with(|| (found.clone(), left.clone())), &(found, left));
            }
        }

        #[test]
        fn the_upper_triangle_of_a_symmetric_matrix_is_not_read(
            size in 0usize..70, gap in 0usize..3, seed in any::<u32>(),
        ) {
            let stride = size + gap;
            let mut columns = numbers(stride * size, seed);
            for j in 0..size {
                columns[j * stride..][..j].fill(f64::NAN);
            }
            let x = numbers(size, !seed);
            let at = |i: usize, j: usize| columns[i.min(j) * stride + i.max(j)];
            let mut first: Option<Vec<f64>> = None;
            for level in Level::available() {
                let mut y = vec![f64::NAN; size];
                symmetric(level, &mut y, &columns, stride, &x);
                prop_assert!(close(&y, (0..size).map(|i| (0..size).map(|j| at(i, j) * x[j]).sum())));
                prop_assert_eq!(first.get_or_insert_with(|| y.clone()), &y);
            }
        }
    }
}
