//! Products of a left matrix with a panel of a right one: what low-rank updates are multiplied out with.
//!
//! Every element is Σ over the rank in ascending order, each step one fused multiply-add, so that neither the cut into
//! tiles nor the instruction set changes a bit of it. (Machines without the instruction get it from the C library.)

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use std::ops::Range;

use super::level::{Level, Set, multiversion};
use super::real::Real;

/// Columns of a panel in f32: eight rows of it fill the sixteen registers that AVX-512 leaves for sums.
pub const PANEL_F32: usize = 32;
pub const PANEL_F64: usize = 16;

/// Rows of a left factor that go through a panel together: their sums stay in registers.
pub const ROWS: usize = 8;

/// Rows of `rank` elements as [`Panel::multiply`] takes them: [`ROWS`] together, transposed, the last ones filled up
/// with zeros.
pub fn pack_rows<R: Real>(rows: &[R], rank: usize, packed: &mut Vec<R>) {
    let (rank, together) = (rank.max(1), ROWS * rank.max(1));
    packed.resize(rows.len().next_multiple_of(together), R::ZERO);
    for (rows, packed) in rows.chunks(together).zip(packed.chunks_exact_mut(together)) {
        if rows.len() < together {
            packed.fill(R::ZERO);
        }
        for (place, row) in rows.chunks(rank).enumerate() {
            packed[place..].iter_mut().step_by(ROWS).zip(row).for_each(|(packed, &x)| *packed = x);
        }
    }
}

/// Where sums go: columns of rows that lie `stride` elements apart.
pub struct Target<'o, R> {
    /// From the first element of the first row on.
    pub out: &'o mut [R],
    pub stride: usize,
    /// Rows and columns of the sums that are wanted.
    pub rows: Range<usize>,
    pub columns: Range<usize>,
    /// Add to what is there, rather than take its place.
    pub adds: bool,
    pub scale: R,
}

impl<R: Real> Target<'_, R> {
    /// Whether all sums of a panel are wanted as they are: they need not go elsewhere first.
    fn is_whole(&self, width: usize) -> bool {
        !self.adds && self.scale == R::ONE && self.rows == (0..ROWS) && self.columns == (0..width)
    }
}

/// A type that products are computed in, and the width of its panels.
pub trait Panel: Real {
    const WIDTH: usize;

    /// target ← (target +) scale · left · panel: `left` has a row of [`ROWS`] for each step of the rank (it is
    /// transposed), `panel` one of [`Panel::WIDTH`].
    fn multiply(level: Level, left: &[Self], panel: &[Self], target: Target<'_, Self>);
}

macro_rules! panel {
    ($real:ty, $sums:ident, $width:ident) => {
        impl Panel for $real {
            const WIDTH: usize = $width;

            // A target that is copied to a call waits for the stores of the call before.
            #[inline(always)]
            fn multiply(level: Level, left: &[Self], panel: &[Self], target: Target<'_, Self>) {
                let (left, panel) = (left.as_chunks().0, panel.as_chunks().0);
                if target.is_whole($width) {
                    return $sums(level, left, panel, target.out, target.stride);
                }
                let mut sums = [[0.0; $width]; ROWS];
                $sums(level, left, panel, sums.as_flattened_mut(), $width);
                let Target { out, stride, rows, columns, adds, scale } = target;
                place(level, &sums[rows], columns, out, stride, adds, scale);
            }
        }

        /// Writes the sums of products of [`ROWS`] rows with a panel, rows `stride` elements apart.
        fn $sums(level: Level, left: &[[$real; ROWS]], panel: &[[$real; $width]], out: &mut [$real], stride: usize) {
            assert!(stride >= $width && out.len() >= (ROWS - 1) * stride + $width, "no room for the sums");
            match level.0 {
                // SAFETY: a `Level` exists only where the machine was found to have its instructions, and there is
                // room for all rows.
                #[cfg(target_arch = "x86_64")]
                Set::Avx512 => unsafe { avx512::$sums(left, panel, out.as_mut_ptr(), stride) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Set::Avx2 => unsafe { avx2::$sums(left, panel, out.as_mut_ptr(), stride) },
                _ => plain(left, panel, out, stride),
            }
        }
    };
}

panel!(f32, sums_f32, PANEL_F32);
panel!(f64, sums_f64, PANEL_F64);

fn plain<R: Real, const W: usize>(left: &[[R; ROWS]], panel: &[[R; W]], out: &mut [R], stride: usize) {
    let mut all = [[R::ZERO; W]; ROWS];
    for (factors, right) in left.iter().zip(panel) {
        for (sums, &factor) in all.iter_mut().zip(factors) {
            for (sum, &right) in sums.iter_mut().zip(right) {
                *sum = factor.mul_add(right, *sum);
            }
        }
    }
    for (out, sums) in out.chunks_mut(stride).zip(all) {
        out[..W].copy_from_slice(&sums);
    }
}

multiversion! {
    fn place<R: Real; const W>(
        sums: &[[R; W]], columns: Range<usize>, out: &mut [R], stride: usize, adds: bool, scale: R,
    ) {
        for (sums, out) in sums.iter().zip(out.chunks_mut(stride)) {
            for (out, &sum) in out.iter_mut().zip(&sums[columns.clone()]) {
                let scaled = scale * sum;
                *out = if adds { *out + scaled } else { scaled };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sums of `ROWS` rows by plain loops.
    fn naive<R: Real>(left: &[R], panel: &[R], width: usize) -> Vec<R> {
        let places = (0..ROWS * width).map(|i| (i / width, i % width));
        let sum = |(row, column): (usize, usize)| {
            let steps = left.iter().skip(row).step_by(ROWS).zip(panel.iter().skip(column).step_by(width));
            steps.fold(R::ZERO, |sum, (&a, &b)| a.mul_add(b, sum))
        };
        places.map(sum).collect()
    }

    fn check<R: Panel>(left: &[R], panel: &[R], rows: Range<usize>, columns: Range<usize>) {
        let expected = naive(left, panel, R::WIDTH);
        // What lies between the rows and behind the last one stays as it is.
        let stride = R::WIDTH + 3;
        let cases = [(false, 0.5), (true, 0.5), (false, 1.0), (true, 1.0)];
        for (level, (adds, scale)) in Level::available().into_iter().flat_map(|level| cases.map(|case| (level, case)))
        {
            let mut out = vec![R::ONE; ROWS * stride];
            let (rows, columns, scale) = (rows.clone(), columns.clone(), R::of(scale));
            let target = Target { out: &mut out, stride, rows: rows.clone(), columns: columns.clone(), adds, scale };
            R::multiply(level, left, panel, target);
            for (place, out) in out.chunks(stride).enumerate() {
                let row = rows.start + place;
                let sums = if rows.contains(&row) { &expected[row * R::WIDTH..][columns.clone()] } else { &[] };
                let wanted: Vec<R> =
                    sums.iter().map(|&sum| if adds { R::ONE + scale * sum } else { scale * sum }).collect();
                assert_eq!(out[..sums.len()], wanted);
                assert!(out[sums.len()..].iter().all(|&x| x == R::ONE));
            }
        }
    }

    proptest! {
        #[test]
        fn every_level_gives_the_bits_of_the_plain_loop(
            rank in 0usize..9, row in 0usize..ROWS, rows in 1usize..=ROWS, column in 0usize..32, width in 1usize..=32,
            all in any::<bool>(), seed in any::<u32>(),
        ) {
            let (row, rows, column, width) = if all { (0, ROWS, 0, PANEL_F32) } else { (row, rows, column, width) };
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / 8_388_608.0 - 1.0
            };
            let left: Vec<f32> = (0..rank * ROWS).map(|_| next()).collect();
            let panel: Vec<f32> = (0..rank * PANEL_F32).map(|_| next()).collect();
            let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
            let rows = row..(row + rows).min(ROWS);
            check(&left, &panel, rows.clone(), column..(column + width).min(PANEL_F32));
            let column = column % PANEL_F64;
            check(&wide(&left), &wide(&panel[..rank * PANEL_F64]), rows, column..(column + width).min(PANEL_F64));
        }
    }
}
