//! The entries that one trim ranges over: a tensor's, or those of the whole model.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::early::{EarlyVotes, MODELS, Round};
use super::recipe::{Drop, Recipe};
use crate::error::{Error, Result};
use crate::kernels::BLOCK;
use crate::kernels::convert::Element;
use crate::kernels::level::Level;
use crate::kernels::product::ROWS;
use crate::kernels::real::{Key, Real};
use crate::kernels::select::{Bracket, SLACK, Scan, Stored};
use crate::methods::operation::{Buffers, Tensor, Tiling};
use crate::methods::threshold::{Entries, Finder, Spread, Threshold, sample_size};

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

    /// Whether any entries have to be looked at before the thresholds are known.
    fn is_open(&self) -> bool {
        self.finders().any(Finder::is_open)
    }

    /// What the smallest key to stay is looked for in; it may be as large as `high`, too.
    fn bracket(&self) -> Bracket<R::Bits> {
        if self.keep.is_open() {
            return self.keep.bracket();
        }
        let low = self.low();
        Bracket { low, high: low }
    }

    /// The smallest key that stays, wherever it lies: entries that are as large as the last one all stay.
    fn low(&self) -> R::Bits {
        self.keep.threshold().low(0, 1).unwrap_or(<R::Bits as Key>::MAX)
    }
}

/// Elements of a tile of a tensor. Of one that is computed, rows of its last dimension, as many as go through a product
/// together, where they are no more than `tile`: what is cut goes through on both sides of the cut.
fn tile_of(tensor: &Tensor<'_>, tile: u64) -> u64 {
    let rows = tensor.row.max(1) * ROWS as u64;
    if tensor.is_computed() && rows <= tile { tile / rows * rows } else { tile }
}

/// Takes what was sampled of one model.
fn take<R: Real>(sampled: &Mutex<Sample<R>>, model: usize) -> Vec<R::Bits> {
    std::mem::take(&mut sampled.lock().unwrap_or_else(PoisonError::into_inner)[model])
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
    /// Elements of a tile of each member.
    tiles: Vec<u64>,
    /// Neighbouring entries that are sampled together.
    run: u64,
    members: Vec<Member<'a>>,
    /// Position of each member's first entry, and the total behind the last.
    starts: Vec<u64>,
    /// Number of each member's first tile, and the count behind the last.
    first_tiles: Vec<u64>,
    pub searches: Vec<Search<R>>,
    /// Where votes are counted while the thresholds are looked for.
    early: Option<EarlyVotes<R>>,
    /// What was sampled of each member and of each of its models, until the last one comes.
    sampled: Vec<Mutex<Sample<R>>>,
    unsampled: AtomicUsize,
    unscanned: AtomicUsize,
}

/// Keys of each model.
type Sample<R> = Vec<Vec<<R as Real>::Bits>>;

impl<'a, R: Scan + Element> Domain<'a, R> {
    /// `members` in the order of their positions: names in byte order. What they drop is the same for all.
    pub fn new(
        level: Level,
        tile: u64,
        max_listed: usize,
        max_held: usize,
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
            tiles += tensor.elements.div_ceil(tile_of(tensor, tile));
        }
        starts.push(total);
        first_tiles.push(tiles);
        let trims = matches!(recipe.drop, Drop::Trim | Drop::Window);
        let models = if trims { recipe.models.len() } else { 0 };
        let count = || AtomicUsize::new(members.len());
        let computed = members.iter().any(|member| member.tensor.is_computed());
        let searches: Vec<_> =
            (0..models).map(|model| Search::new(recipe, model, total, tiles, max_listed)).collect();
        let searched = (1..=MODELS).contains(&models) && searches.iter().any(Search::is_open);
        let early = computed && searched && members.iter().all(|member| member.recipe.votes_early());
        Ok(Self {
            level,
            tiles: members.iter().map(|member| tile_of(&member.tensor, tile)).collect(),
            run: if computed { COMPUTED_RUN } else { RUN },
            searches,
            early: (early && max_held > 0).then(|| EarlyVotes::new(max_held)),
            sampled: members.iter().map(|_| Mutex::default()).collect(),
            unsampled: count(),
            unscanned: count(),
            members,
            starts,
            first_tiles,
        })
    }

    /// Whether any entries have to be looked at before the thresholds are known.
    pub fn is_open(&self) -> bool {
        self.searches.iter().any(Search::is_open)
    }

    /// How passes over a member cut it.
    pub fn tiling(&self, member: usize) -> Tiling {
        if self.members[member].tensor.is_computed() { Tiling::Runs(self.tiles[member]) } else { Tiling::Flat }
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

    /// Draws a member's part of the sample. A member that is alone draws it model by model when it is needed, which
    /// takes less memory.
    pub fn draw(&self, member: usize, buffers: &mut Buffers) -> Result<()> {
        if self.members.len() > 1 && self.is_sampled() {
            let keys =
                (0..self.searches.len()).map(|model| self.keys(member, model, buffers)).collect::<Result<_>>()?;
            *self.sampled[member].lock().unwrap_or_else(PoisonError::into_inner) = keys;
        }
        Ok(())
    }

    /// Says that a member has drawn its part; the last one to come sets the brackets.
    pub fn sample(&self, buffers: &mut Buffers) -> Result<()> {
        if self.unsampled.fetch_sub(1, Ordering::AcqRel) != 1 {
            return Ok(());
        }
        for (model, search) in self.searches.iter().enumerate().filter(|(_, search)| search.is_open()) {
            let sample = match self.members.len() {
                _ if !self.is_sampled() => None,
                1 => Some(self.keys(0, model, buffers)?),
                _ => Some(self.collect(model)),
            };
            for finder in search.finders() {
                finder.set_sample(sample.as_deref(), self.run as usize);
            }
        }
        Ok(())
    }

    /// What was sampled of one model, in the order of the members.
    fn collect(&self, model: usize) -> Vec<R::Bits> {
        let mut keys = Vec::with_capacity(sample_size(self.total()) as usize);
        self.sampled.iter().for_each(|sampled| keys.append(&mut take::<R>(sampled, model)));
        keys
    }

    fn total(&self) -> u64 {
        self.starts[self.members.len()]
    }

    fn is_sampled(&self) -> bool {
        self.total() >= SAMPLED
    }

    /// Keys of a member's share of evenly spread runs of entries of one model; none where nothing is looked for.
    fn keys(&self, member: usize, model: usize, buffers: &mut Buffers) -> Result<Vec<R::Bits>> {
        if !self.searches[model].is_open() {
            return Ok(Vec::new());
        }
        let spread = Spread { total: self.total(), runs: sample_size(self.total()) / self.run };
        let (start, end) = (self.starts[member], self.starts[member + 1]);
        let runs = spread.runs_within(start..end);
        let mut keys = Vec::with_capacity(((runs.end - runs.start) * self.run) as usize);
        let mut held = start;
        for place in runs.map(|run| spread.middle(run)) {
            let end = (place - start + self.run).min(self.members[member].tensor.elements);
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
        if held < end {
            self.release(held..end);
        }
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
        keys.resize(keys.len().max(x.len() + SLACK), <R::Bits as Key>::ZERO);
        let tile = self.first_tiles[member] + at / self.tiles[member];
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
        keys.resize(keys.len().max(len + SLACK), <R::Bits as Key>::ZERO);
        let tile = self.first_tiles[member] + at / self.tiles[member];
        for finder in self.searches[model].finders().filter(|finder| finder.is_open()) {
            let found = R::scan_stored(self.level, dtype, stored, finder.bracket(), keys);
            finder.add(tile, found, &keys[..found.within]);
        }
    }

    /// The votes of a tile, to be counted early; `None` where they have a pass of their own.
    pub fn round(&self) -> Option<Round<R>> {
        self.early.as_ref()?.round(self.searches.iter().map(Search::bracket).collect())
    }

    pub fn add_votes(&self, round: Round<R>) {
        if let Some(early) = &self.early {
            early.add(round);
        }
    }

    /// Whether votes are counted while the thresholds are looked for, if all goes well.
    pub fn votes_early(&self) -> bool {
        self.early.is_some()
    }

    /// Whether all votes are counted.
    pub fn has_voted(&self) -> bool {
        self.early.as_ref().is_some_and(EarlyVotes::is_settled)
    }

    /// Says that all of a member was scanned; the last one to come resolves the searches, and gets the votes that were
    /// counted early: positive ones less negative ones.
    pub fn resolve(&self, buffers: &mut Buffers) -> Result<i64> {
        if self.unscanned.fetch_sub(1, Ordering::AcqRel) != 1 {
            return Ok(0);
        }
        let brackets: Vec<_> = self.searches.iter().map(Search::bracket).collect();
        for (model, search) in self.searches.iter().enumerate() {
            for finder in search.finders() {
                finder.resolve(self.level, &mut Reader { domain: self, model, buffers })?;
            }
        }
        let lows: Vec<_> = self.searches.iter().map(Search::low).collect();
        Ok(self.early.as_ref().and_then(|early| early.settle(&brackets, &lows)).unwrap_or(0))
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
        let block = BLOCK.min((range.end - range.start) as usize);
        let (mut b, mut x) = (Vec::new(), vec![R::ZERO; block]);
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
        b.resize(block, R::ZERO);
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
        let start = (tile - domain.first_tiles[member]) * domain.tiles[member];
        let range = start..(start + domain.tiles[member]).min(domain.members[member].tensor.elements);
        let first = domain.starts[member];
        domain.deltas(member, self.model, range, self.buffers, &mut |at, x| each(first + at, x))
    }

    fn tiles(&self) -> u64 {
        self.domain.first_tiles[self.domain.members.len()]
    }
}
