//! Factors of several terms side by side, read tile by tile into float64.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::kernels::convert::Element;
use crate::kernels::level::Level;
use crate::linalg::Tile;
use crate::plan::Factor;
use crate::source::{Bytes, InputFile, read_header};

/// Rows of a tile: eight of its columns and a panel stay in the first-level cache.
pub const TILE_ROWS: usize = 128;

/// Bytes that are read at a time, over all factors.
const READ: usize = 512 << 10;

/// A tall matrix (`long` rows) whose columns are stored factors: the B of some terms, or the transposes of their A.
pub struct Stack<'a> {
    pub level: Level,
    /// Whose factors they are, for messages.
    pub module: &'a str,
    pub files: &'a [InputFile],
    pub long: usize,
    pub parts: Vec<Part>,
}

/// One stored factor.
#[derive(Clone, Copy, Debug)]
pub struct Part {
    pub factor: Factor,
    pub rank: usize,
    /// Whether a direction of the rank lies contiguous in the file.
    pub by_column: bool,
}

/// Buffers of a thread.
#[derive(Default)]
pub struct Scratch {
    /// As they lie in the files, one for each part.
    stored: Vec<Vec<u8>>,
    read: Vec<u8>,
    values: Vec<f64>,
    tile: Tile,
}

impl Part {
    fn size(&self) -> usize {
        self.factor.place.dtype.size()
    }
}

impl Stack<'_> {
    pub fn columns(&self) -> usize {
        self.parts.iter().map(|part| part.rank).sum()
    }

    /// Rows that are read at a time.
    fn span(&self) -> usize {
        span(self.parts.iter().map(|part| part.rank * part.size()).sum())
    }

    /// Hands all tiles to `take`, from the first row to the last.
    ///
    /// # Errors
    ///
    /// Where a file cannot be read or a factor holds NaN or infinities.
    pub fn for_tiles(&self, scratch: &mut Scratch, mut take: impl FnMut(&Tile)) -> Result<()> {
        let span = self.span();
        for begin in (0..self.long).step_by(span) {
            let rows = begin..self.long.min(begin + span);
            self.read(&rows, scratch)?;
            for first in (0..rows.len()).step_by(TILE_ROWS) {
                let these = first..rows.len().min(first + TILE_ROWS);
                self.unpack(rows.len(), &these, scratch)?;
                take(&scratch.tile);
            }
        }
        Ok(())
    }

    fn read(&self, rows: &Range<usize>, scratch: &mut Scratch) -> Result<()> {
        scratch.stored.resize_with(self.parts.len().max(scratch.stored.len()), Vec::new);
        for (part, stored) in self.parts.iter().zip(&mut scratch.stored) {
            let (size, place) = (part.size(), part.factor.place);
            let file = &self.files[place.file];
            let at = |element: usize| place.offset + (element * size) as u64;
            if !part.by_column {
                file.read(at(rows.start * part.rank), rows.len() * part.rank * size, stored)?;
            } else if rows.len() == self.long {
                file.read(at(0), self.long * part.rank * size, stored)?;
            } else {
                stored.clear();
                for column in 0..part.rank {
                    let begin = at(column * self.long + rows.start);
                    stored.extend_from_slice(file.read(begin, rows.len() * size, &mut scratch.read)?);
                }
            }
        }
        Ok(())
    }

    /// Converts rows `these` of the `len` that were read.
    fn unpack(&self, len: usize, these: &Range<usize>, scratch: &mut Scratch) -> Result<()> {
        let (Scratch { stored, values, tile, .. }, rows) = (scratch, these.len());
        tile.reshape(rows, self.columns());
        let mut first = 0;
        for (part, stored) in self.parts.iter().zip(stored) {
            let (size, dtype) = (part.size(), part.factor.place.dtype);
            let out = &mut tile.elements[first * rows..(first + part.rank) * rows];
            let mut special = false;
            if part.by_column {
                for (column, out) in out.chunks_exact_mut(rows).enumerate() {
                    let begin = (column * len + these.start) * size;
                    special |= f64::load(self.level, dtype, &stored[begin..begin + rows * size], out);
                }
            } else {
                values.resize(rows * part.rank, 0.0);
                let begin = these.start * part.rank * size;
                special = f64::load(self.level, dtype, &stored[begin..begin + rows * part.rank * size], values);
                transpose(values, part.rank, out);
            }
            if special {
                return Err(self.not_finite(part));
            }
            first += part.rank;
        }
        Ok(())
    }

    fn not_finite(&self, part: &Part) -> Error {
        let path = self.files[part.factor.place.file].path();
        let header = read_header(path).ok();
        let begins = |offset: u64| header.into_iter().flat_map(|h| h.tensors).find(|t| t.begin == offset);
        let tensor =
            begins(part.factor.place.offset).map_or_else(|| "a factor".to_owned(), |t| format!("{:?}", t.name));
        let reason = format!("{tensor} of {} holds NaN or infinities; such adapters are refused", path.display());
        Error::tensor(self.module, reason)
    }
}

fn span(row_bytes: usize) -> usize {
    (READ / row_bytes.max(1)).next_multiple_of(TILE_ROWS).max(TILE_ROWS)
}

/// Bytes of a scratch for stacks of at most `columns` columns and `row_bytes` stored bytes a row.
pub fn scratch_bytes(columns: usize, row_bytes: usize, long: usize) -> usize {
    let values = 2 * columns * TILE_ROWS * size_of::<f64>();
    let read = span(row_bytes).min(long);
    values + read * (row_bytes + size_of::<f64>())
}

/// Rows of `width` to columns.
fn transpose(values: &[f64], width: usize, out: &mut [f64]) {
    let rows = values.len().checked_div(width).unwrap_or(0);
    for (column, out) in out.chunks_exact_mut(rows.max(1)).enumerate() {
        let values = values[column..].iter().step_by(width);
        out.iter_mut().zip(values).for_each(|(out, &value)| *out = value);
    }
}
