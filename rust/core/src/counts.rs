//! Entries worth reporting, counted while tensors are merged.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// NaN among the inputs.
    pub nan: u64,
    /// Infinities among the inputs.
    pub infinite: u64,
    /// Finite results that the output type cannot hold.
    pub overflow: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.nan += other.nan;
        self.infinite += other.infinite;
        self.overflow += other.overflow;
    }
}
