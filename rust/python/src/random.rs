//! The keys of random masks, for code that draws them elsewhere.

use carrick_core::kernels::random::StreamKey;
use pyo3::prelude::*;

/// The two Philox key words of (seed, model, tensor).
#[pyfunction]
pub fn stream_key(seed: u64, model: u64, tensor: &str) -> (u32, u32) {
    StreamKey::new(seed, model, tensor).words()
}
