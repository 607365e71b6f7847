//! The threads: each takes a tile, measures or merges it, and comes back for the next.

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::hooks::Hooks;
use super::schedule::{Pass, Schedule, Task};
use super::work::Work;
use crate::counts::Counts;
use crate::error::{Error, Result};
use crate::methods::operation::Buffers;

/// Where merged tiles go.
pub trait Sink: Sync {
    /// Has `merge` write elements `range` of a job.
    fn write(
        &self,
        job: usize,
        range: Range<u64>,
        merge: &mut dyn FnMut(&mut [u8]) -> Result<Counts>,
    ) -> Result<Counts>;

    /// Every element of the job is written.
    fn finish(&self, job: usize, counts: Counts) -> Result<()>;

    /// The run has failed: nobody shall wait for room any more.
    fn cancel(&self) {}
}

/// Carries out everything that is scheduled, on `threads` threads.
pub fn run(works: &[Work<'_>], schedule: &Schedule, sink: &dyn Sink, threads: usize, hooks: &Hooks) -> Result<()> {
    let failure: Mutex<Option<Error>> = Mutex::new(None);
    let counts: Vec<Mutex<Counts>> = works.iter().map(|_| Mutex::default()).collect();
    let pool = Pool { works, schedule, sink, hooks, counts: &counts };
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                if let Err(error) = pool.work() {
                    // The first failure is the cause, and is kept before anything is stopped: what fails behind it
                    // does so because the run was stopped.
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    schedule.stop();
                    sink.cancel();
                }
            });
        }
    });
    failure.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

struct Pool<'p, 'w> {
    works: &'p [Work<'w>],
    schedule: &'p Schedule,
    sink: &'p dyn Sink,
    hooks: &'p Hooks,
    counts: &'p [Mutex<Counts>],
}

impl Pool<'_, '_> {
    fn work(&self) -> Result<()> {
        let _guard = StopOnPanic(self);
        let mut buffers = Buffers::new(self.hooks.cancelled());
        while let Some(task) = self.schedule.next() {
            if self.hooks.is_cancelled() {
                return Err(Error::Interrupted);
            }
            self.hooks.begin(task.job, task.pass == Pass::Write);
            self.carry_out(&task, &mut buffers)?;
        }
        Ok(())
    }

    fn carry_out(&self, task: &Task, buffers: &mut Buffers) -> Result<()> {
        let work = &self.works[task.job];
        let range = || task.range.clone();
        let elements = task.range.end - task.range.start;
        match task.pass {
            Pass::Measure(pass) => {
                work.operation.measure(pass, range(), buffers)?;
                if work.operation.reads_all(pass) {
                    self.hooks.add_bytes(elements * work.effort);
                }
                if self.schedule.finish(task) {
                    work.operation.resolve(pass, buffers)?;
                    self.schedule.close(task);
                }
            }
            Pass::Write => {
                let merge = &mut |out: &mut [u8]| work.operation.merge(range(), buffers, out);
                let counts = self.sink.write(task.job, range(), merge)?;
                self.hooks.add_bytes(elements * (work.effort + work.size as u64));
                let mut total = self.counts[task.job].lock().unwrap_or_else(PoisonError::into_inner);
                *total += counts;
                if self.schedule.finish(task) {
                    work.operation.forget();
                    self.sink.finish(task.job, *total)?;
                    self.hooks.add_tensor();
                    self.schedule.close(task);
                }
            }
        }
        Ok(())
    }
}

/// A panic in a method is a defect; it must not leave other threads waiting for this one.
struct StopOnPanic<'p, 'q, 'w>(&'q Pool<'p, 'w>);

impl Drop for StopOnPanic<'_, '_, '_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.schedule.stop();
            self.0.sink.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::methods::operation::Operation;

    struct Nothing;

    impl Operation for Nothing {
        fn merge(&self, _range: Range<u64>, _buffers: &mut Buffers, _out: &mut [u8]) -> Result<Counts> {
            Ok(Counts::default())
        }
    }

    /// The first job fails once the second waits for room; who waits is told long before `cancel` returns.
    #[derive(Default)]
    struct Failing {
        waits: AtomicBool,
        cancelled: AtomicBool,
    }

    fn until(flag: &AtomicBool) {
        while !flag.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
    }

    impl Sink for Failing {
        fn write(
            &self,
            job: usize,
            _range: Range<u64>,
            _merge: &mut dyn FnMut(&mut [u8]) -> Result<Counts>,
        ) -> Result<Counts> {
            if job == 0 {
                until(&self.waits);
                return Err(Error::tensor("w", "is wrong"));
            }
            self.waits.store(true, Ordering::Release);
            until(&self.cancelled);
            Err(Error::Interrupted)
        }

        fn finish(&self, _job: usize, _counts: Counts) -> Result<()> {
            Ok(())
        }

        fn cancel(&self) {
            // Who cancels first comes last.
            if !self.cancelled.swap(true, Ordering::AcqRel) {
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    }

    #[test]
    fn a_failure_is_not_hidden_by_those_whom_it_stops() {
        let work = || Work {
            operation: Box::new(Nothing),
            elements: 1,
            row: 1,
            size: 1,
            bytes_in: 1,
            factor_bytes: 0,
            effort: 1,
        };
        let works = [work(), work()];
        let schedule = Schedule::new(&works, 1 << 16, &[false, false]);
        let failure = run(&works, &schedule, &Failing::default(), 2, &Hooks::default());
        assert!(matches!(failure, Err(Error::Tensor { .. })), "{failure:?}");
    }
}
