//! Tensors that are computed while they are read: what is stored, low-rank products, and sums of these.

use serde::{Deserialize, Serialize};

use super::Place;
use crate::dtype::Dtype;
use crate::error::{Error, Result};

/// A matrix (rows × columns) that no file holds: Σ blocks + Σ scale·left·right, then rows replaced and normed.
///
/// A model with an adapter is one block and a product for each adapter; a concatenation is blocks side by side.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Description {
    /// The type of the arithmetic: F32 or F64.
    pub dtype: Dtype,
    pub rows: u64,
    pub columns: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<Block>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub products: Vec<Product>,
    /// Rows that are replaced at last (trained tokens).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<Replaced>,
    /// Every row is brought to this norm (the magnitudes of DoRA): one element for each row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub magnitude: Option<Place>,
}

/// A stored matrix, added at a place of the described one.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Block {
    #[serde(flatten)]
    pub place: Place,
    pub rows: u64,
    pub columns: u64,
    /// The row and column of its first element.
    #[serde(default)]
    pub row: u64,
    #[serde(default)]
    pub column: u64,
    #[serde(default = "one")]
    pub scale: f64,
}

/// scale · left (rows × rank) · right (rank × columns).
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Product {
    pub left: Factor,
    pub right: Factor,
    pub rank: u64,
    #[serde(default = "one")]
    pub scale: f64,
}

/// A stored factor of a product.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Factor {
    #[serde(flatten)]
    pub place: Place,
    /// The file holds the transpose.
    #[serde(default)]
    pub transposed: bool,
}

/// What tells a factor apart from all others of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FactorKey {
    pub place: Place,
    pub rank: u64,
    pub columns: u64,
    pub transposed: bool,
}

impl Factor {
    /// Of a right factor (rank × columns). The same bytes may be read as something else by another description.
    pub fn key(&self, rank: u64, columns: u64) -> FactorKey {
        FactorKey { place: self.place, rank, columns, transposed: self.transposed }
    }
}

/// Stored rows (as many as `rows` lists) that take the place of computed ones: row + scale·(stored − row).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Replaced {
    #[serde(flatten)]
    pub place: Place,
    pub rows: Vec<u64>,
    #[serde(default = "one")]
    pub scale: f64,
}

const fn one() -> f64 {
    1.0
}

impl Description {
    pub fn elements(&self) -> Option<u64> {
        self.rows.checked_mul(self.columns)
    }

    /// Bytes of the right factors, unpacked to the type of the arithmetic.
    pub fn factor_bytes(&self) -> u64 {
        // What overflows lies outside of every file, which is found out when they are open.
        let columns = self.columns.checked_next_multiple_of(32).unwrap_or(u64::MAX);
        let row = columns.saturating_mul(self.dtype.size() as u64);
        let bytes = self.products.iter().map(|product| product.rank.saturating_mul(row));
        bytes.fold(0, u64::saturating_add)
    }

    /// Bytes in the files of all but the blocks.
    pub fn stored_factor_bytes(&self) -> u64 {
        let bytes = |(place, elements): (Place, Option<u64>)| {
            elements.unwrap_or(u64::MAX).saturating_mul(place.dtype.size() as u64)
        };
        self.beside_blocks().map(bytes).fold(0, u64::saturating_add)
    }

    /// Every place that is read, and how many elements lie there.
    pub fn places(&self) -> impl Iterator<Item = (Place, Option<u64>)> {
        let blocks = self.blocks.iter().map(|block| (block.place, block.rows.checked_mul(block.columns)));
        blocks.chain(self.beside_blocks())
    }

    fn beside_blocks(&self) -> impl Iterator<Item = (Place, Option<u64>)> {
        let factors = self.products.iter().flat_map(|product| {
            let sides = [(product.left, self.rows), (product.right, self.columns)];
            sides.map(|(factor, long)| (factor.place, product.rank.checked_mul(long)))
        });
        let replaced = self.replaced.iter().map(|new| (new.place, self.columns.checked_mul(new.rows.len() as u64)));
        factors.chain(replaced).chain(self.magnitude.map(|place| (place, Some(self.rows))))
    }

    /// Checks what the description says about itself; `elements` is what the job wants.
    pub fn check(&self, name: &str, elements: u64) -> Result<()> {
        let wrong = |reason: String| Err(Error::tensor(name, reason));
        if !matches!(self.dtype, Dtype::F32 | Dtype::F64) {
            return wrong(format!("a described tensor is computed in F32 or F64, not {}", self.dtype));
        }
        if self.elements() != Some(elements) {
            return wrong(format!("{} × {} are described, {elements} elements wanted", self.rows, self.columns));
        }
        if self.places().any(|(place, _)| !place.dtype.is_float()) {
            return wrong("a described tensor is made of floating-point tensors".to_owned());
        }
        if self.dtype == Dtype::F32 && self.places().any(|(place, _)| place.dtype == Dtype::F64) {
            return wrong("F64 is not read into a tensor that is computed in F32".to_owned());
        }
        let inside = |begin: u64, len: u64, all: u64| begin.checked_add(len).is_some_and(|end| end <= all);
        for block in &self.blocks {
            if !inside(block.row, block.rows, self.rows) || !inside(block.column, block.columns, self.columns) {
                return wrong(format!("a block of {} × {} lies outside", block.rows, block.columns));
            }
        }
        if self.replaced.iter().any(|new| new.rows.iter().any(|&row| row >= self.rows)) {
            return wrong("a row to be replaced lies outside".to_owned());
        }
        let scales = self.blocks.iter().map(|block| block.scale).chain(self.products.iter().map(|p| p.scale));
        if !scales.chain(self.replaced.iter().map(|new| new.scale)).all(f64::is_finite) {
            return wrong("a scale is not a number".to_owned());
        }
        Ok(())
    }
}
