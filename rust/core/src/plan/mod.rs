//! The plan: the only thing that crosses from the planner. Flat, versioned, complete.

mod check;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

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

/// A stored tensor of an input file.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Input {
    pub file: usize,
    /// Bytes from the start of the file's data section.
    pub offset: u64,
    pub dtype: Dtype,
    #[serde(default)]
    pub base: bool,
    /// The model's place in the list without the base.
    #[serde(default)]
    pub index: usize,
    #[serde(default)]
    pub parameters: Map<String, Value>,
}

impl Job {
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }
}
