//! How much memory a request takes.

use super::request::{Module, Precision, Request};
use super::stack::{TILE_ROWS, scratch_bytes};
use crate::error::{Error, Result};
use crate::linalg::Triangle;

/// Square matrices in float64 that the decomposition of a module holds at the most, those of the routines included.
const SQUARES: usize = 16;

/// What is not counted one by one: stacks, the request itself, the report.
const FIXED: u64 = 8 << 20;

/// How many threads fit, and what they take.
pub fn plan(request: &Request, threads: usize, memory: u64) -> Result<(usize, u64)> {
    let one = request.modules.iter().map(|module| module_bytes(module, request.precision)).max().unwrap_or(0) as u64;
    let mut threads = threads.clamp(1, request.modules.len().max(1));
    // Fewer threads before none at all.
    while threads > 1 && FIXED + threads as u64 * one > memory {
        threads -= 1;
    }
    let needed = FIXED + threads as u64 * one;
    if needed > memory {
        return Err(Error::Memory { needed, budget: memory, remedy: "allow more with --memory" });
    }
    Ok((threads, needed))
}

fn module_bytes(module: &Module, precision: Precision) -> usize {
    let columns = module.columns();
    let row = |size: &dyn Fn(&super::Term) -> usize| module.terms.iter().map(|t| t.rank as usize * size(t)).sum();
    let (a, b): (usize, usize) = (row(&|t| t.a.place.dtype.size()), row(&|t| t.b.place.dtype.size()));
    let long = module.in_features.max(module.out) as usize;
    let triangles = Triangle::rows(columns, TILE_ROWS) * columns * 2;
    let results = columns * columns * 3 * if precision == Precision::Float32 { 4 } else { 8 };
    (SQUARES * columns * columns + triangles) * 8 + results + 2 * scratch_bytes(columns, a.max(b), long)
}
