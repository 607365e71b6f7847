//! Linear combinations whose coefficients are measured: slerp, nuslerp, model_stock.
//!
//! All of them need the dot products of the vectors, of whole tensors, of rows or of columns, and end in
//! [base +] Σ cᵢ·vᵢ, where a vector is a model or, with a base, its task vector.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, OnceLock, PoisonError};

use super::operation::{Buffers, Counts, Operation, Tensor, Tiling, pieces};
use crate::error::Result;
use crate::kernels::BLOCK;
use crate::kernels::combine::{add_product, add_scaled, add_to_base, subtract};
use crate::kernels::convert::{Element, count_overflow, count_special};
use crate::kernels::level::Level;
use crate::kernels::reduce::{LEAF, Lanes, add_dot};

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
    /// Along all dimensions but the last… taken the other way: entries that share their place in a row of `len`.
    Column { len: u64 },
}

/// The coefficients from the dot products.
pub type Coefficients = Box<dyn Fn(&Dots) -> Vec<f64> + Send + Sync>;

pub struct Measured<'a, R> {
    level: Level,
    tensor: Tensor<'a>,
    has_base: bool,
    span: Span,
    coefficients: Coefficients,
    tilings: [Tiling; 1],
    /// Dot products of each leaf, row or column.
    dots: Mutex<BTreeMap<u64, Vec<f64>>>,
    /// For each vector, its coefficient in the tensor, in each row or in each column.
    resolved: OnceLock<Vec<Vec<R>>>,
}

/// Working arrays of one block.
struct Space<R> {
    base: Vec<R>,
    vectors: Vec<Vec<R>>,
    counts: Counts,
}

impl<'a, R: Element> Measured<'a, R> {
    pub fn new(level: Level, tensor: Tensor<'a>, has_base: bool, span: Span, coefficients: Coefficients) -> Self {
        let tiling = match span {
            Span::Tensor => Tiling::Flat,
            Span::Row => Tiling::Rows,
            Span::Column { .. } => Tiling::Whole,
        };
        let (dots, resolved) = (Mutex::default(), OnceLock::new());
        Self { level, tensor, has_base, span, coefficients, tilings: [tiling], dots, resolved }
    }

    fn vectors(&self) -> usize {
        self.tensor.inputs.len() - usize::from(self.has_base)
    }

    fn space(&self) -> Space<R> {
        let array = || vec![R::ZERO; BLOCK];
        Space { base: array(), vectors: (0..self.vectors()).map(|_| array()).collect(), counts: Counts::default() }
    }

    /// Hands out blocks of loaded vectors. No block crosses the end of a row where rows count.
    fn each_block(
        &self,
        range: Range<u64>,
        buffers: &mut Buffers,
        mut each: impl FnMut(u64, usize, &mut Space<R>),
    ) -> Result<()> {
        let mut space = self.space();
        let row = match self.span {
            Span::Tensor => u64::MAX,
            Span::Row => self.tensor.row.max(1),
            Span::Column { len } => len.max(1),
        };
        for piece in pieces(range, BLOCK) {
            let tiles = self.tensor.read_all(&piece, buffers)?;
            let mut at = piece.start;
            while at < piece.end {
                let to_row_end = row - at % row;
                // Blocks begin at multiples of their size, so that sums do not show where a piece began.
                let to_block_end = BLOCK as u64 - at % row % BLOCK as u64;
                let len = to_row_end.min(to_block_end).min(piece.end - at) as usize;
                self.load(&tiles, (at - piece.start) as usize, len, &mut space);
                each(at, len, &mut space);
                at += len as u64;
            }
        }
        Ok(())
    }

    fn load(&self, tiles: &[&[u8]], start: usize, len: usize, space: &mut Space<R>) {
        let skip = usize::from(self.has_base);
        space.counts = Counts::default();
        for (input, (stored, tile)) in self.tensor.inputs.iter().zip(tiles).enumerate() {
            let size = stored.dtype.size();
            let bytes = &tile[start * size..(start + len) * size];
            let is_base = input < skip;
            let target = if is_base { &mut space.base } else { &mut space.vectors[input - skip] };
            if R::load(self.level, stored.dtype, bytes, &mut target[..len]) {
                let (infinite, nan) = count_special(stored.dtype, bytes);
                space.counts += Counts { nan, infinite, overflow: 0 };
            }
            if self.has_base && !is_base {
                subtract(self.level, &mut space.vectors[input - skip][..len], &space.base[..len]);
            }
        }
    }

    /// Lanes for every pair i ≤ j, kept up for each leaf or row that a range touches.
    fn measure_runs(&self, range: Range<u64>, buffers: &mut Buffers) -> Result<()> {
        let run = if self.span == Span::Row { self.tensor.row.max(1) } else { LEAF as u64 };
        let n = self.vectors();
        let mut runs: BTreeMap<u64, Vec<Lanes>> = BTreeMap::new();
        self.each_block(range, buffers, |at, len, space| {
            let lanes = runs.entry(at / run).or_insert_with(|| vec![Lanes::default(); n * (n + 1) / 2]);
            for i in 0..n {
                for j in i..n {
                    let lane = &mut lanes[Dots::place(n, i, j)];
                    add_dot(self.level, lane, &space.vectors[i][..len], &space.vectors[j][..len]);
                }
            }
        })?;
        let mut dots = self.dots.lock().unwrap_or_else(PoisonError::into_inner);
        dots.extend(runs.into_iter().map(|(run, lanes)| (run, lanes.into_iter().map(Lanes::total).collect())));
        Ok(())
    }

    /// Sums down the columns, in the order of the rows.
    fn measure_columns(&self, range: Range<u64>, columns: u64, buffers: &mut Buffers) -> Result<()> {
        let n = self.vectors();
        let mut sums = vec![vec![0f64; n * (n + 1) / 2]; columns as usize];
        self.each_block(range, buffers, |at, len, space| {
            let first = (at % columns) as usize;
            for (k, sums) in sums[first..first + len].iter_mut().enumerate() {
                for i in 0..n {
                    for j in i..n {
                        let product = space.vectors[i][k].to_f64() * space.vectors[j][k].to_f64();
                        sums[Dots::place(n, i, j)] += product;
                    }
                }
            }
        })?;
        let mut dots = self.dots.lock().unwrap_or_else(PoisonError::into_inner);
        dots.extend((0u64..).zip(sums));
        Ok(())
    }

    /// The coefficient of vector `i` for `len` entries behind `at`, which share a row.
    fn combine(&self, at: u64, len: usize, space: &Space<R>, merged: &mut [R]) {
        let Some(resolved) = self.resolved.get() else { return };
        merged.fill(R::ZERO);
        for (vector, coefficients) in space.vectors.iter().zip(resolved) {
            match self.span {
                Span::Tensor => add_scaled(self.level, merged, &vector[..len], coefficients[0]),
                Span::Row => {
                    let row = (at / self.tensor.row.max(1)) as usize;
                    add_scaled(self.level, merged, &vector[..len], coefficients[row]);
                }
                Span::Column { len: columns } => {
                    let first = (at % columns) as usize;
                    add_product(self.level, merged, &vector[..len], &coefficients[first..first + len]);
                }
            }
        }
        if self.has_base {
            add_to_base(self.level, merged, &space.base[..len], R::ONE);
        }
    }
}

impl<R: Element> Operation for Measured<'_, R> {
    fn measures(&self) -> &[Tiling] {
        &self.tilings
    }

    fn measure(&self, _pass: usize, range: Range<u64>, buffers: &mut Buffers) -> Result<()> {
        match self.span {
            Span::Column { len } => self.measure_columns(range, len.max(1), buffers),
            _ => self.measure_runs(range, buffers),
        }
    }

    fn resolve(&self, _pass: usize, _buffers: &mut Buffers) -> Result<()> {
        let dots = std::mem::take(&mut *self.dots.lock().unwrap_or_else(PoisonError::into_inner));
        let n = self.vectors();
        let mut resolved = vec![Vec::new(); n];
        let mut push = |products: Vec<f64>| {
            let coefficients = (self.coefficients)(&Dots { n, products });
            resolved.iter_mut().zip(coefficients).for_each(|(list, c)| list.push(R::of(c)));
        };
        if self.span == Span::Tensor {
            let mut sums = vec![0.0; n * (n + 1) / 2];
            for leaf in dots.values() {
                sums.iter_mut().zip(leaf).for_each(|(sum, term)| *sum += term);
            }
            push(sums);
        } else {
            dots.into_values().for_each(&mut push);
        }
        let _ = self.resolved.set(resolved);
        Ok(())
    }

    fn merge(&self, range: Range<u64>, buffers: &mut Buffers, out: &mut [u8]) -> Result<Counts> {
        let (mut merged, mut counts, size) = ([R::ZERO; BLOCK], Counts::default(), self.tensor.dtype.size());
        let start = range.start;
        self.each_block(range.clone(), buffers, |at, len, space| {
            let merged = &mut merged[..len];
            self.combine(at, len, space, merged);
            let place = (at - start) as usize * size;
            let out = &mut out[place..place + len * size];
            counts += space.counts;
            if R::store(self.level, self.tensor.dtype, merged, out) {
                counts.overflow += count_overflow(self.tensor.dtype, merged, out);
            }
        })?;
        self.tensor.release(&range);
        Ok(counts)
    }
}
