//! Decompositions of adapters' factors.

use std::path::PathBuf;

use carrick_core::factored::{Request, decompose as decompose_all};
use carrick_core::run::budget::DEFAULT_MEMORY;
use carrick_core::run::hooks::Hooks;
use pyo3::prelude::*;
use serde::Deserialize;

use crate::errors::{bad_json, to_json};
use crate::watch::{tell, watch};

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Options {
    threads: Option<usize>,
    memory: Option<u64>,
}

/// Decomposes the modules of a request and writes the small matrices to `out`. An exception from `progress`, or a
/// signal, stops it.
#[pyfunction]
#[pyo3(signature = (request, out, options, progress = None))]
pub fn decompose(
    py: Python<'_>,
    request: &str,
    out: PathBuf,
    options: &str,
    progress: Option<&Bound<'_, PyAny>>,
) -> PyResult<String> {
    let request: Request = serde_json::from_str(request).map_err(|error| bad_json("request", &error))?;
    let options: Options = serde_json::from_str(options).map_err(|error| bad_json("options", &error))?;
    let threads = options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into));
    let (memory, hooks) = (options.memory.unwrap_or(DEFAULT_MEMORY), Hooks::default());
    let report = watch(
        py,
        || decompose_all(&request, &out, threads, memory, &hooks),
        || hooks.cancel(),
        || tell(&hooks, progress, |job| Some(&request.modules.get(job)?.name), |_| "decompose"),
    )?;
    to_json(&report)
}
