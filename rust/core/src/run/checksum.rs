//! The checksum of a tensor whose bytes come in runs, in any order.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::writer::checksum::{PIECE, combine, piece};

/// Digests of the pieces so far, and the pieces that two runs share, as far as they are known.
pub struct Pieces {
    nbytes: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    digests: Vec<u128>,
    open: BTreeMap<u64, (Vec<u8>, usize)>,
}

impl Pieces {
    pub fn new(nbytes: u64) -> Self {
        Self { nbytes, state: Mutex::default() }
    }

    fn len_of(&self, index: u64) -> usize {
        (self.nbytes - index * PIECE as u64).min(PIECE as u64) as usize
    }

    /// Adds the bytes from byte `begin` of the tensor on.
    pub fn add(&self, begin: u64, bytes: &[u8]) {
        let mut whole = Vec::new();
        let mut parts = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let place = begin + at as u64;
            let (index, within) = (place / PIECE as u64, (place % PIECE as u64) as usize);
            let len = (self.len_of(index) - within).min(bytes.len() - at);
            let run = &bytes[at..at + len];
            if len == self.len_of(index) {
                whole.push((index, piece(run)));
            } else {
                parts.push((index, within, run));
            }
            at += len;
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.digests.resize(self.nbytes.div_ceil(PIECE as u64) as usize, 0);
        for (index, digest) in whole {
            state.digests[index as usize] = digest;
        }
        for (index, within, run) in parts {
            let size = self.len_of(index);
            let (buffer, known) = state.open.entry(index).or_insert_with(|| (vec![0; size], 0));
            buffer[within..within + run.len()].copy_from_slice(run);
            *known += run.len();
            if *known == size {
                let digest = piece(buffer);
                state.open.remove(&index);
                state.digests[index as usize] = digest;
            }
        }
    }

    /// The checksum, once every byte was added. Frees what was kept.
    pub fn finish(&self) -> u128 {
        combine(&std::mem::take(&mut *self.state.lock().unwrap_or_else(PoisonError::into_inner)).digests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_in_any_order_give_the_checksum_of_the_whole(
            len in 0usize..300_000, cuts in prop::collection::vec(0.0..1.0f64, 0..8), seed: u64,
        ) {
            let bytes: Vec<u8> = (0..len).map(|i| (i as u64).wrapping_mul(seed | 1).to_le_bytes()[3]).collect();
            let mut ends: Vec<usize> = cuts.iter().map(|cut| (cut * len as f64) as usize).chain([0, len]).collect();
            ends.sort_unstable();
            let mut runs: Vec<_> = ends.windows(2).map(|run| run[0]..run[1]).collect();
            runs.sort_by_key(|run| (run.start as u64 ^ seed).wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let pieces = Pieces::new(len as u64);
            for run in runs {
                pieces.add(run.start as u64, &bytes[run]);
            }
            let whole: Vec<u128> = bytes.chunks(PIECE).map(piece).collect();
            prop_assert_eq!(pieces.finish(), combine(&whole));
        }
    }
}
