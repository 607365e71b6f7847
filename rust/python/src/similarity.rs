//! Comparing models.

use carrick_core::run::Options;
use carrick_core::run::hooks::Hooks;
use carrick_core::run::similarity::{Request, similarity as compare_models};
use pyo3::prelude::*;

use crate::errors::{bad_json, to_json};
use crate::watch::{tell, watch};

/// Inner products and sign conflicts of task vectors, as JSON. An exception from `progress`, or a signal, stops it.
#[pyfunction]
#[pyo3(signature = (request, options, progress = None))]
pub fn similarity(
    py: Python<'_>,
    request: &str,
    options: &str,
    progress: Option<&Bound<'_, PyAny>>,
) -> PyResult<String> {
    let request: Request = serde_json::from_str(request).map_err(|error| bad_json("request", &error))?;
    let options: Options = serde_json::from_str(options).map_err(|error| bad_json("options", &error))?;
    let hooks = Hooks::default();
    let report = watch(
        py,
        || compare_models(&request, &options, &hooks),
        || hooks.cancel(),
        || tell(&hooks, progress, |job| Some(&request.tensors.get(job)?.name), |_| "compare"),
    )?;
    to_json(&report)
}
