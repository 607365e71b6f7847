//! Looking at files.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use carrick_core::dtype::Dtype;
use carrick_core::source::{self, Region};
use pyo3::prelude::*;

use crate::errors::{PlanError, to_json, to_python};
use crate::watch::watch;

/// The header of a safetensors file, checked, as JSON.
#[pyfunction]
pub fn read_header(py: Python<'_>, path: PathBuf) -> PyResult<String> {
    let header = py.detach(|| source::read_header(&path)).map_err(to_python)?;
    to_json(&header)
}

/// XXH3-128 of a whole file, in hex.
#[pyfunction]
pub fn hash_file(py: Python<'_>, path: PathBuf) -> PyResult<String> {
    let cancel = AtomicBool::new(false);
    let hash = watch(py, || source::hash_file(&path, &cancel), || cancel.store(true, Ordering::Relaxed), || Ok(()))?;
    Ok(format!("{hash:032x}"))
}

/// Compares two stored tensors of `n` elements, streamed.
#[pyfunction]
pub fn compare(
    py: Python<'_>,
    path_a: PathBuf,
    begin_a: u64,
    dtype_a: &str,
    path_b: PathBuf,
    begin_b: u64,
    dtype_b: &str,
    n: u64,
) -> PyResult<String> {
    let dtype = |name: &str| name.parse::<Dtype>().map_err(PlanError::new_err);
    let a = Region { path: &path_a, begin: begin_a, dtype: dtype(dtype_a)? };
    let b = Region { path: &path_b, begin: begin_b, dtype: dtype(dtype_b)? };
    let cancel = AtomicBool::new(false);
    let difference =
        watch(py, || source::compare(a, b, n, &cancel), || cancel.store(true, Ordering::Relaxed), || Ok(()))?;
    to_json(&difference)
}
