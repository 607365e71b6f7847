//! How alike models are: inner products and sign conflicts of their task vectors, every pair in one pass over the files.

mod sums;

use std::ops::Range;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::Options;
use super::hooks::Hooks;
use super::pool::{self, Sink};
use super::schedule::Schedule;
use super::work::Work;
use crate::counts::Counts;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::kernels::BLOCK;
use crate::kernels::convert::{Element, count_special};
use crate::kernels::level::Level;
use crate::kernels::reduce::LEAF;
use crate::methods::operation::{Buffers, Operation, Origin, Stored, Tensor, Tiling};
use crate::plan::{FileRecord, Place};
use crate::source::{InputFile, open_all};
use sums::{LeafSums, Sums};

/// What is compared.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    pub files: Vec<FileRecord>,
    pub tensors: Vec<Compared>,
}

/// A tensor that the base and every model have.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compared {
    pub name: String,
    pub elements: u64,
    /// The base first, then the models in their order.
    pub inputs: Vec<Place>,
}

/// What was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// In the order of the request.
    pub tensors: Vec<Sums>,
    pub bytes_read: u64,
    pub seconds: f64,
    pub threads: usize,
    pub peak_bytes: u64,
}

/// Memory of the request itself, stacks and the schedule.
const FIXED: u64 = 8 << 20;

impl Compared {
    fn bytes_in(&self) -> u64 {
        self.inputs.iter().map(|place| place.dtype.size() as u64).sum()
    }

    fn check(&self, files: &[InputFile]) -> Result<()> {
        let floats = self.inputs.iter().all(|place| place.dtype.is_float());
        if self.inputs.len() < 2 || !floats {
            return Err(Error::tensor(&self.name, "it needs a base and a model, both floating-point"));
        }
        for place in &self.inputs {
            let end = place.dtype.nbytes(self.elements).and_then(|nbytes| place.offset.checked_add(nbytes));
            let size = files.get(place.file).map(InputFile::data_bytes);
            if end.is_none() || size.is_none() || end > size {
                return Err(Error::tensor(&self.name, format!("its bytes lie outside file {}", place.file)));
            }
        }
        Ok(())
    }

    fn operation<'a, R: Element>(&'a self, files: &'a [InputFile], hooks: &'a Hooks, found: Found<'a>) -> Pairs<'a> {
        let stored = |place: &Place| Stored {
            bytes: Origin::File(&files[place.file]),
            begin: place.offset,
            dtype: place.dtype,
        };
        let inputs = self.inputs.iter().map(stored).collect();
        let (name, elements) = (self.name.as_str(), self.elements);
        let tensor = Tensor { name, elements, row: 1, dtype: Dtype::F32, inputs };
        let paths = self.inputs.iter().map(|place| files[place.file].path()).collect();
        Pairs {
            level: Level::detect(),
            sums: Mutex::new(LeafSums::new(self.inputs.len() - 1)),
            tensor,
            paths,
            measure: Pairs::add_range::<R>,
            hooks,
            found,
        }
    }
}

/// Compares the models of `request`. The result does not depend on threads, tiles or instruction set.
pub fn similarity(request: &Request, options: &Options, hooks: &Hooks) -> Result<Report> {
    let began = Instant::now();
    let tile = options.tile.unwrap_or(LEAF as u64);
    if tile == 0 || !tile.is_multiple_of(LEAF as u64) {
        return Err(Error::plan(format!("a tile of {tile} elements; it must be a multiple of {LEAF}")));
    }
    let (threads, peak_bytes) = threads(request, options)?;
    let files = open_all(&request.files, options.read_mode())?;
    request.tensors.iter().try_for_each(|tensor| tensor.check(&files))?;

    let found: Vec<Mutex<Option<Sums>>> = request.tensors.iter().map(|_| Mutex::default()).collect();
    let works = request.tensors.iter().zip(&found).map(|(tensor, found)| {
        let doubles = tensor.inputs.iter().any(|place| place.dtype == Dtype::F64);
        let make = if doubles { Compared::operation::<f64> } else { Compared::operation::<f32> };
        let operation: Box<dyn Operation + '_> = Box::new(make(tensor, &files, hooks, found));
        Work {
            operation,
            elements: tensor.elements,
            row: 1,
            size: 0,
            bytes_in: tensor.bytes_in(),
            factor_bytes: 0,
            effort: tensor.bytes_in(),
        }
    });
    let works: Vec<Work<'_>> = works.collect();
    let bytes_read = works.iter().map(|work| work.elements * work.bytes_in).sum();
    hooks.set_totals(bytes_read, works.len());
    // Every tensor counts as written: what is left to do is to measure.
    let schedule = Schedule::new(&works, tile, &vec![true; works.len()]);
    pool::run(&works, &schedule, &Nowhere, threads, hooks)?;
    drop(works);
    files.iter().try_for_each(InputFile::require_unchanged)?;
    let tensors = found.into_iter().map(|found| found.into_inner().unwrap_or_else(PoisonError::into_inner));
    let tensors =
        tensors.map(|sums| sums.ok_or_else(|| Error::plan("a tensor was not measured"))).collect::<Result<_>>()?;
    Ok(Report { tensors, bytes_read, seconds: began.elapsed().as_secs_f64(), threads, peak_bytes })
}

/// As many threads as the memory allows, and the memory they take.
fn threads(request: &Request, options: &Options) -> Result<(usize, u64)> {
    let wanted = options.threads();
    let models = request.tensors.iter().map(|tensor| tensor.inputs.len() as u64).max().unwrap_or(0);
    let reading = request.tensors.iter().map(Compared::bytes_in).max().unwrap_or(0) * LEAF as u64;
    let each = reading + models * BLOCK as u64 * 8 + models * models * 256;
    let kept = request.tensors.len() as u64 * (models * models * 16 + 256);
    let budget = options.memory.unwrap_or(super::budget::DEFAULT_MEMORY);
    let mut threads = wanted.max(1);
    loop {
        let needed = FIXED + kept + threads as u64 * each;
        if needed <= budget {
            return Ok((threads, needed));
        }
        if threads == 1 {
            return Err(Error::Memory { needed, budget, remedy: "allow more with --memory" });
        }
        threads /= 2;
    }
}

type Found<'a> = &'a Mutex<Option<Sums>>;

/// The measure of one tensor.
struct Pairs<'a> {
    level: Level,
    /// The base first.
    tensor: Tensor<'a>,
    /// Where each input lies.
    paths: Vec<&'a Path>,
    /// Adds up a range, in the type of the arithmetic.
    measure: fn(&Self, Range<u64>, &mut Buffers) -> Result<()>,
    sums: Mutex<LeafSums>,
    hooks: &'a Hooks,
    found: Found<'a>,
}

/// Arrays of one block.
struct Space<R> {
    base: Vec<R>,
    vectors: Vec<Vec<R>>,
}

impl Pairs<'_> {
    fn add_range<R: Element>(&self, range: Range<u64>, buffers: &mut Buffers) -> Result<()> {
        let models = self.tensor.inputs.len() - 1;
        let mut space = Space { base: vec![R::ZERO; BLOCK], vectors: vec![vec![R::ZERO; BLOCK]; models] };
        for start in range.clone().step_by(LEAF) {
            let leaf = start..(start + LEAF as u64).min(range.end);
            let tiles = self.tensor.read_all(&leaf, buffers)?;
            let len = (leaf.end - leaf.start) as usize;
            let mut sums = sums::Leaf::new(models);
            for at in (0..len).step_by(BLOCK) {
                let block = at..(at + BLOCK).min(len);
                self.load(&tiles, &block, start, &mut space)?;
                sums.add(self.level, &space.vectors, block.len());
            }
            self.sums.lock().unwrap_or_else(PoisonError::into_inner).add(start / LEAF as u64, sums);
        }
        self.tensor.release(&range);
        Ok(())
    }

    /// Loads the task vectors of a block; `start` is the tensor's element that the tiles begin with.
    fn load<R: Element>(
        &self,
        tiles: &[&[u8]],
        block: &Range<usize>,
        start: u64,
        space: &mut Space<R>,
    ) -> Result<()> {
        for (input, (stored, tile)) in self.tensor.inputs.iter().zip(tiles).enumerate() {
            let size = stored.dtype.size();
            let (bytes, len) = (&tile[block.start * size..block.end * size], block.len());
            let special = match input.checked_sub(1) {
                None => R::load(self.level, stored.dtype, bytes, &mut space.base[..len]),
                Some(model) => {
                    let vector = &mut space.vectors[model][..len];
                    R::load_delta(self.level, stored.dtype, bytes, &space.base[..len], vector)
                }
            };
            if special {
                return Err(self.not_finite(input, bytes, start + block.start as u64));
            }
        }
        Ok(())
    }

    fn not_finite(&self, input: usize, bytes: &[u8], first: u64) -> Error {
        let (dtype, name) = (self.tensor.inputs[input].dtype, self.tensor.name);
        let place = bytes.chunks_exact(dtype.size()).position(|code| count_special(dtype, code) != (0, 0));
        let reason = match place {
            Some(place) => {
                let element = first + place as u64;
                format!(
                    "tensor {name:?} has a NaN or an infinity at element {element}; leave the tensor out with --exclude"
                )
            }
            None => format!("tensor {name:?} is too far from the base's for float32; leave it out with --exclude"),
        };
        Error::format(self.paths[input], reason)
    }
}

impl Operation for Pairs<'_> {
    fn measures(&self) -> &[Tiling] {
        &[Tiling::Flat]
    }

    fn is_model_wide(&self) -> bool {
        true
    }

    fn measure(&self, _pass: usize, range: Range<u64>, buffers: &mut Buffers) -> Result<()> {
        (self.measure)(self, range, buffers)
    }

    fn resolve(&self, _pass: usize, _buffers: &mut Buffers) -> Result<()> {
        let sums = self.sums.lock().unwrap_or_else(PoisonError::into_inner).finish();
        if sums.products.iter().any(|sum| !sum.is_finite()) {
            return Err(Error::tensor(self.tensor.name, "the squares of its differences are too large for float64"));
        }
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(sums);
        self.hooks.add_tensor();
        Ok(())
    }

    fn merge(&self, _range: Range<u64>, _buffers: &mut Buffers, _out: &mut [u8]) -> Result<Counts> {
        Err(nothing_to_write())
    }
}

/// The schedule holds no writing pass.
struct Nowhere;

impl Sink for Nowhere {
    fn write(
        &self,
        _job: usize,
        _range: Range<u64>,
        _merge: &mut dyn FnMut(&mut [u8]) -> Result<Counts>,
    ) -> Result<Counts> {
        Err(nothing_to_write())
    }

    fn finish(&self, _job: usize, _counts: Counts) -> Result<()> {
        Err(nothing_to_write())
    }
}

fn nothing_to_write() -> Error {
    Error::plan("a comparison writes nothing")
}
