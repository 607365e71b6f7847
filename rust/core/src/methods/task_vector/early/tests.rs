//! Votes that are counted early against those of a pass, and merges that count them either way.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::counts::Counts;
use crate::error::Result;
use crate::plan::Job;
use crate::run::hooks::Hooks;
use crate::run::pool::{self, Sink};
use crate::run::schedule::Schedule;
use crate::run::work::{RunFactors, Settings, Sources, compile};
use crate::source::{Bytes, Memory};

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
        let Some(mut round) = votes.round(brackets.to_vec()) else { break };
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
    let least = SHARES * (4 * size_of::<f32>() + 5 * LIST);
    assert_eq!(counted(Level::detect(), &x, brackets, lows, least), Some(1));
    assert_eq!(counted(Level::detect(), &x, brackets, lows, least - 1), None);
}

/// A file that counts what is read of it.
struct Counting<'b> {
    memory: Memory<'b>,
    read: AtomicUsize,
}

impl Bytes for Counting<'_> {
    fn read<'a>(&'a self, begin: u64, len: usize, buffer: &'a mut Vec<u8>) -> Result<&'a [u8]> {
        self.read.fetch_add(len, Ordering::Relaxed);
        self.memory.read(begin, len, buffer)
    }
}

/// Results of several jobs.
struct Results(Vec<Mutex<Vec<u8>>>);

impl Sink for Results {
    fn write(
        &self,
        job: usize,
        range: Range<u64>,
        merge: &mut dyn FnMut(&mut [u8]) -> Result<Counts>,
    ) -> Result<Counts> {
        let mut out = vec![0; (range.end - range.start) as usize * 4];
        let counts = merge(&mut out)?;
        self.0[job].lock().unwrap()[range.start as usize * 4..][..out.len()].copy_from_slice(&out);
        Ok(counts)
    }

    fn finish(&self, _: usize, _: Counts) -> Result<()> {
        Ok(())
    }
}

/// One tensor's inputs.
#[derive(Clone, Copy)]
struct Shape {
    rows: usize,
    columns: usize,
    /// Described, or stored as they are.
    described: bool,
}

/// How a merge goes about it.
#[derive(Clone, Copy)]
struct Way {
    max_listed: usize,
    max_held: usize,
    threads: usize,
    level: Level,
}

impl Way {
    fn early(threads: usize, level: Level) -> Self {
        Self { max_listed: 1 << 20, max_held: 64 << 20, threads, level }
    }

    fn late() -> Self {
        Self { max_listed: 1 << 20, max_held: 0, threads: 1, level: Level::SCALAR }
    }
}

/// Merges tensors of few distinct values with a base of BF16, and says how many bytes were read.
fn merged(method: &Value, shapes: &[Shape], models: usize, data: &[u8], way: Way) -> (Vec<Vec<u8>>, usize) {
    let mut at = 0;
    let mut jobs: Vec<Job> = Vec::new();
    for (number, &Shape { rows, columns, described }) in shapes.iter().enumerate() {
        let mut place = || {
            at += rows * columns * 2;
            json!({"file": 0, "offset": at - rows * columns * 2, "dtype": "BF16"})
        };
        let mut base = place();
        base["base"] = true.into();
        let mut inputs = vec![base];
        for index in 0..models {
            let mut input = place();
            if described {
                input["rows"] = rows.into();
                input["columns"] = columns.into();
                input = json!({"described": {"dtype": "F32", "rows": rows, "columns": columns, "blocks": [input]}});
            }
            input["index"] = index.into();
            // One of them keeps everything, so that only the others are looked at.
            input["parameters"] = json!({"weight": 1, "density": if index == 3 { 1.0 } else { 0.5 }});
            inputs.push(input);
        }
        let job = json!({"name": format!("w{number}"), "shape": [rows, columns], "dtype": "F32", "shard": 0,
            "offset": 0, "method": method, "inputs": inputs});
        jobs.push(serde_json::from_value(job).unwrap());
    }
    let source = Counting { memory: Memory(data), read: AtomicUsize::new(0) };
    let factors = RunFactors::new(0);
    let Way { max_listed, max_held, threads, level } = way;
    let settings = Settings { level, seed: 0, tile: 1 << 16, max_listed, max_held };
    let works =
        compile(&jobs, &Sources { files: Arc::new([&source as &dyn Bytes]), factors: &factors }, settings).unwrap();
    let results = Results(shapes.iter().map(|s| Mutex::new(vec![0; s.rows * s.columns * 4])).collect());
    let schedule = Schedule::new(&works, settings.tile, &vec![false; jobs.len()]);
    pool::run(&works, &schedule, &results, threads, &Hooks::default()).unwrap();
    let read = source.read.load(Ordering::Relaxed);
    (results.0.into_iter().map(|result| result.into_inner().unwrap()).collect(), read)
}

/// BF16 codes of quarters, more of them `lean` than anything else.
fn quarters(count: usize, lean: f32) -> Vec<u8> {
    let mut state = lean.to_bits();
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9);
        let mixed = (state ^ (state >> 16)).wrapping_mul(0x85EB_CA6B);
        let mixed = (mixed ^ (mixed >> 13)).wrapping_mul(0xC2B2_AE35);
        let quarter = ((mixed >> 16) % 13) as f32 / 4.0 - 1.5;
        if (mixed >> 8).is_multiple_of(7) { lean } else { quarter }
    };
    (0..count).flat_map(|_| ((next().to_bits() >> 16) as u16).to_le_bytes()).collect()
}

fn entries(shapes: &[Shape]) -> usize {
    shapes.iter().map(|shape| shape.rows * shape.columns).sum()
}

fn ties(scope: &str, zero_vote: &str) -> Value {
    json!({"name": "ties", "options": {"normalize": false, "lambda": 1, "rescale": "false", "trim_scope": scope,
        "kept_count": "floor_plus_one", "at_threshold": "all", "vote": "sum", "zero_vote": zero_vote,
        "aggregate": "mean"}})
}

const fn computed(rows: usize, columns: usize) -> Shape {
    Shape { rows, columns, described: true }
}

const fn stored(rows: usize, columns: usize) -> Shape {
    Shape { rows, columns, described: false }
}

#[test]
fn a_merge_does_not_depend_on_when_its_votes_are_counted() {
    // Columns that divide a tile and others; entries enough to be sampled, and too few; tensors that are stored.
    let mixed = [computed(160, 1024), stored(700, 900), computed(40, 3_333), computed(0, 9), computed(9, 20_000)];
    for shapes in [&mixed[..], &[computed(7, 5)], &[computed(300, 700)]] {
        for (scope, models, lean) in
            [("model", 3, 0.25), ("model", 4, -0.25), ("tensor", 3, -0.25), ("tensor", 2, 0.25)]
        {
            // What is stored leans the other way, and is more than the rest.
            let of = |shape: &Shape| {
                let lean = if shape.described { lean } else { -lean };
                [quarters(shape.rows * shape.columns, 0.0), quarters(models * shape.rows * shape.columns, lean)]
                    .concat()
            };
            let data: Vec<u8> = shapes.iter().flat_map(of).collect();
            let merge = |zero_vote, way| merged(&ties(scope, zero_vote), shapes, models, &data, way);
            let (late, all) = merge("majority", Way::late());
            for way in Level::available()
                .into_iter()
                .map(|level| Way::early(1, level))
                .chain([Way::early(3, Level::detect())])
            {
                let (early, read) = merge("majority", way);
                assert!(early == late, "{scope}, {} tensors", shapes.len());
                // One pass less, but for tensors that are not computed and have a trim of their own.
                assert!(read * 10 < all * 9, "{read} of {all} bytes, {scope}, {} tensors", shapes.len());
            }
            // Votes of zero are there, and the majority decides them.
            let decides = merge("none", Way::late()).0 != late;
            assert!(decides || entries(shapes) < 100, "{scope}, {models} models, {} tensors", shapes.len());
        }
    }
}

#[test]
fn tiles_of_several_shapes_are_searched_again_in_order() {
    let shapes = [computed(100, 1031), stored(50, 700), computed(11, 13_000)];
    let data = quarters(2 * entries(&shapes), 0.75);
    let method = json!({"name": "magnitude_prune", "options": {"normalize": false, "lambda": 1, "rescale": "false",
        "trim_scope": "model", "kept_count": "floor", "at_threshold": "lowest_index"}});
    let code =
        |index: usize| f32::from_bits(u32::from(u16::from_le_bytes([data[2 * index], data[2 * index + 1]])) << 16);
    let (mut base, mut deltas, mut first) = (Vec::new(), Vec::new(), 0);
    for count in shapes.map(|shape| shape.rows * shape.columns) {
        base.extend((first..first + count).map(code));
        deltas.extend((first..first + count).map(|i| code(count + i) - code(i)));
        first += 2 * count;
    }
    let mut order: Vec<usize> = (0..deltas.len()).collect();
    order.sort_by(|&a, &b| deltas[b].abs().total_cmp(&deltas[a].abs()).then(a.cmp(&b)));
    let mut expected = base;
    order[..deltas.len() / 2].iter().for_each(|&i| expected[i] += deltas[i]);
    // With lists that have room, and without: then the data are read again for every digit of the threshold.
    for max_listed in [1 << 20, 0] {
        let way = Way { max_listed, ..Way::early(2, Level::detect()) };
        let (found, _) = merged(&method, &shapes, 1, &data, way);
        let found: Vec<f32> = found.concat().as_chunks().0.iter().map(|raw| f32::from_le_bytes(*raw)).collect();
        assert!(found == expected, "lists of {max_listed}");
    }
}
