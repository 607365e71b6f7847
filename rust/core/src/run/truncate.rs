//! Merges whose results are kept as low-rank factors: no more matrices in memory than there are threads, and one.

use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::budget::{Budget, DEFAULT_MEMORY};
use super::hooks::Hooks;
use super::inputs::Inputs;
use super::pool::{self, Sink};
use super::schedule::Schedule;
use super::{Options, Traffic, give_back_free_memory};
use crate::counts::Counts;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::kernels::level::Level;
use crate::plan::{Job, Plan};
use crate::truncated::{Keep, Matrix, Route, truncate, workspace};
use crate::writer::FactorsFile;

/// What is wanted of the results of a plan's jobs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    #[serde(default)]
    pub route: Route,
    /// One for each job, in their order.
    pub jobs: Vec<Wanted>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    pub keep: Keep,
    /// Factors of the transpose: where a base stores its weights as (in, out).
    #[serde(default)]
    pub transposed: bool,
}

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// In the order of the jobs.
    pub modules: Vec<ModuleReport>,
    pub bytes_read: u64,
    pub bytes_written: u64,
    pub seconds: f64,
    pub threads: usize,
    pub peak_bytes: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct ModuleReport {
    pub name: String,
    pub rank: usize,
    pub sigma: Vec<f64>,
    /// ‖M − B·A‖ / ‖M‖.
    pub error: f64,
    pub norm: f64,
    pub route: Route,
}

/// Rows and columns of a job's result: the first dimension by all the others.
fn sides(job: &Job) -> (u64, u64) {
    let rows = job.shape.first().copied().unwrap_or(1);
    (rows, job.shape.iter().skip(1).product())
}

impl Request {
    fn check(&self, plan: &Plan) -> Result<()> {
        if self.jobs.len() != plan.jobs.len() {
            return Err(Error::plan(format!("{} requests for {} jobs", self.jobs.len(), plan.jobs.len())));
        }
        for (job, wanted) in plan.jobs.iter().zip(&self.jobs) {
            if job.shape.len() < 2 || job.dtype != Dtype::F32 {
                let (shape, dtype) = (&job.shape, job.dtype);
                return Err(Error::tensor(&job.name, format!("{dtype} of {shape:?} is no matrix in F32")));
            }
            if let Keep::Energy(energy) = wanted.keep
                && !(energy > 0.0 && energy <= 1.0)
            {
                return Err(Error::tensor(&job.name, format!("an energy of {energy} is not within 0 and 1")));
            }
        }
        Ok(())
    }

    /// The cut of the run, beside the bytes of the matrices that are in memory.
    fn budget(&self, plan: &Plan, options: &Options) -> Result<(Budget, u64)> {
        let each = |job: &Job, wanted: &Wanted| {
            let (rows, columns) = sides(job);
            (rows * columns * 4, workspace(rows, columns, wanted.keep, self.route))
        };
        let sizes = plan.jobs.iter().zip(&self.jobs).map(|(job, wanted)| each(job, wanted));
        let (matrix, work) = sizes.fold((0, 0), |most, next| (most.0.max(next.0), most.1.max(next.1)));
        let memory = options.memory.unwrap_or(DEFAULT_MEMORY);
        let mut threads = options.threads();
        loop {
            // Every thread holds the matrix that it works on, and one more is being filled.
            let held = (threads as u64 + 1) * matrix + threads as u64 * work;
            let rest = memory.saturating_sub(held);
            match Budget::new(plan, rest, threads, options.tile) {
                Err(Error::Memory { .. }) if threads > 1 => threads /= 2,
                Err(Error::Memory { needed, remedy, .. }) => {
                    return Err(Error::Memory { needed: needed + held, budget: memory, remedy });
                }
                other => return other.map(|budget| (budget, held)),
            }
        }
    }
}

/// Carries out the jobs of `plan` and writes the factors of their results to `out`: `N.a` and `N.b` for job N.
pub fn truncate_plan(plan: &Plan, request: &Request, out: &Path, options: &Options, hooks: &Hooks) -> Result<Report> {
    let began = Instant::now();
    plan.check()?;
    request.check(plan)?;
    let (budget, held) = request.budget(plan, options)?;
    let inputs = Inputs::open(plan, &budget, options.read_mode())?;
    let works = inputs.compile(plan, budget.settings(Level::detect(), plan.seed))?;
    let traffic = Traffic::of(&works, &[]);
    hooks.set_totals(traffic.effort, works.len());

    let file = FactorsFile::create(out, 2 * plan.jobs.len())?;
    let sink = Matrices::new(plan, request, &file);
    let skip = vec![false; works.len()];
    pool::run(&works, &Schedule::new(&works, budget.tile, &skip), &sink, budget.threads, hooks)?;
    let modules = sink.reports.into_iter().map(|report| report.into_inner().unwrap_or_else(PoisonError::into_inner));
    let modules = modules.collect::<Option<Vec<_>>>().ok_or_else(|| Error::plan("a job was not finished"))?;
    let bytes_written = file.finish()?;
    inputs.require_unchanged()?;
    let (threads, peak_bytes) = (budget.threads, budget.peak_bytes + held);
    Ok(Report {
        modules,
        bytes_read: traffic.read,
        bytes_written,
        seconds: began.elapsed().as_secs_f64(),
        threads,
        peak_bytes,
    })
}

/// The memory that [`truncate_plan`] takes.
pub fn peak_bytes(plan: &Plan, request: &Request, options: &Options) -> Result<u64> {
    plan.check()?;
    request.check(plan)?;
    request.budget(plan, options).map(|(budget, held)| budget.peak_bytes + held)
}

/// Matrices under way: each is made when its first tile comes, and gone when its factors are found.
struct Matrices<'a> {
    plan: &'a Plan,
    request: &'a Request,
    file: &'a FactorsFile,
    matrices: Vec<Mutex<Vec<f32>>>,
    reports: Vec<Mutex<Option<ModuleReport>>>,
    /// Buffers of tiles, to be used again.
    tiles: Mutex<Vec<Vec<u8>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A thread that panicked has stopped the run.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Matrices<'a> {
    fn new(plan: &'a Plan, request: &'a Request, file: &'a FactorsFile) -> Self {
        Self {
            plan,
            request,
            file,
            matrices: plan.jobs.iter().map(|_| Mutex::default()).collect(),
            reports: plan.jobs.iter().map(|_| Mutex::default()).collect(),
            tiles: Mutex::default(),
        }
    }
}

impl Sink for Matrices<'_> {
    fn write(
        &self,
        job: usize,
        range: Range<u64>,
        merge: &mut dyn FnMut(&mut [u8]) -> Result<Counts>,
    ) -> Result<Counts> {
        let mut tile = lock(&self.tiles).pop().unwrap_or_default();
        tile.resize((range.end - range.start) as usize * 4, 0);
        let counts = merge(&mut tile)?;
        let mut matrix = lock(&self.matrices[job]);
        if matrix.is_empty() {
            matrix.resize(self.plan.jobs[job].elements() as usize, 0.0);
        }
        let place = &mut matrix[range.start as usize..range.end as usize];
        place.iter_mut().zip(tile.as_chunks().0).for_each(|(x, &bytes)| *x = f32::from_le_bytes(bytes));
        drop(matrix);
        lock(&self.tiles).push(tile);
        Ok(counts)
    }

    fn finish(&self, job: usize, _counts: Counts) -> Result<()> {
        let (planned, wanted) = (&self.plan.jobs[job], &self.request.jobs[job]);
        let (rows, columns) = sides(planned);
        give_back_free_memory();
        let data = std::mem::take(&mut *lock(&self.matrices[job]));
        let matrix = Matrix { data, rows: rows as usize, columns: columns as usize, transposed: wanted.transposed };
        let found = truncate(matrix, wanted.keep, self.request.route, self.plan.seed, &planned.name)?;
        let (rows, columns) = if wanted.transposed { (columns, rows) } else { (rows, columns) };
        self.file.add(&format!("{job}.b"), Dtype::F32, [rows, found.rank as u64], &found.b)?;
        self.file.add(&format!("{job}.a"), Dtype::F32, [found.rank as u64, columns], &found.a)?;
        let name = planned.name.clone();
        let (rank, sigma, route) = (found.rank, found.sigma, found.route);
        let report = ModuleReport { name, rank, sigma, error: found.error, norm: found.norm, route };
        *lock(&self.reports[job]) = Some(report);
        Ok(())
    }
}
