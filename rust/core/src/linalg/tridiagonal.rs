//! A symmetric matrix brought to three diagonals: A = Q·T·Qᵀ, where Q is a product of reflections.
//!
//! By the blocked algorithm of Dongarra, Sorensen and Hammarling (1989; LAPACK's `dsytrd`). Each reflection needs the
//! product of what is left of A with a vector, which is bound by the memory: here A is read once for that, and written
//! only after a panel of columns, when all their reflections are taken in at once.

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::householder::{
    apply_block_householder_sequence_on_the_left_in_place_scratch,
    apply_block_householder_sequence_on_the_left_in_place_with_conj, make_householder_in_place,
};
use faer::linalg::matmul::triangular::{BlockStructure, matmul};
use faer::linalg::qr::no_pivoting::factor::recommended_block_size;
use faer::{Accum, ColMut, Conj, Mat, MatMut, MatRef, Par};

use crate::kernels::columns::{dots, subtract, symmetric};
use crate::kernels::level::Level;

/// Columns of a panel.
const PANEL: usize = 32;

/// Columns begin this much further apart than they are long: at a power of two they would share few places of a cache.
const GAP: usize = 8;

/// T, and what Q is made of.
pub struct Tridiagonal {
    pub diagonal: Vec<f64>,
    /// Below the diagonal, and a zero.
    pub below: Vec<f64>,
    reflections: Reflections,
}

/// Column j holds the reflection that acts on rows j + 1 and below, without its leading 1.
struct Reflections {
    size: usize,
    columns: Vec<f64>,
    /// Triangular factors of blocks of reflections.
    factors: Mat<f64>,
}

/// The columns of A that are under way, and what their reflections take away from the rest: A − V·Wᵀ − W·Vᵀ.
struct Panel {
    level: Level,
    size: usize,
    v: Vec<f64>,
    w: Vec<f64>,
    factors: Vec<f64>,
}

impl Tridiagonal {
    /// Reads the lower triangle of a matrix of at least one row.
    pub fn new(level: Level, a: MatRef<'_, f64>) -> Self {
        let size = a.nrows();
        let stride = size + GAP;
        let mut columns = vec![0.0; stride * size];
        for j in 0..size {
            let column = a.col(j).subrows(j, size - j);
            columns[j * stride + j..].iter_mut().zip(column.iter()).for_each(|(to, from)| *to = *from);
        }
        let reflected = size - 1;
        let block = recommended_block_size::<f64>(size, size);
        let mut factors = Mat::zeros(block, reflected);
        let mut below = vec![0.0; size];
        let mut panel = Panel::new(level, size);
        for first in (0..reflected).step_by(PANEL) {
            let width = PANEL.min(reflected - first);
            for done in 0..width {
                let (tau, off) = panel.reflect(&mut columns, first + done, done);
                factors[((first + done) % block, first + done)] = tau;
                below[first + done] = off;
            }
            panel.take_in(&mut columns, first + width, width);
        }
        let diagonal = (0..size).map(|j| columns[j * stride + j]).collect();
        let mut reflections = Reflections { size, columns, factors };
        reflections.join_blocks();
        Self { diagonal, below, reflections }
    }

    /// Divides T by a power of two, which rounds nothing, to bring its largest element near 1; returns that power. faer's
    /// divide and conquer weighs eigenvalues against elements of eigenvectors: of 130 rows whose eigenvalues are all
    /// about 1e5 it loses six digits, of 1e-20 all of them (LAPACK's `dstedc` scales as well).
    pub fn normalize(&mut self) -> f64 {
        let all = || self.diagonal.iter().chain(&self.below);
        let largest = all().fold(0.0f64, |largest, x| largest.max(x.abs()));
        if largest == 0.0 {
            return 1.0;
        }
        let power = largest.log2().floor().clamp(-1000.0, 1000.0).exp2();
        self.diagonal.iter_mut().chain(&mut self.below).for_each(|x| *x /= power);
        power
    }

    /// U ← Q·U.
    pub fn turn(&self, u: MatMut<'_, f64>) {
        let Reflections { size, factors, .. } = &self.reflections;
        let (block, columns) = (factors.nrows(), u.ncols());
        let scratch = apply_block_householder_sequence_on_the_left_in_place_scratch::<f64>(size - 1, block, columns);
        apply_block_householder_sequence_on_the_left_in_place_with_conj(
            self.reflections.essentials(),
            factors.as_ref(),
            Conj::No,
            u.subrows_mut(1, size - 1),
            Par::Seq,
            MemStack::new(&mut MemBuffer::new(scratch)),
        );
    }
}

impl Reflections {
    /// The reflections, below a diagonal that is not looked at.
    fn essentials(&self) -> MatRef<'_, f64> {
        let inner = self.size - 1;
        MatRef::from_column_major_slice_with_stride(&self.columns[1..], inner, inner, self.size + GAP)
    }

    /// From the factor of each reflection to those of blocks: above these diagonals stand the products of the vectors.
    fn join_blocks(&mut self) {
        let mut factors = std::mem::replace(&mut self.factors, Mat::new());
        let (block, count) = (factors.nrows(), factors.ncols());
        for first in (0..count).step_by(block) {
            let width = block.min(count - first);
            let (top, bottom) = self.essentials().submatrix(first, first, count - first, width).split_at_row(width);
            let mut these = factors.as_mut().submatrix_mut(0, first, width, width);
            let (upper, lower) = (BlockStructure::UnitTriangularUpper, BlockStructure::UnitTriangularLower);
            let all = BlockStructure::Rectangular;
            matmul(these.as_mut(), upper, Accum::Replace, top.transpose(), upper, top, lower, 1.0, Par::Seq);
            matmul(these, upper, Accum::Add, bottom.transpose(), all, bottom, all, 1.0, Par::Seq);
        }
        self.factors = factors;
    }
}

impl Panel {
    fn new(level: Level, size: usize) -> Self {
        let held = || vec![0.0; size * PANEL];
        Self { level, size, v: held(), w: held(), factors: vec![0.0; PANEL] }
    }

    /// Finds the reflection of column j, the `done`-th of the panel, and its w. Returns its factor and what it leaves
    /// below the diagonal.
    fn reflect(&mut self, columns: &mut [f64], j: usize, done: usize) -> (f64, f64) {
        let (size, stride) = (self.size, self.size + GAP);
        let column = &mut columns[j * stride..][..size];
        self.take_from(&mut column[j..], j, done);
        let (head, tail) = column[j + 1..].split_at_mut(1);
        let tau = make_householder_in_place(&mut head[0], ColMut::from_slice_mut(tail)).tau;
        let off = head[0];
        let begin = done * size + j + 1;
        self.v[begin] = 1.0;
        self.v[begin + 1..(done + 1) * size].copy_from_slice(tail);
        // w = (S·v) / τ less its part along v, where S is what the panel leaves of the rest so far.
        let (before, w) = self.w.split_at_mut(begin);
        let (w, v) = (&mut w[..size - j - 1], &self.v[begin..(done + 1) * size]);
        symmetric(self.level, w, &columns[(j + 1) * stride + j + 1..], stride, v);
        if done > 0 {
            let factors = &mut self.factors[..done];
            for (with, out) in [(&before[j + 1..], &self.v[j + 1..]), (&self.v[j + 1..], &before[j + 1..])] {
                dots(self.level, factors, with, size, v);
                subtract(self.level, w, out, size, factors);
            }
        }
        w.iter_mut().for_each(|w| *w /= tau);
        let mut along = [0.0];
        dots(self.level, &mut along, w, size, v);
        let half = [along[0] / (2.0 * tau)];
        subtract(self.level, w, v, size, &half);
        (tau, off)
    }

    /// Takes what the first `done` reflections change from rows `row..` of a column, which is column `row`.
    fn take_from(&mut self, column: &mut [f64], row: usize, done: usize) {
        for (with, out) in [(&self.w, &self.v), (&self.v, &self.w)] {
            let factors = &mut self.factors[..done];
            factors.iter_mut().enumerate().for_each(|(k, factor)| *factor = with[k * self.size + row]);
            subtract(self.level, column, &out[row..], self.size, factors);
        }
    }

    /// Takes what `width` reflections change from the lower triangle of columns `first..`.
    fn take_in(&self, columns: &mut [f64], first: usize, width: usize) {
        let (size, stride, rest) = (self.size, self.size + GAP, self.size - first);
        let v = MatRef::from_column_major_slice_with_stride(&self.v[first..], rest, width, size);
        let w = MatRef::from_column_major_slice_with_stride(&self.w[first..], rest, width, size);
        let columns = &mut columns[first * stride + first..];
        let mut trailing = MatMut::from_column_major_slice_with_stride_mut(columns, rest, rest, stride);
        let (lower, all) = (BlockStructure::TriangularLower, BlockStructure::Rectangular);
        for (left, right) in [(v, w), (w, v)] {
            matmul(trailing.as_mut(), lower, Accum::Add, left, all, right.transpose(), all, -1.0, Par::Seq);
        }
    }
}
