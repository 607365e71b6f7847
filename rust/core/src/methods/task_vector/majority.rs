//! The sign that most entries of the whole model were elected to.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

/// A count kept by all tensors of a merge.
pub struct Majority {
    uncounted: AtomicUsize,
    signs: AtomicI64,
    settled: OnceLock<f64>,
}

impl Majority {
    /// For this many tensors.
    pub fn new(members: usize) -> Self {
        Self { uncounted: AtomicUsize::new(members), signs: AtomicI64::new(0), settled: OnceLock::new() }
    }

    /// Adds positive less negative signs.
    pub fn add(&self, signs: i64) {
        self.signs.fetch_add(signs, Ordering::Relaxed);
    }

    /// Says that a tensor was counted; the last one settles the majority.
    pub fn settle(&self) {
        if self.uncounted.fetch_sub(1, Ordering::AcqRel) == 1 {
            let _ = self.settled.set(self.signs.load(Ordering::Acquire).signum() as f64);
        }
    }

    /// 1, −1, or 0 where neither prevails.
    pub fn sign(&self) -> f64 {
        self.settled.get().copied().unwrap_or(0.0)
    }
}
