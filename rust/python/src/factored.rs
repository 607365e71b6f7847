//! Decompositions of adapters' factors.

use std::path::PathBuf;

use carrick_core::factored::Request;
use carrick_core::run::Options;
use carrick_core::run::decompose::decompose as decompose_all;
use carrick_core::run::hooks::Hooks;
use pyo3::prelude::*;

use crate::errors::{bad_json, to_json};
use crate::watch::{tell, watch};

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
    let hooks = Hooks::default();
    let report = watch(
        py,
        || decompose_all(&request, &out, &options, &hooks),
        || hooks.cancel(),
        || tell(&hooks, progress, |job| Some(&request.modules.get(job)?.name), |_| "decompose"),
    )?;
    to_json(&report)
}
