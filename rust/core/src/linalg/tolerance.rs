//! Which singular values count.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Singular values at or below this count for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tolerance {
    /// As a share of the largest.
    Relative(f64),
    Absolute(f64),
}

impl Default for Tolerance {
    fn default() -> Self {
        Self::Relative(1e-6)
    }
}

impl Tolerance {
    /// A request may hold any number.
    pub fn check(self) -> Result<()> {
        let (Self::Relative(number) | Self::Absolute(number)) = self;
        if number.is_finite() && number >= 0.0 {
            return Ok(());
        }
        Err(Error::plan(format!("a tolerance of {number}; it is a number from 0 on")))
    }

    /// The value above which singular values count; `sigma` is descending.
    pub fn cut(self, sigma: &[f64]) -> f64 {
        match self {
            Self::Relative(share) => share * sigma.first().copied().unwrap_or(0.0),
            Self::Absolute(value) => value,
        }
    }
}
