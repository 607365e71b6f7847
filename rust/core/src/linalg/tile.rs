//! A few rows of a tall matrix, column after column.

/// Rows of a tall matrix with few columns: element (row, column) is `elements[column * rows + row]`.
#[derive(Clone, Debug, Default)]
pub struct Tile {
    pub rows: usize,
    pub columns: usize,
    pub elements: Vec<f64>,
}

impl Tile {
    /// Gives the tile a shape; what its elements were before is of no account.
    pub fn reshape(&mut self, rows: usize, columns: usize) {
        (self.rows, self.columns) = (rows, columns);
        self.elements.resize(rows * columns, 0.0);
    }

    pub fn column(&self, column: usize) -> &[f64] {
        &self.elements[column * self.rows..(column + 1) * self.rows]
    }
}
