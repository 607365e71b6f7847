//! Merging of safetensors checkpoints: what `carrick` does, without Python, YAML or network.
//!
//! A plan says what to do; [`run`] reads tiles of the inputs ([`source`]), computes on them ([`methods`], [`kernels`])
//! and hands the bytes to the [`writer`].
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod counts;
pub mod described;
pub mod dtype;
pub mod error;
pub mod factored;
pub mod kernels;
pub mod linalg;
pub mod methods;
pub mod plan;
pub mod run;
pub mod source;
pub mod truncated;
pub mod writer;
