//! Decompositions of modules that are given by the factors of adapters, ΔW = scale·B·A.
//!
//! A sum of such terms, or all of them side by side, has a singular value decomposition whose vectors are combinations
//! of the factors' columns. What is computed here are those combinations, small matrices P and Q; the new factors,
//! Σ B·P and Σ Q·A, are products that the run makes while it writes them. See [`spectrum`] for the arithmetic.
//!
//! | kind | left factor | right factor of term i |
//! |---|---|---|
//! | sum | Σ Bᵢ·Pᵢ = U·Σ | Qᵢ·Aᵢ, which add up to Vᵀ |
//! | joint columns | Σ Bᵢ·Pᵢ = U | Qᵢ·Aᵢ = Σ·Vᵢᵀ |
//! | joint rows | Bᵢ·Qᵢ = Uᵢ·Σ of term i | Σ Pᵢ·Aᵢ = Vᵀ |

mod cut;
mod memory;
mod module;
mod request;
mod spectrum;
mod stack;
mod store;

use std::path::Path;
use std::time::Instant;

pub use request::{Kind, Module, ModuleReport, Precision, Report, Request, Route, Term, Tolerance};

use crate::error::{Error, Result};
use crate::run::hooks::Hooks;
use crate::run::modules;
use crate::source::{InputFile, ReadMode, open_all};
use stack::Scratch;
use store::Store;

/// Decomposes all modules, on `threads` threads and within `memory` bytes, and writes the small matrices to `out`:
/// tensors `"<module>.<term>.p"` and `"<module>.<term>.q"`, both counted from 0.
///
/// # Errors
///
/// Where a file has changed, a factor lies outside its file or holds NaN or infinities, where the memory does not
/// suffice for one thread, or where the request is cancelled. `out` is removed then.
pub fn decompose(request: &Request, out: &Path, threads: usize, memory: u64, hooks: &Hooks) -> Result<Report> {
    let start = Instant::now();
    request.check()?;
    let files = open_all(&request.files, ReadMode::Pread)?;
    for module in &request.modules {
        require_inside(module, &files)?;
    }
    let (threads, memory) = memory::plan(request, threads, memory)?;
    let bytes_read = request.modules.iter().map(Module::stored_bytes).sum();
    hooks.set_totals(bytes_read, request.modules.len());
    let store = Store::create(out, request)?;
    let all = All { request, files: &files, store: &store, hooks };
    let outcome = all.run(threads).and_then(|modules| {
        files.iter().try_for_each(InputFile::require_unchanged)?;
        Ok(modules)
    });
    match outcome.and_then(|modules| store.finish().map(|()| modules)) {
        Ok(modules) => Ok(Report { modules, threads, memory, bytes_read, seconds: start.elapsed().as_secs_f64() }),
        Err(error) => {
            // The error is what matters; a file that cannot be removed is no worse than one that was not finished.
            let _ = std::fs::remove_file(out);
            Err(error)
        }
    }
}

fn require_inside(module: &Module, files: &[InputFile]) -> Result<()> {
    for term in &module.terms {
        for (factor, long) in [(term.a, module.in_features), (term.b, module.out)] {
            let (place, file) = (factor.place, &files[factor.place.file]);
            if place.offset + term.rank * long * place.dtype.size() as u64 > file.data_bytes() {
                let reason = format!("the bytes of a factor lie outside {}", file.path().display());
                return Err(Error::tensor(&module.name, reason));
            }
        }
    }
    Ok(())
}

/// A request under way.
struct All<'a> {
    request: &'a Request,
    files: &'a [InputFile],
    store: &'a Store,
    hooks: &'a Hooks,
}

impl All<'_> {
    fn run(&self, threads: usize) -> Result<Vec<ModuleReport>> {
        let cost = |module: &Module| {
            let columns = module.columns() as u64;
            (module.out + module.in_features + 8 * columns) * columns * columns
        };
        let costs: Vec<u64> = self.request.modules.iter().map(cost).collect();
        modules::each(&costs, threads, self.hooks, |index, scratch| self.one(index, scratch))
    }

    fn one(&self, index: usize, scratch: &mut Scratch) -> Result<ModuleReport> {
        self.hooks.begin(index, false);
        let module = &self.request.modules[index];
        let found = module::decompose(self.request, module, self.files, scratch)?;
        self.store.append(index, &module.name, &found.pairs)?;
        self.hooks.add_bytes(module.stored_bytes());
        self.hooks.add_tensor();
        Ok(found.report)
    }
}

#[cfg(test)]
mod tests;
