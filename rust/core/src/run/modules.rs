//! Modules that are worked on whole: one a thread, the costliest first.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::hooks::Hooks;
use crate::error::{Error, Result};

/// Has `threads` threads make something of every module, each with scratch of its own, and returns it in the modules'
/// order. The costliest come first, so that no thread is left with one at the end.
///
/// # Errors
///
/// The first failure, after which no module is begun; [`Error::Interrupted`] where the run is asked to stop.
pub fn each<S: Default, T: Send>(
    costs: &[u64],
    threads: usize,
    hooks: &Hooks,
    make: impl Fn(usize, &mut S) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let mut order: Vec<usize> = (0..costs.len()).collect();
    order.sort_by_key(|&module| std::cmp::Reverse(costs[module]));
    let (next, stopped) = (AtomicUsize::new(0), AtomicBool::new(false));
    let made: Vec<Mutex<Option<T>>> = costs.iter().map(|_| Mutex::default()).collect();
    let failure: Mutex<Option<Error>> = Mutex::default();
    let work = || -> Result<()> {
        let mut scratch = S::default();
        while let Some(&module) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
            if stopped.load(Ordering::Relaxed) {
                break;
            }
            if hooks.is_cancelled() {
                return Err(Error::Interrupted);
            }
            *made[module].lock().unwrap_or_else(PoisonError::into_inner) = Some(make(module, &mut scratch)?);
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, order.len().max(1)) {
            scope.spawn(|| {
                if let Err(error) = work() {
                    failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    stopped.store(true, Ordering::Relaxed);
                }
            });
        }
    });
    if let Some(error) = failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    // Without a failure every module has been made.
    Ok(made.into_iter().filter_map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_stand_in_the_order_of_the_modules() {
        for threads in [1, 2, 7] {
            let begun = Mutex::new(Vec::new());
            let costs = [1, 5, 3, 5];
            let made = each(&costs, threads, &Hooks::default(), |module, count: &mut usize| {
                begun.lock().unwrap().push(module);
                *count += 1;
                Ok((module, *count))
            });
            let made = made.unwrap();
            assert_eq!(made.iter().map(|(module, _)| *module).collect::<Vec<_>>(), [0, 1, 2, 3]);
            if threads == 1 {
                assert_eq!(begun.into_inner().unwrap(), [1, 3, 2, 0]);
                // One scratch for all that a thread makes.
                assert_eq!(made.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [4, 1, 3, 2]);
            }
        }
        let none = each(&[], 2, &Hooks::default(), |_, (): &mut ()| Ok(0));
        assert!(none.unwrap().is_empty());
    }

    #[test]
    fn nothing_is_begun_after_a_failure_or_an_interrupt() {
        let begun = AtomicUsize::new(0);
        let fail = |module, (): &mut ()| {
            begun.fetch_add(1, Ordering::Relaxed);
            if module == 1 { Err(Error::tensor("w", "is wrong")) } else { Ok(()) }
        };
        let failure = each(&[3, 2, 1], 1, &Hooks::default(), fail);
        assert!(matches!(failure, Err(Error::Tensor { .. })), "{failure:?}");
        assert_eq!(begun.load(Ordering::Relaxed), 2);
        let hooks = Hooks::default();
        hooks.cancel();
        assert!(matches!(each(&[3, 2, 1], 2, &hooks, fail), Err(Error::Interrupted)));
        assert_eq!(begun.load(Ordering::Relaxed), 2);
    }
}
