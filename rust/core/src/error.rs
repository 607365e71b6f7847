//! What can go wrong, as data: the file, the tensor and the reason travel with the error.

use std::io;
use std::path::{Path, PathBuf};

pub type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that is not what its format says.
    #[error("{}: {reason}", path.display())]
    Format { path: PathBuf, reason: String },

    /// A plan that cannot be carried out as it stands.
    #[error("plan: {reason}")]
    Plan { reason: String },

    /// A tensor that the request cannot be carried out on.
    #[error("tensor {tensor:?}: {reason}")]
    Tensor { tensor: String, reason: String },

    /// An input that is no longer the file that was planned with.
    #[error("{}: {reason}; plan again", path.display())]
    Changed { path: PathBuf, reason: String },

    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },

    #[error("{} MiB of memory are needed, {} MiB are allowed: {remedy}", needed.div_ceil(1 << 20), budget >> 20)]
    Memory { needed: u64, budget: u64, remedy: &'static str },

    #[error("interrupted")]
    Interrupted,
}

impl Error {
    pub fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_path_buf(), source }
    }

    pub fn format(path: &Path, reason: impl Into<String>) -> Self {
        Self::Format { path: path.to_path_buf(), reason: reason.into() }
    }

    pub fn plan(reason: impl Into<String>) -> Self {
        Self::Plan { reason: reason.into() }
    }

    pub fn tensor(tensor: &str, reason: impl Into<String>) -> Self {
        Self::Tensor { tensor: tensor.to_owned(), reason: reason.into() }
    }
}
