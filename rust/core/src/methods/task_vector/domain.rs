//! The entries that one trim ranges over: a tensor's, or those of the whole model.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::recipe::{Drop, Recipe};
use crate::error::{Error, Result};
use crate::kernels::BLOCK;
use crate::kernels::convert::Element;
use crate::kernels::level::Level;
use crate::kernels::real::Real;
use crate::kernels::select::{SLACK, Scan, Stored};
use crate::methods::operation::{Buffers, Tensor};
use crate::methods::threshold::{Entries, Finder, Threshold, sample_size};

/// Neighbouring entries that are sampled together: as many as a read is worth.
const RUN: u64 = 512;

/// The same for tensors that are computed while they are read, whose rows differ in scale: a part of every row.
const COMPUTED_RUN: u64 = 32;

/// Entries between whose first and last a sample holds on to what it has read.
const HELD: u64 = 1 << 22;

/// Fewer entries than this are all kept rather than sampled.
const SAMPLED: u64 = 1 << 17;

/// The searches of one model: for the entries to keep, and for the outliers to drop.
pub struct Search<R: Real> {
    pub keep: Finder<R>,
    pub outliers: Option<Finder<R>>,
}

impl<R: Real> Search<R> {
    fn new(recipe: &Recipe, model: usize, total: u64, tiles: u64, max_listed: usize) -> Self {
        let finder = |rank, with_equals| Finder::new(rank, total, with_equals, tiles, max_listed);
        let settings = &recipe.models[model];
        match recipe.drop {
            Drop::Window => {
                let (below, kept) = settings.window(total);
                Self { keep: finder(total - below, false), outliers: Some(finder(total - below - kept, false)) }
            }
            _ => {
                let kept = recipe.kept(settings.density, total);
                Self { keep: finder(kept, recipe.with_equals), outliers: None }
            }
        }
    }

    fn finders(&self) -> impl Iterator<Item = &Finder<R>> {
        std::iter::once(&self.keep).chain(&self.outliers)
    }
}

/// A tensor of a domain, and how its inputs become task vectors: what is one already differs from tensor to tensor.
pub struct Member<'a> {
    pub tensor: Arc<Tensor<'a>>,
    pub recipe: Arc<Recipe>,
}

impl Member<'_> {
    /// Whether the base is to be taken away from a model.
    fn subtracts(&self, model: usize) -> bool {
        self.recipe.based && !self.recipe.models[model].delta
    }
}

pub struct Domain<'a, R: Real> {
    level: Level,
    tile: u64,
    /// Neighbouring entries that are sampled together.
    run: u64,
    members: Vec<Member<'a>>,
    /// Position of each member's first entry, and the total behind the last.
    starts: Vec<u64>,
    /// Number of each member's first tile, and the count behind the last.
    first_tiles: Vec<u64>,
    pub searches: Vec<Search<R>>,
    unsampled: AtomicUsize,
    unscanned: AtomicUsize,
}

impl<'a, R: Scan + Element> Domain<'a, R> {
    /// `members` in the order of their positions: names in byte order. What they drop is the same for all.
    pub fn new(
        level: Level,
        tile: u64,
        max_listed: usize,
        recipe: &Recipe,
        members: Vec<Member<'a>>,
    ) -> Result<Self> {
        let (mut starts, mut first_tiles, mut total, mut tiles) = (Vec::new(), Vec::new(), 0, 0);
        for Member { tensor, .. } in &members {
            if tensor.inputs.len() != recipe.input(recipe.models.len()) {
                return Err(Error::tensor(tensor.name, "a trim over the whole model needs every model to have it"));
            }
            starts.push(total);
            first_tiles.push(tiles);
            total += tensor.elements;
            tiles += tensor.elements.div_ceil(tile);
        }
        starts.push(total);
        first_tiles.push(tiles);
        let trims = matches!(recipe.drop, Drop::Trim | Drop::Window);
        let models = if trims { recipe.models.len() } else { 0 };
        let count = || AtomicUsize::new(members.len());
        let computed = members.iter().any(|member| member.tensor.is_computed());
        Ok(Self {
            level,
            tile,
            run: if computed { COMPUTED_RUN } else { RUN },
            searches: (0..models).map(|model| Search::new(recipe, model, total, tiles, max_listed)).collect(),
            unsampled: count(),
            unscanned: count(),
            members,
            starts,
            first_tiles,
        })
    }

    /// Whether any entries have to be looked at before the thresholds are known.
    pub fn is_open(&self) -> bool {
        self.searches.iter().flat_map(Search::finders).any(Finder::is_open)
    }

    pub fn start_of(&self, member: usize) -> u64 {
        self.starts[member]
    }

    pub fn keep(&self, model: usize) -> Threshold<R::Bits> {
        self.searches[model].keep.threshold()
    }

    pub fn outliers(&self, model: usize) -> Threshold<R::Bits> {
        self.searches[model].outliers.as_ref().map_or(Threshold::NOTHING, Finder::threshold)
    }

    /// Says that a member is ready for sampling; the last one to come draws the sample.
    pub fn sample(&self, buffers: &mut Buffers) -> Result<()> {
        if self.unsampled.fetch_sub(1, Ordering::AcqRel) != 1 {
            return Ok(());
        }
        let total = self.starts[self.members.len()];
        for (model, search) in self.searches.iter().enumerate() {
            if search.finders().all(|finder| !finder.is_open()) {
                continue;
            }
            let sample = if total < SAMPLED { None } else { Some(self.draw(model, total, buffers)?) };
            for finder in search.finders() {
                finder.set_sample(sample.as_deref(), self.run as usize);
            }
        }
        Ok(())
    }

    /// Keys of evenly spread runs of entries of one model.
    fn draw(&self, model: usize, total: u64, buffers: &mut Buffers) -> Result<Vec<R::Bits>> {
        let size = sample_size(total);
        let mut keys = Vec::with_capacity(size as usize);
        let runs = size / self.run;
        let mut held = 0;
        for run in 0..runs {
            let place = (u128::from(total) * (2 * u128::from(run) + 1) / (2 * u128::from(runs))) as u64;
            let member = self.starts.partition_point(|&start| start <= place) - 1;
            let within = place - self.starts[member];
            let end = (within + self.run).min(self.members[member].tensor.elements);
            let range = end.saturating_sub(self.run)..end;
            self.deltas(member, model, range, buffers, &mut |_, x: &[R]| {
                keys.extend(x.iter().map(|x| x.key()));
            })?;
            // Where files are mapped, each run brings the pages around it along, which would be all of them in the end.
            if place - held >= HELD {
                self.release(held..place);
                held = place;
            }
        }
        self.release(held..total);
        Ok(keys)
    }

    /// Says that nothing in this pass will read what lies at these positions again.
    fn release(&self, positions: Range<u64>) {
        let first = self.starts.partition_point(|&start| start <= positions.start) - 1;
        let members = self.members.iter().zip(&self.starts).skip(first);
        for (member, &start) in members.take_while(|&(_, &start)| start < positions.end) {
            let end = (positions.end - start).min(member.tensor.elements);
            member.tensor.release(&(positions.start.saturating_sub(start)..end));
        }
    }

    /// Scans the deltas of one model at the entries behind `at` of a member.
    pub fn scan(&self, member: usize, model: usize, at: u64, x: &[R], keys: &mut Vec<R::Bits>) {
        keys.resize(keys.len().max(x.len() + SLACK), <R::Bits as crate::kernels::real::Key>::ZERO);
        let tile = self.first_tiles[member] + at / self.tile;
        for finder in self.searches[model].finders().filter(|finder| finder.is_open()) {
            let found = R::scan(self.level, x, finder.bracket(), keys);
            finder.add(tile, found, &keys[..found.within]);
        }
    }

    /// Whether the entries of a member can be scanned as they are stored.
    pub fn scans_stored(&self, member: usize) -> bool {
        let member = &self.members[member];
        let inputs = &member.tensor.inputs;
        let alike = inputs.iter().all(|input| input.dtype == inputs[0].dtype);
        let all = (0..self.searches.len()).all(|model| member.subtracts(model));
        alike && all && R::scans_stored(self.level, inputs[0].dtype)
    }

    /// The same of entries as they are stored.
    pub fn scan_stored(&self, member: usize, model: usize, at: u64, stored: Stored<'_>, keys: &mut Vec<R::Bits>) {
        let dtype = self.members[member].tensor.inputs[0].dtype;
        let len = stored.tuned.len() / dtype.size();
        keys.resize(keys.len().max(len + SLACK), <R::Bits as crate::kernels::real::Key>::ZERO);
        let tile = self.first_tiles[member] + at / self.tile;
        for finder in self.searches[model].finders().filter(|finder| finder.is_open()) {
            let found = R::scan_stored(self.level, dtype, stored, finder.bracket(), keys);
            finder.add(tile, found, &keys[..found.within]);
        }
    }

    /// Says that all of a member was scanned; the last one to come resolves the searches.
    pub fn resolve(&self, buffers: &mut Buffers) -> Result<()> {
        if self.unscanned.fetch_sub(1, Ordering::AcqRel) != 1 {
            return Ok(());
        }
        for (model, search) in self.searches.iter().enumerate() {
            for finder in search.finders() {
                finder.resolve(self.level, &mut Reader { domain: self, model, buffers })?;
            }
        }
        Ok(())
    }

    /// Hands out the deltas of one model over a range, block by block.
    fn deltas(
        &self,
        member: usize,
        model: usize,
        range: Range<u64>,
        buffers: &mut Buffers,
        each: &mut dyn FnMut(u64, &[R]),
    ) -> Result<()> {
        let member = &self.members[member];
        let (tensor, input) = (&member.tensor, member.recipe.input(model));
        let dtype = tensor.inputs[input].dtype;
        let (mut b, mut x) = ([R::ZERO; BLOCK], [R::ZERO; BLOCK]);
        let places = (range.start..).step_by(BLOCK);
        if !member.subtracts(model) {
            let tuned = tensor.read_one(input, &range, buffers)?;
            for (at, tuned) in places.zip(tuned.chunks(BLOCK * dtype.size())) {
                let x = &mut x[..tuned.len() / dtype.size()];
                R::load(self.level, dtype, tuned, x);
                each(at, x);
            }
            return Ok(());
        }
        let [base, tuned] = tensor.read_pair(0, input, &range, buffers)?;
        let base_dtype = tensor.inputs[0].dtype;
        let blocks = base.chunks(BLOCK * base_dtype.size()).zip(tuned.chunks(BLOCK * dtype.size()));
        for (at, (base, tuned)) in places.zip(blocks) {
            let len = tuned.len() / dtype.size();
            R::load(self.level, base_dtype, base, &mut b[..len]);
            R::load_delta(self.level, dtype, tuned, &b[..len], &mut x[..len]);
            each(at, &x[..len]);
        }
        Ok(())
    }
}

/// Reads the deltas of one model again, for a search that needs it.
struct Reader<'r, 'a, R: Real> {
    domain: &'r Domain<'a, R>,
    model: usize,
    buffers: &'r mut Buffers,
}

impl<R: Scan + Element> Entries<R> for Reader<'_, '_, R> {
    fn visit(&mut self, tile: u64, each: &mut dyn FnMut(u64, &[R])) -> Result<()> {
        let domain = self.domain;
        let member = domain.first_tiles.partition_point(|&first| first <= tile) - 1;
        let start = (tile - domain.first_tiles[member]) * domain.tile;
        let range = start..(start + domain.tile).min(domain.members[member].tensor.elements);
        let first = domain.starts[member];
        domain.deltas(member, self.model, range, self.buffers, &mut |at, x| each(first + at, x))
    }

    fn tiles(&self) -> u64 {
        self.domain.first_tiles[self.domain.members.len()]
    }
}
