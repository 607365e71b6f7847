//! Votes that are counted before the thresholds of a trim are known.
//!
//! Where a vote is exactly zero, the sign that most votes of the model have decides. A pass over everything for that alone
//! costs as much as the merge where entries are computed while they are read. But while the thresholds are looked for, an
//! entry outside the bracket is known to stay or to go, so that nearly every vote has its sign already; entries of the
//! others are held, and counted once the thresholds are known. What comes of it is what the pass would have counted.

use std::sync::{Mutex, OnceLock, PoisonError};

use crate::kernels::consensus::elect_early;
use crate::kernels::level::Level;
use crate::kernels::real::Real;
use crate::kernels::reduce::count_signs;
use crate::kernels::select::Bracket;

/// Models whose votes are counted early, at the most.
pub const MODELS: usize = 6;

/// The votes of the tensors that share a trim.
pub struct EarlyVotes<R: Real> {
    /// Bytes that open votes may take.
    room: usize,
    state: Mutex<State<R>>,
    settled: OnceLock<bool>,
}

struct State<R: Real> {
    /// Positive votes less negative ones.
    signs: i64,
    bytes: usize,
    open: Vec<Open<R>>,
}

/// Votes of a tile that are open.
struct Open<R: Real> {
    /// Of each model: entries that decide a vote alone, and what it changes by if they stay.
    keys: Vec<Vec<R::Bits>>,
    changes: Vec<Vec<i8>>,
    /// Of places where several entries are open, those of all models, one place behind the other.
    several: Vec<R>,
}

impl<R: Real> Open<R> {
    fn bytes(&self) -> usize {
        let alone: usize = self.keys.iter().map(Vec::len).sum();
        alone * (size_of::<R>() + 1) + self.several.len() * size_of::<R>()
    }

    /// What the votes come to if entries from `lows` on stay.
    fn count(&self, lows: &[R::Bits]) -> i64 {
        let alone = self.keys.iter().zip(&self.changes).zip(lows).map(|((keys, changes), low)| {
            let stays = keys.iter().zip(changes).filter(|(key, _)| *key >= low);
            stays.map(|(_, &change)| i64::from(change)).sum::<i64>()
        });
        let several = self.several.chunks_exact(lows.len().max(1)).map(|x| {
            let stays = x.iter().zip(lows).filter(|(x, low)| x.key() >= **low);
            let sum = stays.fold(R::ZERO, |sum, (&x, _)| sum + x);
            i64::from(sum > R::ZERO) - i64::from(sum < R::ZERO)
        });
        alone.sum::<i64>() + several.sum::<i64>()
    }
}

/// The votes of a tile.
pub struct Round<R: Real> {
    brackets: Vec<Bracket<R::Bits>>,
    elected: Vec<R>,
    changes: Vec<R>,
    signs: i64,
    open: Open<R>,
}

/// Places that are looked at together for one that is open.
const LOOK: usize = 32;

impl<R: Real> Round<R> {
    /// For models whose thresholds lie within these brackets.
    pub fn new(brackets: Vec<Bracket<R::Bits>>) -> Self {
        let (keys, changes) = (vec![Vec::new(); brackets.len()], vec![Vec::new(); brackets.len()]);
        let open = Open { keys, changes, several: Vec::new() };
        Self { brackets, elected: Vec::new(), changes: Vec::new(), signs: 0, open }
    }

    /// Counts the votes of a block of all models.
    pub fn vote(&mut self, level: Level, deltas: &[&[R]]) {
        match deltas.len() {
            1 => self.vote_of::<1>(level, deltas),
            2 => self.vote_of::<2>(level, deltas),
            3 => self.vote_of::<3>(level, deltas),
            4 => self.vote_of::<4>(level, deltas),
            5 => self.vote_of::<5>(level, deltas),
            _ => self.vote_of::<MODELS>(level, deltas),
        }
    }

    fn vote_of<const N: usize>(&mut self, level: Level, deltas: &[&[R]]) {
        let deltas: [&[R]; N] = std::array::from_fn(|i| deltas[i]);
        let brackets = std::array::from_fn(|i| self.brackets[i]);
        self.elected.resize(deltas[0].len(), R::ZERO);
        self.changes.resize(deltas[0].len(), R::ZERO);
        elect_early::<R, N>(level, deltas, brackets, &mut self.elected, &mut self.changes);
        self.signs += count_signs(level, &self.elected);
        for (first, changes) in (0..).step_by(LOOK).zip(self.changes.chunks(LOOK)) {
            if changes.iter().fold(false, |any, &change| any | (change != R::ZERO)) {
                let places = (first..).zip(changes).filter(|&(_, &change)| change != R::ZERO);
                places
                    .for_each(|(place, change)| self.open.push(deltas.map(|x| x[place]), change.to_f64(), &brackets));
            }
        }
    }
}

impl<R: Real> Open<R> {
    fn push<const N: usize>(&mut self, x: [R; N], change: f64, brackets: &[Bracket<R::Bits>; N]) {
        if change.is_nan() {
            self.several.extend(x);
            return;
        }
        let keys = x.map(Real::key);
        if let Some(model) = (0..N).find(|&i| (brackets[i].low..brackets[i].high).contains(&keys[i])) {
            self.keys[model].push(keys[model]);
            self.changes[model].push(change as i8);
        }
    }
}

impl<R: Real> EarlyVotes<R> {
    /// Which holds `room` bytes at the most; beyond them, votes have to be counted in a pass of their own.
    pub fn new(room: usize) -> Self {
        let state = State { signs: 0, bytes: 0, open: Vec::new() };
        Self { room, state: Mutex::new(state), settled: OnceLock::new() }
    }

    /// Adds the votes of a tile.
    pub fn add(&self, round: Round<R>) {
        let mut open = round.open;
        open.keys.iter_mut().for_each(Vec::shrink_to_fit);
        open.changes.iter_mut().for_each(Vec::shrink_to_fit);
        open.several.shrink_to_fit();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.signs += round.signs;
        state.bytes = state.bytes.saturating_add(open.bytes());
        if state.bytes > self.room {
            state.open = Vec::new();
        } else {
            state.open.push(open);
        }
    }

    /// Counts what was open, now that the smallest keys that stay are known. Positive votes less negative ones, or
    /// `None` where they have to be counted anew: a bracket has missed, or there were too many to hold.
    pub fn settle(&self, brackets: &[Bracket<R::Bits>], lows: &[R::Bits]) -> Option<i64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let open = std::mem::take(&mut state.open);
        let hit = brackets.iter().zip(lows).all(|(bracket, low)| (bracket.low..=bracket.high).contains(low));
        let late = || open.iter().map(|open| open.count(lows)).sum::<i64>();
        let signs = (hit && state.bytes <= self.room).then(|| state.signs + late());
        let _ = self.settled.set(signs.is_some());
        signs
    }

    /// Whether all votes are counted, and no pass is needed.
    pub fn is_settled(&self) -> bool {
        self.settled.get() == Some(&true)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::kernels::select::Bracket;
    use crate::run::arrays::merge;
    use crate::run::work::Settings;
    use crate::source::Memory;

    const ROOM: usize = 1 << 20;

    fn value() -> impl Strategy<Value = f32> {
        prop_oneof![
            6 => (-6i8..7).prop_map(|x| f32::from(x) / 4.0),
            2 => any::<f32>(),
            1 => prop::sample::select(vec![0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-45, 1e30, -1e30]),
        ]
    }

    fn naive<const N: usize>(x: &[Vec<f32>], lows: [u32; N]) -> i64 {
        let vote = |place: usize| {
            let stays = (0..N).map(|i| if x[i][place].key() >= lows[i] { x[i][place] } else { 0.0 });
            let sum = stays.fold(0.0, |sum: f32, x| sum + x);
            i64::from(sum > 0.0) - i64::from(sum < 0.0)
        };
        (0..x[0].len()).map(vote).sum()
    }

    fn counted<const N: usize>(
        level: Level,
        x: &[Vec<f32>],
        brackets: [Bracket<u32>; N],
        lows: [u32; N],
        room: usize,
    ) -> Option<i64> {
        let votes = EarlyVotes::new(room);
        for begin in (0..x[0].len()).step_by(50) {
            let mut round = Round::new(brackets.to_vec());
            let end = x[0].len().min(begin + 50);
            for first in (begin..end).step_by(33) {
                let block: Vec<&[f32]> = x.iter().map(|x| &x[first..end.min(first + 33)]).collect();
                round.vote(level, &block);
            }
            votes.add(round);
        }
        let found = votes.settle(&brackets, &lows);
        assert_eq!(votes.is_settled(), found.is_some());
        found
    }

    proptest! {
        #[test]
        fn the_count_is_that_of_a_pass(
            places in prop::collection::vec(prop::array::uniform3(value()), 1..200),
            thresholds in prop::array::uniform3((value(), 0u32..0x0100_0000, 0u32..0x0100_0000)),
            miss in 0usize..6,
        ) {
            let x: Vec<Vec<f32>> = (0..3).map(|i| places.iter().map(|place| place[i]).collect()).collect();
            let lows = thresholds.map(|(low, _, _)| low.key());
            let mut brackets = thresholds
                .map(|(low, below, above)| Bracket { low: low.key().saturating_sub(below), high: low.key() + above });
            if miss < 3 {
                brackets[miss] = Bracket { low: lows[miss] + 1, high: lows[miss] + 9 };
            }
            for level in Level::available() {
                let expected = (miss >= 3).then(|| naive(&x, lows));
                prop_assert_eq!(counted(level, &x, brackets, lows, ROOM), expected);
            }
        }
    }

    #[test]
    fn votes_without_room_are_left_to_a_pass() {
        let x = vec![vec![1.0f32, 2.0, 3.0], vec![-1.0, -1.0, -1.0]];
        let (low, high) = (0.5f32.key(), 2.5f32.key());
        let (lows, brackets) = ([2.0f32.key(), low], [Bracket { low, high }; 2]);
        // The first two places have two open entries each, the last one has one, beside one that stays: 3 − 1 > 0.
        assert_eq!(counted(Level::detect(), &x, brackets, lows, 16), Some(1));
        assert_eq!(counted(Level::detect(), &x, brackets, lows, 15), None);
    }

    /// TIES of three described tensors of few distinct values, where the majority decides many votes of zero.
    fn ties(values: &[u8], shape: [usize; 2], zero_vote: &str, max_held: usize, threads: usize) -> Vec<u8> {
        let [rows, columns] = shape;
        let elements = rows * columns;
        let input = |index: usize| {
            let block =
                json!({"file": 0, "offset": index * elements * 4, "dtype": "F32", "rows": rows, "columns": columns});
            let described = json!({"dtype": "F32", "rows": rows, "columns": columns, "blocks": [block]});
            json!({"described": described, "index": index, "parameters": {"weight": 1, "density": 0.5}})
        };
        let options = json!({"normalize": false, "lambda": 1, "rescale": "false", "trim_scope": "tensor",
            "kept_count": "floor_plus_one", "at_threshold": "all", "vote": "sum", "zero_vote": zero_vote, "aggregate": "mean"});
        let job = json!({"name": "w", "shape": [rows, columns], "dtype": "F32", "shard": 0, "offset": 0,
            "method": {"name": "ties", "options": options}, "inputs": [input(0), input(1), input(2)]});
        let job = serde_json::from_value(job).unwrap();
        let settings = Settings { level: Level::detect(), seed: 0, tile: 1 << 16, max_listed: 1 << 20, max_held };
        let mut out = vec![0; elements * 4];
        merge(&job, vec![&Memory(values)], settings, threads, &mut out).unwrap();
        out
    }

    #[test]
    fn a_merge_does_not_depend_on_when_its_votes_are_counted() {
        // Columns that divide a tile and others; entries enough to be sampled.
        for shape in [[160, 1024], [40, 3_333], [9, 20_000], [7, 5]] {
            for lean in [0.25f32, -0.25] {
                let mut state = 12_345u32;
                let mut next = || {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let quarter = ((state >> 16) % 13) as f32 / 4.0 - 1.5;
                    if (state >> 8).is_multiple_of(7) { lean } else { quarter }
                };
                let values: Vec<u8> = (0..3 * shape[0] * shape[1]).flat_map(|_| next().to_le_bytes()).collect();
                let late = ties(&values, shape, "majority", 0, 1);
                for threads in [1, 3] {
                    assert!(ties(&values, shape, "majority", 64 << 20, threads) == late, "{shape:?}");
                }
                // Votes of zero are there, and the majority decides them.
                assert!(ties(&values, shape, "none", 0, 1) != late, "{shape:?}");
            }
        }
    }
}
