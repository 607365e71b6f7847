//! Each family of kernels, for each instruction set, in bytes per second, beside a memcpy of the same bytes.
//!
//! ```text
//! cargo bench -p carrick-core -- convert
//! ```
//!
//! Bytes are those that a kernel reads and writes. A tile's worth of elements is used again and again, as in a merge, where a
//! tile stays in the second-level cache from one step to the next.

use std::hint::black_box;

use carrick_core::dtype::Dtype;
use carrick_core::kernels::combine::{add_scaled, add_to_base, combine as combine_vectors};
use carrick_core::kernels::consensus::{Voter, elect, gather, merge_agreeing, vote_by_sum};
use carrick_core::kernels::convert::Element;
use carrick_core::kernels::level::Level;
use carrick_core::kernels::order::Order;
use carrick_core::kernels::product::{Panel, ROWS, Target, pack_rows};
use carrick_core::kernels::random::{StreamKey, drop_rescale, fill, keep_below};
use carrick_core::kernels::reduce::{Lanes, add_dot, add_dots, add_norm1};
use carrick_core::kernels::select::{Bracket, SLACK, Scan, Stored};
use carrick_core::kernels::stored::{Block, Drops, RandomDrop};
use carrick_core::kernels::trim::keep_from;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Elements of a tile.
const TILE: usize = 1 << 16;
const F32: usize = size_of::<f32>();

/// Numbers spread as a task vector's are, by a generator small enough to stand here.
fn deltas(seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        f64::from(state) / 4_294_967_296.0 - 0.5
    };
    // The sum of a few uniform numbers is near enough to a normal one.
    (0..TILE).map(|_| ((0..6).map(|_| uniform()).sum::<f64>() * 0.0014) as f32).collect()
}

fn bf16(values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; values.len() * 2];
    f32::store(Level::SCALAR, Dtype::BF16, values, &mut bytes);
    bytes
}

/// Measures `kernel` on every level of this machine, and a memcpy that reads and writes as many bytes in all.
fn family(criterion: &mut Criterion, name: &str, nbytes: usize, kernel: impl FnMut(Level)) {
    family_at(criterion, name, nbytes, &Level::available(), kernel);
}

/// The same on some levels.
fn family_at(criterion: &mut Criterion, name: &str, nbytes: usize, levels: &[Level], mut kernel: impl FnMut(Level)) {
    let mut group: BenchmarkGroup<'_, WallTime> = criterion.benchmark_group(name);
    group.throughput(Throughput::Bytes(nbytes as u64));
    for &level in levels {
        group.bench_function(BenchmarkId::from_parameter(level.name()), |bencher| bencher.iter(|| kernel(level)));
    }
    let from = vec![1_u8; nbytes / 2];
    let mut to = vec![0_u8; nbytes / 2];
    group.bench_function("memcpy", |bencher| {
        bencher.iter(|| black_box(&mut to).copy_from_slice(black_box(&from)));
    });
    group.finish();
}

fn convert(criterion: &mut Criterion) {
    let values = deltas(1);
    let mut wide = vec![0_f32; TILE];
    for (name, dtype) in [("bf16", Dtype::BF16), ("f16", Dtype::F16), ("f8_e4m3", Dtype::F8E4M3)] {
        let mut bytes = vec![0; TILE * dtype.size()];
        f32::store(Level::SCALAR, dtype, &values, &mut bytes);
        let moved = TILE * (dtype.size() + F32);
        family(criterion, &format!("convert/load_{name}"), moved, |level| {
            black_box(f32::load(level, dtype, black_box(&bytes), &mut wide));
        });
        family(criterion, &format!("convert/store_{name}"), moved, |level| {
            black_box(f32::store(level, dtype, black_box(&values), &mut bytes));
        });
    }
    let (base, tuned) = (deltas(2), bf16(&values));
    family(criterion, "convert/load_delta_bf16", TILE * (2 + 2 * F32), |level| {
        black_box(f32::load_delta(level, Dtype::BF16, black_box(&tuned), &base, &mut wide));
    });
}

fn combine(criterion: &mut Criterion) {
    let (x, mut sum) = (deltas(3), deltas(4));
    family(criterion, "combine/add_scaled", TILE * 3 * F32, |level| {
        add_scaled(level, black_box(&mut sum), &x, 1e-9);
    });
    family(criterion, "combine/add_to_base", TILE * 3 * F32, |level| {
        add_to_base(level, black_box(&mut sum), &x, 1e-9);
    });
    let vectors = [deltas(13), deltas(14), deltas(15)];
    family(criterion, "combine/combine_3", TILE * 5 * F32, |level| {
        combine_vectors(level, &vectors, &(0..TILE), &[0.3, 0.3, 0.4], Some(&x), black_box(&mut sum));
    });
}

fn consensus(criterion: &mut Criterion) {
    let models = [deltas(5), deltas(6), deltas(7)];
    let base = deltas(8);
    let mut votes = vec![0_f32; TILE];
    family(criterion, "consensus/vote_by_sum", TILE * 3 * F32, |level| {
        vote_by_sum(level, black_box(&mut votes), &models[0]);
    });
    family(criterion, "consensus/elect", TILE * 2 * F32, |level| elect(level, black_box(&mut votes), 1.0));
    let (mut sums, mut divisors) = (vec![0_f32; TILE], vec![0_f32; TILE]);
    family(criterion, "consensus/gather", TILE * 6 * F32, |level| {
        gather(level, &models[0], &votes, 0.5, 0.5, black_box(&mut sums), &mut divisors);
    });
    let voter = Voter { low: 0.001_f32.to_bits(), weight: 0.5, factor: 1.0, share: 0.5 };
    family(criterion, "consensus/merge_agreeing_3", TILE * 5 * F32, |level| {
        let slices = [models[0].as_slice(), &models[1], &models[2]];
        merge_agreeing(level, slices, [voter; 3], 1.0, true, &base, 1.0, black_box(&mut sums));
    });
}

fn reduce(criterion: &mut Criterion) {
    let (a, b) = (deltas(9), deltas(10));
    family(criterion, "reduce/dot", TILE * 2 * F32, |level| {
        let mut lanes = Lanes::default();
        add_dot(level, &mut lanes, black_box(&a), &b);
        black_box(lanes.total());
    });
    family(criterion, "reduce/norm1", TILE * F32, |level| {
        let mut lanes = Lanes::default();
        add_norm1(level, &mut lanes, black_box(&a));
        black_box(lanes.total());
    });
    let vectors = [deltas(16), deltas(17), deltas(18)];
    family(criterion, "reduce/dots_3", TILE * 3 * F32, |level| {
        let mut lanes = [Lanes::default(); 6];
        add_dots(level, &mut lanes, black_box(&vectors), &(0..TILE));
        black_box(lanes);
    });
}

fn select(criterion: &mut Criterion) {
    let x = deltas(11);
    let mut keys = vec![0_u32; TILE + SLACK];
    // About one entry in fifty lies within.
    let bracket = Bracket { low: 0.000_80_f32.to_bits(), high: 0.000_82_f32.to_bits() };
    family(criterion, "select/scan", TILE * F32, |level| {
        black_box(f32::scan(level, black_box(&x), bracket, &mut keys));
    });
    let mut trimmed = x.clone();
    family(criterion, "select/keep_from", TILE * 2 * F32, |level| {
        keep_from(level, black_box(&mut trimmed), bracket.low);
    });
}

fn random(criterion: &mut Criterion) {
    let key = StreamKey::new(0, 0, "model.layers.0.mlp.up_proj.weight");
    let mut numbers = vec![0_u32; TILE];
    family(criterion, "random/philox_7", TILE * F32, |level| fill(level, key, 0, black_box(&mut numbers)));
    let mut x = deltas(12);
    family(criterion, "random/drop_rescale", TILE * 3 * F32, |level| {
        drop_rescale(level, black_box(&mut x), &numbers, keep_below(0.5), 1.0);
    });
}

/// Entries of a base and three models as they are stored, merged without being decoded first.
fn stored(criterion: &mut Criterion) {
    let [base, models @ ..] = [19, 20, 21, 22].map(|seed| bf16(&deltas(seed)));
    let models = models.each_ref().map(Vec::as_slice);
    let numbers: [Vec<u32>; 3] = std::array::from_fn(|model| {
        let mut numbers = vec![0; TILE];
        fill(Level::detect(), StreamKey::new(0, model as u64, "weight"), 0, &mut numbers);
        numbers
    });
    let voter = Voter { low: 0.001_f32.to_bits(), weight: 0.5, factor: 1.0, share: 0.5 };
    let ties = Block {
        base: &base,
        models,
        numbers: [&[][..]; 3],
        drops: Drops::Smallest,
        voters: [voter; 3],
        zero: 1.0,
        divides: true,
        lambda: 1.0,
    };
    let mut out = vec![0; base.len()];
    family(criterion, "stored/ties_3_bf16", 5 * base.len(), |level| {
        black_box(black_box(&ties).merge(level, Dtype::BF16, &mut out));
    });
    let drop = RandomDrop::new(keep_below(0.5), 2.0);
    let dare = Block {
        numbers: numbers.each_ref().map(Vec::as_slice),
        drops: Drops::Random([drop; 3]),
        voters: [Voter { low: 0, ..voter }; 3],
        ..ties
    };
    family(criterion, "stored/dare_ties_3_bf16", 5 * base.len() + 3 * TILE * F32, |level| {
        black_box(black_box(&dare).merge(level, Dtype::BF16, &mut out));
    });
    let mut keys = vec![0_u32; TILE + SLACK];
    let bracket = Bracket { low: 0.001_f32.to_bits(), high: 0.001_02_f32.to_bits() };
    let pair = Stored { base: &base, tuned: models[0] };
    // The other levels decode entries before they scan them.
    let levels: Vec<Level> =
        Level::available().into_iter().filter(|&level| f32::scans_stored(level, Dtype::BF16)).collect();
    family_at(criterion, "stored/scan_bf16", 2 * base.len(), &levels, |level| {
        black_box(f32::scan_stored(level, Dtype::BF16, black_box(pair), bracket, &mut keys));
    });
}

/// Rows of a task vector brought in the order of their magnitudes, as DELLA wants them.
fn order(criterion: &mut Criterion) {
    const ROW: usize = 2048;
    let x = deltas(23);
    let mut order = Order::<f32>::default();
    family(criterion, "order/sort_rows", TILE * F32, |level| {
        for row in black_box(&x).chunks(ROW) {
            black_box(order.sort(level, row));
        }
    });
}

/// Rows of B·A of an adapter of rank 64; bytes are those of the result, what is multiplied stays in the cache.
fn product(criterion: &mut Criterion) {
    const RANK: usize = 64;
    const COLUMNS: usize = TILE / ROWS;
    let mut left = Vec::new();
    pack_rows(&deltas(24)[..ROWS * RANK], RANK, &mut left);
    let panel = &deltas(25)[..RANK * f32::WIDTH];
    let mut out = vec![0_f32; TILE];
    family(criterion, "product/rank_64", TILE * F32, |level| {
        for first in (0..COLUMNS).step_by(f32::WIDTH) {
            let target = Target {
                out: &mut out[first..],
                stride: COLUMNS,
                rows: 0..ROWS,
                columns: 0..f32::WIDTH,
                adds: false,
                scale: 1.0,
            };
            f32::multiply(level, black_box(&left), panel, target);
        }
    });
}

criterion_group!(kernels, convert, combine, consensus, reduce, select, stored, order, product, random);
criterion_main!(kernels);
