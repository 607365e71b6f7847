//! The files that a plan reads: opened, held against what it says of them, and still the same at the end.

use super::budget::Budget;
use super::work::{RunFactors, Settings, Sources, Work, compile};
use crate::error::Result;
use crate::plan::Plan;
use crate::source::{Bytes, InputFile, ReadMode, open_all};

pub struct Inputs {
    files: Vec<InputFile>,
    factors: RunFactors,
}

impl Inputs {
    /// # Errors
    ///
    /// Where a file is missing or has changed since the plan was made, or is too short for what is read of it.
    pub fn open(plan: &Plan, budget: &Budget, mode: ReadMode) -> Result<Self> {
        let files = open_all(&plan.files, mode)?;
        plan.check_ranges(&files.iter().map(InputFile::data_bytes).collect::<Vec<_>>())?;
        Ok(Self { files, factors: RunFactors::new(budget.factor_bytes) })
    }

    /// The operations of all jobs of the plan.
    pub fn compile<'a>(&'a self, plan: &'a Plan, settings: Settings) -> Result<Vec<Work<'a>>> {
        let files = self.files.iter().map(|file| file as &dyn Bytes).collect();
        compile(&plan.jobs, &Sources { files, factors: &self.factors }, settings)
    }

    pub fn require_unchanged(&self) -> Result<()> {
        self.files.iter().try_for_each(InputFile::require_unchanged)
    }
}
