//! Arithmetic on slices. Kernels know slices and nothing else; a tile's worth of them stays in the first-level cache.

pub mod agreement;
pub mod combine;
pub mod consensus;
pub mod convert;
pub mod level;
pub mod order;
pub mod product;
pub mod random;
pub mod real;
pub mod reduce;
pub mod select;
pub mod stored;
pub mod trim;

/// Elements that a method takes through all its steps before it goes on: small enough for the arrays of several models
/// to stay in the first-level cache.
pub const BLOCK: usize = 1024;
