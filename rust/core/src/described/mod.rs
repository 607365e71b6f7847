//! Tensors that are computed while they are read: a base with adapters, an update from its factors, a concatenation.
//!
//! To a method they are stored bytes like any other; no merged copy is ever made.

mod factors;
mod product;

use std::ops::Range;
use std::sync::Arc;

pub use factors::Factors;

use crate::error::{Error, Result};
use crate::kernels::convert::Element;
use crate::kernels::level::Level;
use crate::kernels::product::Panel;
use crate::plan::{Block, Description, Place};
use crate::source::Bytes;

/// The bytes of a described tensor.
pub struct Described<'a, R> {
    name: &'a str,
    description: &'a Description,
    level: Level,
    sources: Arc<[&'a dyn Bytes]>,
    factors: &'a Factors<R>,
}

impl<'a, R: Panel + Element> Described<'a, R> {
    pub fn new(
        name: &'a str,
        description: &'a Description,
        level: Level,
        sources: Arc<[&'a dyn Bytes]>,
        factors: &'a Factors<R>,
    ) -> Self {
        Self { name, description, level, sources, factors }
    }

    fn columns(&self) -> usize {
        self.description.columns as usize
    }

    /// Reads stored elements. Says whether any is infinite or NaN.
    fn load(&self, place: Place, first: u64, out: &mut [R], bytes: &mut Vec<u8>) -> Result<bool> {
        let size = place.dtype.size();
        let source =
            self.sources.get(place.file).ok_or_else(|| Error::plan("a described tensor has no such file"))?;
        let stored = source.read(place.offset + first * size as u64, out.len() * size, bytes)?;
        Ok(R::load(self.level, place.dtype, stored, out))
    }

    /// Reads elements of a factor, which have to be finite: a row or a column of NaN would not show what it came from.
    fn load_factor(&self, place: Place, first: u64, out: &mut [R], bytes: &mut Vec<u8>) -> Result<()> {
        if self.load(place, first, out, bytes)? {
            return Err(Error::tensor(
                self.name,
                "a factor of its adapter holds NaN or infinities, which are refused",
            ));
        }
        Ok(())
    }

    /// Computes the elements of `range`.
    fn compute(&self, range: &Range<u64>, out: &mut [R]) -> Result<()> {
        if out.is_empty() {
            return Ok(());
        }
        let description = self.description;
        let mut bytes = Vec::new();
        let mut products = description.products.iter().filter(|product| product.rank > 0).peekable();
        // What is added to −0 stays what it is, −0 too. A first product takes the place of what is there.
        let mut adds = !description.blocks.is_empty();
        if adds || products.peek().is_none() {
            out.fill(if adds { -R::ZERO } else { R::ZERO });
        }
        for block in &description.blocks {
            self.add_block(block, range, out, &mut bytes)?;
        }
        for product in products {
            self.add_product(product, adds, range, out)?;
            adds = true;
        }
        if let Some(new) = &description.replaced {
            let mut row = vec![R::ZERO; self.columns()];
            for (place, &index) in new.rows.iter().enumerate() {
                let Some((begin, span)) = self.part_of_row(index, range) else { continue };
                let row = &mut row[span.clone()];
                self.load(new.place, (place * self.columns() + span.start) as u64, row, &mut bytes)?;
                for (out, &new_one) in out[begin..].iter_mut().zip(row.iter()) {
                    *out = if new.scale == 1.0 { new_one } else { *out + R::of(new.scale) * (new_one - *out) };
                }
            }
        }
        Ok(())
    }

    /// Where the part of a row that lies in `range` begins in it, and which columns it covers.
    fn part_of_row(&self, row: u64, range: &Range<u64>) -> Option<(usize, Range<usize>)> {
        let first = row * self.description.columns;
        let (begin, end) = (range.start.max(first), range.end.min(first + self.description.columns));
        (begin < end).then(|| ((begin - range.start) as usize, (begin - first) as usize..(end - first) as usize))
    }

    /// The rows that `range` touches.
    fn rows(&self, range: &Range<u64>) -> Range<u64> {
        let columns = self.description.columns.max(1);
        range.start / columns..range.end.div_ceil(columns)
    }

    /// Adds the part of a block that lies in `range`, in one read: its rows lie one behind the other in the file.
    fn add_block(&self, block: &Block, range: &Range<u64>, out: &mut [R], bytes: &mut Vec<u8>) -> Result<()> {
        let touched = self.rows(range);
        let (top, bottom) = (touched.start.max(block.row), touched.end.min(block.row + block.rows));
        if block.columns == 0 || top >= bottom {
            return Ok(());
        }
        let (left, right) = (block.column as usize, (block.column + block.columns) as usize);
        // Which elements of `out` and of the block a row shares; none where `range` ends before the block begins.
        let shared = |row: u64| {
            let (begin, span) = self.part_of_row(row, range)?;
            let (from, to) = (span.start.max(left), span.end.min(right));
            let first = (row - block.row) * block.columns + from.saturating_sub(left) as u64;
            (from < to).then(|| (begin + from - span.start, first, to - from))
        };
        let Some((_, first, _)) = (top..bottom).find_map(shared) else { return Ok(()) };
        let last = (top..bottom).rev().find_map(shared);
        let end = last.map_or(first, |(_, at, len)| at + len as u64);
        let mut stored = vec![R::ZERO; (end - first) as usize];
        self.load(block.place, first, &mut stored, bytes)?;
        let mut add = |begin: usize, held: &[R]| {
            let out = &mut out[begin..begin + held.len()];
            if block.scale == 1.0 {
                out.iter_mut().zip(held).for_each(|(out, x)| *out += *x);
            } else {
                crate::kernels::combine::add_scaled(self.level, out, held, R::of(block.scale));
            }
        };
        if block.columns == self.description.columns {
            // Whole rows lie one behind the other in the result, too.
            let begin = (block.row * block.columns + first - range.start) as usize;
            add(begin, &stored);
            return Ok(());
        }
        for (begin, at, len) in (top..bottom).filter_map(shared) {
            let at = (at - first) as usize;
            add(begin, &stored[at..at + len]);
        }
        Ok(())
    }

    /// Brings whole rows to the norms that are stored for them; a row of zeros stays as it is.
    fn bring_to_norm(&self, magnitude: Place, first_row: u64, out: &mut [R]) -> Result<()> {
        let columns = self.columns();
        let mut norms = vec![R::ZERO; out.len() / columns];
        self.load(magnitude, first_row, &mut norms, &mut Vec::new())?;
        for (row, wanted) in out.chunks_mut(columns).zip(norms) {
            let norm = row.iter().map(|x| x.to_f64() * x.to_f64()).sum::<f64>().sqrt();
            if norm > 0.0 {
                let factor = R::of(wanted.to_f64() / norm);
                row.iter_mut().for_each(|x| *x = factor * *x);
            }
        }
        Ok(())
    }
}

impl<R: Panel + Element> Bytes for Described<'_, R> {
    fn read<'a>(&'a self, begin: u64, len: usize, buffer: &'a mut Vec<u8>) -> Result<&'a [u8]> {
        let size = size_of::<R>();
        let range = begin / size as u64..begin / size as u64 + (len / size) as u64;
        if self.description.elements().is_none_or(|elements| range.end > elements) {
            return Err(Error::tensor(self.name, "more of it is read than is described"));
        }
        // Whole rows where norms are taken of them.
        let whole = match self.description.magnitude {
            Some(_) if self.columns() > 0 => {
                let rows = self.rows(&range);
                rows.start * self.description.columns..rows.end * self.description.columns
            }
            _ => range.clone(),
        };
        let elements = (whole.end - whole.start) as usize;
        buffer.resize(buffer.len().max((elements + 1) * size), 0);
        // SAFETY: every bit pattern is a value of the floating-point type R, and of the bytes that it is seen as.
        let (unaligned, out, _) = unsafe { buffer.align_to_mut::<R>() };
        let start = unaligned.len() + (range.start - whole.start) as usize * size;
        let out = &mut out[..elements];
        self.compute(&whole, out)?;
        if let Some(magnitude) = self.description.magnitude
            && elements > 0
        {
            self.bring_to_norm(magnitude, whole.start / self.description.columns, out)?;
        }
        Ok(&buffer[start..start + len])
    }

    /// What follows the factors through the file is the base.
    fn release(&self, begin: u64, len: u64) {
        let size = size_of::<R>() as u64;
        for block in &self.description.blocks {
            if block.columns == self.description.columns && block.row == 0 {
                let stored = block.place.dtype.size() as u64;
                if let Some(source) = self.sources.get(block.place.file) {
                    source.release(block.place.offset + begin / size * stored, len / size * stored);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
