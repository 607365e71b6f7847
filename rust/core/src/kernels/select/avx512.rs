//! Sixteen keys at a time; the ones within are pressed together in a register.

use std::arch::x86_64::{
    __m256i, __m512i, _mm256_loadu_si256, _mm512_and_si512, _mm512_castps_si512, _mm512_castsi512_ps,
    _mm512_cmpge_epu32_mask, _mm512_cvtepu16_epi32, _mm512_loadu_si512, _mm512_maskz_compress_epi32,
    _mm512_min_epu32, _mm512_set1_epi32, _mm512_slli_epi32, _mm512_storeu_si512, _mm512_sub_ps,
};

use super::{Bracket, Found};
use crate::kernels::convert::formats::decode_bf16;
use crate::kernels::real::Real;

/// Entries that one register holds.
const LANES: usize = 16;

/// The bounds of a bracket in every lane, and what was found so far.
struct Search<'k> {
    low: __m512i,
    high: __m512i,
    keys: &'k mut [u32],
    found: Found,
}

impl<'k> Search<'k> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,popcnt")]
    fn new(bracket: Bracket<u32>, keys: &'k mut [u32]) -> Self {
        let (low, high) = (_mm512_set1_epi32(bracket.low as i32), _mm512_set1_epi32(bracket.high as i32));
        Self { low, high, keys, found: Found::default() }
    }

    /// # Safety
    ///
    /// `keys` has sixteen more places than keys were found.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,popcnt")]
    unsafe fn look(&mut self, bits: __m512i) {
        let magnitude = _mm512_and_si512(bits, _mm512_set1_epi32(0x7FFF_FFFF));
        let key = _mm512_min_epu32(magnitude, _mm512_set1_epi32(f32::NAN_KEY as i32));
        let above = _mm512_cmpge_epu32_mask(key, self.high);
        let within = _mm512_cmpge_epu32_mask(key, self.low) & !above;
        self.found.above += above.count_ones() as usize;
        // Storing a whole register is far faster than a compressing store to memory on some machines.
        let pressed = _mm512_maskz_compress_epi32(within, key);
        // SAFETY: the caller vouches for the room.
        unsafe { _mm512_storeu_si512(self.keys.as_mut_ptr().add(self.found.within).cast::<__m512i>(), pressed) };
        self.found.within += within.count_ones() as usize;
    }

    /// Looks at the entries behind the last full register.
    fn finish(self, rest: &[f32], bracket: Bracket<u32>) -> Found {
        let last = super::scan(rest, bracket, &mut self.keys[self.found.within..]);
        Found { above: self.found.above + last.above, within: self.found.within + last.within }
    }
}

/// # Safety
///
/// The machine has AVX-512 F, BW, DQ and VL, and `keys` is at least 16 longer than `x`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,popcnt")]
pub unsafe fn scan(x: &[f32], bracket: Bracket<u32>, keys: &mut [u32]) -> Found {
    let mut search = Search::new(bracket, keys);
    let mut chunks = x.chunks_exact(LANES);
    for chunk in &mut chunks {
        // SAFETY: the chunk is sixteen floats long; a load needs no alignment. Fewer keys were found than elements were
        // read, and `keys` has sixteen more places than `x` elements.
        unsafe { search.look(_mm512_loadu_si512(chunk.as_ptr().cast::<__m512i>())) };
    }
    search.finish(chunks.remainder(), bracket)
}

/// The same of tuned − base, both bfloat16.
///
/// # Safety
///
/// The machine has AVX-512 F, BW, DQ and VL, `base` is as long as `tuned`, and `keys` at least 16 longer.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,popcnt")]
pub unsafe fn scan_bf16(base: &[[u8; 2]], tuned: &[[u8; 2]], bracket: Bracket<u32>, keys: &mut [u32]) -> Found {
    let mut search = Search::new(bracket, keys);
    let (mut bases, mut others) = (base.chunks_exact(LANES), tuned.chunks_exact(LANES));
    for (base, tuned) in (&mut bases).zip(&mut others) {
        let wide = |chunk: &[[u8; 2]]| {
            // SAFETY: the chunk is sixteen codes of two bytes long; a load needs no alignment.
            let codes = unsafe { _mm256_loadu_si256(chunk.as_ptr().cast::<__m256i>()) };
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(codes)))
        };
        let delta = _mm512_sub_ps(wide(tuned), wide(base));
        // SAFETY: fewer keys were found than elements were read, and `keys` has sixteen more places than elements.
        unsafe { search.look(_mm512_castps_si512(delta)) };
    }
    let value = |code: &[u8; 2]| decode_bf16(u16::from_le_bytes(*code));
    let mut rest = [0f32; LANES];
    let last = others.remainder().iter().zip(bases.remainder());
    let len = last.len();
    rest.iter_mut().zip(last).for_each(|(rest, (tuned, base))| *rest = value(tuned) - value(base));
    search.finish(&rest[..len], bracket)
}
