//! Running plans: the one door between Python's time and Rust's.

use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use carrick_core::plan::Plan;
use carrick_core::run::hooks::Hooks;
use carrick_core::run::{Options, execute as run_plan};
use carrick_core::writer;
use pyo3::prelude::*;
use serde_json::json;

use crate::errors::{CarrickError, bad_json, to_json, to_python};

/// How often progress is shown and signals are looked at.
const LOOK: Duration = Duration::from_millis(100);

fn parse_plan(plan: &str) -> PyResult<Plan> {
    serde_json::from_str(plan).map_err(|error| bad_json("plan", &error))
}

fn parse_options(options: &str) -> PyResult<Options> {
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
    let (sender, mut receiver) = channel();
    let report = std::thread::scope(|scope| {
        scope.spawn(|| {
            // The receiver lives until the scope ends.
            let _ = sender.send(run_plan(&plan, &partial, &options, &hooks));
        });
        let mut stopped = Ok(());
        loop {
            // The receiver goes along, since it cannot be shared.
            let outcome = py.detach(move || (receiver.recv_timeout(LOOK), receiver));
            receiver = outcome.1;
            match outcome.0 {
                Ok(report) => return stopped.and_then(|()| report.map_err(to_python)),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(CarrickError::new_err("the run broke down; this is a defect"));
                }
                Err(RecvTimeoutError::Timeout) if stopped.is_ok() => {
                    stopped = py.check_signals().and_then(|()| show(&plan, &hooks, progress));
                    if stopped.is_err() {
                        hooks.cancel();
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    })?;
    to_json(&report)
}

fn show(plan: &Plan, hooks: &Hooks, progress: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    let Some(progress) = progress else { return Ok(()) };
    let now = hooks.progress();
    let state = json!({
        "bytes_done": now.bytes_done,
        "bytes_total": now.bytes_total,
        "tensors_done": now.tensors_done,
        "tensors_total": now.tensors_total,
        "tensor": plan.jobs.get(now.job).map(|job| job.name.as_str()),
        "stage": if now.writing { "merge" } else { "measure" },
    });
    progress.call1((state.to_string(),)).map(|_| ())
}

/// The engine's own memory plan and traffic.
#[pyfunction]
pub fn estimate(py: Python<'_>, plan: &str, options: &str) -> PyResult<String> {
    let (plan, options) = (parse_plan(plan)?, parse_options(options)?);
    let estimate = py.detach(|| carrick_core::run::estimate(&plan, &options)).map_err(to_python)?;
    to_json(&estimate)
}

/// Turns the finished partial folder into the model.
#[pyfunction]
pub fn commit(py: Python<'_>, partial: PathBuf, out: PathBuf, shards: Vec<String>, force: bool) -> PyResult<()> {
    py.detach(|| writer::commit(&partial, &out, &shards, force)).map_err(to_python)
}
