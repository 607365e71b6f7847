//! Products of factors: rows of the left one with those panels of the right one that a tile touches.

use std::ops::Range;

use super::Described;
use super::factors::{Lefts, Packed};
use crate::error::Result;
use crate::kernels::convert::Element;
use crate::kernels::product::{Panel, ROWS, Target, pack_rows};
use crate::plan::{Factor, Product};

/// Elements of a right factor that are read at a time, unless a row has more: small adapters have thousands of short rows.
const PACKED_READ: usize = 1 << 16;

/// Panels that rows go through before the next rows come: they stay in the second-level cache, and what is written lies
/// close together.
const TOGETHER: usize = 8;

impl<R: Panel + Element> Described<'_, R> {
    /// Adds the part of a product that lies in `range`, or puts it there.
    pub(super) fn add_product(&self, product: &Product, adds: bool, range: &Range<u64>, out: &mut [R]) -> Result<()> {
        let rank = product.rank as usize;
        if rank == 0 || out.is_empty() {
            return Ok(());
        }
        let rows = self.rows(range);
        let mut lefts = self.factors.lefts();
        self.left(&product.left, rank, &rows, &mut lefts)?;
        let key = product.right.key(product.rank, self.description.columns);
        let right = self.factors.get(key, || self.pack(&product.right, rank))?;
        pack_rows(&lefts.rows, rank, &mut lefts.packed);
        self.multiply(product, adds, range, &lefts.packed, &right, out);
        self.factors.give_back(lefts);
        Ok(())
    }

    /// The same with both factors at hand: the rows that `range` touches, [`ROWS`] together, and the right factor.
    fn multiply(
        &self,
        product: &Product,
        adds: bool,
        range: &Range<u64>,
        lefts: &[R],
        right: &Packed<R>,
        out: &mut [R],
    ) {
        let (rank, columns, rows) = (product.rank as usize, self.columns(), self.rows(range));
        // The first row that is touched and the last one may have a part of their columns in `range`.
        let whole = range.start.div_ceil(columns as u64)..range.end / columns as u64;
        let alone = rows.end - rows.start == 1;
        let (begins_cut, ends_cut) = (rows.start < whole.start, rows.end > whole.end);
        let span = |row: u64| self.part_of_row(row, range).map_or(0..0, |(_, span)| span);
        let touched = if alone { span(rows.start) } else { 0..columns };
        let mut part = |panel: usize, top: u64, left: &[R]| {
            let all = panel * R::WIDTH..((panel + 1) * R::WIDTH).min(columns);
            let bottom = (top + ROWS as u64).min(rows.end);
            let mut multiply = |these: Range<u64>, wanted: Range<usize>| {
                if these.is_empty() || wanted.is_empty() {
                    return;
                }
                let at = these.start * columns as u64 + wanted.start as u64 - range.start;
                let target = Target {
                    out: &mut out[at as usize..],
                    stride: columns,
                    rows: (these.start - top) as usize..(these.end - top) as usize,
                    columns: wanted.start - all.start..wanted.end - all.start,
                    adds,
                    scale: R::of(product.scale),
                };
                R::multiply(self.level, left, right.panel(panel), target);
            };
            let held = |row: u64| {
                let span = span(row);
                span.start.max(all.start)..span.end.min(all.end)
            };
            multiply(top.max(whole.start)..bottom.min(whole.end), all.clone());
            if top == rows.start && begins_cut {
                multiply(top..top + 1, held(top));
            }
            if bottom == rows.end && ends_cut && !(alone && begins_cut) {
                multiply(bottom - 1..bottom, held(bottom - 1));
            }
        };
        let panels = touched.start / R::WIDTH..touched.end.div_ceil(R::WIDTH);
        for first in panels.clone().step_by(TOGETHER) {
            for (top, left) in (rows.start..).step_by(ROWS).zip(lefts.chunks_exact(ROWS * rank)) {
                (first..panels.end.min(first + TOGETHER)).for_each(|panel| part(panel, top, left));
            }
        }
    }

    /// Reads rows of a left factor.
    fn left(&self, factor: &Factor, rank: usize, rows: &Range<u64>, lefts: &mut Lefts<R>) -> Result<()> {
        let count = (rows.end - rows.start) as usize;
        let Lefts { rows: left, stored: bytes, .. } = lefts;
        left.resize(count * rank, R::ZERO);
        if !factor.transposed {
            return self.load_factor(factor.place, rows.start * rank as u64, left, bytes);
        }
        let mut column = vec![R::ZERO; count];
        for k in 0..rank {
            self.load_factor(factor.place, k as u64 * self.description.rows + rows.start, &mut column, bytes)?;
            left[k..].iter_mut().step_by(rank).zip(&column).for_each(|(place, &x)| *place = x);
        }
        Ok(())
    }

    /// A right factor, unpacked. (Its row number k holds element (k, column); the transpose has them in a column.)
    fn pack(&self, factor: &Factor, rank: usize) -> Result<Packed<R>> {
        let columns = self.columns();
        let mut packed = Packed::new(rank, columns);
        let mut bytes = Vec::new();
        if !factor.transposed {
            let step = (PACKED_READ / columns.max(1)).clamp(1, rank.max(1));
            let mut rows = vec![R::ZERO; step * columns];
            for first in (0..rank).step_by(step) {
                let rows = &mut rows[..step.min(rank - first) * columns];
                self.load_factor(factor.place, (first * columns) as u64, rows, &mut bytes)?;
                for (k, row) in (first..rank).zip(rows.chunks(columns.max(1))) {
                    packed.put_row(k, 0, row);
                }
            }
            return Ok(packed);
        }
        let step = R::WIDTH * 4;
        let mut stored = vec![R::ZERO; step * rank];
        let mut row = vec![R::ZERO; step];
        for first in (0..columns).step_by(step) {
            let count = step.min(columns - first);
            self.load_factor(factor.place, (first * rank) as u64, &mut stored[..count * rank], &mut bytes)?;
            for k in 0..rank {
                row.iter_mut().zip(stored[k..count * rank].iter().step_by(rank)).for_each(|(row, &x)| *row = x);
                packed.put_row(k, first, &row[..count]);
            }
        }
        Ok(packed)
    }
}
