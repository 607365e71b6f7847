//! The order of the work: which tile comes next, and what has to be done before it.
//!
//! Tiles, not tensors, are handed out, so that all threads work on one large tensor together. A measuring pass of the
//! next tensors comes before the writing pass of this one: a thread that has nothing left to measure here goes on there
//! instead of waiting. Where a measure ranges over the whole model, each pass over all tensors comes before the next.
//! Writing passes keep the order of the output's bytes.

use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::work::Work;

/// One pass over one tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    Measure(usize),
    Write,
}

#[derive(Clone, Copy, Debug)]
struct Step {
    job: usize,
    pass: Pass,
    /// Elements of a tile.
    tile: u64,
    /// What must be done before.
    after: After,
}

#[derive(Clone, Copy, Debug)]
enum After {
    Nothing,
    /// This step.
    Step(usize),
    /// All steps before this one.
    Prefix(usize),
}

/// A tile to work on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    step: usize,
    pub job: usize,
    pub pass: Pass,
    pub range: Range<u64>,
}

pub struct Schedule {
    steps: Vec<Step>,
    elements: Vec<u64>,
    state: Mutex<State>,
    moved: Condvar,
}

/// The steps under construction.
struct Steps<'s, 'w> {
    works: &'s [Work<'w>],
    skip: &'s [bool],
    tile: u64,
    /// Measuring passes at the most; the writing pass comes behind them.
    depth: usize,
    steps: Vec<Step>,
    /// The last step of each job.
    last: Vec<Option<usize>>,
}

impl Steps<'_, '_> {
    /// Adds a pass of a job, if the job has it and it is needed.
    fn push(&mut self, job: usize, pass: usize, after: Option<After>) {
        let operation = &self.works[job].operation;
        let measures = operation.measures();
        let (pass, tiling) = match measures.get(pass) {
            Some(&tiling) => (Pass::Measure(pass), tiling),
            None if pass == self.depth => (Pass::Write, operation.tiling()),
            None => return,
        };
        if self.skip[job] && (pass == Pass::Write || !operation.is_model_wide()) {
            return;
        }
        let after = after.unwrap_or_else(|| self.last[job].map_or(After::Nothing, After::Step));
        self.last[job] = Some(self.steps.len());
        self.steps.push(Step { job, pass, tile: self.works[job].tile(tiling, self.tile), after });
    }
}

struct State {
    /// The step that is being handed out, and its next element.
    step: usize,
    next: u64,
    /// Tiles of each step that are out or not yet handed out.
    left: Vec<u64>,
    /// Steps up to here are all done.
    done: usize,
    stopped: bool,
}

impl Schedule {
    /// `skip` holds for jobs whose bytes are on disk already; their measures are taken only where others need them.
    pub fn new(works: &[Work<'_>], tile: u64, skip: &[bool]) -> Self {
        let depth = works.iter().map(|work| work.operation.measures().len()).max().unwrap_or(0);
        let mut steps = Steps { works, skip, tile, depth, steps: Vec::new(), last: vec![None; works.len()] };
        if works.iter().any(|work| work.operation.is_model_wide()) {
            for pass in 0..=depth {
                let before = After::Prefix(steps.steps.len());
                (0..works.len()).for_each(|job| steps.push(job, pass, Some(before)));
            }
        } else {
            for place in 0..works.len() + depth {
                let passes = (0..=depth).filter(|&pass| pass <= place && place - pass < works.len());
                passes.for_each(|pass| steps.push(place - pass, pass, None));
            }
        }
        let steps = steps.steps;
        let elements: Vec<u64> = works.iter().map(|work| work.elements).collect();
        let left = steps.iter().map(|step| elements[step.job].div_ceil(step.tile).max(1)).collect();
        let state = Mutex::new(State { step: 0, next: 0, left, done: 0, stopped: false });
        Self { steps, elements, state, moved: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is consistent whenever the lock is free; a thread that panicked stops the run anyway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next tile, once what it needs is done; `None` when nothing is left or the run was stopped.
    pub fn next(&self) -> Option<Task> {
        let mut state = self.lock();
        let task = {
            let step = self.steps.get(state.step).filter(|_| !state.stopped)?;
            let (elements, start) = (self.elements[step.job], state.next);
            let end = start.saturating_add(step.tile).min(elements);
            let task = Task { step: state.step, job: step.job, pass: step.pass, range: start..end };
            if end >= elements {
                (state.step, state.next) = (state.step + 1, 0);
            } else {
                state.next = end;
            }
            task
        };
        while !state.stopped && !self.is_ready(&state, task.step) {
            state = self.moved.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        (!state.stopped).then_some(task)
    }

    fn is_ready(&self, state: &State, step: usize) -> bool {
        match self.steps[step].after {
            After::Nothing => true,
            After::Step(before) => state.left[before] == 0,
            After::Prefix(steps) => state.done >= steps,
        }
    }

    /// Says that a tile was done; true for the last one of its pass, which must then be [`closed`](Self::close).
    pub fn finish(&self, task: &Task) -> bool {
        let mut state = self.lock();
        // The last tile of a pass is given back only when the pass is closed.
        if state.left[task.step] > 1 {
            state.left[task.step] -= 1;
            return false;
        }
        true
    }

    /// Says that a pass was resolved: what waited for it may go on.
    pub fn close(&self, task: &Task) {
        let mut state = self.lock();
        state.left[task.step] = 0;
        while state.done < self.steps.len() && state.left[state.done] == 0 {
            state.done += 1;
        }
        drop(state);
        self.moved.notify_all();
    }

    pub fn stop(&self) {
        self.lock().stopped = true;
        self.moved.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::kernels::level::Level;
    use crate::plan::Job;
    use crate::run::work::{RunFactors, Settings, Sources, compile};
    use crate::source::{Bytes, Memory};

    const TILE: u64 = 1 << 16;

    /// The tiles of the measuring pass of one tensor, whose elements nobody reads.
    fn measured(method: &str, options: &serde_json::Value, shape: [u64; 2], tile: u64) -> Vec<Range<u64>> {
        let parameters = match method {
            "della" => json!({"weight": 1, "density": 0.5, "epsilon": 0.1}),
            _ => json!({"weight": 1}),
        };
        let model =
            |index: u64| json!({"file": 0, "offset": 0, "dtype": "BF16", "index": index, "parameters": parameters});
        let base = json!({"file": 0, "offset": 0, "dtype": "BF16", "base": true});
        let job = json!({
            "name": "w", "shape": shape, "dtype": "BF16", "shard": 0, "offset": 0,
            "method": {"name": method, "options": options}, "inputs": [base, model(0), model(1)],
        });
        let jobs: Vec<Job> = vec![serde_json::from_value(job).unwrap()];
        let (nothing, factors) = (Memory(&[]), RunFactors::new(0));
        let sources = Sources { files: Arc::new([&nothing as &dyn Bytes]), factors: &factors };
        let settings = Settings { level: Level::SCALAR, seed: 0, tile, max_listed: 0, max_held: 0 };
        let works = compile(&jobs, &sources, settings).unwrap();
        let schedule = Schedule::new(&works, tile, &[false]);
        let mut ranges = Vec::new();
        while let Some(task) = schedule.next() {
            if let Pass::Measure(_) = task.pass {
                ranges.push(task.range.clone());
            }
            if schedule.finish(&task) {
                schedule.close(&task);
            }
        }
        ranges
    }

    fn columns() -> serde_json::Value {
        json!({"nuslerp_flatten": false, "nuslerp_row_wise": true})
    }

    fn norms() -> serde_json::Value {
        json!({"rescale": "l1", "vote": "weighted", "zero_vote": "plus", "aggregate": "weighted_mean",
            "normalize": true, "lambda": 1})
    }

    #[test]
    fn a_single_large_tensor_is_measured_in_many_tiles() {
        for (method, options) in [("nuslerp", columns()), ("della", norms())] {
            for shape in [[128_256, 2048], [1000, 300_000]] {
                let ranges = measured(method, &options, shape, TILE);
                let elements = shape[0] * shape[1];
                assert!(ranges.len() >= 16, "{} tiles of {method}, {shape:?}", ranges.len());
                assert_eq!((ranges[0].start, ranges[ranges.len() - 1].end), (0, elements));
                assert!(ranges.windows(2).all(|pair| pair[0].end == pair[1].start));
                let longest = ranges.iter().map(|range| range.end - range.start).max().unwrap();
                assert!(longest <= elements / 16, "{longest} elements of {method}, {shape:?}");
            }
        }
    }

    #[test]
    fn sums_down_columns_do_not_depend_on_the_tile() {
        let cut = |tile| measured("nuslerp", &columns(), [5000, 1031], tile);
        assert_eq!(cut(TILE), cut(1 << 20));
    }

    #[test]
    fn tiles_of_rows_are_whole_leaves() {
        for row in [1, 2, 1000, 1031, 2048, 40_000, 100_003] {
            let leaf = crate::methods::operation::Tiling::Rows.leaf(row);
            for tile in [TILE, 2 * TILE, 4 * TILE] {
                let ranges = measured("della", &norms(), [400_000 / row + 7, row], tile);
                assert!(ranges.iter().all(|range| range.start % leaf == 0), "rows of {row}, tiles of {tile}");
                assert!(ranges.iter().all(|range| range.end - range.start <= tile.max(row)), "{row}, {tile}");
            }
        }
    }
}
