//! The methods on task vectors: drop entries of each δᵢ = θᵢ − θ₀, combine what is left, add it to the base.
//!
//! ties, dare, della, breadcrumbs, magnitude_prune and task_arithmetic are rows of (drop × consensus × defaults); this is
//! the one place that carries them out.

mod direct;
mod domain;
mod drop;
mod early;
mod majority;
mod merge;
mod ranks;
mod recipe;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

pub use domain::{Domain, Member};
pub use majority::Majority;
pub use recipe::Recipe;

use self::drop::Dropper;
use self::recipe::{Drop, Rescale};
use super::in_order::InOrder;
use super::operation::{Buffers, Operation, Tensor, Tiling};
use crate::counts::Counts;
use crate::error::Result;
use crate::kernels::convert::Element;
use crate::kernels::level::Level;
use crate::kernels::real::Key;
use crate::kernels::reduce::{Lanes, add_norm1, count_signs};
use crate::kernels::select::{Scan, Stored};
use merge::Workspace;

/// Entries that are scanned at once: their keys stay in the first-level cache until they are counted.
const SCANNED: usize = 1 << 13;

/// A measuring pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pass {
    /// Draw the sample that brackets the thresholds.
    Sample,
    /// Count and keep what the thresholds are found from.
    Scan,
    /// L1 norms before and after the drop.
    Norms,
    /// The majority of the elected signs.
    Majority,
}

/// One tensor's merge.
pub struct TaskVector<'a, R: Scan + Element> {
    level: Level,
    tensor: Arc<Tensor<'a>>,
    recipe: Arc<Recipe>,
    domain: Arc<Domain<'a, R>>,
    /// This tensor's place in its domain.
    member: usize,
    majority: Arc<Majority>,
    passes: Vec<Pass>,
    tilings: Vec<Tiling>,
    /// That of the writing pass.
    tiling: Tiling,
    droppers: Vec<Dropper<R>>,
    /// Of leaves, the L1 norms of each model before and after.
    norms: InOrder,
    factors: std::sync::OnceLock<Vec<R>>,
}

impl<'a, R: Scan + Element> TaskVector<'a, R> {
    pub fn new(
        level: Level,
        seed: u64,
        tensor: Arc<Tensor<'a>>,
        recipe: Arc<Recipe>,
        domain: Arc<Domain<'a, R>>,
        member: usize,
        majority: Arc<Majority>,
    ) -> Self {
        let mut passes = Vec::new();
        if domain.is_open() {
            passes.extend([Pass::Sample, Pass::Scan]);
        }
        if recipe.rescale == Rescale::Norm {
            passes.push(Pass::Norms);
        }
        if recipe.needs_majority() {
            passes.push(Pass::Majority);
        }
        let flat = domain.tiling(member);
        let tiling = if recipe.drop == Drop::Ranked { Tiling::Rows } else { flat };
        let tilings = passes
            .iter()
            .map(|pass| match pass {
                Pass::Sample => Tiling::Whole,
                Pass::Scan => flat,
                Pass::Majority => tiling,
                // Sums are taken over leaves.
                Pass::Norms if tiling == Tiling::Rows => tiling,
                Pass::Norms => Tiling::Flat,
            })
            .collect();
        let droppers = recipe.models.iter().map(|model| Dropper::new(&recipe, model, &tensor, seed)).collect();
        Self {
            level,
            tensor,
            recipe,
            domain,
            member,
            majority,
            passes,
            tilings,
            tiling,
            droppers,
            norms: InOrder::default(),
            factors: std::sync::OnceLock::new(),
        }
    }

    /// Elements that go through all steps together.
    fn block(&self) -> usize {
        if self.recipe.drop == Drop::Ranked { self.tensor.row as usize } else { crate::kernels::BLOCK }
    }

    /// Drops the entries of model `model` at `at`, and rescales what is left.
    fn drop(&self, model: usize, at: u64, x: &mut [R], space: &mut drop::Space<R>) {
        let first = self.domain.start_of(self.member) + at;
        match self.droppers[model] {
            Dropper::Trim(_) => super::threshold::keep_largest(self.level, x, first, self.domain.keep(model)),
            Dropper::Window(_) => super::threshold::keep_window(
                self.level,
                x,
                first,
                self.domain.keep(model),
                self.domain.outliers(model),
            ),
            _ => {}
        }
        self.droppers[model].apply(self.level, at, x, space);
        if let Some(factors) = self.factors.get() {
            crate::kernels::combine::scale(self.level, x, factors[model]);
        }
    }

    /// The smallest key of model `model` that stays, if one holds for all `len` entries at `at` and nothing rescales.
    fn low(&self, model: usize, at: u64, len: usize) -> Option<R::Bits> {
        if self.factors.get().is_some() {
            return None;
        }
        match self.droppers[model] {
            Dropper::Trim(factor) if factor == R::ONE => {
                self.domain.keep(model).low(self.domain.start_of(self.member) + at, len)
            }
            Dropper::Trim(_) => None,
            _ => Some(<R::Bits as Key>::ZERO),
        }
    }

    fn scan(&self, range: Range<u64>, buffers: &mut Buffers) -> Result<()> {
        let mut keys = Vec::new();
        if self.domain.scans_stored(self.member) && !self.domain.votes_early() {
            return self.scan_stored(range, buffers, &mut keys);
        }
        let mut round = self.domain.round();
        Workspace::new(self).each_stored(range, buffers, |at, work, tiles, start| {
            let deltas = match work.lying(tiles, start) {
                Some(deltas) => deltas,
                None => {
                    work.load(tiles, start);
                    work.deltas().collect()
                }
            };
            for (model, x) in deltas.iter().enumerate() {
                self.domain.scan(self.member, model, at, x, &mut keys);
            }
            round.iter_mut().for_each(|round| round.vote(self.level, &deltas));
            Ok(())
        })?;
        round.into_iter().for_each(|round| self.domain.add_votes(round));
        Ok(())
    }

    /// The same without decoding what is read.
    fn scan_stored(&self, range: Range<u64>, buffers: &mut Buffers, keys: &mut Vec<R::Bits>) -> Result<()> {
        let size = self.tensor.inputs[0].dtype.size();
        for piece in self.tensor.pieces(range, SCANNED) {
            let tiles = self.tensor.read_all(&piece, buffers)?;
            for (model, tuned) in tiles[1..].iter().enumerate() {
                let blocks = tiles[0].chunks(SCANNED * size).zip(tuned.chunks(SCANNED * size));
                for (at, (base, tuned)) in (piece.start..).step_by(SCANNED).zip(blocks) {
                    self.domain.scan_stored(self.member, model, at, Stored { base, tuned }, keys);
                }
            }
        }
        Ok(())
    }

    fn measure_norms(&self, range: Range<u64>, buffers: &mut Buffers) -> Result<()> {
        let mut leaves: BTreeMap<u64, Vec<[Lanes; 2]>> = BTreeMap::new();
        let (mut space, elements) = (drop::Space::default(), self.tiling().leaf(self.tensor.row));
        Workspace::new(self).each_block(range, buffers, |at, work| {
            let leaf = leaves.entry(at / elements).or_insert_with(|| vec![<_>::default(); self.recipe.models.len()]);
            for (model, x) in work.deltas_mut().enumerate() {
                add_norm1(self.level, &mut leaf[model][0], x);
                self.drop(model, at, x, &mut space);
                add_norm1(self.level, &mut leaf[model][1], x);
            }
            Ok(())
        })?;
        for (leaf, models) in leaves {
            self.norms.add(leaf, models.into_iter().flatten().map(Lanes::total).collect());
        }
        Ok(())
    }

    /// The ratio of L1 norms of each model, 1 where either is next to nothing.
    fn resolve_norms(&self) {
        let norms = self.norms.take(2 * self.recipe.models.len());
        let ratio = |norms: &[f64]| {
            let (before, after) = (norms[0], norms[1]);
            R::of(if before < 1e-7 || after < 1e-7 { 1.0 } else { before / after })
        };
        let _ = self.factors.set(norms.chunks_exact(2).map(ratio).collect());
    }

    fn count_majority(&self, range: Range<u64>, buffers: &mut Buffers) -> Result<()> {
        let mut count = 0;
        Workspace::new(self).each_block(range, buffers, |at, work| {
            work.drop_all(at);
            count += count_signs(self.level, work.votes());
            Ok(())
        })?;
        self.majority.add(count);
        Ok(())
    }
}

impl<R: Scan + Element> Operation for TaskVector<'_, R> {
    fn measures(&self) -> &[Tiling] {
        &self.tilings
    }

    fn reads_all(&self, pass: usize) -> bool {
        match self.passes[pass] {
            Pass::Sample => false,
            Pass::Majority => !self.domain.votes_early(),
            Pass::Scan | Pass::Norms => true,
        }
    }

    fn tiling(&self) -> Tiling {
        self.tiling
    }

    fn is_model_wide(&self) -> bool {
        self.recipe.whole_model_trim || self.recipe.needs_majority()
    }

    fn measure(&self, pass: usize, range: Range<u64>, buffers: &mut Buffers) -> Result<()> {
        match self.passes[pass] {
            Pass::Sample => return self.domain.draw(self.member, buffers),
            Pass::Majority if self.domain.has_voted() => return Ok(()),
            Pass::Scan => self.scan(range.clone(), buffers)?,
            Pass::Norms => self.measure_norms(range.clone(), buffers)?,
            Pass::Majority => self.count_majority(range.clone(), buffers)?,
        }
        self.tensor.release(&range);
        Ok(())
    }

    fn resolve(&self, pass: usize, buffers: &mut Buffers) -> Result<()> {
        match self.passes[pass] {
            Pass::Sample => self.domain.sample(buffers)?,
            Pass::Scan => self.majority.add(self.domain.resolve(buffers)?),
            Pass::Norms => self.resolve_norms(),
            Pass::Majority => self.majority.settle(),
        }
        Ok(())
    }

    fn merge(&self, range: Range<u64>, buffers: &mut Buffers, out: &mut [u8]) -> Result<Counts> {
        let counts = Workspace::new(self).merge_range(range.clone(), buffers, out)?;
        self.tensor.release(&range);
        Ok(counts)
    }
}
