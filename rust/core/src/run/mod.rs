//! Carrying out a plan: the only place with threads.

pub mod arrays;
pub mod budget;
mod checksum;
pub mod decompose;
pub mod hooks;
mod inputs;
pub mod joint;
pub(crate) mod modules;
pub(crate) mod pool;
pub(crate) mod schedule;
pub mod similarity;
pub mod truncate;
pub mod work;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::counts::Counts;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::kernels::level::Level;
use crate::plan::{Job, Plan};
use crate::source::{Bytes, ReadMode};
use crate::writer::{Resume, Writer, WriterOptions, checksum::to_hex, clear, resume};
use budget::{Budget, DEFAULT_MEMORY};
use checksum::Pieces;
use hooks::Hooks;
use inputs::Inputs;
use pool::Sink;
use schedule::Schedule;
use work::{RunFactors, Settings, Sources, Work, compile};

/// What a caller may choose about a run; none of it changes a byte of the result.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Bytes the run may allocate.
    pub memory: Option<u64>,
    pub threads: Option<usize>,
    pub read: Read,
    /// Refuse inputs with NaN or infinities.
    pub check_finite: bool,
    /// Elements of a tile.
    pub tile: Option<u64>,
    /// Begin anew even where a former run can be continued.
    pub fresh: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Read {
    /// Positional reads: about as fast as mapped ones, and safe where files shrink.
    #[default]
    Auto,
    Pread,
    Mmap,
}

/// What a run did.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub tensors: Vec<TensorReport>,
    pub resumed_tensors: usize,
    /// Why a former run could not be continued.
    pub stale: Option<String>,
    pub nan: BTreeMap<String, u64>,
    pub inf: BTreeMap<String, u64>,
    pub overflow: BTreeMap<String, u64>,
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub seconds: f64,
    pub threads: usize,
    pub simd: &'static str,
    pub read: &'static str,
    pub write: &'static str,
    pub memory: Budget,
}

#[derive(Clone, Debug, Serialize)]
pub struct TensorReport {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<u64>,
    pub shard: String,
    pub checksum: String,
}

impl Options {
    pub fn budget(&self, plan: &Plan) -> Result<Budget> {
        Budget::new(plan, self.memory.unwrap_or(DEFAULT_MEMORY), self.threads(), self.tile)
    }

    /// As many as were asked for, or as there are CPUs.
    pub fn threads(&self) -> usize {
        self.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into))
    }

    fn read_mode(&self) -> ReadMode {
        if self.read == Read::Mmap { ReadMode::Mmap } else { ReadMode::Pread }
    }
}

/// What the passes of a run move.
#[derive(Clone, Copy, Debug, Default)]
struct Traffic {
    read: u64,
    written: u64,
    /// Both, with what is computed counted as if it were read.
    effort: u64,
}

impl Traffic {
    /// `skip` holds for jobs that are finished.
    fn of(works: &[Work<'_>], skip: &[bool]) -> Self {
        let mut traffic = Self::default();
        for (index, work) in works.iter().enumerate() {
            let (operation, finished) = (&work.operation, skip.get(index) == Some(&true));
            let measures = if finished && !operation.is_model_wide() { 0 } else { work.measures() };
            let writes = u64::from(!finished);
            let written = writes * work.elements * work.size as u64;
            traffic.read += (measures + writes) * (work.elements * work.bytes_in + work.factor_bytes);
            traffic.written += written;
            traffic.effort += (measures + writes) * work.elements * work.effort + written;
        }
        traffic
    }
}

/// What a plan takes, found without opening its files.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Estimate {
    #[serde(flatten)]
    pub memory: Budget,
    pub bytes_read: u64,
    pub bytes_written: u64,
}

pub fn estimate(plan: &Plan, options: &Options) -> Result<Estimate> {
    plan.check()?;
    let memory = options.budget(plan)?;
    let settings = memory.settings(Level::SCALAR, 0);
    let nothing = crate::source::Memory(&[]);
    let factors = RunFactors::new(0);
    let sources = Sources { files: vec![&nothing as &dyn Bytes; plan.files.len()].into(), factors: &factors };
    let traffic = Traffic::of(&compile(&plan.jobs, &sources, settings)?, &[]);
    Ok(Estimate { memory, bytes_read: traffic.read, bytes_written: traffic.written })
}

/// How often each job, of a plan with so many files, reads all of its inputs: its measures and the writing pass.
pub fn passes(jobs: &[Job], files: usize) -> Result<Vec<u64>> {
    let (nothing, factors) = (crate::source::Memory(&[]), RunFactors::new(0));
    let sources = Sources { files: vec![&nothing as &dyn Bytes; files].into(), factors: &factors };
    // With room for votes that are counted early, which spares a pass.
    let settings = Settings { level: Level::SCALAR, seed: 0, tile: 1 << 16, max_listed: 0, max_held: 1 };
    Ok(compile(jobs, &sources, settings)?.iter().map(|work| work.measures() + 1).collect())
}

/// Carries out `plan` in the folder `partial`, continuing what a former run left there.
pub fn execute(plan: &Plan, partial: &Path, options: &Options, hooks: &Hooks) -> Result<Report> {
    let began = Instant::now();
    plan.check()?;
    let budget = options.budget(plan)?;
    let mode = options.read_mode();
    let inputs = Inputs::open(plan, &budget, mode)?;
    let settings = budget.settings(Level::detect(), plan.seed);
    let works = inputs.compile(plan, settings)?;

    if options.fresh {
        clear(partial)?;
    }
    let resumed = resume(partial, plan)?;
    let mut known = vec![(None, Counts::default()); plan.jobs.len()];
    for done in resumed.finished() {
        refuse_special(options.check_finite, &plan.jobs[done.job], done.counts)?;
        known[done.job] = (Some(done.checksum), done.counts);
    }
    let skip: Vec<bool> = known.iter().map(|(checksum, _)| checksum.is_some()).collect();
    let writing =
        WriterOptions { block_bytes: budget.block_bytes, blocks: budget.blocks, ..WriterOptions::default() };
    let writer = Writer::create(partial, plan, &resumed.kept(plan)?, writing)?;
    let traffic = Traffic::of(&works, &skip);
    hooks.set_totals(traffic.effort, plan.jobs.len() - resumed.finished().len());

    let sink = Files::new(plan, &writer, budget.block_bytes, known, options.check_finite);
    let outcome = pool::run(&works, &Schedule::new(&works, budget.tile, &skip), &sink, budget.threads, hooks);
    let Files { finished, .. } = sink;
    // Dropping the writer records what is complete.
    outcome?;
    let written = writer.finish()?;
    inputs.require_unchanged()?;
    let finished = finished.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut report = Report {
        tensors: Vec::with_capacity(plan.jobs.len()),
        resumed_tensors: resumed.finished().len(),
        stale: if let Resume::Stale { reason } = &resumed { Some(reason.clone()) } else { None },
        nan: BTreeMap::new(),
        inf: BTreeMap::new(),
        overflow: BTreeMap::new(),
        bytes_read: traffic.read,
        bytes_written: written.bytes,
        seconds: 0.0,
        threads: budget.threads,
        simd: settings.level.name(),
        read: if mode == ReadMode::Mmap { "mmap" } else { "pread" },
        write: if written.direct { "direct" } else { "buffered" },
        memory: budget,
    };
    for (job, (checksum, counts)) in plan.jobs.iter().zip(finished) {
        report.add(plan, job, checksum, counts);
    }
    report.seconds = began.elapsed().as_secs_f64();
    Ok(report)
}

impl Report {
    fn add(&mut self, plan: &Plan, job: &Job, checksum: Option<u128>, counts: Counts) {
        self.tensors.push(TensorReport {
            name: job.name.clone(),
            dtype: job.dtype,
            shape: job.shape.clone(),
            shard: plan.shards[job.shard].name.clone(),
            checksum: checksum.map_or_else(String::new, to_hex),
        });
        for (list, count) in
            [(&mut self.nan, counts.nan), (&mut self.inf, counts.infinite), (&mut self.overflow, counts.overflow)]
        {
            if count > 0 {
                list.insert(job.name.clone(), count);
            }
        }
    }
}

/// glibc keeps what the last module freed for small blocks, where the next module's large ones find no place: a third
/// more memory than is used, measured on modules of 2048 rows.
pub(crate) fn give_back_free_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: takes no pointer of ours, and may be called at any time by any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The answer to `--check-finite` where NaN or infinities came in.
fn refuse_special(check_finite: bool, job: &Job, counts: Counts) -> Result<()> {
    let Counts { nan, infinite, .. } = counts;
    if !check_finite || nan + infinite == 0 {
        return Ok(());
    }
    let reason = format!("{nan} NaN and {infinite} infinities among the inputs, which --check-finite refuses");
    Err(Error::tensor(&job.name, reason))
}

/// The output shards as a sink.
struct Files<'a> {
    plan: &'a Plan,
    writer: &'a Writer,
    block_bytes: usize,
    pieces: Vec<Pieces>,
    check_finite: bool,
    finished: Mutex<Vec<(Option<u128>, Counts)>>,
}

impl<'a> Files<'a> {
    fn new(
        plan: &'a Plan,
        writer: &'a Writer,
        block_bytes: usize,
        known: Vec<(Option<u128>, Counts)>,
        check_finite: bool,
    ) -> Self {
        let nbytes = |job: &Job| job.elements() * job.dtype.bits() / 8;
        Self {
            plan,
            writer,
            block_bytes,
            pieces: plan.jobs.iter().map(|job| Pieces::new(nbytes(job))).collect(),
            check_finite,
            finished: Mutex::new(known),
        }
    }
}

impl Files<'_> {
    /// Rows longer than a block are merged apart and handed over in pieces.
    fn write_long(
        &self,
        index: usize,
        begin: u64,
        len: usize,
        merge: &mut dyn FnMut(&mut [u8]) -> Result<Counts>,
    ) -> Result<Counts> {
        let job = &self.plan.jobs[index];
        let mut bytes = vec![0; len];
        let counts = merge(&mut bytes)?;
        self.pieces[index].add(begin, &bytes);
        for (piece, bytes) in bytes.chunks(self.block_bytes).enumerate() {
            let begin = job.offset + begin + (piece * self.block_bytes) as u64;
            self.writer.fill(job.shard, begin, bytes.len(), |out| {
                out.copy_from_slice(bytes);
                Ok(())
            })?;
        }
        Ok(counts)
    }
}

impl Sink for Files<'_> {
    fn write(
        &self,
        index: usize,
        range: Range<u64>,
        merge: &mut dyn FnMut(&mut [u8]) -> Result<Counts>,
    ) -> Result<Counts> {
        let (job, size) = (&self.plan.jobs[index], self.plan.jobs[index].dtype.size() as u64);
        let (begin, len) = (range.start * size, ((range.end - range.start) * size) as usize);
        let counts = if len <= self.block_bytes {
            self.writer.fill(job.shard, job.offset + begin, len, |out| {
                let counts = merge(out)?;
                self.pieces[index].add(begin, out);
                Ok(counts)
            })?
        } else {
            self.write_long(index, begin, len, merge)?
        };
        refuse_special(self.check_finite, job, counts)?;
        Ok(counts)
    }

    fn finish(&self, index: usize, counts: Counts) -> Result<()> {
        let checksum = self.pieces[index].finish();
        self.finished.lock().unwrap_or_else(PoisonError::into_inner)[index] = (Some(checksum), counts);
        self.writer.finished(index, checksum, counts);
        Ok(())
    }

    fn cancel(&self) {
        self.writer.cancel();
    }
}
