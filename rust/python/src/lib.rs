//! The extension module `carrick._core`: argument conversion, signals, errors; no mathematics.

// PyO3 extracts arguments into values of their own.
#![allow(clippy::needless_pass_by_value)]

mod arrays;
mod errors;
mod factored;
mod files;
mod info;
mod random;
mod run;
mod similarity;
mod truncated;
mod watch;

#[pyo3::pymodule]
mod _core {
    #[pymodule_export]
    use crate::arrays::merge_arrays;
    #[pymodule_export]
    use crate::errors::{CarrickError, FormatError, PlanError};
    #[pymodule_export]
    use crate::factored::decompose;
    #[pymodule_export]
    use crate::files::{compare, hash_file, read_header};
    #[pymodule_export]
    use crate::info::{build_info, methods, simd_level, simd_levels};
    #[pymodule_export]
    use crate::random::stream_key;
    #[pymodule_export]
    use crate::run::{commit, estimate, execute, passes};
    #[pymodule_export]
    use crate::similarity::similarity;
    #[pymodule_export]
    use crate::truncated::{joint, joint_memory, truncate, truncate_memory};
}
