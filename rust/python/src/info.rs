//! What this build is and what it found on this machine.

use carrick_core::kernels::level::Level;
use carrick_core::methods::METHODS;
use pyo3::prelude::*;
use serde_json::json;

use crate::errors::to_json;

/// The table of methods as JSON.
#[pyfunction]
pub fn methods() -> PyResult<String> {
    to_json(&METHODS)
}

/// The instruction set in use.
#[pyfunction]
pub fn simd_level() -> &'static str {
    Level::detect().name()
}

/// The instruction sets that could be used.
#[pyfunction]
pub fn simd_levels() -> Vec<&'static str> {
    Level::available().into_iter().map(Level::name).collect()
}

/// How the extension was built, as JSON.
#[pyfunction]
pub fn build_info() -> String {
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "profile": if cfg!(debug_assertions) { "debug" } else { "release" },
        "target": format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
    })
    .to_string()
}
