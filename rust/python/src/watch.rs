//! The one door between Python's time and Rust's: long work on a thread of its own, signals looked at meanwhile.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::ScopedJoinHandle;
use std::time::Duration;

use carrick_core::error::Result;
use carrick_core::run::hooks::{Hooks, Progress};
use pyo3::prelude::*;
use serde_json::json;

use crate::errors::{CarrickError, to_python};

/// How often signals are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Does `work`. A signal, or an error of `look`, calls `stop`, and is raised once the work has ended.
pub fn watch<T: Send>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T> + Send,
    stop: impl Fn(),
    look: impl Fn() -> PyResult<()>,
) -> PyResult<T> {
    let (sender, mut receiver) = channel();
    std::thread::scope(|scope| {
        let mut worker = Some(scope.spawn(move || {
            // The receiver lives until the scope ends.
            let _ = sender.send(work());
        }));
        let mut stopped = Ok(());
        loop {
            // The receiver goes along, since it cannot be shared.
            let outcome = py.detach(move || (receiver.recv_timeout(LOOK), receiver));
            receiver = outcome.1;
            match outcome.0 {
                Ok(result) => return stopped.and_then(|()| result.map_err(to_python)),
                Err(RecvTimeoutError::Disconnected) => {
                    // A panic, which the scope would raise again if nobody had looked at it.
                    let _ = worker.take().map(ScopedJoinHandle::join);
                    return Err(CarrickError::new_err("the work broke down; this is a defect"));
                }
                Err(RecvTimeoutError::Timeout) if stopped.is_ok() => {
                    stopped = py.check_signals().and_then(|()| look());
                    if stopped.is_err() {
                        stop();
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    })
}

/// Tells a watcher in Python how far a run is. `name` is what the number of a job stands for.
pub fn tell<'n>(
    hooks: &Hooks,
    progress: Option<&Bound<'_, PyAny>>,
    name: impl Fn(usize) -> Option<&'n String>,
    stage: impl Fn(&Progress) -> &'static str,
) -> PyResult<()> {
    let Some(progress) = progress else { return Ok(()) };
    let now = hooks.progress();
    let state = json!({
        "bytes_done": now.bytes_done,
        "bytes_total": now.bytes_total,
        "tensors_done": now.tensors_done,
        "tensors_total": now.tensors_total,
        "tensor": name(now.job),
        "stage": stage(&now),
    });
    progress.call1((state.to_string(),)).map(|_| ())
}
