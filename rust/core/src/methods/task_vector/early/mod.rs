//! Votes that are counted before the thresholds of a trim are known.
//!
//! Where a vote is exactly zero, the sign that most votes of the model have decides. A pass over everything for that alone
//! costs as much as the merge where entries are computed while they are read. But while the thresholds are looked for, an
//! entry outside the bracket is known to stay or to go, so that nearly every vote has its sign already; entries of the
//! others are held, and counted once the thresholds are known. What comes of it is what the pass would have counted.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use crate::kernels::consensus::elect_early;
use crate::kernels::level::Level;
use crate::kernels::real::{Key, Real};
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
    full: bool,
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
    /// Bytes that it takes, its lists' own among them; none where nothing is open.
    fn bytes(&self) -> usize {
        let alone: usize = self.keys.iter().map(Vec::len).sum();
        let entries = alone * (size_of::<R>() + 1) + self.several.len() * size_of::<R>();
        if entries == 0 { 0 } else { entries + (2 * self.keys.len() + 1) * LIST }
    }

    /// Adds a place whose sign changes by `change` if its open entry stays; NaN where several are open.
    fn push<const N: usize>(&mut self, x: [R; N], change: f64, brackets: &[Bracket<R::Bits>; N]) {
        if change.is_nan() {
            self.several.extend(x);
            return;
        }
        let keys = x.map(Real::key);
        if let Some(model) = (0..N).find(|&i| is_open(keys[i], brackets[i])) {
            self.keys[model].push(keys[model]);
            self.changes[model].push(change as i8);
        }
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

/// Bytes that a list takes beside what is in it.
const LIST: usize = 48;

/// Shares of all room: one is the most that a tile may take, so that a thread holds no more.
const SHARES: usize = 16;

/// The votes of a tile.
pub struct Round<R: Real> {
    /// Bytes that open votes may take.
    room: usize,
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
    fn new(brackets: Vec<Bracket<R::Bits>>, room: usize) -> Self {
        let (keys, changes) = (vec![Vec::new(); brackets.len()], vec![Vec::new(); brackets.len()]);
        let open = Open { keys, changes, several: Vec::new() };
        Self { room, brackets, elected: Vec::new(), changes: Vec::new(), signs: 0, open }
    }

    /// Counts the votes of a block of all models, if all before it have found room.
    pub fn vote(&mut self, level: Level, deltas: &[&[R]]) {
        if self.open.bytes() > self.room {
            return;
        }
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

/// Whether it hangs on the threshold that an entry stays; a zero adds nothing either way.
fn is_open<K: Key>(key: K, bracket: Bracket<K>) -> bool {
    key != K::ZERO && key >= bracket.low && key < bracket.high
}

impl<R: Real> EarlyVotes<R> {
    /// Which holds `room` bytes at the most; beyond them, votes have to be counted in a pass of their own.
    pub fn new(room: usize) -> Self {
        let state = State { signs: 0, bytes: 0, open: Vec::new(), full: false };
        Self { room, state: Mutex::new(state), settled: OnceLock::new() }
    }

    /// The votes of a tile, to be counted; `None` where there is no room any more.
    pub fn round(&self, brackets: Vec<Bracket<R::Bits>>) -> Option<Round<R>> {
        (!self.state().full).then(|| Round::new(brackets, self.room / SHARES))
    }

    fn state(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds the votes of a tile.
    pub fn add(&self, round: Round<R>) {
        let mut open = round.open;
        open.keys.iter_mut().for_each(Vec::shrink_to_fit);
        open.changes.iter_mut().for_each(Vec::shrink_to_fit);
        open.several.shrink_to_fit();
        let mut state = self.state();
        state.signs += round.signs;
        state.bytes += open.bytes();
        state.full |= open.bytes() > round.room || state.bytes > self.room;
        if state.full {
            state.open = Vec::new();
        } else if open.bytes() > 0 {
            state.open.push(open);
        }
    }

    /// Counts what was open, now that the smallest keys that stay are known. Positive votes less negative ones, or
    /// `None` where they have to be counted anew: a bracket has missed, or there were too many to hold.
    pub fn settle(&self, brackets: &[Bracket<R::Bits>], lows: &[R::Bits]) -> Option<i64> {
        let mut state = self.state();
        let open = std::mem::take(&mut state.open);
        // What is as large as `high` stays, be it the smallest to stay or not.
        let hit = brackets.iter().zip(lows).all(|(bracket, low)| (bracket.low..=bracket.high).contains(low));
        let late = || open.iter().map(|open| open.count(lows)).sum::<i64>();
        let signs = (hit && !state.full).then(|| state.signs + late());
        let _ = self.settled.set(signs.is_some());
        signs
    }

    /// Whether all votes are counted, and no pass is needed.
    pub fn is_settled(&self) -> bool {
        self.settled.get() == Some(&true)
    }
}

#[cfg(test)]
mod tests;
