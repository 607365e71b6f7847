//! Sixteen registers of sums, two of the panel, one for a factor.

use std::arch::x86_64::{
    _mm512_fmadd_pd, _mm512_fmadd_ps, _mm512_loadu_pd, _mm512_loadu_ps, _mm512_set1_pd, _mm512_set1_ps,
    _mm512_setzero_pd, _mm512_setzero_ps, _mm512_storeu_pd, _mm512_storeu_ps,
};

use super::{PANEL_F32, PANEL_F64, ROWS};

macro_rules! sums {
    ($name:ident, $real:ty, $width:ident, $lanes:literal, $zero:ident, $set:ident, $load:ident, $fma:ident, $store:ident) => {
        /// # Safety
        ///
        /// There is room for all [`ROWS`] rows, `stride` elements apart, from `out` on.
        #[target_feature(enable = "avx512f,fma")]
        pub unsafe fn $name(left: &[[$real; ROWS]], panel: &[[$real; $width]], out: *mut $real, stride: usize) {
            let mut sums = [[$zero(); 2]; ROWS];
            for (factors, right) in left.iter().zip(panel) {
                // SAFETY: both halves of the row lie within it.
                let right = unsafe { [$load(right.as_ptr()), $load(right.as_ptr().add($lanes))] };
                for row in 0..ROWS {
                    let factor = $set(factors[row]);
                    sums[row][0] = $fma(factor, right[0], sums[row][0]);
                    sums[row][1] = $fma(factor, right[1], sums[row][1]);
                }
            }
            for (row, sums) in sums.into_iter().enumerate() {
                // SAFETY: the caller has room for ROWS rows of two registers each.
                unsafe {
                    let place = out.add(row * stride);
                    $store(place, sums[0]);
                    $store(place.add($lanes), sums[1]);
                }
            }
        }
    };
}

sums!(
    sums_f32,
    f32,
    PANEL_F32,
    16,
    _mm512_setzero_ps,
    _mm512_set1_ps,
    _mm512_loadu_ps,
    _mm512_fmadd_ps,
    _mm512_storeu_ps
);
sums!(
    sums_f64,
    f64,
    PANEL_F64,
    8,
    _mm512_setzero_pd,
    _mm512_set1_pd,
    _mm512_loadu_pd,
    _mm512_fmadd_pd,
    _mm512_storeu_pd
);
