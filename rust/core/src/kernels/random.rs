//! Random numbers that depend on where they are used and on nothing else: Philox4x32 with 7 rounds.
//!
//! Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). Element `i` of a tensor takes word
//! `(i >> 4) & 3` of the block with counter `(i >> 6)·16 + (i & 15)`: sixteen neighbouring elements lie in sixteen
//! neighbouring counters, so that whole registers are stored as they come.

use super::level::multiversion;
use super::real::Real;

/// The key of a stream: one for each (seed, model, tensor).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamKey(u32, u32);

impl StreamKey {
    /// XXH3-64 over the seed, the model's index and the tensor's name.
    pub fn new(seed: u64, model: u64, tensor: &str) -> Self {
        let mut bytes = Vec::with_capacity(16 + tensor.len());
        bytes.extend(seed.to_le_bytes());
        bytes.extend(model.to_le_bytes());
        bytes.extend(tensor.as_bytes());
        let hash = xxhash_rust::xxh3::xxh3_64(&bytes);
        Self(hash as u32, (hash >> 32) as u32)
    }

    /// The two key words.
    pub fn words(self) -> (u32, u32) {
        (self.0, self.1)
    }
}

const ROUNDS: u32 = 7;
const LOW: u64 = 0xFFFF_FFFF;
/// Elements that share sixteen counters.
const GROUP: usize = 64;

/// Philox4x32-7 of counter words (c0, c1, c2, c3); only the low halves of the words count, in and out.
#[inline(always)]
fn philox(key: StreamKey, mut c: [u64; 4]) -> [u64; 4] {
    let (mut k0, mut k1) = (u64::from(key.0), u64::from(key.1));
    for _ in 0..ROUNDS {
        let p0 = (c[0] & LOW) * 0xD251_1F53;
        let p1 = (c[2] & LOW) * 0xCD9E_8D57;
        c = [(p1 >> 32) ^ c[1] ^ k0, p1, (p0 >> 32) ^ c[3] ^ k1, p0];
        k0 = (k0 + 0x9E37_79B9) & LOW;
        k1 = (k1 + 0xBB67_AE85) & LOW;
    }
    c
}

/// The numbers of elements `64·group` and the 63 behind it.
#[inline(always)]
fn group(key: StreamKey, group: u64, out: &mut [u32; GROUP]) {
    let (w0, rest) = out.split_at_mut(16);
    let (w1, rest) = rest.split_at_mut(16);
    let (w2, w3) = rest.split_at_mut(16);
    for lane in 0..16 {
        let counter = (group << 4) + lane as u64;
        let words = philox(key, [counter, counter >> 32, 0, 0]);
        w0[lane] = words[0] as u32;
        w1[lane] = words[1] as u32;
        w2[lane] = words[2] as u32;
        w3[lane] = words[3] as u32;
    }
}

multiversion! {
    /// The numbers of elements `first`, `first + 1`, … of a tensor.
    pub fn fill(key: StreamKey, first: u64, out: &mut [u32]) {
        let mut numbers = [0; GROUP];
        let skipped = (first % GROUP as u64) as usize;
        let head = (GROUP - skipped) % GROUP;
        let (head, body) = out.split_at_mut(head.min(out.len()));
        let mut at = first / GROUP as u64;
        if !head.is_empty() {
            group(key, at, &mut numbers);
            head.copy_from_slice(&numbers[skipped..skipped + head.len()]);
            at += 1;
        }
        let (groups, tail) = body.as_chunks_mut::<GROUP>();
        for numbers in groups {
            group(key, at, numbers);
            at += 1;
        }
        if !tail.is_empty() {
            group(key, at, &mut numbers);
            tail.copy_from_slice(&numbers[..tail.len()]);
        }
    }
}

/// The count of 32-bit numbers that mean "keep" at this probability: round(p·2³²).
pub fn keep_below(probability: f64) -> u64 {
    // Adding a half and cutting off rounds, and vectorises where `round` would call a function.
    (probability.clamp(0.0, 1.0) * 4_294_967_296.0 + 0.5) as u64
}

multiversion! {
    /// Keeps `deltas[i]`, times `scale`, where `numbers[i] < below`; zero elsewhere.
    pub fn drop_rescale<R: Real>(deltas: &mut [R], numbers: &[u32], below: u64, scale: R) {
        // 2³² keeps everything, and does not fit the comparison.
        let (below, all) = (below as u32, below > u64::from(u32::MAX));
        for (delta, &number) in deltas.iter_mut().zip(numbers) {
            *delta = if all | (number < below) { *delta * scale } else { R::ZERO };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::level::Level;

    /// The published known answers (Random123, kat_vectors, philox 4x32 7).
    #[test]
    fn known_answers() {
        let answer = |key, counter: [u32; 4]| philox(key, counter.map(u64::from)).map(|word| word as u32);
        assert_eq!(answer(StreamKey(0, 0), [0; 4]), [0x5f6f_b709, 0x0d89_3f64, 0x4f12_1f81, 0x4f73_0a48]);
        assert_eq!(
            answer(StreamKey(u32::MAX, u32::MAX), [u32::MAX; 4]),
            [0x5207_ddc2, 0x4516_5e59, 0x4d8e_e751, 0x8c52_f662]
        );
        assert_eq!(
            answer(StreamKey(0xa409_3822, 0x299f_31d0), [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344]),
            [0x4dfc_caba, 0x190a_87f0, 0xc473_62ba, 0xb6b5_242a]
        );
    }

    #[test]
    fn an_element_has_one_number_however_it_is_reached() {
        let key = StreamKey::new(7, 2, "model.norm.weight");
        for first in [0u64, 1, 63, 64, 100, (1 << 36) - 70] {
            let expected: Vec<u32> = (first..first + 300)
                .map(|i| {
                    let counter = (i >> 6) * 16 + (i & 15);
                    philox(key, [counter & LOW, counter >> 32, 0, 0])[((i >> 4) & 3) as usize] as u32
                })
                .collect();
            for level in Level::available() {
                for len in [0, 1, 63, 64, 65, 300] {
                    let mut numbers = vec![0; len];
                    fill(level, key, first, &mut numbers);
                    assert_eq!(numbers, expected[..len], "{level:?} {first} {len}");
                }
            }
        }
    }
}
