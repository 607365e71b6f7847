//! Merges of stored entries in one go: decoded, taken apart, dropped, elected and encoded again in registers.
//!
//! The same operations in the same order as [`load_delta`](super::convert::Element::load_delta),
//! [`drop_rescale`](super::random::drop_rescale), [`merge_agreeing`](super::consensus::merge_agreeing) and
//! [`store`](super::convert::Element::store) one by one, so that both ways give the same bits. What is not finite is
//! left to those.

use super::consensus::Voter;
use super::convert::formats::{decode_bf16, round_to_bf16};
use super::level::{Level, multiversion};
use super::real::Real;
use crate::dtype::Dtype;

/// What stays of a model's entries.
#[derive(Clone, Copy, Debug)]
pub enum Drops<R: Real, const N: usize> {
    /// Those whose key is not below the voter's `low`.
    Smallest,
    /// Those whose number says so.
    Random([RandomDrop<R>; N]),
}

/// Keeps an entry, times `scale`, where its number is below `below`, or always.
#[derive(Clone, Copy, Debug)]
pub struct RandomDrop<R: Real> {
    below: u32,
    all: bool,
    scale: R,
}

impl<R: Real> RandomDrop<R> {
    /// `below` counts the numbers that mean "keep", up to 2³², which keeps everything.
    pub fn new(below: u64, scale: R) -> Self {
        Self { below: below as u32, all: below > u64::from(u32::MAX), scale }
    }
}

/// Entries of a base and of N models that lie at the same places, and how they are merged.
#[derive(Clone, Copy, Debug)]
pub struct Block<'b, R: Real, const N: usize> {
    pub base: &'b [u8],
    pub models: [&'b [u8]; N],
    /// A random number for each entry of each model; empty where nothing is dropped at random.
    pub numbers: [&'b [u32]; N],
    pub drops: Drops<R, N>,
    pub voters: [Voter<R>; N],
    /// The sign where a vote is exactly zero.
    pub zero: R,
    pub divides: bool,
    pub lambda: R,
}

impl<const N: usize> Block<'_, f32, N> {
    /// out ← base + λ·Σ{factor·x : x agrees} [/ Σ{share}]. False, with `out` undefined, where a delta or a result is
    /// not finite, or `dtype` is not known.
    pub fn merge(&self, level: Level, dtype: Dtype, out: &mut [u8]) -> bool {
        match (dtype, self.drops) {
            (Dtype::BF16, Drops::Smallest) => merge_stored(level, Bf16, self, [Largest; N], out),
            (Dtype::BF16, Drops::Random(drops)) => merge_stored(level, Bf16, self, drops, out),
            (Dtype::F32, Drops::Smallest) => merge_stored(level, F32, self, [Largest; N], out),
            (Dtype::F32, Drops::Random(drops)) => merge_stored(level, F32, self, drops, out),
            _ => false,
        }
    }
}

/// A stored type and its arithmetic.
trait Code: Copy {
    type Raw: Copy;
    fn entries(bytes: &[u8]) -> &[Self::Raw];
    fn entries_mut(bytes: &mut [u8]) -> &mut [Self::Raw];
    /// The smallest magnitude whose code is not finite, as bits.
    const OVERFLOW: u32;
    fn decode(raw: Self::Raw) -> f32;
    /// Of values below [`OVERFLOW`](Self::OVERFLOW).
    fn encode(value: f32) -> Self::Raw;
}

#[derive(Clone, Copy)]
struct Bf16;

impl Code for Bf16 {
    type Raw = [u8; 2];
    // Halfway between the largest number and what would be the next: a tie, and the largest is odd.
    const OVERFLOW: u32 = 0x7F7F_8000;
    #[inline(always)]
    fn entries(bytes: &[u8]) -> &[[u8; 2]] {
        bytes.as_chunks().0
    }
    #[inline(always)]
    fn entries_mut(bytes: &mut [u8]) -> &mut [[u8; 2]] {
        bytes.as_chunks_mut().0
    }
    #[inline(always)]
    fn decode(raw: [u8; 2]) -> f32 {
        decode_bf16(u16::from_le_bytes(raw))
    }
    #[inline(always)]
    fn encode(value: f32) -> [u8; 2] {
        round_to_bf16(value.to_bits()).to_le_bytes()
    }
}

#[derive(Clone, Copy)]
struct F32;

impl Code for F32 {
    type Raw = [u8; 4];
    const OVERFLOW: u32 = INFINITE;
    #[inline(always)]
    fn entries(bytes: &[u8]) -> &[[u8; 4]] {
        bytes.as_chunks().0
    }
    #[inline(always)]
    fn entries_mut(bytes: &mut [u8]) -> &mut [[u8; 4]] {
        bytes.as_chunks_mut().0
    }
    #[inline(always)]
    fn decode(raw: [u8; 4]) -> f32 {
        f32::from_le_bytes(raw)
    }
    #[inline(always)]
    fn encode(value: f32) -> [u8; 4] {
        value.to_le_bytes()
    }
}

/// What a drop leaves of an entry, with its weight.
trait Drop: Copy {
    const RANDOM: bool;
    fn weighted(self, delta: f32, number: u32, voter: Voter<f32>) -> f32;
}

#[derive(Clone, Copy)]
struct Largest;

impl Drop for Largest {
    const RANDOM: bool = false;
    #[inline(always)]
    fn weighted(self, delta: f32, _: u32, voter: Voter<f32>) -> f32 {
        // No NaN gets through this kernel, so that the bare magnitude orders.
        let magnitude = delta.to_bits() & !f32::SIGN;
        if magnitude >= voter.low { voter.weight * delta } else { 0.0 }
    }
}

impl Drop for RandomDrop<f32> {
    const RANDOM: bool = true;
    #[inline(always)]
    fn weighted(self, delta: f32, number: u32, voter: Voter<f32>) -> f32 {
        voter.weight * if self.all | (number < self.below) { delta * self.scale } else { 0.0 }
    }
}

/// The key of infinity: the smallest of what is not finite.
const INFINITE: u32 = f32::NAN_KEY - 1;

// The kernel takes its arguments apart: through a reference, the compiler would read them again for each entry.
fn merge_stored<C: Code, D: Drop, const N: usize>(
    level: Level,
    code: C,
    block: &Block<'_, f32, N>,
    drops: [D; N],
    out: &mut [u8],
) -> bool {
    let out = C::entries_mut(out);
    let len = out.len();
    let models = block.models.map(|bytes| &C::entries(bytes)[..len]);
    let numbers = block.numbers.map(|numbers| if D::RANDOM { &numbers[..len] } else { numbers });
    let base = &C::entries(block.base)[..len];
    merge_entries(
        level,
        code,
        base,
        models,
        numbers,
        drops,
        block.voters,
        block.zero,
        block.divides,
        block.lambda,
        out,
    )
}

multiversion! {
    /// Merges, and says whether all deltas and results are finite.
    fn merge_entries<C: Code, D: Drop; const N>(
        code: C,
        base: &[C::Raw],
        models: [&[C::Raw]; N],
        numbers: [&[u32]; N],
        drops: [D; N],
        voters: [Voter<f32>; N],
        zero: f32,
        divides: bool,
        lambda: f32,
        out: &mut [C::Raw],
    ) -> bool {
        let _ = code;
        let len = out.len();
        let models = models.map(|x| &x[..len]);
        let numbers = numbers.map(|x| if D::RANDOM { &x[..len] } else { x });
        let base = &base[..len];
        let (mut largest, mut largest_merged) = (0, 0);
        for (j, (out, &base)) in out.iter_mut().zip(base).enumerate() {
            let below = C::decode(base);
            let mut x = [0f32; N];
            let mut vote = 0f32;
            for i in 0..N {
                // SAFETY: all are as long as `out`. A check that stays in the loop takes its last round out of registers.
                let model = unsafe { *models[i].get_unchecked(j) };
                let delta = C::decode(model) - below;
                largest = largest.max(delta.to_bits() & !f32::SIGN);
                // SAFETY: as above.
                let number = if D::RANDOM { unsafe { *numbers[i].get_unchecked(j) } } else { 0 };
                x[i] = drops[i].weighted(delta, number, voters[i]);
                vote += x[i];
            }
            let sign = if vote < 0.0 { -1.0 } else { 1.0 };
            let sign = if vote == 0.0 { zero } else { sign };
            let (mut sum, mut divisor) = (0f32, 0f32);
            for i in 0..N {
                let agrees = x[i] * sign > 0.0;
                sum += if agrees { voters[i].factor * x[i] } else { 0.0 };
                divisor += if agrees { voters[i].share } else { 0.0 };
            }
            let divisor = if !divides | (divisor == 0.0) { 1.0 } else { divisor };
            let merged = below + lambda * (sum / divisor);
            largest_merged = largest_merged.max(merged.to_bits() & !f32::SIGN);
            *out = C::encode(merged);
        }
        (largest < INFINITE) & (largest_merged < C::OVERFLOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::consensus::merge_agreeing;
    use crate::kernels::convert::Element;
    use crate::kernels::random::drop_rescale;
    use proptest::prelude::*;

    /// Models at the most.
    const MOST: usize = 5;

    /// The merge step by step, and whether everything in it was finite.
    fn by_steps<const N: usize>(
        level: Level,
        dtype: Dtype,
        block: &Block<'_, f32, N>,
        belows: [u64; MOST],
        out: &mut [u8],
    ) -> bool {
        let len = out.len() / dtype.size();
        let (mut base, mut merged) = (vec![0f32; len], vec![0f32; len]);
        f32::load(level, dtype, block.base, &mut base);
        let mut special = false;
        let deltas: [Vec<f32>; N] = std::array::from_fn(|model| {
            let mut x = vec![0f32; len];
            special |= f32::load_delta(level, dtype, block.models[model], &base, &mut x);
            if let Drops::Random(drops) = block.drops {
                drop_rescale(level, &mut x, block.numbers[model], belows[model], drops[model].scale);
            }
            x
        });
        let (deltas, voters) = (std::array::from_fn(|model| &deltas[model][..]), block.voters);
        merge_agreeing::<f32, N>(level, deltas, voters, block.zero, block.divides, &base, block.lambda, &mut merged);
        !(special | f32::store(level, dtype, &merged, out))
    }

    fn values() -> impl Strategy<Value = f32> {
        prop_oneof![
            6 => (-40i32..40).prop_map(|x| x as f32 / 16.0),
            2 => any::<u32>().prop_map(f32::from_bits),
            1 => prop_oneof![Just(0.0), Just(-0.0), Just(f32::MAX), Just(3.39e38), Just(-3.39e38), Just(1e-40)],
        ]
    }

    /// One merge, but for the count of its models.
    #[derive(Clone, Debug)]
    struct Case {
        dtype: Dtype,
        /// The base and the models, as they are stored.
        stored: Vec<Vec<u8>>,
        numbers: Vec<Vec<u32>>,
        belows: [u64; MOST],
        random: bool,
        voters: [Voter<f32>; MOST],
        zero: f32,
        divides: bool,
        lambda: f32,
    }

    impl Case {
        fn check<const N: usize>(&self) -> Result<(), TestCaseError> {
            let drops = std::array::from_fn(|i| RandomDrop::new(self.belows[i], 1.0 + self.voters[i].weight.abs()));
            let block = Block::<'_, f32, N> {
                base: &self.stored[0],
                models: std::array::from_fn(|i| &self.stored[i + 1][..]),
                numbers: std::array::from_fn(|i| if self.random { &self.numbers[i][..] } else { &[][..] }),
                drops: if self.random { Drops::Random(drops) } else { Drops::Smallest },
                voters: std::array::from_fn(|i| self.voters[i]),
                zero: self.zero,
                divides: self.divides,
                lambda: self.lambda,
            };
            for level in Level::available() {
                let (mut expected, mut found) = (self.stored[0].clone(), self.stored[0].clone());
                let all_finite = by_steps(level, self.dtype, &block, self.belows, &mut expected);
                let merged = block.merge(level, self.dtype, &mut found);
                prop_assert_eq!(merged, all_finite, "{:?}, {} models", level, N);
                if merged {
                    prop_assert_eq!(&found, &expected, "{:?}, {} models", level, N);
                }
            }
            Ok(())
        }
    }

    fn voters(random: bool) -> impl Strategy<Value = [Voter<f32>; MOST]> {
        let factor = || prop_oneof![Just(1.0f32), Just(0.5), Just(0.0), -2f32..2.0];
        let voter = (0u32..0x4000_0000, factor(), factor(), factor());
        let low = move |low| if random { 0 } else { low };
        prop::array::uniform5(voter.prop_map(move |(key, weight, factor, share)| Voter {
            low: low(key),
            weight,
            factor,
            share,
        }))
    }

    fn case() -> impl Strategy<Value = Case> {
        let entry = (prop::array::uniform6(values()), any::<[u32; MOST]>());
        let below = prop_oneof![Just(0u64), Just(1 << 32), 0..(1u64 << 32)];
        let ways = (any::<bool>(), any::<bool>(), any::<bool>());
        let numbers = (prop_oneof![Just(1f32), Just(0.0), Just(-1.0)], -2f32..2.0);
        let settings = any::<bool>().prop_flat_map(|random| (Just(random), voters(random)));
        (prop::collection::vec(entry, 0..150), ways, settings, prop::array::uniform5(below), numbers).prop_map(
            |(entries, (finite, wide, divides), (random, voters), belows, (zero, lambda))| {
                let dtype = if wide { Dtype::F32 } else { Dtype::BF16 };
                let tame = |x: f32| if finite && (x.is_nan() || x.abs() >= 1e3) { 1.5 } else { x };
                let bytes = |input: usize| {
                    let values: Vec<f32> = entries.iter().map(|(x, _)| tame(x[input])).collect();
                    let mut bytes = vec![0; values.len() * dtype.size()];
                    f32::store(Level::SCALAR, dtype, &values, &mut bytes);
                    bytes
                };
                Case {
                    dtype,
                    stored: (0..=MOST).map(bytes).collect(),
                    numbers: (0..MOST).map(|i| entries.iter().map(|(_, numbers)| numbers[i]).collect()).collect(),
                    belows,
                    random,
                    voters,
                    zero,
                    divides,
                    lambda,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn it_merges_as_the_steps_do(case in case(), models in 2usize..=MOST) {
            match models {
                2 => case.check::<2>()?,
                3 => case.check::<3>()?,
                4 => case.check::<4>()?,
                _ => case.check::<5>()?,
            }
        }
    }

    #[test]
    fn other_types_are_left_to_the_steps() {
        let voter = Voter { low: 0, weight: 1.0, factor: 1.0, share: 1.0 };
        let block = Block {
            base: &[0, 0],
            models: [&[0, 0]],
            numbers: [&[]],
            drops: Drops::Smallest,
            voters: [voter],
            zero: 1.0,
            divides: true,
            lambda: 1.0,
        };
        assert!(!block.merge(Level::SCALAR, Dtype::F16, &mut [0, 0]));
    }
}
