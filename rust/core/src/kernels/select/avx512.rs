//! Sixteen keys at a time; the ones within are pressed together in a register.

use std::arch::x86_64::{
    __m512i, _mm512_and_si512, _mm512_cmpge_epu32_mask, _mm512_loadu_si512, _mm512_maskz_compress_epi32,
    _mm512_min_epu32, _mm512_set1_epi32, _mm512_storeu_si512,
};

use super::{Bracket, Found};
use crate::kernels::real::Real;

/// # Safety
///
/// The machine has AVX-512 F, BW, DQ and VL, and `keys` is at least 16 longer than `x`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,popcnt")]
pub unsafe fn scan(x: &[f32], bracket: Bracket<u32>, keys: &mut [u32]) -> Found {
    let mut found = Found::default();
    let mask = _mm512_set1_epi32(0x7FFF_FFFF);
    let nan = _mm512_set1_epi32(f32::NAN_KEY as i32);
    let low = _mm512_set1_epi32(bracket.low as i32);
    let high = _mm512_set1_epi32(bracket.high as i32);
    let mut chunks = x.chunks_exact(16);
    for chunk in &mut chunks {
        // SAFETY: the chunk is sixteen floats long; a load needs no alignment.
        let bits = unsafe { _mm512_loadu_si512(chunk.as_ptr().cast::<__m512i>()) };
        let key = _mm512_min_epu32(_mm512_and_si512(bits, mask), nan);
        let above = _mm512_cmpge_epu32_mask(key, high);
        let within = _mm512_cmpge_epu32_mask(key, low) & !above;
        found.above += above.count_ones() as usize;
        // Storing a whole register is far faster than a compressing store to memory on some machines.
        let pressed = _mm512_maskz_compress_epi32(within, key);
        // SAFETY: fewer keys were found than elements were read, and `keys` has sixteen more places than `x` elements.
        unsafe { _mm512_storeu_si512(keys.as_mut_ptr().add(found.within).cast::<__m512i>(), pressed) };
        found.within += within.count_ones() as usize;
    }
    let rest = super::scan(chunks.remainder(), bracket, &mut keys[found.within..]);
    Found { above: found.above + rest.above, within: found.within + rest.within }
}
