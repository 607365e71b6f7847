//! The two types that arithmetic is done in: f32, and f64 where an input is F64.

use std::fmt::Debug;
use std::ops::{Add, AddAssign, BitAnd, BitOr, BitXor, Div, Mul, Neg, Not, Sub};

/// The bits of a magnitude: ordered as the magnitudes are.
pub trait Key:
    Copy
    + Ord
    + Debug
    + Send
    + Sync
    + 'static
    + BitAnd<Output = Self>
    + BitOr<Output = Self>
    + BitXor<Output = Self>
    + Not<Output = Self>
{
    const ZERO: Self;
    const MAX: Self;
    fn to_u64(self) -> u64;
    /// The low bits of `value`.
    fn of(value: u64) -> Self;
}

impl Key for u32 {
    const ZERO: Self = 0;
    const MAX: Self = Self::MAX;
    #[inline(always)]
    fn to_u64(self) -> u64 {
        u64::from(self)
    }
    #[inline(always)]
    fn of(value: u64) -> Self {
        value as Self
    }
}

impl Key for u64 {
    const ZERO: Self = 0;
    const MAX: Self = Self::MAX;
    #[inline(always)]
    fn to_u64(self) -> u64 {
        self
    }
    #[inline(always)]
    fn of(value: u64) -> Self {
        value
    }
}

pub trait Real:
    Copy
    + Debug
    + PartialEq
    + PartialOrd
    + Send
    + Sync
    + 'static
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
{
    type Bits: Key;
    const ZERO: Self;
    const ONE: Self;
    const NAN: Self;
    const SIGN: Self::Bits;
    /// The magnitude of every NaN: the largest of all.
    const NAN_KEY: Self::Bits;
    fn bits(self) -> Self::Bits;
    fn from_bits(bits: Self::Bits) -> Self;
    fn of(value: f64) -> Self;
    fn to_f64(self) -> f64;
    /// self·factor + term with one rounding.
    fn mul_add(self, factor: Self, term: Self) -> Self;

    /// What a trim compares: the bits of |x|, with all NaN equal and above infinity.
    #[inline(always)]
    fn key(self) -> Self::Bits {
        let magnitude = self.bits() & !Self::SIGN;
        if magnitude > Self::NAN_KEY { Self::NAN_KEY } else { magnitude }
    }

    #[inline(always)]
    fn is_negative(self) -> bool {
        self.bits() & Self::SIGN != Self::Bits::ZERO
    }

    #[inline(always)]
    fn abs(self) -> Self {
        Self::from_bits(self.bits() & !Self::SIGN)
    }

    /// The sum of signs counts with this: −1, 0 or 1 (0 for NaN).
    #[inline(always)]
    fn signum_or_zero(self) -> Self {
        let plus = if self > Self::ZERO { Self::ONE } else { Self::ZERO };
        if self < Self::ZERO { -Self::ONE } else { plus }
    }
}

impl Real for f32 {
    type Bits = u32;
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const NAN: Self = Self::from_bits(0x7FC0_0000);
    const SIGN: u32 = 0x8000_0000;
    const NAN_KEY: u32 = 0x7F80_0001;
    #[inline(always)]
    fn bits(self) -> u32 {
        self.to_bits()
    }
    #[inline(always)]
    fn from_bits(bits: u32) -> Self {
        Self::from_bits(bits)
    }
    #[inline(always)]
    fn of(value: f64) -> Self {
        value as Self
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        self.mul_add(factor, term)
    }
}

impl Real for f64 {
    type Bits = u64;
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const NAN: Self = Self::from_bits(0x7FF8_0000_0000_0000);
    const SIGN: u64 = 0x8000_0000_0000_0000;
    const NAN_KEY: u64 = 0x7FF0_0000_0000_0001;
    #[inline(always)]
    fn bits(self) -> u64 {
        self.to_bits()
    }
    #[inline(always)]
    fn from_bits(bits: u64) -> Self {
        Self::from_bits(bits)
    }
    #[inline(always)]
    fn of(value: f64) -> Self {
        value
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }
    #[inline(always)]
    fn mul_add(self, factor: Self, term: Self) -> Self {
        self.mul_add(factor, term)
    }
}
