//! The triangular factor of a tall matrix that comes tile by tile.

use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::qr::no_pivoting::factor::{qr_in_place, qr_in_place_scratch, recommended_block_size};
use faer::{Mat, Par};

use super::Tile;

/// R of X = Q·R by Householder reflections: of the triangle so far with the rows that follow below it, again and again.
/// Q is never made.
pub struct Triangle {
    columns: usize,
    /// The triangle so far, then rows that wait.
    work: Mat<f64>,
    filled: usize,
}

impl Triangle {
    /// For a matrix of `columns` columns that comes in tiles of at most `tile_rows` rows.
    pub fn new(columns: usize, tile_rows: usize) -> Self {
        let rows = Self::rows(columns, tile_rows);
        Self { columns, work: Mat::zeros(rows, columns), filled: 0 }
    }

    /// Rows that are held.
    pub fn rows(columns: usize, tile_rows: usize) -> usize {
        columns + (2 * columns).max(tile_rows)
    }

    /// Adds the rows of a tile.
    pub fn add(&mut self, tile: &Tile) {
        if self.filled + tile.rows > self.work.nrows() {
            self.reduce();
        }
        for column in 0..self.columns {
            let waiting = self.work.col_mut(column).subrows_mut(self.filled, tile.rows);
            waiting.iter_mut().zip(tile.column(column)).for_each(|(place, &value)| *place = value);
        }
        self.filled += tile.rows;
    }

    fn reduce(&mut self) {
        let (rows, columns) = (self.filled, self.columns);
        let block = recommended_block_size::<f64>(rows, columns);
        let size = rows.min(columns);
        let mut reflectors = Mat::zeros(block, size);
        let scratch = qr_in_place_scratch::<f64>(rows, columns, block, Par::Seq, Default::default());
        let mut memory = MemBuffer::new(scratch);
        qr_in_place(
            self.work.as_mut().subrows_mut(0, rows),
            reflectors.as_mut(),
            Par::Seq,
            MemStack::new(&mut memory),
            Default::default(),
        );
        for column in 0..columns {
            let below = (column + 1).min(rows);
            self.work.col_mut(column).subrows_mut(below, rows - below).iter_mut().for_each(|x| *x = 0.0);
        }
        self.filled = size;
    }

    /// The factor: min(rows, columns) × columns.
    pub fn finish(mut self) -> Mat<f64> {
        if self.filled > 0 && self.columns > 0 {
            self.reduce();
        }
        self.work.as_ref().subrows(0, self.filled).to_owned()
    }
}
