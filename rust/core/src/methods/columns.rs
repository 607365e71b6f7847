//! How a tensor is cut to be summed down its columns by several threads. Its shape alone decides that, and so the order
//! of each sum.

use std::ops::Range;

use crate::kernels::reduce::LEAF;

/// Runs of rows at the most: enough for the threads of large machines.
const RUNS: u64 = 64;

/// Sums that all runs of rows of a tensor have together, at the most, for each pair of vectors.
const SUMS: u64 = 1 << 19;

/// With more columns than this, runs of rows would be too few.
const WIDE: u64 = 1 << 16;

/// Columns of a strip: enough of a row to be worth a read.
const STRIP: u64 = 1 << 13;

/// The columns of a tensor run along its first dimension; the others together count them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Columns {
    rows: u64,
    pub count: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Runs of this many rows; the sums of the runs are added in their order.
    Rows(u64),
    /// Strips of this many columns, each summed down all rows.
    Strips(u64),
}

impl Columns {
    /// `None` where there is but one dimension, or no element.
    pub fn of(shape: &[u64]) -> Option<Self> {
        let (&rows, rest) = shape.split_first()?;
        (!rest.is_empty() && !shape.contains(&0)).then(|| Self { rows, count: rest.iter().product() })
    }

    pub fn cut(self) -> Cut {
        if self.count > WIDE {
            return Cut::Strips(STRIP);
        }
        let leaves = self.rows * self.count / LEAF as u64;
        let runs = leaves.min(SUMS / self.count).clamp(1, RUNS);
        Cut::Rows(self.rows.div_ceil(runs))
    }

    /// Elements of a run or of a strip.
    pub fn part(self) -> u64 {
        match self.cut() {
            Cut::Rows(rows) => rows * self.count,
            Cut::Strips(columns) => columns * self.rows,
        }
    }

    /// The columns of a strip, whose range of elements is counted column by column.
    pub fn strip(self, range: &Range<u64>) -> Range<u64> {
        range.start / self.rows..range.end / self.rows
    }

    /// Where the elements of a strip lie, row by row.
    pub fn rows_of(self, strip: Range<u64>) -> impl Iterator<Item = Range<u64>> {
        (0..self.rows).map(move |row| row * self.count + strip.start..row * self.count + strip.end)
    }

    /// Sums that are kept while the tensor is measured, for each pair of vectors.
    pub fn kept(self) -> u64 {
        match self.cut() {
            Cut::Rows(rows) => (self.rows.div_ceil(rows) + 1) * self.count,
            Cut::Strips(_) => 0,
        }
    }

    /// Columns that a thread resolves on its own.
    pub fn of_a_thread(self) -> u64 {
        match self.cut() {
            Cut::Rows(_) => 0,
            Cut::Strips(columns) => columns,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPES: [&[u64]; 12] = [
        &[128_256, 2048],
        &[2048, 128_256],
        &[8192, 28_672],
        &[4096, 65_536],
        &[4096, 65_537],
        &[32, 5760, 2880],
        &[5120, 1, 4],
        &[577, 1031],
        &[3, 50_000],
        &[1, 1],
        &[1, 1 << 30],
        &[1 << 30, 1],
    ];

    #[test]
    fn the_parts_are_the_tensor_and_no_more() {
        for columns in SHAPES.into_iter().filter_map(Columns::of) {
            let (part, elements) = (columns.part(), columns.rows * columns.count);
            let ranges = (0..elements).step_by(part as usize).map(|start| start..(start + part).min(elements));
            let covered: u64 = match columns.cut() {
                Cut::Rows(_) => {
                    assert!(ranges.clone().all(|range| range.start % columns.count == 0), "{columns:?}");
                    ranges.map(|range| range.end - range.start).sum()
                }
                Cut::Strips(_) => {
                    let strips: Vec<_> = ranges.map(|range| columns.strip(&range)).collect();
                    assert!(strips.windows(2).all(|pair| pair[0].end == pair[1].start), "{columns:?}");
                    strips.into_iter().map(|strip| columns.rows * (strip.end - strip.start)).sum()
                }
            };
            assert_eq!(covered, elements, "{columns:?}");
        }
    }

    #[test]
    fn a_large_tensor_has_many_parts_and_few_sums() {
        for columns in SHAPES.into_iter().filter_map(Columns::of) {
            let elements = columns.rows * columns.count;
            let parts = elements.div_ceil(columns.part());
            // A single row is summed by copying it.
            if elements >= 1 << 27 && columns.rows > 1 {
                assert!(parts >= 8, "{parts} parts of {columns:?}");
            }
            assert!(columns.kept() <= SUMS + WIDE + columns.count, "{} sums of {columns:?}", columns.kept());
        }
    }

    #[test]
    fn one_dimension_or_no_element_has_no_columns() {
        for shape in [&[][..], &[7], &[0, 4], &[4, 0], &[0, u64::MAX, u64::MAX]] {
            assert_eq!(Columns::of(shape), None, "{shape:?}");
        }
    }

    #[test]
    fn a_strip_lies_in_every_row() {
        let columns = Columns { rows: 3, count: 70_000 };
        let strip = columns.strip(&(columns.part()..2 * columns.part()));
        let rows: Vec<_> = columns.rows_of(strip).collect();
        assert_eq!(rows, [8192..16_384, 78_192..86_384, 148_192..156_384]);
    }
}
