//! The methods on arrays: bytes in, bytes out, no copies on the way.

use carrick_core::kernels::level::Level;
use carrick_core::plan::Job;
use carrick_core::run::arrays::merge;
use carrick_core::run::work::Settings;
use carrick_core::source::{Bytes, Memory};
use numpy::{PyReadonlyArray1, PyReadwriteArray1};
use pyo3::prelude::*;

use crate::errors::{bad_json, to_python};

/// Merges `inputs` (the bytes of each) as the job says into `out`.
#[pyfunction]
pub fn merge_arrays(
    py: Python<'_>,
    job: &str,
    inputs: Vec<PyReadonlyArray1<'_, u8>>,
    mut out: PyReadwriteArray1<'_, u8>,
    seed: u64,
    threads: usize,
) -> PyResult<()> {
    let job: Job = serde_json::from_str(job).map_err(|error| bad_json("job", &error))?;
    let slices = inputs.iter().map(PyReadonlyArray1::as_slice).collect::<Result<Vec<_>, _>>()?;
    let memories: Vec<Memory<'_>> = slices.into_iter().map(Memory).collect();
    let sources: Vec<&dyn Bytes> = memories.iter().map(|memory| memory as &dyn Bytes).collect();
    let out = out.as_slice_mut()?;
    let settings = Settings { level: Level::detect(), seed, tile: 1 << 16, max_listed: 3 << 20, max_held: 0 };
    py.detach(|| merge(&job, sources, settings, threads, out)).map_err(to_python)?;
    Ok(())
}
