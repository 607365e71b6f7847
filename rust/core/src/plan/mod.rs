//! The plan: the only thing that crosses from the planner. Flat, versioned, complete.

mod check;
mod description;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub(crate) use check::is_file_name;
pub use description::{Block, Description, Factor, FactorKey, Product, Replaced};

use crate::dtype::Dtype;

pub const FORMAT: &str = "carrick-plan";
pub const VERSION: u32 = 1;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    pub format: String,
    pub version: u32,
    /// Keys the random masks, together with a model's index and a tensor's name.
    pub seed: u64,
    pub files: Vec<FileRecord>,
    pub shards: Vec<Shard>,
    /// Shard by shard, in the order of their bytes.
    pub jobs: Vec<Job>,
}

/// An input file as it was when the plan was made; the run refuses it if it has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    pub path: PathBuf,
    pub size: u64,
    pub mtime_ns: i64,
    pub inode: u64,
    /// XXH3-128 of the header's bytes, in hex.
    pub header_hash: String,
    /// Where the data section begins in the file.
    pub data_start: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    pub name: String,
    pub data_bytes: u64,
}

/// One output tensor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    pub name: String,
    pub shape: Vec<u64>,
    pub dtype: Dtype,
    pub shard: usize,
    /// Bytes from the start of the shard's data section.
    pub offset: u64,
    pub method: MethodCall,
    /// The base first, where there is one; then the models in their order.
    pub inputs: Vec<Input>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MethodCall {
    pub name: String,
    #[serde(default)]
    pub options: Map<String, Value>,
}

/// One tensor that a job reads.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Input {
    #[serde(flatten)]
    pub data: Data,
    #[serde(default)]
    pub base: bool,
    /// It is a task vector already: the base is not taken away from it.
    #[serde(default)]
    pub delta: bool,
    /// The model's place in the list without the base.
    #[serde(default)]
    pub index: usize,
    #[serde(default)]
    pub parameters: Map<String, Value>,
}

/// Where the elements of an input come from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Data {
    /// They lie in a file.
    Stored(Place),
    /// They are computed while they are read.
    Described { described: Box<Description> },
}

/// Stored elements of an input file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub file: usize,
    /// Bytes from the start of the file's data section.
    pub offset: u64,
    pub dtype: Dtype,
}

impl Input {
    /// The type that the elements are read as.
    pub fn dtype(&self) -> Dtype {
        match &self.data {
            Data::Stored(place) => place.dtype,
            Data::Described { described } => described.dtype,
        }
    }

    /// Bytes of an element that come from files; factors count by themselves.
    pub fn stored_size(&self) -> u64 {
        match &self.data {
            Data::Stored(place) => place.dtype.size() as u64,
            Data::Described { described } => {
                described.blocks.iter().map(|block| block.place.dtype.size() as u64).max().unwrap_or(0)
            }
        }
    }

    pub fn description(&self) -> Option<&Description> {
        match &self.data {
            Data::Stored(_) => None,
            Data::Described { described } => Some(described),
        }
    }
}

impl Job {
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }
}
