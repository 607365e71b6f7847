//! Bases that the updates of whole models share (KnOTS), module by module: one a thread.

use std::path::Path;
use std::time::Instant;

use faer::{MatMut, MatRef};
use serde::{Deserialize, Serialize};

use super::budget::{Budget, DEFAULT_MEMORY};
use super::hooks::Hooks;
use super::inputs::Inputs;
use super::modules;
use super::work::Work;
use super::{Options, give_back_free_memory};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::kernels::level::Level;
use crate::linalg::Tolerance;
use crate::methods::operation::{Buffers, Tiling};
use crate::plan::{Job, Plan};
use crate::truncated::joint::{Joint, Route, Updates, Wanted, joint, workspace};
use crate::writer::FactorsFile;

const WITHOUT_KNOTS: &str = "merge without KnOTS";

/// Which jobs of a plan make the updates of a module.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    pub tolerance: Tolerance,
    #[serde(default)]
    pub rank: Option<usize>,
    /// Updates lie one above the other and share Vᵀ; otherwise they lie side by side and share U.
    #[serde(default)]
    pub by_rows: bool,
    pub modules: Vec<Module>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Module {
    pub name: String,
    /// Each makes an update in F32; all have one shape.
    pub jobs: Vec<usize>,
    /// What to do other than allow more memory, where there is too little.
    #[serde(default)]
    pub instead: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Report {
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
    /// The smallest relative gap between singular values that are kept; where it is next to nothing, the basis is not
    /// unique.
    pub min_gap: f64,
    pub route: Route,
}

/// The cut of a run.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cut {
    pub threads: usize,
    pub peak_bytes: u64,
    #[serde(skip)]
    budget: Budget,
    /// Bytes that a module may use beside an update.
    #[serde(skip)]
    each: u64,
}

/// Rows of the shared side, and columns.
fn sides(job: &Job, by_rows: bool) -> (u64, u64) {
    match job.shape[..] {
        [rows, columns] if by_rows => (columns, rows),
        [rows, columns] => (rows, columns),
        _ => (0, 0),
    }
}

impl Request {
    fn check(&self, plan: &Plan) -> Result<()> {
        plan.check()?;
        self.tolerance.check()?;
        for module in &self.modules {
            let jobs = module.jobs.iter().map(|&job| plan.jobs.get(job)).collect::<Option<Vec<_>>>();
            let alike = |jobs: &[&Job]| {
                jobs.iter().all(|job| job.shape.len() == 2 && job.dtype == Dtype::F32 && job.shape == jobs[0].shape)
            };
            if !jobs.is_some_and(|jobs| !jobs.is_empty() && alike(&jobs)) {
                return Err(Error::tensor(&module.name, "its updates are no matrices of one shape in F32"));
            }
        }
        Ok(())
    }

    /// As many threads as the memory allows; a module that does not fit alone is refused by name.
    pub fn cut(&self, plan: &Plan, options: &Options) -> Result<Cut> {
        self.check(plan)?;
        let memory = options.memory.unwrap_or(DEFAULT_MEMORY);
        let needs = |module: &Module| {
            let (rows, columns) = sides(&plan.jobs[module.jobs[0]], self.by_rows);
            // The update that is loaded, and the coordinates on their way to the file.
            rows * columns * 4 + workspace(rows, columns, module.jobs.len() as u64)
        };
        let largest = self.modules.iter().max_by_key(|module| needs(module));
        let each = largest.map_or(0, needs);
        let mut threads = options.threads().clamp(1, self.modules.len().max(1));
        loop {
            let held = threads as u64 * each;
            match Budget::new(plan, memory.saturating_sub(held), threads, options.tile) {
                // It may have settled for fewer, and then less is held.
                Ok(budget) if budget.threads < threads => threads = budget.threads,
                Ok(budget) => {
                    let spare = memory.saturating_sub(held + budget.peak_bytes) / threads as u64;
                    return Ok(Cut { threads, peak_bytes: held + budget.peak_bytes, budget, each: each + spare });
                }
                Err(Error::Memory { .. }) if threads > 1 => threads /= 2,
                Err(Error::Memory { needed, .. }) => {
                    let name = largest.map_or("", |module| &module.name);
                    let instead = largest.and_then(|module| module.instead.as_deref()).unwrap_or(WITHOUT_KNOTS);
                    let (needed, allowed) = ((needed + held).div_ceil(1 << 20), memory >> 20);
                    return Err(Error::tensor(
                        name,
                        format!(
                            "the basis that its updates share takes {needed} MiB of memory, {allowed} MiB are allowed: \
                             allow more with --memory, or {instead}"
                        ),
                    ));
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// Writes the bases and coordinates of all modules to `out`: `M.basis` and `M.I` for update I of module M.
pub fn joint_plan(plan: &Plan, request: &Request, out: &Path, options: &Options, hooks: &Hooks) -> Result<Report> {
    let began = Instant::now();
    let cut = request.cut(plan, options)?;
    let inputs = Inputs::open(plan, &cut.budget, options.read_mode())?;
    let works = inputs.compile(plan, cut.budget.settings(Level::detect(), plan.seed))?;
    if works.iter().any(|work| !work.operation.measures().is_empty() || work.operation.tiling() != Tiling::Flat) {
        return Err(Error::plan("an update is made in one pass"));
    }
    // Every update is read twice.
    let stored = 2 * works.iter().map(|work| work.elements * work.bytes_in).sum::<u64>();
    let bytes_read = stored + 2 * works.iter().map(|work| work.factor_bytes).sum::<u64>();
    hooks.set_totals(stored, request.modules.len());
    let tensors = request.modules.iter().map(|module| module.jobs.len() + 1).sum();
    let file = FactorsFile::create(out, tensors)?;
    let run = Run { plan, request, works: &works, file: &file, hooks, cut };
    let modules = run.all()?;
    let bytes_written = file.finish()?;
    inputs.require_unchanged()?;
    let Cut { threads, peak_bytes, .. } = cut;
    Ok(Report { modules, bytes_read, bytes_written, seconds: began.elapsed().as_secs_f64(), threads, peak_bytes })
}

struct Run<'a, 'w> {
    plan: &'a Plan,
    request: &'a Request,
    works: &'a [Work<'w>],
    file: &'a FactorsFile,
    hooks: &'a Hooks,
    cut: Cut,
}

impl Run<'_, '_> {
    fn all(&self) -> Result<Vec<ModuleReport>> {
        let cost = |module: &Module| {
            let (rows, columns) = sides(&self.plan.jobs[module.jobs[0]], self.request.by_rows);
            workspace(rows, columns, module.jobs.len() as u64)
        };
        let costs: Vec<u64> = self.request.modules.iter().map(cost).collect();
        modules::each(&costs, self.cut.threads, self.hooks, |index, (): &mut ()| self.module(index))
    }

    fn module(&self, index: usize) -> Result<ModuleReport> {
        give_back_free_memory();
        let module = &self.request.modules[index];
        let job = &self.plan.jobs[module.jobs[0]];
        let mut updates = Loaded {
            run: self,
            jobs: &module.jobs,
            module: index,
            shape: sides(job, self.request.by_rows),
            data: vec![0.0; job.elements() as usize],
            buffers: Buffers::new(self.hooks.cancelled()),
        };
        let wanted = Wanted { tolerance: self.request.tolerance, rank: self.request.rank, memory: self.cut.each };
        self.hooks.begin(module.jobs[0], false);
        let Joint { basis, sigma, rank, route } = joint(&mut updates, wanted, &module.name)?;
        drop(updates);
        self.add(&format!("{index}.basis"), basis.as_ref())?;
        self.hooks.add_tensor();
        let gap = |pair: &[f64]| (pair[0] - pair[1]) / pair[0];
        let min_gap = sigma[..rank].windows(2).map(gap).fold(1.0, f64::min);
        Ok(ModuleReport { name: module.name.clone(), rank, sigma, min_gap, route })
    }

    /// Writes a matrix of the shared side's orientation as the model has it.
    fn add(&self, name: &str, matrix: MatRef<'_, f32>) -> Result<()> {
        let matrix = if self.request.by_rows { matrix.transpose() } else { matrix };
        let (rows, columns) = (matrix.nrows(), matrix.ncols());
        let mut data = vec![0.0; rows * columns];
        MatMut::from_row_major_slice_mut(&mut data, rows, columns).copy_from(matrix);
        self.file.add(name, Dtype::F32, [rows as u64, columns as u64], &data).map(|_| ())
    }
}

/// One module's updates, made anew each time they are asked for.
struct Loaded<'a, 'w> {
    run: &'a Run<'a, 'w>,
    jobs: &'a [usize],
    module: usize,
    shape: (u64, u64),
    data: Vec<f32>,
    buffers: Buffers,
}

impl Updates for Loaded<'_, '_> {
    fn shape(&self) -> (usize, usize, usize) {
        (self.shape.0 as usize, self.shape.1 as usize, self.jobs.len())
    }

    fn with(&mut self, index: usize, with: &mut dyn FnMut(MatRef<'_, f32>) -> Result<()>) -> Result<()> {
        let work = &self.run.works[self.jobs[index]];
        let mut bytes = Vec::new();
        for start in (0..work.elements).step_by(self.run.cut.budget.tile as usize) {
            if self.run.hooks.is_cancelled() {
                return Err(Error::Interrupted);
            }
            let range = start..(start + self.run.cut.budget.tile).min(work.elements);
            let place = &mut self.data[range.start as usize..range.end as usize];
            bytes.resize(place.len() * 4, 0);
            work.operation.merge(range, &mut self.buffers, &mut bytes)?;
            place.iter_mut().zip(bytes.as_chunks().0).for_each(|(x, &bytes)| *x = f32::from_le_bytes(bytes));
            self.run.hooks.add_bytes(place.len() as u64 * work.bytes_in);
        }
        let (rows, columns) = (self.shape.0 as usize, self.shape.1 as usize);
        if self.run.request.by_rows {
            with(MatRef::from_row_major_slice(&self.data, columns, rows).transpose())
        } else {
            with(MatRef::from_row_major_slice(&self.data, rows, columns))
        }
    }

    fn coordinates(&mut self, index: usize, found: MatRef<'_, f32>) -> Result<()> {
        self.run.add(&format!("{}.{index}", self.module), found)
    }
}
