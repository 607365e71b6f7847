//! How much memory a run takes, and the cut that keeps it within what is allowed.

use serde::Serialize;

use super::work::Settings;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::kernels::BLOCK;
use crate::kernels::level::Level;
use crate::kernels::reduce::LEAF;
use crate::methods;
use crate::methods::columns::Columns;
use crate::methods::operation::{COMPUTED_READ, Tiling};
use crate::methods::threshold::{GRIDS, sample_size};
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

/// Bytes of the entries of votes that are counted before the thresholds are known, where memory is comfortable.
const HELD: u64 = 48 << 20;

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
    /// Bytes of votes that are counted early and still open.
    pub max_held: usize,
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
    /// Keys of the samples that are held at the same time.
    sampled: u64,
    /// Whether votes may be counted early.
    votes: bool,
    /// Bytes of working arrays of one block.
    block: u64,
    /// Bytes kept about a tensor from one pass to the next.
    kept: u64,
    /// Elements of a row that must be taken as a whole.
    row: u64,
    /// Bytes of the factors of a tensor that is computed while it is read.
    factors: u64,
    /// Bytes of an element of what a block of such a tensor is read to: as it is stored, and in the type of the
    /// arithmetic.
    blocks: u64,
    /// Bytes of the rows of left factors, and of their products with a panel, that one tile takes in either type.
    lefts: [u64; 2],
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
        let reading = tile_elements * (demand.inputs * demand.input_size + demand.blocks);
        // A list is copied once more when it is resolved, and two tensors are under way at the same time.
        let max_listed = (lists / (2 * demand.searches.max(1) * demand.key_size)).min(MAX_LISTED) as usize;
        let held = if demand.votes && lists >= COMPUTED_LISTS { HELD } else { 0 };
        // Samples are gone before anything is listed.
        let lists = (2 * lists * u64::from(demand.searches > 0)).max(demand.sampled * demand.key_size);
        // Two tensors are under way at the same time, and a thread holds on to what it is using.
        let factor_bytes = demand.factors.saturating_mul(2);
        // A thread's share of votes, a 16th of those of a tensor, grows by doubling.
        let per_thread = reading + demand.block + demand.lefts.iter().sum::<u64>() + held / 16;
        let threads_bytes = threads as u64 * per_thread;
        let rest = FIXED + writer.memory(threads, tile_bytes) as u64 + threads_bytes + lists + held + demand.kept;
        // A plan that was edited may name factors of any size: they do not fit, which is the answer.
        let peak = rest.saturating_add(factor_bytes).saturating_add(demand.factors);
        Self {
            threads,
            tile,
            max_listed,
            // Two tensors are under way at the same time.
            max_held: (held / 2) as usize,
            block_bytes: writer.block_bytes,
            blocks,
            factor_bytes,
            peak_bytes: peak,
        }
    }

    /// How the engine cuts under this budget.
    pub fn settings(&self, level: Level, seed: u64) -> Settings {
        Settings { level, seed, tile: self.tile, max_listed: self.max_listed, max_held: self.max_held }
    }
}

impl Demand {
    fn of(plan: &Plan) -> Self {
        let mut demand = Self { inputs: 1, input_size: 1, output_size: 1, key_size: 4, ..Self::default() };
        let (mut largest, mut coefficients, mut shared, mut searched) = (0, 0, 0, 0);
        for job in &plan.jobs {
            let sizes = job.inputs.iter().map(|input| input.dtype().size() as u64);
            let wide = job.inputs.iter().any(|input| input.dtype() == Dtype::F64);
            let (inputs, real) = (job.inputs.len() as u64, if wide { 8 } else { 4 });
            demand.inputs = demand.inputs.max(inputs);
            demand.input_size = demand.input_size.max(sizes.max().unwrap_or(1));
            demand.output_size = demand.output_size.max(job.dtype.size() as u64);
            let ranked = is_ranked(job);
            // A tensor without elements has no rows either, however long its header says they are.
            let rows = (ranked || takes_rows(job)) && job.elements() > 0;
            let row = if rows { job.shape.last().copied().unwrap_or(1) } else { 0 };
            demand.row = demand.row.max(row);
            let places = row.max(BLOCK as u64);
            demand.block = demand.block.max(places * (real * (inputs + 4) + if ranked { 4 * real + 24 } else { 0 }));
            let strip = columns_of(job).map_or(0, Columns::of_a_thread);
            let vectors = job.inputs.iter().filter(|input| !input.base).count() as u64;
            demand.block = demand.block.max(strip * (dots_bytes(vectors) + vectors * real));
            let searches = match job.method.name.as_str() {
                "ties" | "magnitude_prune" => inputs.saturating_sub(1),
                "breadcrumbs" | "breadcrumbs_ties" => 2 * inputs.saturating_sub(1),
                _ => 0,
            };
            demand.searches = demand.searches.max(searches);
            let by_model = choice(job, "trim_scope") == Some("model");
            searched = searched.max(if searches > 0 { job.elements() } else { 0 });
            shared += if searches > 0 && by_model { job.elements() } else { 0 };
            demand.votes |= searches > 0 && choice(job, "zero_vote") == Some("majority");
            demand.key_size = if wide && searches > 0 { 8 } else { demand.key_size };
            let described = || job.inputs.iter().filter_map(Input::description);
            let factors = described().map(Description::factor_bytes).fold(0, u64::saturating_add);
            demand.factors = demand.factors.max(factors);
            for described in described() {
                let lefts = &mut demand.lefts[usize::from(described.dtype == Dtype::F64)];
                *lefts = left_bytes(described).max(*lefts);
                let stored = described.blocks.iter().map(|block| block.place.dtype.size() + described.dtype.size());
                demand.blocks = demand.blocks.max(stored.max().unwrap_or(0) as u64);
            }
            largest = largest.max(job.elements());
            demand.kept = demand.kept.max(kept_bytes(job, vectors, real));
            coefficients = coefficients.max(coefficient_bytes(job, vectors, real));
        }
        let digests = 16 * largest * demand.output_size / crate::writer::checksum::PIECE as u64;
        // Two tensors are under way at the same time. The last tiles of one before them may still be written.
        demand.kept = 2 * (demand.kept + digests + demand.searches * GRIDS) + coefficients;
        // Those of all models where they share a trim, and two more of one, on their way to its bracket; otherwise one of
        // each of two tensors, and a copy.
        let shared = (demand.inputs + 2) * if shared > 0 { sample_size(shared) } else { 0 };
        demand.sampled = shared.max(4 * if demand.searches > 0 { sample_size(searched) } else { 0 });
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

fn choice<'j>(job: &'j Job, name: &str) -> Option<&'j str> {
    job.method.options.get(name).and_then(serde_json::Value::as_str)
}

fn flag(job: &Job, name: &str) -> Option<bool> {
    job.method.options.get(name).and_then(serde_json::Value::as_bool)
}

/// Whether a measured method reads whole rows at once.
fn takes_rows(job: &Job) -> bool {
    let by_row = flag(job, "nuslerp_flatten") == Some(false) && flag(job, "nuslerp_row_wise") == Some(false);
    by_row || flag(job, "filter_wise") == Some(true)
}

/// The columns that a measured method takes apart.
fn columns_of(job: &Job) -> Option<Columns> {
    let by_column = flag(job, "nuslerp_flatten") == Some(false) && flag(job, "nuslerp_row_wise") == Some(true);
    if by_column { Columns::of(&job.shape) } else { None }
}

/// Whether entries are dropped by their rank in a row.
fn is_ranked(job: &Job) -> bool {
    job.method.name.starts_with("della")
}

/// Dot products of every two vectors, each with itself among them.
fn dots_bytes(vectors: u64) -> u64 {
    vectors * (vectors + 1) / 2 * 8
}

/// Coefficients of each column.
fn coefficient_bytes(job: &Job, vectors: u64, real: u64) -> u64 {
    columns_of(job).map_or(0, |columns| columns.count * vectors * real)
}

/// Dot products, coefficients and norms of a tensor.
fn kept_bytes(job: &Job, vectors: u64, real: u64) -> u64 {
    if methods::find(&job.method.name).is_none() {
        return 0;
    }
    if let Some(columns) = columns_of(job) {
        return columns.kept() * dots_bytes(vectors) + coefficient_bytes(job, vectors, real);
    }
    let tiling = if is_ranked(job) { Tiling::Rows } else { Tiling::Flat };
    let leaves = job.elements() / tiling.leaf(job.shape.last().copied().unwrap_or(1));
    // The map and the lists that they are kept in take some, too.
    leaves * (dots_bytes(vectors + 1) + 8 * (vectors + 9))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The merge of one tensor of a base and three models, or two.
    fn plan(method: &str, options: &serde_json::Value, shape: &[u64]) -> Plan {
        let models = if method == "nuslerp" { 2 } else { 3 };
        let model = |index: u64| json!({"file": 0, "offset": 0, "dtype": "BF16", "index": index});
        let base = json!({"file": 0, "offset": 0, "dtype": "BF16", "base": true});
        let inputs: Vec<_> = std::iter::once(base).chain((0..models).map(model)).collect();
        let plan = json!({
            "format": crate::plan::FORMAT, "version": crate::plan::VERSION, "seed": 0, "files": [], "shards": [],
            "jobs": [{
                "name": "w", "shape": shape, "dtype": "BF16", "shard": 0, "offset": 0, "inputs": inputs,
                "method": {"name": method, "options": options},
            }],
        });
        serde_json::from_value(plan).unwrap()
    }

    fn columns() -> serde_json::Value {
        json!({"nuslerp_flatten": false, "nuslerp_row_wise": true})
    }

    #[test]
    fn what_is_kept_of_a_large_tensor_stays_small() {
        let norms = json!({"rescale": "l1"});
        for shape in [&[128_256, 2048][..], &[8192, 28_672], &[16_384, 65_536], &[128, 2048, 1536]] {
            for (method, options) in [("nuslerp", columns()), ("della", norms.clone())] {
                let plan = plan(method, &options, shape);
                let budget = Budget::new(&plan, DEFAULT_MEMORY, 2, None).unwrap();
                // But for coefficients of more columns than most tensors have entries.
                let coefficients = 3 * coefficient_bytes(&plan.jobs[0], 2, 4);
                let most = if shape.len() > 2 { (32 << 20) + coefficients } else { 96 << 20 };
                assert!(budget.peak_bytes < most, "{} bytes of {method}, {shape:?}", budget.peak_bytes);
            }
        }
    }

    #[test]
    fn coefficients_of_three_tensors_may_be_held() {
        let peak = |shape: &[u64]| {
            Budget::new(&plan("nuslerp", &columns(), shape), DEFAULT_MEMORY, 2, None).unwrap().peak_bytes
        };
        // As many entries in twice as many columns.
        assert_eq!(peak(&[64, 4096, 1536]) - peak(&[128, 2048, 1536]), 3 * 2048 * 1536 * 2 * 4);
    }

    #[test]
    fn a_tensor_without_elements_takes_nothing() {
        let by_row = json!({"nuslerp_flatten": false, "nuslerp_row_wise": false});
        for (method, options) in
            [("della", json!({})), ("nuslerp", by_row), ("model_stock", json!({"filter_wise": true}))]
        {
            let peak = |shape: &[u64]| {
                Budget::new(&plan(method, &options, shape), DEFAULT_MEMORY, 2, None).unwrap().peak_bytes
            };
            // Two threads' rows of so many elements would take 2⁶⁴ bytes, or none.
            assert_eq!(peak(&[0, u64::MAX.div_ceil(152)]), peak(&[0, 1]), "{method}");
        }
    }

    #[test]
    fn sums_down_columns_and_their_coefficients_are_counted() {
        let kept = |shape: &[u64]| kept_bytes(&plan("nuslerp", &columns(), shape).jobs[0], 2, 4);
        // Three sums of each column and run of rows, and their total; two coefficients.
        assert_eq!(kept(&[128_256, 2048]), 2048 * (65 * 3 * 8 + 2 * 4));
        // Strips are resolved at once.
        assert_eq!(kept(&[128, 2048, 1536]), 2048 * 1536 * 2 * 4);
    }
}
