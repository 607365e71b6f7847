//! One look at a block of entries on the way to the k-th largest: how many lie above a bracket, and which within.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;

use super::level::{Level, Set};
use super::real::Real;
use crate::dtype::Dtype;

/// The keys from `low` up to but not including `high`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bracket<K> {
    pub low: K,
    pub high: K,
}

/// What a scan found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Keys at or above the bracket.
    pub above: usize,
    /// Keys within it.
    pub within: usize,
}

/// Room that a scan may write past the keys it found.
pub const SLACK: usize = 16;

/// A type whose entries can be scanned.
pub trait Scan: Real {
    /// Counts the keys above the bracket and writes those within it to the front of `keys`, in order. `keys` is at
    /// least [`SLACK`] longer than `x`.
    fn scan(level: Level, x: &[Self], bracket: Bracket<Self::Bits>, keys: &mut [Self::Bits]) -> Found;

    /// Whether [`scan_stored`](Self::scan_stored) takes entries of this type; otherwise they have to be decoded first.
    fn scans_stored(_: Level, _: Dtype) -> bool {
        false
    }

    /// The same of the differences between entries as they are stored.
    fn scan_stored(_: Level, dtype: Dtype, _: Stored<'_>, _: Bracket<Self::Bits>, _: &mut [Self::Bits]) -> Found {
        unreachable!("{dtype} has to be decoded first")
    }
}

/// Entries of a base and of a model, both as they are stored.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'b> {
    pub base: &'b [u8],
    pub tuned: &'b [u8],
}

impl Scan for f32 {
    fn scan(level: Level, x: &[Self], bracket: Bracket<u32>, keys: &mut [u32]) -> Found {
        assert!(keys.len() >= x.len() + SLACK, "no room for the keys");
        match level.0 {
            // SAFETY: a `Level` exists only where the machine was found to have its instructions, and `keys` has room
            // for all of `x` and one register more.
            #[cfg(target_arch = "x86_64")]
            Set::Avx512 => unsafe { avx512::scan(x, bracket, keys) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Set::Avx2 => unsafe { avx2::scan(x, bracket, keys) },
            _ => scan(x, bracket, keys),
        }
    }

    fn scans_stored(level: Level, dtype: Dtype) -> bool {
        level.0 == Set::Avx512 && dtype == Dtype::BF16
    }

    #[cfg(target_arch = "x86_64")]
    fn scan_stored(level: Level, dtype: Dtype, stored: Stored<'_>, bracket: Bracket<u32>, keys: &mut [u32]) -> Found {
        assert!(Self::scans_stored(level, dtype), "{dtype} has to be decoded first");
        let (base, tuned) = (stored.base.as_chunks().0, stored.tuned.as_chunks().0);
        assert!(base.len() == tuned.len() && keys.len() >= tuned.len() + SLACK, "no room for the keys");
        // SAFETY: a `Level` exists only where the machine was found to have its instructions, both inputs are of one
        // length, and `keys` has room for all entries and one register more.
        unsafe { avx512::scan_bf16(base, tuned, bracket, keys) }
    }
}

impl Scan for f64 {
    fn scan(_: Level, x: &[Self], bracket: Bracket<u64>, keys: &mut [u64]) -> Found {
        scan(x, bracket, keys)
    }
}

/// The plain form, without branches: every key is written, and the end moves only for those that stay.
fn scan<R: Real>(x: &[R], bracket: Bracket<R::Bits>, keys: &mut [R::Bits]) -> Found {
    let mut found = Found::default();
    for x in x {
        let key = x.key();
        let above = key >= bracket.high;
        found.above += usize::from(above);
        keys[found.within] = key;
        found.within += usize::from(!above & (key >= bracket.low));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_level_finds_the_same(
            bits in prop::collection::vec(prop_oneof![any::<u32>(), 0u32..8, 0x7F80_0000u32..0x7F80_0008], 0..200),
            low in 0u32..0x7F80_0004, width in 0u32..0x7F80_0004,
        ) {
            let x: Vec<f32> = bits.iter().map(|&bits| f32::from_bits(bits)).collect();
            let bracket = Bracket { low, high: low.saturating_add(width) };
            let keys: Vec<u32> = bits.iter().map(|bits| (bits & 0x7FFF_FFFF).min(0x7F80_0001)).collect();
            let within: Vec<u32> = keys.iter().copied().filter(|&key| key >= low && key < bracket.high).collect();
            let above = keys.iter().filter(|&&key| key >= bracket.high).count();
            for level in Level::available() {
                let mut found = vec![0; x.len() + SLACK];
                let result = f32::scan(level, &x, bracket, &mut found);
                prop_assert_eq!(result, Found { above, within: within.len() });
                prop_assert_eq!(&found[..result.within], &within[..]);
            }
        }

        #[test]
        fn differences_of_stored_entries_are_scanned_as_decoded_ones(
            codes in prop::collection::vec((any::<u16>(), prop_oneof![any::<u16>(), 0x3F00u16..0x3F40]), 0..100),
            same in 0usize..20, low in 0u32..0x7F80_0004, width in 0u32..0x7F80_0004,
        ) {
            let codes: Vec<(u16, u16)> =
                codes.into_iter().enumerate().map(|(i, (a, b))| if i % 20 < same { (b ^ 3, b) } else { (a, b) }).collect();
            let bytes = |side: fn(&(u16, u16)) -> u16| codes.iter().flat_map(|pair| side(pair).to_le_bytes()).collect();
            let (base, tuned): (Vec<u8>, Vec<u8>) = (bytes(|pair| pair.0), bytes(|pair| pair.1));
            let wide = |code: u16| f32::from_bits(u32::from(code) << 16);
            let x: Vec<f32> = codes.iter().map(|&(a, b)| wide(b) - wide(a)).collect();
            let bracket = Bracket { low, high: low.saturating_add(width) };
            for level in Level::available() {
                let (mut expected, mut found) = (vec![0; x.len() + SLACK], vec![0; x.len() + SLACK]);
                let wanted = f32::scan(level, &x, bracket, &mut expected);
                let stored = Stored { base: &base, tuned: &tuned };
                prop_assert_eq!(f32::scans_stored(level, Dtype::BF16), level.name() == "avx512");
                if f32::scans_stored(level, Dtype::BF16) {
                    let result = f32::scan_stored(level, Dtype::BF16, stored, bracket, &mut found);
                    prop_assert_eq!(result, wanted);
                    prop_assert_eq!(&found[..result.within], &expected[..wanted.within]);
                }
            }
        }
    }
}
