//! The core's errors as Python exceptions.

use std::io;

use carrick_core::error::Error;
use pyo3::exceptions::{PyKeyboardInterrupt, PyOSError};
use pyo3::prelude::*;

pyo3::create_exception!(
    carrick._core,
    CarrickError,
    pyo3::exceptions::PyException,
    "Anything that Carrick refuses or fails at."
);
pyo3::create_exception!(carrick._core, FormatError, CarrickError, "A file is not what its format says.");
pyo3::create_exception!(carrick._core, PlanError, CarrickError, "A plan cannot be carried out as it stands.");

/// One match: each kind of error has its exception, and I/O errors keep their errno and path.
pub fn to_python(error: Error) -> PyErr {
    match error {
        Error::Format { .. } => FormatError::new_err(error.to_string()),
        Error::Plan { .. } | Error::Memory { .. } => PlanError::new_err(error.to_string()),
        Error::Tensor { .. } | Error::Changed { .. } => CarrickError::new_err(error.to_string()),
        Error::Interrupted => PyKeyboardInterrupt::new_err(()),
        Error::Io { path, source } => os_error(&source, path.display().to_string()),
    }
}

/// `OSError(errno, text, path)`, from which Python makes the right subclass.
fn os_error(source: &io::Error, path: String) -> PyErr {
    match source.raw_os_error() {
        Some(errno) => {
            let text = source.to_string();
            let text = text.split(" (os error").next().unwrap_or_default().to_owned();
            PyOSError::new_err((errno, text, path))
        }
        None if source.kind() == io::ErrorKind::AlreadyExists => {
            pyo3::exceptions::PyFileExistsError::new_err(format!("{path}: {source}"))
        }
        None => PyOSError::new_err(format!("{path}: {source}")),
    }
}

/// What JSON of our own making that does not parse means.
pub fn bad_json(what: &str, error: &serde_json::Error) -> PyErr {
    PlanError::new_err(format!("{what}: {error}"))
}

/// A report as JSON.
pub fn to_json(value: &impl serde::Serialize) -> PyResult<String> {
    serde_json::to_string(value).map_err(|error| bad_json("report", &error))
}
