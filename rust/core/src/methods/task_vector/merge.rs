//! The steps from loaded deltas to stored results, a block at a time.

use std::ops::Range;

use super::TaskVector;
use super::drop::{Dropper, Space};
use super::recipe::{Aggregate, Consensus, Vote, ZeroVote};
use crate::counts::Counts;
use crate::error::Result;
use crate::kernels::combine::{add_scaled, add_to_base, divide, scale};
use crate::kernels::consensus::{
    Voter, divide_by, elect, gather, gather_largest, merge_agreeing, vote_by_sign, vote_by_sum,
};
use crate::kernels::convert::{Element, count_overflow, count_special};
use crate::kernels::random::fill;
use crate::kernels::select::Scan;
use crate::kernels::stored::{Block, Drops, RandomDrop};
use crate::methods::operation::Buffers;

/// Working arrays of one block of all models.
pub struct Workspace<'w, 'a, R: Scan + Element> {
    pub(super) operation: &'w TaskVector<'a, R>,
    /// Room of one array.
    block: usize,
    /// Elements of the block at hand.
    pub(super) len: usize,
    pub(super) base: Vec<R>,
    /// One model's deltas behind the other's.
    deltas: Vec<R>,
    votes: Vec<R>,
    divisors: Vec<R>,
    pub(super) merged: Vec<R>,
    /// Where a NaN came in, if anything in the block was not finite.
    pub(super) nan: Option<Vec<bool>>,
    pub(super) counts: Counts,
    space: Space<R>,
    /// One model's random numbers behind the other's, where entries are dropped at random straight from what is stored.
    numbers: Vec<u32>,
}

impl<'w, 'a, R: Scan + Element> Workspace<'w, 'a, R> {
    pub fn new(operation: &'w TaskVector<'a, R>) -> Self {
        let block = operation.block();
        let array = || vec![R::ZERO; block];
        Self {
            operation,
            block,
            len: 0,
            base: array(),
            deltas: vec![R::ZERO; block * operation.recipe.models.len()],
            votes: array(),
            divisors: array(),
            merged: array(),
            nan: None,
            counts: Counts::default(),
            space: Space::default(),
            numbers: Vec::new(),
        }
    }

    pub fn deltas(&self) -> impl Iterator<Item = &[R]> {
        self.deltas.chunks(self.block).map(|x| &x[..self.len])
    }

    pub fn deltas_mut(&mut self) -> impl Iterator<Item = &mut [R]> {
        let len = self.len;
        self.deltas.chunks_mut(self.block).map(move |x| &mut x[..len])
    }

    /// Reads a range and hands out its blocks, with the deltas of all models loaded.
    pub fn each_block(
        &mut self,
        range: Range<u64>,
        buffers: &mut Buffers,
        mut each: impl FnMut(u64, &mut Self) -> Result<()>,
    ) -> Result<()> {
        self.each_stored(range, buffers, |at, work, tiles, start| {
            work.load(tiles, start);
            each(at, work)
        })
    }

    /// Reads a range and hands out its blocks as they are stored: what was read, and where in it the block begins.
    pub fn each_stored(
        &mut self,
        range: Range<u64>,
        buffers: &mut Buffers,
        mut each: impl FnMut(u64, &mut Self, &[&[u8]], usize) -> Result<()>,
    ) -> Result<()> {
        for piece in self.operation.tensor.pieces(range, self.block) {
            let tiles = self.operation.tensor.read_all(&piece, buffers)?;
            let elements = (piece.end - piece.start) as usize;
            for start in (0..elements).step_by(self.block) {
                self.len = self.block.min(elements - start);
                each(piece.start + start as u64, self, &tiles, start)?;
            }
        }
        Ok(())
    }

    /// Reads a range, merges it and stores the result in `out`.
    pub fn merge_range(&mut self, range: Range<u64>, buffers: &mut Buffers, out: &mut [u8]) -> Result<Counts> {
        let (first, size) = (range.start, self.operation.tensor.dtype.size());
        let mut counts = Counts::default();
        self.each_stored(range, buffers, |at, work, tiles, start| {
            let place = (at - first) as usize * size;
            let out = &mut out[place..place + work.len * size];
            if !work.merge_stored(at, tiles, start, out) {
                if !work.merge_lying(at, tiles, start) {
                    work.load(tiles, start);
                    work.merge(at);
                }
                counts += work.store(out);
            }
            Ok(())
        })?;
        Ok(counts)
    }

    /// The commonest case straight from what is stored; false, with `out` undefined, where the steps have to be taken.
    fn merge_stored(&mut self, at: u64, tiles: &[&[u8]], start: usize, out: &mut [u8]) -> bool {
        match self.operation.recipe.models.len() {
            2 => self.merge_stored_of::<2>(at, tiles, start, out),
            3 => self.merge_stored_of::<3>(at, tiles, start, out),
            4 => self.merge_stored_of::<4>(at, tiles, start, out),
            5 => self.merge_stored_of::<5>(at, tiles, start, out),
            _ => false,
        }
    }

    fn merge_stored_of<const N: usize>(&mut self, at: u64, tiles: &[&[u8]], start: usize, out: &mut [u8]) -> bool {
        let (operation, len) = (self.operation, self.len);
        let (recipe, dtype) = (&operation.recipe, operation.tensor.dtype);
        let alike = operation.tensor.inputs.iter().all(|input| input.dtype == dtype);
        if !alike || !R::merges_stored(dtype) || !recipe.based || recipe.models.iter().any(|model| model.delta) {
            return false;
        }
        let Some((voters, zero, divides)) = self.voters::<N>(at) else { return false };
        let Some(drops) = self.draw::<N>(at) else { return false };
        let size = dtype.size();
        let bytes = |input: usize| &tiles[input][start * size..(start + len) * size];
        let (numbers, block) = (&self.numbers, self.block);
        let numbers = std::array::from_fn(|model| match drops {
            Drops::Smallest => &numbers[..0],
            Drops::Random(_) => &numbers[model * block..model * block + len],
        });
        let (base, models) = (bytes(0), std::array::from_fn(|model| bytes(recipe.input(model))));
        let lambda = R::of(recipe.lambda);
        let stored = Block { base, models, numbers, drops, voters, zero, divides, lambda };
        R::merge_stored(operation.level, dtype, &stored, out)
    }

    /// What drops the entries of all models at `at`, with its random numbers drawn; `None` where it is neither
    /// a trim nor a coin.
    fn draw<const N: usize>(&mut self, at: u64) -> Option<Drops<R, N>> {
        let (operation, len, block) = (self.operation, self.len, self.block);
        if operation.droppers.iter().all(|dropper| matches!(dropper, Dropper::Trim(_))) {
            return Some(Drops::Smallest);
        }
        let tosses =
            |dropper: &Dropper<R>| matches!(dropper, Dropper::Keep | Dropper::DropAll | Dropper::Random { .. });
        if !operation.droppers.iter().all(tosses) {
            return None;
        }
        self.numbers.resize(block * N, 0);
        let mut drops = [RandomDrop::new(0, R::ZERO); N];
        for (model, drop) in drops.iter_mut().enumerate() {
            *drop = match operation.droppers[model] {
                Dropper::Keep => RandomDrop::new(1 << 32, R::ONE),
                Dropper::DropAll => continue,
                Dropper::Random { key, below, scale } => {
                    fill(operation.level, key, at, &mut self.numbers[model * block..model * block + len]);
                    RandomDrop::new(below, scale)
                }
                _ => return None,
            };
        }
        Some(Drops::Random(drops))
    }

    pub fn load(&mut self, tiles: &[&[u8]], start: usize) {
        let (level, inputs, len) = (self.operation.level, &self.operation.tensor.inputs, self.len);
        let bytes = |input: usize| {
            let size = inputs[input].dtype.size();
            &tiles[input][start * size..(start + len) * size]
        };
        let recipe = &self.operation.recipe;
        let mut special = recipe.based && R::load(level, inputs[0].dtype, bytes(0), &mut self.base[..len]);
        for (model, x) in self.deltas.chunks_mut(self.block).enumerate() {
            let input = recipe.input(model);
            let (dtype, x) = (inputs[input].dtype, &mut x[..len]);
            special |= if recipe.based && !recipe.models[model].delta {
                R::load_delta(level, dtype, bytes(input), &self.base[..len], x)
            } else {
                R::load(level, dtype, bytes(input), x)
            };
        }
        (self.nan, self.counts) = (None, Counts::default());
        if special {
            for (input, stored) in inputs.iter().enumerate() {
                let (infinite, nan) = count_special(stored.dtype, bytes(input));
                self.counts += Counts { nan, infinite, overflow: 0 };
            }
            // A NaN that a drop would lose must still show in the result.
            let nan = (0..len).map(|i| self.deltas().any(|x| x[i].to_f64().is_nan())).collect();
            self.nan = Some(nan);
        }
    }

    /// Drops the entries of all models.
    pub fn drop_all(&mut self, at: u64) {
        let operation = self.operation;
        for (model, x) in self.deltas.chunks_mut(self.block).enumerate() {
            operation.drop(model, at, &mut x[..self.len], &mut self.space);
        }
    }

    /// The votes before zeros are settled; leaves the deltas as the aggregate wants them.
    pub fn votes(&mut self) -> &[R] {
        let (level, len) = (self.operation.level, self.len);
        let vote = self.operation.recipe.consensus.map_or(Vote::Weighted, |consensus| consensus.vote);
        let votes = &mut self.votes[..len];
        votes.fill(R::ZERO);
        for (model, x) in self.operation.recipe.models.iter().zip(self.deltas.chunks_mut(self.block)) {
            let x = &mut x[..len];
            match vote {
                Vote::Weighted => {
                    scale(level, x, R::of(model.weight));
                    vote_by_sum(level, votes, x);
                }
                Vote::Sum => vote_by_sum(level, votes, x),
                Vote::Frequency => vote_by_sign(level, votes, x),
            }
        }
        votes
    }

    /// base + λ · what is merged of the deltas at `at`.
    fn merge(&mut self, at: u64) {
        let merged = match self.operation.recipe.models.len() {
            1 => self.merge_at_once::<1>(at),
            2 => self.merge_at_once::<2>(at),
            3 => self.merge_at_once::<3>(at),
            4 => self.merge_at_once::<4>(at),
            5 => self.merge_at_once::<5>(at),
            6 => self.merge_at_once::<6>(at),
            _ => false,
        };
        if !merged {
            self.drop_all(at);
            self.combine();
        }
    }

    /// The common case in one go; false, with nothing done, where the steps have to be taken one by one.
    fn merge_at_once<const N: usize>(&mut self, at: u64) -> bool {
        let (operation, len) = (self.operation, self.len);
        if self.nan.is_some() {
            return false;
        }
        let Some((voters, zero, divides)) = self.voters::<N>(at) else { return false };
        for (model, x) in self.deltas.chunks_mut(self.block).enumerate() {
            if !matches!(operation.droppers[model], Dropper::Trim(_)) {
                operation.drop(model, at, &mut x[..len], &mut self.space);
            }
        }
        let (deltas, block) = (&self.deltas, self.block);
        let deltas = std::array::from_fn(|model| &deltas[model * block..model * block + len]);
        let (base, lambda) = (&self.base[..len], R::of(operation.recipe.lambda));
        let merged = &mut self.merged[..len];
        merge_agreeing::<R, N>(operation.level, deltas, voters, zero, divides, base, lambda, merged);
        true
    }

    /// What each model brings to the block at `at`, the sign of a vote of zero, and whether sums are divided; `None`
    /// where the models cannot be merged at once.
    pub(super) fn voters<const N: usize>(&self, at: u64) -> Option<([Voter<R>; N], R, bool)> {
        let (operation, models) = (self.operation, &self.operation.recipe.models);
        let consensus = operation.recipe.consensus?;
        if consensus.aggregate == Aggregate::Max || consensus.vote == Vote::Frequency || models.len() != N {
            return None;
        }
        let mut voters = [Voter { low: R::NAN_KEY, weight: R::ZERO, factor: R::ZERO, share: R::ZERO }; N];
        for (model, voter) in voters.iter_mut().enumerate() {
            let low = operation.low(model, at, self.len)?;
            let weight = R::of(models[model].weight);
            let share = if consensus.aggregate == Aggregate::Mean { R::ONE } else { weight };
            *voter = match consensus.vote {
                Vote::Weighted => Voter { low, weight, factor: R::ONE, share },
                _ => Voter { low, weight: R::ONE, factor: weight, share },
            };
        }
        let divides = match consensus.aggregate {
            Aggregate::Mean => true,
            Aggregate::WeightedMean => operation.recipe.normalize,
            _ => false,
        };
        Some((voters, self.zero_sign(consensus), divides))
    }

    /// base + λ · what the models agree on.
    fn combine(&mut self) {
        match self.operation.recipe.consensus {
            None => self.sum(),
            Some(consensus) => self.agree(consensus),
        }
        let (level, len, recipe) = (self.operation.level, self.len, &self.operation.recipe);
        let (merged, lambda) = (&mut self.merged[..len], R::of(recipe.lambda));
        if recipe.based {
            add_to_base(level, merged, &self.base[..len], lambda);
        } else if lambda != R::ONE {
            scale(level, merged, lambda);
        }
    }

    fn sum(&mut self) {
        let (level, len, recipe) = (self.operation.level, self.len, &self.operation.recipe);
        let merged = &mut self.merged[..len];
        merged.fill(R::ZERO);
        for (model, x) in recipe.models.iter().zip(self.deltas.chunks(self.block)) {
            add_scaled(level, merged, &x[..len], R::of(model.weight));
        }
        let weights: f64 = recipe.models.iter().map(|model| model.weight).sum();
        if recipe.normalize && weights.abs() >= 1e-8 {
            divide(level, merged, R::of(weights));
        }
    }

    fn agree(&mut self, consensus: Consensus) {
        let (level, len, operation) = (self.operation.level, self.len, self.operation);
        self.votes();
        if let Some(nan) = &mut self.nan {
            // Infinities of both signs cancel to no sign at all.
            nan.iter_mut().zip(&self.votes).for_each(|(nan, vote)| *nan |= vote.to_f64().is_nan());
        }
        let zero = self.zero_sign(consensus);
        elect(level, &mut self.votes[..len], zero);
        let (signs, merged) = (&self.votes[..len], &mut self.merged[..len]);
        let divisors = &mut self.divisors[..len];
        merged.fill(R::ZERO);
        divisors.fill(R::ZERO);
        for (model, x) in operation.recipe.models.iter().zip(self.deltas.chunks(self.block)) {
            let weight = R::of(model.weight);
            let factor = if consensus.vote == Vote::Weighted { R::ONE } else { weight };
            if let Some(nan) = self.nan.as_mut().filter(|_| consensus.aggregate == Aggregate::Max) {
                // An infinity that was elected but has no weight is not a number; a maximum would not show it.
                let elected =
                    x.iter().zip(signs).map(|(&x, &sign)| x * sign > R::ZERO && (factor * x).to_f64().is_nan());
                nan.iter_mut().zip(elected).for_each(|(nan, lost)| *nan |= lost);
            }
            match consensus.aggregate {
                Aggregate::Max => gather_largest(level, &x[..len], signs, factor, merged),
                Aggregate::Mean => gather(level, &x[..len], signs, factor, R::ONE, merged, divisors),
                _ => gather(level, &x[..len], signs, factor, weight, merged, divisors),
            }
        }
        match consensus.aggregate {
            Aggregate::Mean => divide_by(level, merged, divisors),
            Aggregate::WeightedMean if operation.recipe.normalize => divide_by(level, merged, divisors),
            _ => {}
        }
    }

    /// The sign where a vote is exactly zero.
    fn zero_sign(&self, consensus: Consensus) -> R {
        match consensus.zero {
            ZeroVote::Plus => R::ONE,
            ZeroVote::Nothing => R::ZERO,
            ZeroVote::Majority => match self.operation.majority.sign() {
                0.0 if consensus.aggregate == Aggregate::Max => R::ZERO,
                0.0 => -R::ONE,
                sign => R::of(sign),
            },
        }
    }

    /// Stores the block.
    fn store(&mut self, out: &mut [u8]) -> Counts {
        let dtype = self.operation.tensor.dtype;
        let merged = &mut self.merged[..self.len];
        if let Some(nan) = &self.nan {
            merged.iter_mut().zip(nan).filter(|(_, nan)| **nan).for_each(|(x, _)| *x = R::NAN);
        }
        if R::store(self.operation.level, dtype, merged, out) {
            self.counts.overflow += count_overflow(dtype, merged, out);
        }
        self.counts
    }
}
