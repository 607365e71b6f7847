//! Running plans.

use std::path::PathBuf;

use carrick_core::plan::{Job, Plan};
use carrick_core::run::hooks::{Hooks, Progress};
use carrick_core::run::{Options, execute as run_plan};
use carrick_core::writer;
use pyo3::prelude::*;

use crate::errors::{bad_json, to_json, to_python};
use crate::watch::{tell, watch};

pub fn parse_plan(plan: &str) -> PyResult<Plan> {
    serde_json::from_str(plan).map_err(|error| bad_json("plan", &error))
}

pub fn parse_options(options: &str) -> PyResult<Options> {
    serde_json::from_str(options).map_err(|error| bad_json("options", &error))
}

/// Carries out a plan in the folder `partial`. An exception from `progress`, or a signal, stops it.
#[pyfunction]
#[pyo3(signature = (plan, partial, options, progress = None))]
pub fn execute(
    py: Python<'_>,
    plan: &str,
    partial: PathBuf,
    options: &str,
    progress: Option<&Bound<'_, PyAny>>,
) -> PyResult<String> {
    let (plan, options, hooks) = (parse_plan(plan)?, parse_options(options)?, Hooks::default());
    let report = watch(
        py,
        || run_plan(&plan, &partial, &options, &hooks),
        || hooks.cancel(),
        || show(&plan, &hooks, progress),
    )?;
    to_json(&report)
}

pub fn show(plan: &Plan, hooks: &Hooks, progress: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    let stage = |now: &Progress| if now.writing { "merge" } else { "measure" };
    tell(hooks, progress, |job| Some(&plan.jobs.get(job)?.name), stage)
}

/// The engine's own memory plan and traffic.
#[pyfunction]
pub fn estimate(py: Python<'_>, plan: &str, options: &str) -> PyResult<String> {
    let (plan, options) = (parse_plan(plan)?, parse_options(options)?);
    let estimate = py.detach(|| carrick_core::run::estimate(&plan, &options)).map_err(to_python)?;
    to_json(&estimate)
}

/// How often each job of a plan with so many files reads its inputs.
#[pyfunction]
pub fn passes(jobs: &str, files: usize) -> PyResult<Vec<u64>> {
    let jobs: Vec<Job> = serde_json::from_str(jobs).map_err(|error| bad_json("jobs", &error))?;
    carrick_core::run::passes(&jobs, files).map_err(to_python)
}

/// Turns the finished partial folder into the model.
#[pyfunction]
pub fn commit(py: Python<'_>, partial: PathBuf, out: PathBuf, shards: Vec<String>, force: bool) -> PyResult<()> {
    py.detach(|| writer::commit(&partial, &out, &shards, force)).map_err(to_python)
}
