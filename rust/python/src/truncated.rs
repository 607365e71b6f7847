//! Low-rank factors of what plans make.

use std::path::PathBuf;

use carrick_core::plan::Plan;
use carrick_core::run::Options;
use carrick_core::run::hooks::Hooks;
use carrick_core::run::joint::{Request as JointRequest, joint_plan};
use carrick_core::run::truncate::{Request, peak_bytes, truncate_plan};
use pyo3::prelude::*;

use crate::errors::{bad_json, to_json, to_python};
use crate::run::{parse_options, parse_plan, show};
use crate::watch::watch;

fn parse(plan: &str, request: &str, options: &str) -> PyResult<(Plan, Request, Options)> {
    let request = serde_json::from_str(request).map_err(|error| bad_json("request", &error))?;
    Ok((parse_plan(plan)?, request, parse_options(options)?))
}

/// Writes the best low-rank factors of each job's result to the file `out`; returns a report as JSON.
#[pyfunction]
#[pyo3(signature = (plan, request, out, options, progress = None))]
pub fn truncate(
    py: Python<'_>,
    plan: &str,
    request: &str,
    out: PathBuf,
    options: &str,
    progress: Option<&Bound<'_, PyAny>>,
) -> PyResult<String> {
    let (plan, request, options) = parse(plan, request, options)?;
    let hooks = Hooks::default();
    let report = watch(
        py,
        || truncate_plan(&plan, &request, &out, &options, &hooks),
        || hooks.cancel(),
        || show(&plan, &hooks, progress),
    )?;
    to_json(&report)
}

/// Bytes of memory that `truncate` takes at the most.
#[pyfunction]
pub fn truncate_memory(plan: &str, request: &str, options: &str) -> PyResult<u64> {
    let (plan, request, options) = parse(plan, request, options)?;
    peak_bytes(&plan, &request, &options).map_err(to_python)
}

/// Writes bases that updates share, and the updates' coordinates in them, to the file `out`; a report as JSON.
#[pyfunction]
#[pyo3(signature = (plan, request, out, options, progress = None))]
pub fn joint(
    py: Python<'_>,
    plan: &str,
    request: &str,
    out: PathBuf,
    options: &str,
    progress: Option<&Bound<'_, PyAny>>,
) -> PyResult<String> {
    let (plan, options) = (parse_plan(plan)?, parse_options(options)?);
    let request: JointRequest = serde_json::from_str(request).map_err(|error| bad_json("request", &error))?;
    let hooks = Hooks::default();
    let report = watch(
        py,
        || joint_plan(&plan, &request, &out, &options, &hooks),
        || hooks.cancel(),
        || show(&plan, &hooks, progress),
    )?;
    to_json(&report)
}

/// Threads and bytes of memory that `joint` takes at the most, as JSON.
#[pyfunction]
pub fn joint_memory(plan: &str, request: &str, options: &str) -> PyResult<String> {
    let (plan, options) = (parse_plan(plan)?, parse_options(options)?);
    let request: JointRequest = serde_json::from_str(request).map_err(|error| bad_json("request", &error))?;
    to_json(&request.cut(&plan, &options).map_err(to_python)?)
}
