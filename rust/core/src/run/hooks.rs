//! What a run shows while it goes on, and how it is told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Shared with whoever watches.
#[derive(Debug, Default)]
pub struct Hooks {
    cancelled: Arc<AtomicBool>,
    bytes_done: AtomicU64,
    bytes_total: AtomicU64,
    tensors_done: AtomicUsize,
    tensors_total: AtomicUsize,
    job: AtomicUsize,
    writing: AtomicBool,
}

/// One look at a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes read and written so far.
    pub bytes_done: u64,
    pub bytes_total: u64,
    pub tensors_done: usize,
    pub tensors_total: usize,
    /// The job that was last begun.
    pub job: usize,
    /// Whether it was begun for writing.
    pub writing: bool,
}

impl Hooks {
    /// Asks the run to stop; it does so before it reads on.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// What is set when the run is asked to stop.
    pub(crate) fn cancelled(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.cancelled)
    }

    pub fn progress(&self) -> Progress {
        Progress {
            bytes_done: self.bytes_done.load(Ordering::Relaxed),
            bytes_total: self.bytes_total.load(Ordering::Relaxed),
            tensors_done: self.tensors_done.load(Ordering::Relaxed),
            tensors_total: self.tensors_total.load(Ordering::Relaxed),
            job: self.job.load(Ordering::Relaxed),
            writing: self.writing.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn set_totals(&self, bytes: u64, tensors: usize) {
        self.bytes_total.store(bytes, Ordering::Relaxed);
        self.tensors_total.store(tensors, Ordering::Relaxed);
    }

    pub(crate) fn begin(&self, job: usize, writing: bool) {
        self.job.store(job, Ordering::Relaxed);
        self.writing.store(writing, Ordering::Relaxed);
    }

    pub(crate) fn add_bytes(&self, bytes: u64) {
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn add_tensor(&self) {
        self.tensors_done.fetch_add(1, Ordering::Relaxed);
    }
}
