//! What must hold of a plan before anything is opened: a saved plan may have been edited.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use super::{Data, FORMAT, Input, Job, Place, Plan, VERSION};
use crate::error::{Error, Result};

/// Whether a shard's name is that of a file in the output's folder, and of nothing else.
pub(crate) fn is_file_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    let only =
        matches!((components.next(), components.next()), (Some(Component::Normal(only)), None) if only == name);
    only && !name.contains(['\\', '\0'])
}

impl Plan {
    /// Checks everything that the plan says about itself.
    pub fn check(&self) -> Result<()> {
        if self.format != FORMAT || self.version != VERSION {
            let (format, version) = (&self.format, self.version);
            return Err(Error::plan(format!(
                "this is {format:?} version {version}, not {FORMAT:?} version {VERSION}: plan again with this Carrick"
            )));
        }
        let mut names = BTreeSet::new();
        for shard in &self.shards {
            if !is_file_name(&shard.name) || !names.insert(shard.name.as_str()) {
                return Err(Error::plan(format!("{:?} cannot be the name of a shard", shard.name)));
            }
        }
        let mut names = BTreeSet::new();
        for job in &self.jobs {
            if !names.insert(job.name.as_str()) {
                return Err(Error::tensor(&job.name, "the plan writes it twice"));
            }
            job.check(self)?;
        }
        Ok(())
    }

    /// Checks that every input lies within its file; `data_bytes` are the sizes of their data sections.
    pub fn check_ranges(&self, data_bytes: &[u64]) -> Result<()> {
        for job in &self.jobs {
            for (place, elements) in job.places() {
                let nbytes = elements.and_then(|elements| place.dtype.nbytes(elements));
                let end = nbytes.and_then(|nbytes| place.offset.checked_add(nbytes));
                let size = data_bytes.get(place.file).copied();
                if end.is_none() || size.is_none() || end > size {
                    let path = self.files.get(place.file).map(|file| file.path.display().to_string());
                    let path = path.unwrap_or_else(|| format!("file {}", place.file));
                    return Err(Error::tensor(&job.name, format!("its bytes lie outside {path}")));
                }
            }
        }
        Ok(())
    }
}

impl Job {
    /// Every place of a file that the job reads, and how many elements lie there.
    fn places(&self) -> Vec<(Place, Option<u64>)> {
        let mut places = Vec::new();
        for input in &self.inputs {
            match &input.data {
                Data::Stored(place) => places.push((*place, Some(self.elements()))),
                Data::Described { described } => places.extend(described.places()),
            }
        }
        places
    }

    fn check(&self, plan: &Plan) -> Result<()> {
        let elements = self.shape.iter().try_fold(1u64, |product, &len| product.checked_mul(len));
        if elements.and_then(|elements| self.dtype.nbytes(elements)).is_none() {
            let shape = &self.shape;
            return Err(Error::tensor(&self.name, format!("{shape:?} of {} has no size in bytes", self.dtype)));
        }
        if self.shard >= plan.shards.len() {
            return Err(Error::tensor(&self.name, format!("there is no shard {}", self.shard)));
        }
        if self.inputs.is_empty() || self.places().iter().any(|(place, _)| place.file >= plan.files.len()) {
            return Err(Error::tensor(
                &self.name,
                "it has no inputs, or inputs from files that the plan does not list",
            ));
        }
        for described in self.inputs.iter().filter_map(Input::description) {
            described.check(&self.name, self.elements())?;
        }
        Ok(())
    }
}
