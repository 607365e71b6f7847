//! Linear combinations whose coefficients are measured: slerp, nuslerp, model_stock.
//!
//! All of them need the dot products of the vectors, of whole tensors, of rows or of columns, and end in
//! [base +] Σ cᵢ·vᵢ, where a vector is a model or, with a base, its task vector.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{PoisonError, RwLock};

use super::columns::{Columns, Cut};
use super::in_order::InOrder;
use super::operation::{Buffers, Operation, Tensor, Tiling};
use crate::counts::Counts;
use crate::error::Result;
use crate::kernels::BLOCK;
use crate::kernels::combine::{add_product, add_to_base, combine};
use crate::kernels::convert::{Element, count_overflow, count_special};
use crate::kernels::level::Level;
use crate::kernels::reduce::{LEAF, Lanes, add_dots, add_products};

/// Dot products of n vectors: ⟨vᵢ, vⱼ⟩ for i ≤ j.
#[derive(Clone, Debug)]
pub struct Dots {
    n: usize,
    products: Vec<f64>,
}

impl Dots {
    fn place(n: usize, i: usize, j: usize) -> usize {
        i * n - i * (i + 1) / 2 + j
    }

    pub fn of(&self, i: usize, j: usize) -> f64 {
        self.products[Self::place(self.n, i.min(j), i.max(j))]
    }

    pub fn norm(&self, i: usize) -> f64 {
        self.of(i, i).sqrt()
    }

    pub fn vectors(&self) -> usize {
        self.n
    }
}

/// What a vector is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    Tensor,
    /// Along the last dimension.
    Row,
    /// Along the first dimension.
    Columns(Columns),
}

/// The coefficients from the dot products.
pub type Coefficients = Box<dyn Fn(&Dots) -> Vec<f64> + Send + Sync>;

pub struct Measured<'a, R> {
    level: Level,
    tensor: Tensor<'a>,
    has_base: bool,
    span: Span,
    coefficients: Coefficients,
    /// Rows are measured where they are written; whole tensors and columns before.
    tilings: Vec<Tiling>,
    /// Dot products of leaves, or of runs of rows for each pair and column.
    dots: InOrder,
    /// For each vector, its coefficient in the tensor or in each column.
    resolved: RwLock<Vec<Vec<R>>>,
}

/// Working arrays of one block, or of one row, which is measured before it is merged.
struct Space<R> {
    base: Vec<R>,
    vectors: Vec<Vec<R>>,
    counts: Counts,
}

impl<'a, R: Element> Measured<'a, R> {
    pub fn new(level: Level, tensor: Tensor<'a>, has_base: bool, span: Span, coefficients: Coefficients) -> Self {
        let tilings = match span {
            Span::Tensor => vec![Tiling::Flat],
            Span::Row => Vec::new(),
            Span::Columns(columns) => vec![Tiling::Runs(columns.part())],
        };
        let (dots, resolved) = (InOrder::default(), RwLock::default());
        Self { level, tensor, has_base, span, coefficients, tilings, dots, resolved }
    }

    fn vectors(&self) -> usize {
        self.tensor.inputs.len() - usize::from(self.has_base)
    }

    fn pairs(&self) -> usize {
        self.vectors() * (self.vectors() + 1) / 2
    }

    fn space(&self) -> Space<R> {
        let len = if self.span == Span::Row { (self.tensor.row as usize).max(BLOCK) } else { BLOCK };
        let array = || vec![R::ZERO; len];
        Space { base: array(), vectors: (0..self.vectors()).map(|_| array()).collect(), counts: Counts::default() }
    }

    /// Entries behind which coefficients begin anew: no block crosses a multiple of it.
    fn run(&self) -> u64 {
        match self.span {
            Span::Columns(columns) => columns.count,
            Span::Tensor | Span::Row => u64::MAX,
        }
    }

    /// Hands out blocks of loaded vectors of what was read: `tiles` begins at element `piece.start`.
    fn each_block(&self, tiles: &[&[u8]], piece: &Range<u64>, space: &mut Space<R>, each: &mut Each<'_, R>) {
        let run = self.run();
        let mut at = piece.start;
        while at < piece.end {
            // Blocks begin at multiples of their size, so that sums do not show where a piece began.
            let to_block_end = BLOCK as u64 - at % run % BLOCK as u64;
            let len = (run - at % run).min(to_block_end).min(piece.end - at) as usize;
            space.counts = self.load(tiles, (at - piece.start) as usize, 0..len, space);
            each(at, len, space);
            at += len as u64;
        }
    }

    /// Reads a range piece by piece and hands out its blocks.
    fn each_block_of(&self, range: Range<u64>, buffers: &mut Buffers, each: &mut Each<'_, R>) -> Result<()> {
        let mut space = self.space();
        for piece in self.tensor.pieces(range, BLOCK) {
            let tiles = self.tensor.read_all(&piece, buffers)?;
            self.each_block(&tiles, &piece, &mut space, each);
        }
        Ok(())
    }

    /// Decodes what lies at `start` of the tiles to a block of the working arrays.
    fn load(&self, tiles: &[&[u8]], start: usize, block: Range<usize>, space: &mut Space<R>) -> Counts {
        let skip = usize::from(self.has_base);
        let mut counts = Counts::default();
        for (input, (stored, tile)) in self.tensor.inputs.iter().zip(tiles).enumerate() {
            let size = stored.dtype.size();
            let bytes = &tile[start * size..(start + block.len()) * size];
            let special = if input < skip {
                R::load(self.level, stored.dtype, bytes, &mut space.base[block.clone()])
            } else if self.has_base {
                let vector = &mut space.vectors[input - skip][block.clone()];
                R::load_delta(self.level, stored.dtype, bytes, &space.base[block.clone()], vector)
            } else {
                R::load(self.level, stored.dtype, bytes, &mut space.vectors[input][block.clone()])
            };
            if special {
                let (infinite, nan) = count_special(stored.dtype, bytes);
                counts += Counts { nan, infinite, overflow: 0 };
            }
        }
        counts
    }

    fn measure_leaves(&self, range: Range<u64>, buffers: &mut Buffers) -> Result<()> {
        let mut leaves: BTreeMap<u64, Vec<Lanes>> = BTreeMap::new();
        self.each_block_of(range, buffers, &mut |at, len, space| {
            let lanes = leaves.entry(at / LEAF as u64).or_insert_with(|| vec![Lanes::default(); self.pairs()]);
            add_dots(self.level, lanes, &space.vectors, &(0..len));
        })?;
        for (leaf, lanes) in leaves {
            self.dots.add(leaf, lanes.into_iter().map(Lanes::total).collect());
        }
        Ok(())
    }

    /// Sums down the columns of a run of rows, or of a strip of columns, whose coefficients are then known.
    fn measure_columns(&self, columns: Columns, range: &Range<u64>, buffers: &mut Buffers) -> Result<()> {
        match columns.cut() {
            Cut::Rows(_) => {
                let pieces = self.tensor.pieces(range.clone(), BLOCK);
                let sums = self.sum_columns(pieces, &(0..columns.count), buffers)?;
                self.dots.add(range.start / columns.part(), sums);
            }
            Cut::Strips(_) => {
                let strip = columns.strip(range);
                let sums = self.sum_columns(columns.rows_of(strip.clone()), &strip, buffers)?;
                self.resolve_columns(columns, strip, &sums);
            }
        }
        Ok(())
    }

    /// The dot products of each pair in each of these columns, in the order of the rows that the pieces lie in.
    fn sum_columns(
        &self,
        pieces: impl Iterator<Item = Range<u64>>,
        columns: &Range<u64>,
        buffers: &mut Buffers,
    ) -> Result<Vec<f64>> {
        let (mut space, width) = (self.space(), (columns.end - columns.start) as usize);
        let mut sums = vec![0.0; self.pairs() * width];
        for piece in pieces {
            let tiles = self.tensor.read_all(&piece, buffers)?;
            self.each_block(&tiles, &piece, &mut space, &mut |at, len, space| {
                let first = (at % self.run() - columns.start) as usize;
                let pairs = space
                    .vectors
                    .iter()
                    .enumerate()
                    .flat_map(|(i, a)| space.vectors[i..].iter().map(move |b| (a, b)));
                for (sums, (a, b)) in sums.chunks_exact_mut(width).zip(pairs) {
                    add_products(self.level, &mut sums[first..first + len], &a[..len], &b[..len]);
                }
            });
            self.tensor.release(&piece);
        }
        Ok(sums)
    }

    /// The coefficients of these columns from their dot products.
    fn resolve_columns(&self, columns: Columns, strip: Range<u64>, sums: &[f64]) {
        let (n, first, width) = (self.vectors(), strip.start as usize, (strip.end - strip.start) as usize);
        let dots = |k| Dots { n, products: sums.chunks_exact(width).map(|sums| sums[k]).collect() };
        let coefficients: Vec<R> = (0..width).flat_map(|k| (self.coefficients)(&dots(k))).map(R::of).collect();
        let mut resolved = self.resolved.write().unwrap_or_else(PoisonError::into_inner);
        resolved.resize_with(n, || vec![R::ZERO; columns.count as usize]);
        for (vector, resolved) in resolved.iter_mut().enumerate() {
            let coefficients = coefficients.iter().skip(vector).step_by(n);
            resolved[first..first + width].iter_mut().zip(coefficients).for_each(|(place, &c)| *place = c);
        }
    }

    /// [base +] Σ cᵢ·vᵢ of a block, with one coefficient for each vector.
    fn combine(&self, block: &Range<usize>, space: &Space<R>, coefficients: &[R], merged: &mut [R]) {
        let base = self.has_base.then(|| &space.base[block.clone()]);
        combine(self.level, &space.vectors, block, coefficients, base, merged);
    }

    /// The same with a coefficient for each column.
    fn combine_columns(&self, first: usize, len: usize, space: &Space<R>, columns: &[Vec<R>], merged: &mut [R]) {
        merged.fill(R::ZERO);
        for (vector, coefficients) in space.vectors.iter().zip(columns) {
            add_product(self.level, merged, &vector[..len], &coefficients[first..first + len]);
        }
        if self.has_base {
            add_to_base(self.level, merged, &space.base[..len], R::ONE);
        }
    }

    /// Writes the rows of a piece, each loaded once: measured block by block, then merged.
    fn merge_rows(&self, tiles: &[&[u8]], rows: usize, space: &mut Space<R>, out: &mut [u8]) -> Counts {
        let (mut merged, mut counts, size) = ([R::ZERO; BLOCK], Counts::default(), self.tensor.dtype.size());
        let len = self.tensor.row as usize;
        let blocks = |start| start..len.min(start + BLOCK);
        for (row, out) in (0..rows).zip(out.chunks_exact_mut(len * size)) {
            let mut lanes = vec![Lanes::default(); self.pairs()];
            for block in (0..len).step_by(BLOCK).map(blocks) {
                counts += self.load(tiles, row * len + block.start, block.clone(), space);
                add_dots(self.level, &mut lanes, &space.vectors, &block);
            }
            let dots = Dots { n: self.vectors(), products: lanes.into_iter().map(Lanes::total).collect() };
            let coefficients: Vec<R> = (self.coefficients)(&dots).into_iter().map(R::of).collect();
            for block in (0..len).step_by(BLOCK).map(blocks) {
                let merged = &mut merged[..block.len()];
                self.combine(&block, space, &coefficients, merged);
                counts += self.store(merged, &mut out[block.start * size..block.end * size]);
            }
        }
        counts
    }

    fn store(&self, merged: &[R], out: &mut [u8]) -> Counts {
        let overflow = if R::store(self.level, self.tensor.dtype, merged, out) {
            count_overflow(self.tensor.dtype, merged, out)
        } else {
            0
        };
        Counts { overflow, ..Counts::default() }
    }
}

/// Called with the first element of a block, its length, and the loaded vectors.
type Each<'e, R> = dyn FnMut(u64, usize, &mut Space<R>) + 'e;

impl<R: Element> Operation for Measured<'_, R> {
    fn measures(&self) -> &[Tiling] {
        &self.tilings
    }

    fn tiling(&self) -> Tiling {
        if self.span == Span::Row { Tiling::Rows } else { Tiling::Flat }
    }

    fn measure(&self, _pass: usize, range: Range<u64>, buffers: &mut Buffers) -> Result<()> {
        match self.span {
            Span::Columns(columns) => self.measure_columns(columns, &range, buffers),
            _ => {
                self.measure_leaves(range.clone(), buffers)?;
                self.tensor.release(&range);
                Ok(())
            }
        }
    }

    fn resolve(&self, _pass: usize, _buffers: &mut Buffers) -> Result<()> {
        match self.span {
            Span::Columns(columns) => {
                if let Cut::Rows(_) = columns.cut() {
                    let sums = self.dots.take(self.pairs() * columns.count as usize);
                    self.resolve_columns(columns, 0..columns.count, &sums);
                }
            }
            _ => {
                let dots = Dots { n: self.vectors(), products: self.dots.take(self.pairs()) };
                let coefficients = (self.coefficients)(&dots).into_iter().map(|c| vec![R::of(c)]).collect();
                *self.resolved.write().unwrap_or_else(PoisonError::into_inner) = coefficients;
            }
        }
        Ok(())
    }

    fn forget(&self) {
        *self.resolved.write().unwrap_or_else(PoisonError::into_inner) = Vec::new();
    }

    fn merge(&self, range: Range<u64>, buffers: &mut Buffers, out: &mut [u8]) -> Result<Counts> {
        let (mut merged, mut counts, size) = ([R::ZERO; BLOCK], Counts::default(), self.tensor.dtype.size());
        let (start, mut space) = (range.start, self.space());
        let resolved = self.resolved.read().unwrap_or_else(PoisonError::into_inner);
        let whole: Vec<R> = resolved.iter().filter_map(|list| list.first().copied()).collect();
        let unit = if self.span == Span::Row { self.tensor.row as usize } else { BLOCK };
        for piece in self.tensor.pieces(range.clone(), unit) {
            let tiles = self.tensor.read_all(&piece, buffers)?;
            let place = |at: u64| (at - start) as usize * size;
            if self.span == Span::Row {
                let rows = ((piece.end - piece.start) / self.tensor.row) as usize;
                counts += self.merge_rows(&tiles, rows, &mut space, &mut out[place(piece.start)..place(piece.end)]);
                continue;
            }
            self.each_block(&tiles, &piece, &mut space, &mut |at, len, space| {
                let merged = &mut merged[..len];
                if let Span::Columns(columns) = self.span {
                    self.combine_columns((at % columns.count) as usize, len, space, &resolved, merged);
                } else {
                    self.combine(&(0..len), space, &whole, merged);
                }
                counts += space.counts;
                counts += self.store(merged, &mut out[place(at)..place(at + len as u64)]);
            });
        }
        self.tensor.release(&range);
        Ok(counts)
    }
}
