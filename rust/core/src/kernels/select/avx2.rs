//! Eight keys at a time; a table of permutations presses together the ones within.

use std::arch::x86_64::{
    __m256i, _mm256_and_si256, _mm256_andnot_si256, _mm256_castsi256_ps, _mm256_cmpgt_epi32, _mm256_loadu_si256,
    _mm256_min_epu32, _mm256_movemask_ps, _mm256_permutevar8x32_epi32, _mm256_set1_epi32, _mm256_storeu_si256,
};

use super::{Bracket, Found};
use crate::kernels::real::Real;

/// For each mask of eight lanes, the lanes that are set, in order.
static LANES: [[u32; 8]; 256] = lanes();

const fn lanes() -> [[u32; 8]; 256] {
    let mut table = [[0; 8]; 256];
    let mut mask = 0;
    while mask < 256 {
        let (mut lane, mut at) = (0, 0);
        while lane < 8 {
            if mask >> lane & 1 == 1 {
                table[mask][at] = lane as u32;
                at += 1;
            }
            lane += 1;
        }
        mask += 1;
    }
    table
}

/// # Safety
///
/// The machine has AVX2, and `keys` is at least 8 longer than `x`.
#[target_feature(enable = "avx2,popcnt")]
pub unsafe fn scan(x: &[f32], bracket: Bracket<u32>, keys: &mut [u32]) -> Found {
    let mut found = Found::default();
    let mask = _mm256_set1_epi32(0x7FFF_FFFF);
    let nan = _mm256_set1_epi32(f32::NAN_KEY as i32);
    // Keys are below 2³¹, so that signed comparisons do; a bound beyond every key stays beyond.
    let below = |bound: u32| _mm256_set1_epi32(i64::from(bound.min(i32::MAX as u32)).wrapping_sub(1) as i32);
    let (low, high) = (below(bracket.low), below(bracket.high));
    let mut chunks = x.chunks_exact(8);
    for chunk in &mut chunks {
        // SAFETY: the chunk is eight floats long; a load needs no alignment.
        let bits = unsafe { _mm256_loadu_si256(chunk.as_ptr().cast::<__m256i>()) };
        let key = _mm256_min_epu32(_mm256_and_si256(bits, mask), nan);
        let above = _mm256_cmpgt_epi32(key, high);
        let within = _mm256_andnot_si256(above, _mm256_cmpgt_epi32(key, low));
        let above = _mm256_movemask_ps(_mm256_castsi256_ps(above)) as usize;
        let within = _mm256_movemask_ps(_mm256_castsi256_ps(within)) as usize;
        // SAFETY: the table's rows are eight numbers long.
        let order = unsafe { _mm256_loadu_si256(LANES[within].as_ptr().cast::<__m256i>()) };
        let pressed = _mm256_permutevar8x32_epi32(key, order);
        // SAFETY: fewer keys were found than elements were read, and `keys` has eight more places than `x` elements.
        unsafe { _mm256_storeu_si256(keys.as_mut_ptr().add(found.within).cast::<__m256i>(), pressed) };
        found.above += above.count_ones() as usize;
        found.within += within.count_ones() as usize;
    }
    let rest = super::scan(chunks.remainder(), bracket, &mut keys[found.within..]);
    Found { above: found.above + rest.above, within: found.within + rest.within }
}
