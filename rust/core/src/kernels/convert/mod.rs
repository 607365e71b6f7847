//! Stored bytes to the type of the arithmetic and back. f32 is the hub: n types need 2n conversions, and one rounding.

pub mod formats;

use super::level::{Level, multiversion};
use super::real::{Key, Real};
use super::stored::Block;
use crate::dtype::Dtype;
use formats::{decode_bf16, decode_e4m3, decode_ieee, encode_bf16, encode_e4m3, encode_ieee, to_odd};

/// A type that tiles can be loaded into and stored from.
pub trait Element: Real {
    /// What it is stored as.
    const DTYPE: Dtype;
    /// Decodes `bytes`, as many elements as `out` has. Says whether any is infinite or NaN.
    fn load(level: Level, dtype: Dtype, bytes: &[u8], out: &mut [Self]) -> bool;
    /// Decodes `bytes` and takes `base` away from each element. Says whether any difference is infinite or NaN.
    fn load_delta(level: Level, dtype: Dtype, bytes: &[u8], base: &[Self], out: &mut [Self]) -> bool;
    /// Encodes `values`, rounding once to nearest even. Says whether any code is infinite or NaN.
    fn store(level: Level, dtype: Dtype, values: &[Self], out: &mut [u8]) -> bool;
    /// Whether [`merge_stored`](Self::merge_stored) knows a type.
    fn merges_stored(_: Dtype) -> bool {
        false
    }
    /// Merges stored entries in one go; false, with `out` undefined, where the steps have to be taken one by one.
    fn merge_stored<const N: usize>(_: Level, _: Dtype, _: &Block<'_, Self, N>, _: &mut [u8]) -> bool {
        false
    }
}

/// Elements that need no decoding, where they lie; `None` where they do.
pub fn native<R: Element>(dtype: Dtype, bytes: &[u8]) -> Option<&[R]> {
    if dtype != R::DTYPE || cfg!(target_endian = "big") {
        return None;
    }
    // SAFETY: every bit pattern is a value of f32 and of f64, the two types that are elements.
    let (before, elements, behind) = unsafe { bytes.align_to::<R>() };
    (before.is_empty() && behind.is_empty()).then_some(elements)
}

/// Bytes of one element of `dtype`, decoded on its own; for counting and for tests.
fn is_finite(dtype: Dtype, bytes: &[u8]) -> bool {
    let mut value = [0f64];
    !f64::load(Level::SCALAR, dtype, bytes, &mut value)
}

/// Infinite and NaN elements among `bytes`, counted one by one: called where a quick look found some.
pub fn count_special(dtype: Dtype, bytes: &[u8]) -> (u64, u64) {
    let (mut infinite, mut nan) = (0, 0);
    let mut value = [0f64];
    for code in bytes.chunks_exact(dtype.size()) {
        f64::load(Level::SCALAR, dtype, code, &mut value);
        infinite += u64::from(value[0].is_infinite());
        nan += u64::from(value[0].is_nan());
    }
    (infinite, nan)
}

/// Finite values whose code in `dtype` is not finite.
pub fn count_overflow<R: Real>(dtype: Dtype, values: &[R], codes: &[u8]) -> u64 {
    let codes = codes.chunks_exact(dtype.size());
    values.iter().zip(codes).filter(|(value, code)| value.to_f64().is_finite() && !is_finite(dtype, code)).count()
        as u64
}

impl Element for f32 {
    const DTYPE: Dtype = Dtype::F32;

    fn load(level: Level, dtype: Dtype, bytes: &[u8], out: &mut [Self]) -> bool {
        match dtype {
            Dtype::F32 => load_f32(level, bytes, out),
            Dtype::BF16 => load_bf16(level, bytes, out),
            Dtype::F16 => load_f16(level, bytes, out),
            Dtype::F8E4M3 => load_e4m3(level, bytes, out),
            Dtype::F8E5M2 => load_e5m2(level, bytes, out),
            // F64 inputs are computed in f64; the planner lets nothing else come here.
            _ => unreachable!("no arithmetic in f32 on {dtype}"),
        }
    }

    fn load_delta(level: Level, dtype: Dtype, bytes: &[u8], base: &[Self], out: &mut [Self]) -> bool {
        match dtype {
            Dtype::F32 => delta_f32(level, bytes, base, out),
            Dtype::BF16 => delta_bf16(level, bytes, base, out),
            _ => {
                Self::load(level, dtype, bytes, out);
                subtract(level, out, base)
            }
        }
    }

    fn store(level: Level, dtype: Dtype, values: &[Self], out: &mut [u8]) -> bool {
        match dtype {
            Dtype::F64 => store_f64_from_f32(level, values, out),
            Dtype::F32 => store_f32(level, values, out),
            Dtype::BF16 => store_bf16(level, values, out),
            Dtype::F16 => store_f16(level, values, out),
            Dtype::F8E4M3 => store_e4m3(level, values, out),
            Dtype::F8E5M2 => store_e5m2(level, values, out),
            _ => unreachable!("no arithmetic on {dtype}"),
        }
    }

    fn merges_stored(dtype: Dtype) -> bool {
        matches!(dtype, Dtype::BF16 | Dtype::F32)
    }

    fn merge_stored<const N: usize>(level: Level, dtype: Dtype, block: &Block<'_, Self, N>, out: &mut [u8]) -> bool {
        block.merge(level, dtype, out)
    }
}

/// Elements that pass through f32 on their way from or to f64.
const STEP: usize = 256;

impl Element for f64 {
    const DTYPE: Dtype = Dtype::F64;

    fn load(level: Level, dtype: Dtype, bytes: &[u8], out: &mut [Self]) -> bool {
        if dtype == Dtype::F64 {
            return load_f64(level, bytes, out);
        }
        let mut narrow = [0f32; STEP];
        let mut special = false;
        for (bytes, out) in bytes.chunks(STEP * dtype.size()).zip(out.chunks_mut(STEP)) {
            let narrow = &mut narrow[..out.len()];
            special |= f32::load(level, dtype, bytes, narrow);
            for (wide, narrow) in out.iter_mut().zip(narrow) {
                *wide = Self::from(*narrow);
            }
        }
        special
    }

    fn load_delta(level: Level, dtype: Dtype, bytes: &[u8], base: &[Self], out: &mut [Self]) -> bool {
        Self::load(level, dtype, bytes, out);
        subtract(level, out, base)
    }

    fn store(level: Level, dtype: Dtype, values: &[Self], out: &mut [u8]) -> bool {
        if dtype == Dtype::F64 {
            return store_f64(level, values, out);
        }
        let mut narrow = [0f32; STEP];
        let mut special = false;
        for (values, out) in values.chunks(STEP).zip(out.chunks_mut(STEP * dtype.size())) {
            let narrow = &mut narrow[..values.len()];
            for (narrow, &wide) in narrow.iter_mut().zip(values) {
                *narrow = if dtype == Dtype::F32 { wide as f32 } else { to_odd(wide) };
            }
            special |= f32::store(level, dtype, narrow, out);
        }
        special
    }
}

macro_rules! loader {
    ($name:ident, $real:ty, $code:ty, $decode:expr) => {
        multiversion! {
            fn $name(bytes: &[u8], out: &mut [$real]) -> bool {
                let mut largest = <$real as Real>::ZERO.bits();
                for (out, code) in out.iter_mut().zip(bytes.chunks_exact(size_of::<$code>())) {
                    let mut raw = [0; size_of::<$code>()];
                    raw.copy_from_slice(code);
                    let value: $real = $decode(<$code>::from_le_bytes(raw));
                    largest = largest.max(value.bits() & !<$real as Real>::SIGN);
                    *out = value;
                }
                largest >= <$real as Real>::NAN_KEY - 1
            }
        }
    };
}

loader!(load_f64, f64, u64, f64::from_bits);
loader!(load_f32, f32, u32, f32::from_bits);
loader!(load_bf16, f32, u16, decode_bf16);
loader!(load_f16, f32, u16, |code| decode_ieee::<10, 15>(u32::from(code), 16));
loader!(load_e4m3, f32, u8, decode_e4m3);
loader!(load_e5m2, f32, u8, |code| decode_ieee::<2, 15>(u32::from(code), 8));

macro_rules! delta_loader {
    ($name:ident, $code:ty, $decode:expr) => {
        multiversion! {
            fn $name(bytes: &[u8], base: &[f32], out: &mut [f32]) -> bool {
                let mut largest = 0;
                for ((out, &base), code) in out.iter_mut().zip(base).zip(bytes.chunks_exact(size_of::<$code>())) {
                    let mut raw = [0; size_of::<$code>()];
                    raw.copy_from_slice(code);
                    let delta = $decode(<$code>::from_le_bytes(raw)) - base;
                    largest = largest.max(delta.to_bits() & !f32::SIGN);
                    *out = delta;
                }
                largest >= f32::NAN_KEY - 1
            }
        }
    };
}

delta_loader!(delta_f32, u32, f32::from_bits);
delta_loader!(delta_bf16, u16, decode_bf16);

multiversion! {
    /// x ← x − base. Says whether any difference is infinite or NaN.
    fn subtract<R: Real>(x: &mut [R], base: &[R]) -> bool {
        let mut largest = R::Bits::ZERO;
        for (x, &base) in x.iter_mut().zip(base) {
            *x = *x - base;
            let key = x.key();
            largest = if key > largest { key } else { largest };
        }
        largest.to_u64() >= R::NAN_KEY.to_u64() - 1
    }
}

macro_rules! storer {
    ($name:ident, $real:ty, $code:ty, $special:expr, $encode:expr) => {
        multiversion! {
            fn $name(values: &[$real], out: &mut [u8]) -> bool {
                let mut largest = 0;
                for (out, &value) in out.chunks_exact_mut(size_of::<$code>()).zip(values) {
                    let code: $code = $encode(value);
                    largest = largest.max(code & (<$code>::MAX >> 1));
                    out.copy_from_slice(&code.to_le_bytes());
                }
                largest >= $special
            }
        }
    };
}

storer!(store_f64, f64, u64, <f64 as Real>::NAN_KEY - 1, |value: f64| if value.is_nan() {
    <f64 as Real>::NAN.to_bits()
} else {
    value.to_bits()
});
storer!(store_f64_from_f32, f32, u64, <f64 as Real>::NAN_KEY - 1, |value: f32| if value.is_nan() {
    <f64 as Real>::NAN.to_bits()
} else {
    f64::from(value).to_bits()
});
storer!(store_f32, f32, u32, <f32 as Real>::NAN_KEY - 1, |value: f32| if value.is_nan() {
    <f32 as Real>::NAN.to_bits()
} else {
    value.to_bits()
});
storer!(store_bf16, f32, u16, 0x7F80, encode_bf16);
storer!(store_f16, f32, u16, 0x7C00, |value| encode_ieee::<10, 15>(value, 16) as u16);
storer!(store_e4m3, f32, u8, 0x7F, encode_e4m3);
storer!(store_e5m2, f32, u8, 0x7C, |value| encode_ieee::<2, 15>(value, 8) as u8);
