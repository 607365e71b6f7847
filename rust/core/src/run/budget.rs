//! How much memory a run takes, and the cut that keeps it within what is allowed.

use serde::Serialize;

use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::kernels::BLOCK;
use crate::kernels::reduce::LEAF;
use crate::methods;
use crate::methods::operation::COMPUTED_READ;
use crate::methods::threshold::GRIDS;
use crate::plan::{Description, Input, Job, Plan};
use crate::writer::{WriterOptions, blocks_needed};

/// The default ceiling.
pub const DEFAULT_MEMORY: u64 = 1 << 30;

/// Elements of a tile where memory allows: small enough for the tiles of a few models to stay in the second-level cache.
const TILE: u64 = 1 << 16;

/// Bytes of the lists of all searches of a tensor where memory allows. A search whose list is too short for a fair
/// bracket reads the data again.
const LISTS: u64 = 24 << 20;

/// The same where a trim ranges over all of what is computed while it is read: reading it again is what costs most.
const COMPUTED_LISTS: u64 = 96 << 20;

/// A search's share of that, at the most.
const MAX_LISTED: u64 = 4 << 20;

/// What is not counted one by one: stacks, the plan itself, the schedule.
const FIXED: u64 = 8 << 20;

/// The cut of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Budget {
    pub threads: usize,
    /// Elements of a tile.
    pub tile: u64,
    /// Keys that a search lists at the most.
    pub max_listed: usize,
    pub block_bytes: usize,
    pub blocks: usize,
    /// Bytes of unpacked factors that are kept.
    pub factor_bytes: u64,
    /// Anonymous memory at the most.
    pub peak_bytes: u64,
}

/// What the plan's jobs ask for at their largest.
#[derive(Default)]
struct Demand {
    inputs: u64,
    input_size: u64,
    output_size: u64,
    /// Searches for a threshold that go on at the same time.
    searches: u64,
    key_size: u64,
    /// Bytes of working arrays of one block.
    block: u64,
    /// Bytes kept about a tensor from one pass to the next.
    kept: u64,
    /// Elements of a row that must be taken as a whole.
    row: u64,
    /// Bytes of the factors of a tensor that is computed while it is read.
    factors: u64,
    /// Bytes of the rows of left factors, and of their products with a panel, that one tile takes.
    lefts: u64,
}

impl Budget {
    pub fn new(plan: &Plan, memory: u64, threads: usize, tile: Option<u64>) -> Result<Self> {
        if let Some(tile) = tile
            && (tile < LEAF as u64 || !tile.is_power_of_two())
        {
            return Err(Error::plan(format!("a tile of {tile} elements; it must be a power of two from {LEAF} on")));
        }
        let demand = Demand::of(plan);
        let mut threads = threads.max(1);
        loop {
            for (tile_elements, lists) in demand.cuts() {
                let budget = Self::with(&demand, threads, tile.unwrap_or(tile_elements), lists);
                if budget.peak_bytes <= memory {
                    return Ok(budget);
                }
            }
            // Fewer threads before none at all.
            if threads == 1 {
                let needed = Self::with(&demand, 1, tile.unwrap_or(TILE), LISTS / 16).peak_bytes;
                return Err(Error::Memory { needed, budget: memory, remedy: "allow more with --memory" });
            }
            threads /= 2;
        }
    }

    fn with(demand: &Demand, threads: usize, tile: u64, lists: u64) -> Self {
        let writer = WriterOptions::default();
        let tile_elements = tile.max(demand.row);
        let tile_bytes = (tile_elements * demand.output_size) as usize;
        let blocks =
            blocks_needed(threads, tile_bytes.min(writer.block_bytes), writer.block_bytes).max(writer.blocks);
        let writer = WriterOptions { blocks, ..writer };
        let reading = demand.inputs * tile_elements * demand.input_size;
        let per_thread = reading + demand.block + demand.lefts;
        // A list is copied once more when it is resolved, and two tensors are under way at the same time.
        let max_listed = (lists / (2 * demand.searches.max(1) * demand.key_size)).min(MAX_LISTED) as usize;
        let lists = 2 * lists * u64::from(demand.searches > 0);
        // Two tensors are under way at the same time, and a thread holds on to what it is using.
        let factor_bytes = demand.factors.saturating_mul(2);
        let threads_bytes = threads as u64 * per_thread;
        let rest = FIXED + writer.memory(threads, tile_bytes) as u64 + threads_bytes + lists + demand.kept;
        // A plan that was edited may name factors of any size: they do not fit, which is the answer.
        let peak = rest.saturating_add(factor_bytes).saturating_add(demand.factors);
        Self { threads, tile, max_listed, block_bytes: writer.block_bytes, blocks, factor_bytes, peak_bytes: peak }
    }
}

impl Demand {
    fn of(plan: &Plan) -> Self {
        let mut demand = Self { inputs: 1, input_size: 1, output_size: 1, key_size: 4, ..Self::default() };
        let mut largest = 0;
        for job in &plan.jobs {
            let sizes = job.inputs.iter().map(|input| input.dtype().size() as u64);
            let wide = job.inputs.iter().any(|input| input.dtype() == Dtype::F64);
            let (inputs, real) = (job.inputs.len() as u64, if wide { 8 } else { 4 });
            demand.inputs = demand.inputs.max(inputs);
            demand.input_size = demand.input_size.max(sizes.max().unwrap_or(1));
            demand.output_size = demand.output_size.max(job.dtype.size() as u64);
            let ranked = job.method.name.starts_with("della");
            let row = if ranked || takes_rows(job) { job.shape.last().copied().unwrap_or(1) } else { 0 };
            demand.row = demand.row.max(row);
            let places = row.max(BLOCK as u64);
            demand.block = demand.block.max(places * (real * (inputs + 4) + if ranked { 4 * real + 24 } else { 0 }));
            let searches = match job.method.name.as_str() {
                "ties" | "magnitude_prune" => inputs.saturating_sub(1),
                "breadcrumbs" | "breadcrumbs_ties" => 2 * inputs.saturating_sub(1),
                _ => 0,
            };
            demand.searches = demand.searches.max(searches);
            demand.key_size = if wide && searches > 0 { 8 } else { demand.key_size };
            let described = || job.inputs.iter().filter_map(Input::description);
            let factors = described().map(Description::factor_bytes).fold(0, u64::saturating_add);
            demand.factors = demand.factors.max(factors);
            demand.lefts = demand.lefts.max(described().map(left_bytes).max().unwrap_or(0));
            largest = largest.max(job.elements());
            demand.kept = demand.kept.max(kept_bytes(job));
        }
        let digests = 16 * largest * demand.output_size / crate::writer::checksum::PIECE as u64;
        // Two tensors are under way at the same time.
        demand.kept = 2 * (demand.kept + digests + demand.searches * GRIDS);
        demand
    }
}

impl Demand {
    /// Elements of a tile and bytes of lists, the most comfortable first.
    fn cuts(&self) -> impl Iterator<Item = (u64, u64)> {
        let computed = [(COMPUTED_READ, COMPUTED_LISTS)].into_iter().filter(|_| self.factors > 0);
        computed.chain([(TILE, LISTS), (TILE, LISTS / 16)])
    }
}

/// Bytes of the rows of left factors that one piece touches, and of their products with a panel.
fn left_bytes(described: &Description) -> u64 {
    let rows = (COMPUTED_READ / described.columns.max(1) + 2).min(described.rows);
    let rank = described.products.iter().map(|product| product.rank).max().unwrap_or(0);
    // Stored, converted and packed, beside sums of a panel's width. (An edited plan may name any rank.)
    rows.saturating_mul(rank.min(1 << 30) * 3 + 32).saturating_mul(described.dtype.size() as u64)
}

fn flag(job: &Job, name: &str) -> Option<bool> {
    job.method.options.get(name).and_then(serde_json::Value::as_bool)
}

/// Whether a measured method reads whole rows at once.
fn takes_rows(job: &Job) -> bool {
    let by_row = flag(job, "nuslerp_flatten") == Some(false) && flag(job, "nuslerp_row_wise") == Some(false);
    by_row || flag(job, "filter_wise") == Some(true)
}

/// Dot products, coefficients and norms of a tensor.
fn kept_bytes(job: &Job) -> u64 {
    let Some(method) = methods::find(&job.method.name) else { return 0 };
    let vectors = job.inputs.len() as u64;
    let pairs = vectors * (vectors + 1) / 2;
    let places = match method.name {
        "nuslerp" if flag(job, "nuslerp_flatten") == Some(false) && flag(job, "nuslerp_row_wise") == Some(true) => {
            job.shape.iter().skip(1).product()
        }
        _ => job.elements() / LEAF as u64,
    };
    places * (pairs + vectors + 8) * 8
}
