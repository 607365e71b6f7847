//! Encoding and decoding of one element, branch-free, so that loops over them vectorise.

/// Decodes a small float of `MAN` mantissa bits and exponent bias `BIAS` whose top exponent means infinity and NaN.
#[inline(always)]
pub fn decode_ieee<const MAN: u32, const BIAS: i32>(code: u32, width: u32) -> f32 {
    let sign = (code >> (width - 1)) << 31;
    let magnitude = code & ((1 << (width - 1)) - 1);
    let special = magnitude >= top_exponent::<MAN>(width);
    let value = rescale::<MAN, BIAS>(magnitude).to_bits() | if special { 0x7F80_0000 } else { 0 };
    f32::from_bits(value | sign)
}

/// Decodes F8_E4M3 ("fn"): no infinity, and only the all-ones magnitude is NaN.
#[inline(always)]
pub fn decode_e4m3(code: u8) -> f32 {
    let code = u32::from(code);
    let magnitude = code & 0x7F;
    let value = rescale::<3, 7>(magnitude).to_bits();
    let value = if magnitude == 0x7F { 0x7FC0_0000 } else { value };
    f32::from_bits(value | (code & 0x80) << 24)
}

/// Moves exponent and mantissa into place; the product makes subnormals right and is exact.
#[inline(always)]
fn rescale<const MAN: u32, const BIAS: i32>(magnitude: u32) -> f32 {
    let factor = f32::from_bits(((127 + 127 - BIAS) as u32) << 23);
    f32::from_bits(magnitude << (23 - MAN)) * factor
}

const fn top_exponent<const MAN: u32>(width: u32) -> u32 {
    ((1 << (width - 1 - MAN)) - 1) << MAN
}

/// The magnitude bits of |x| in a small float, rounded to nearest even, without a look at overflow or NaN.
#[inline(always)]
fn round<const MAN: u32, const BIAS: i32>(magnitude: u32) -> u32 {
    let shift = 23 - MAN;
    let odd = (magnitude >> shift) & 1;
    let rebias = ((BIAS - 127) as u32) << 23;
    let normal = magnitude.wrapping_add(rebias).wrapping_add((1 << (shift - 1)) - 1).wrapping_add(odd) >> shift;
    // Adding a power of two whose last place is the smallest subnormal rounds to a multiple of it.
    let anchor = f32::from_bits(((127 + 1 - BIAS - MAN as i32 + 23) as u32) << 23);
    let subnormal = (f32::from_bits(magnitude) + anchor).to_bits().wrapping_sub(anchor.to_bits());
    if magnitude < ((128 - BIAS) as u32) << 23 { subnormal } else { normal }
}

/// Encodes into a small float with infinities; every NaN becomes the quiet one without a sign.
#[inline(always)]
pub fn encode_ieee<const MAN: u32, const BIAS: i32>(value: f32, width: u32) -> u32 {
    let bits = value.to_bits();
    let magnitude = bits & 0x7FFF_FFFF;
    let infinity = top_exponent::<MAN>(width);
    let code = round::<MAN, BIAS>(magnitude);
    let code = if magnitude >= ((128 + BIAS) as u32) << 23 { infinity } else { code };
    let code = code | (bits >> 31) << (width - 1);
    if magnitude > 0x7F80_0000 { infinity | 1 << (MAN - 1) } else { code }
}

/// Encodes into F8_E4M3; what rounds above 448 becomes NaN, as in ml_dtypes.
#[inline(always)]
pub fn encode_e4m3(value: f32) -> u8 {
    let bits = value.to_bits();
    let magnitude = bits & 0x7FFF_FFFF;
    let code = round::<3, 7>(magnitude);
    let sign = (bits >> 31) << 7;
    // 464 lies halfway between 448 and the code that is NaN, and rounds to the even 448.
    let overflow = magnitude > 464f32.to_bits();
    let code = if overflow { 0x7F | sign } else { code | sign };
    (if magnitude > 0x7F80_0000 { 0x7F } else { code }) as u8
}

#[inline(always)]
pub fn decode_bf16(code: u16) -> f32 {
    f32::from_bits(u32::from(code) << 16)
}

#[inline(always)]
pub fn encode_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if bits & 0x7FFF_FFFF > 0x7F80_0000 { 0x7FC0 } else { round_to_bf16(bits) }
}

/// The bits of an f32 that is not NaN, rounded to nearest even.
#[inline(always)]
pub fn round_to_bf16(bits: u32) -> u16 {
    (bits.wrapping_add(0x7FFF).wrapping_add((bits >> 16) & 1) >> 16) as u16
}

/// The float32 next to zero from `value`, with its last bit set if anything was cut off: rounding it once more, to a
/// type at least two bits narrower, gives the same as rounding `value` itself.
#[inline(always)]
pub fn to_odd(value: f64) -> f32 {
    let near = value as f32;
    if f64::from(near) == value || value.is_nan() {
        return near;
    }
    let bits = near.to_bits();
    let toward_zero = if f64::from(near).abs() > value.abs() { bits - 1 } else { bits };
    f32::from_bits(toward_zero | 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_decodes_as_the_half_crate_says() {
        for code in 0..=u16::MAX {
            let ours = decode_ieee::<10, 15>(u32::from(code), 16);
            let theirs = half::f16::from_bits(code).to_f32();
            assert!(ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()), "{code:#x}");
        }
    }

    /// All values with a short mantissa tail, around every rounding boundary of the narrow types.
    fn probes() -> impl Iterator<Item = f32> {
        (0..=u16::MAX).flat_map(|high| {
            [0u32, 1, 0x7FF, 0x0FFF, 0x1000, 0x1001, 0x7FFF, 0x8000, 0x8001, 0xFFFF]
                .map(|low| f32::from_bits(u32::from(high) << 16 | low))
        })
    }

    #[test]
    fn encoding_rounds_to_nearest_even() {
        for value in probes() {
            let (f16, bf16) = (encode_ieee::<10, 15>(value, 16) as u16, encode_bf16(value));
            if value.is_nan() {
                assert_eq!((f16, bf16), (0x7E00, 0x7FC0));
            } else {
                assert_eq!(f16, half::f16::from_f32(value).to_bits(), "{value:e}");
                assert_eq!(bf16, half::bf16::from_f32(value).to_bits(), "{value:e}");
            }
        }
    }

    /// Nearest code by search over all codes, ties to the even one.
    fn nearest(value: f32, decode: impl Fn(u8) -> f32) -> u8 {
        let sign = u8::from(value.is_sign_negative()) << 7;
        let distance = |code: u8| (f64::from(decode(code)) - f64::from(value.abs())).abs();
        let finite = (0..0x80).filter(|&code| decode(code).is_finite());
        sign | finite.min_by(|&a, &b| distance(a).total_cmp(&distance(b)).then((a & 1).cmp(&(b & 1)))).unwrap()
    }

    #[test]
    fn eight_bit_floats_round_to_the_nearest_code() {
        let e5m2 = |code: u8| decode_ieee::<2, 15>(u32::from(code), 8);
        for value in probes().filter(|value| value.is_finite()).step_by(7) {
            if value.abs() <= 448.0 {
                assert_eq!(encode_e4m3(value), nearest(value, decode_e4m3), "e4m3 {value:e}");
            }
            if value.abs() <= 57344.0 {
                assert_eq!(encode_ieee::<2, 15>(value, 8) as u8, nearest(value, e5m2), "e5m2 {value:e}");
            }
        }
        assert_eq!([464.0, 464.1, -1e9].map(encode_e4m3), [0x7E, 0x7F, 0xFF]);
        assert_eq!([61439.9, 61440.0, -1e9].map(|v| encode_ieee::<2, 15>(v, 8)), [0x7B, 0x7C, 0xFC]);
    }

    #[test]
    fn every_code_survives_a_round_trip() {
        for code in 0..=u8::MAX {
            let value = decode_e4m3(code);
            assert_eq!(encode_e4m3(value), if value.is_nan() { 0x7F } else { code });
            let value = decode_ieee::<2, 15>(u32::from(code), 8);
            assert_eq!(encode_ieee::<2, 15>(value, 8) as u8, if value.is_nan() { 0x7E } else { code });
        }
    }

    #[test]
    fn a_double_is_rounded_once() {
        // Rounded to f32 first, this would become a tie and go the wrong way.
        let value = 1.0 + f64::from(f32::EPSILON) / 4.0 + 1.0 / 256.0;
        assert_eq!(encode_bf16(value as f32), 0x3F80);
        assert_eq!(encode_bf16(to_odd(value)), 0x3F81);
        assert_eq!(to_odd(1e300).to_bits(), f32::MAX.to_bits());
        assert!(to_odd(f64::NAN).is_nan());
    }
}
