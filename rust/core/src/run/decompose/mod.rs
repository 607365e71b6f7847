//! Decompositions of modules that are given by the factors of adapters ([`crate::factored`]): one a thread.

use std::path::Path;
use std::time::Instant;

use super::budget::DEFAULT_MEMORY;
use super::hooks::Hooks;
use super::{Options, modules};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::factored::module::{self, Pair};
use crate::factored::{Module, ModuleReport, Precision, Report, Request, Scratch, memory};
use crate::linalg::Mat;
use crate::source::{InputFile, open_all};
use crate::writer::FactorsFile;

/// Decomposes all modules and writes the small matrices to `out`: tensors `"<module>.<term>.p"` and `"<module>.<term>.q"`, both counted from 0.
///
/// # Errors
///
/// Where a file has changed, a factor lies outside its file or holds NaN or infinities, where the memory does not
/// suffice for one thread, or where the request is cancelled. `out` is removed then.
pub fn decompose(request: &Request, out: &Path, options: &Options, hooks: &Hooks) -> Result<Report> {
    let start = Instant::now();
    request.check()?;
    let files = open_all(&request.files, options.read_mode())?;
    for module in &request.modules {
        require_inside(module, &files)?;
    }
    let (threads, memory) = memory::plan(request, options.threads(), options.memory.unwrap_or(DEFAULT_MEMORY))?;
    let bytes_read = request.modules.iter().map(Module::stored_bytes).sum();
    hooks.set_totals(bytes_read, request.modules.len());
    let small = FactorsFile::create(out, 2 * request.modules.iter().map(|module| module.terms.len()).sum::<usize>())?;
    let all = All { request, files: &files, small: &small, hooks };
    let outcome = all.run(threads).and_then(|modules| {
        files.iter().try_for_each(InputFile::require_unchanged)?;
        Ok(modules)
    });
    match outcome.and_then(|modules| small.finish().map(|_| modules)) {
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
    small: &'a FactorsFile,
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
        for (term, Pair { p, q }) in found.pairs.iter().enumerate() {
            for (which, matrix) in [("p", p), ("q", q)] {
                self.add(module, &format!("{index}.{term}.{which}"), matrix)?;
            }
        }
        self.hooks.add_bytes(module.stored_bytes());
        self.hooks.add_tensor();
        Ok(found.report)
    }

    fn add(&self, module: &Module, name: &str, matrix: &Mat<f64>) -> Result<()> {
        let dtype = match self.request.precision {
            Precision::Float32 => Dtype::F32,
            Precision::Float64 => Dtype::F64,
        };
        let rows = (0..matrix.nrows()).flat_map(|i| (0..matrix.ncols()).map(move |j| matrix[(i, j)]));
        let shape = [matrix.nrows() as u64, matrix.ncols() as u64];
        if self.small.add(name, dtype, shape, &rows.collect::<Vec<_>>())? {
            let reason = "its factors are too small or too large for float32; ask for precision float64";
            return Err(Error::tensor(&module.name, reason));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
