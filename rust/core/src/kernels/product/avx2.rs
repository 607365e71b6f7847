//! Eight of the sixteen registers hold sums: the panel goes by in parts of two registers, the rows in two halves.

use std::arch::x86_64::{
    _mm256_fmadd_pd, _mm256_fmadd_ps, _mm256_loadu_pd, _mm256_loadu_ps, _mm256_set1_pd, _mm256_set1_ps,
    _mm256_setzero_pd, _mm256_setzero_ps, _mm256_storeu_pd, _mm256_storeu_ps,
};

use super::{PANEL_F32, PANEL_F64, ROWS};

const HALF: usize = ROWS / 2;

macro_rules! sums {
    ($name:ident, $real:ty, $width:ident, $lanes:literal, $zero:ident, $set:ident, $load:ident, $fma:ident, $store:ident) => {
        /// # Safety
        ///
        /// There is room for all [`ROWS`] rows, `stride` elements apart, from `out` on.
        #[target_feature(enable = "avx2,fma")]
        pub unsafe fn $name(left: &[[$real; ROWS]], panel: &[[$real; $width]], out: *mut $real, stride: usize) {
            for first in [0, HALF] {
                for column in (0..$width).step_by(2 * $lanes) {
                    let mut sums = [[$zero(); 2]; HALF];
                    for (factors, right) in left.iter().zip(panel) {
                        // SAFETY: a row holds a whole number of pairs of registers.
                        let right = unsafe {
                            let right = right.as_ptr().add(column);
                            [$load(right), $load(right.add($lanes))]
                        };
                        for row in 0..HALF {
                            let factor = $set(factors[first + row]);
                            sums[row][0] = $fma(factor, right[0], sums[row][0]);
                            sums[row][1] = $fma(factor, right[1], sums[row][1]);
                        }
                    }
                    for (row, sums) in (first..).zip(sums) {
                        // SAFETY: the caller has room for ROWS rows, each a whole number of pairs of registers.
                        unsafe {
                            let place = out.add(row * stride + column);
                            $store(place, sums[0]);
                            $store(place.add($lanes), sums[1]);
                        }
                    }
                }
            }
        }
    };
}

sums!(
    sums_f32,
    f32,
    PANEL_F32,
    8,
    _mm256_setzero_ps,
    _mm256_set1_ps,
    _mm256_loadu_ps,
    _mm256_fmadd_ps,
    _mm256_storeu_ps
);
sums!(
    sums_f64,
    f64,
    PANEL_F64,
    4,
    _mm256_setzero_pd,
    _mm256_set1_pd,
    _mm256_loadu_pd,
    _mm256_fmadd_pd,
    _mm256_storeu_pd
);
