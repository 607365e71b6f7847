//! The Gram matrix of a tall matrix that comes tile by tile.

use super::{Mat, Tile};
use crate::kernels::level::Level;
use crate::kernels::product::{PANEL_F64, Panel, ROWS, Target, pack_rows};

/// XᵀX, summed up in float64. Tiles of the same rows in the same order give the same bits on every machine.
pub struct Gram {
    level: Level,
    columns: usize,
    /// The lower triangle, panel after panel: rows from the panel's first column on, [`PANEL_F64`] wide.
    sums: Vec<f64>,
    panel: Vec<f64>,
    lefts: Vec<f64>,
}

impl Gram {
    /// For a matrix of `columns` columns.
    pub fn new(level: Level, columns: usize) -> Self {
        let size = (0..columns).step_by(PANEL_F64).map(|first| (columns - first) * PANEL_F64).sum();
        Self { level, columns, sums: vec![0.0; size], panel: Vec::new(), lefts: Vec::new() }
    }

    /// Adds the rows of a tile.
    pub fn add(&mut self, tile: &Tile) {
        let rows = tile.rows;
        self.panel.resize(rows * PANEL_F64, 0.0);
        pack_rows(&tile.elements[..self.columns * rows], rows, &mut self.lefts);
        let mut sums = self.sums.as_mut_slice();
        for first in (0..self.columns).step_by(PANEL_F64) {
            let below = self.columns - first;
            pack(tile, first, &mut self.panel);
            let (these, others) = std::mem::take(&mut sums).split_at_mut(below * PANEL_F64);
            for place in (0..below).step_by(ROWS) {
                let left = &self.lefts[(first + place) * rows..][..ROWS * rows];
                let target = Target {
                    out: &mut these[place * PANEL_F64..],
                    stride: PANEL_F64,
                    rows: 0..ROWS.min(below - place),
                    columns: 0..PANEL_F64,
                    adds: true,
                    scale: 1.0,
                };
                f64::multiply(self.level, left, &self.panel, target);
            }
            sums = others;
        }
    }

    /// The whole matrix, both triangles.
    pub fn finish(self) -> Mat<f64> {
        let mut out = Mat::zeros(self.columns, self.columns);
        let mut sums = self.sums.as_slice();
        for first in (0..self.columns).step_by(PANEL_F64) {
            let (these, others) = sums.split_at((self.columns - first) * PANEL_F64);
            for (row, sums) in (first..).zip(these.chunks_exact(PANEL_F64)) {
                for (column, &sum) in (first..=row).zip(sums) {
                    out[(row, column)] = sum;
                    out[(column, row)] = sum;
                }
            }
            sums = others;
        }
        out
    }
}

/// Columns `first..` of the tile, as many as a panel holds, side by side; what there is not is zero.
fn pack(tile: &Tile, first: usize, panel: &mut [f64]) {
    let columns: [&[f64]; PANEL_F64] =
        std::array::from_fn(|lane| if first + lane < tile.columns { tile.column(first + lane) } else { &[] });
    for (lane, column) in columns.into_iter().enumerate() {
        let places = panel.iter_mut().skip(lane).step_by(PANEL_F64);
        if column.is_empty() {
            places.for_each(|place| *place = 0.0);
        } else {
            places.zip(column).for_each(|(place, &value)| *place = value);
        }
    }
}
