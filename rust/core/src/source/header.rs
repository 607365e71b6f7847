//! The header of a safetensors file, read as if an enemy had written it.
//!
//! The file is 8 bytes of header length (little endian), the header in JSON, and the data section, which the tensors
//! cover exactly. Whoever holds a [`Header`] may rely on all of that: every range lies inside the file, has the size
//! that its shape and dtype ask for, and overlaps no other.

mod foreign;
mod json;
mod layout;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use xxhash_rust::xxh3::xxh3_128;

use super::{identity, positional};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::plan::FileRecord;

/// The largest header that the format's own library reads.
pub const MAX_HEADER_BYTES: u64 = 100_000_000;

/// NumPy and torch know no more dimensions; without a limit a header could hold eight bytes of shape for two of text.
pub const MAX_RANK: usize = 64;

/// A few dozen are usual; an entry takes ten times the memory of the shortest text for it.
const MAX_METADATA: usize = 1 << 16;

/// Bytes that hold the header's length.
pub(super) const PREFIX: u64 = 8;

/// Serialized without its path, the hash in hex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Header {
    #[serde(skip)]
    pub path: PathBuf,
    pub size: u64,
    pub mtime_ns: i64,
    pub inode: u64,
    /// Where the data section begins in the file.
    pub data_start: u64,
    /// XXH3-128 of the header's JSON, padding included.
    #[serde(serialize_with = "as_hex")]
    pub header_hash: u128,
    pub metadata: Option<BTreeMap<String, String>>,
    /// In the order of their bytes; empty tensors before what begins where they are, among themselves by name.
    pub tensors: Vec<TensorInfo>,
}

/// A stored tensor: the bytes `[begin, end)` of the data section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TensorInfo {
    pub name: String,
    pub dtype: Dtype,
    pub shape: Vec<u64>,
    pub begin: u64,
    pub end: u64,
}

impl Header {
    /// What a plan has to keep of the file to know it again.
    pub fn record(&self) -> FileRecord {
        FileRecord {
            path: self.path.clone(),
            size: self.size,
            mtime_ns: self.mtime_ns,
            inode: self.inode,
            header_hash: hex(self.header_hash),
            data_start: self.data_start,
        }
    }
}

/// Reads and checks the header of a file.
///
/// Memory stays within a small multiple of the header's size, whatever the header says.
///
/// # Errors
///
/// [`Error::Format`] for whatever is not a safetensors file in every respect, [`Error::Io`] where the file cannot be read.
pub fn read_header(path: &Path) -> Result<Header> {
    let (file, identity) = identity::open_regular(path)?;
    let bytes = read_json(&file, path, identity.size)?;
    let data_start = PREFIX + bytes.len() as u64;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        damaged(path, &format!("the header is not UTF-8 (byte {} of the file)", PREFIX + error.valid_up_to() as u64))
    })?;
    let json::Parsed { metadata, mut tensors } = json::parse(text).map_err(|reason| damaged(path, &reason))?;
    layout::check(&mut tensors, identity.size - data_start).map_err(|reason| damaged(path, &reason))?;
    Ok(Header {
        path: path.to_path_buf(),
        size: identity.size,
        mtime_ns: identity.mtime_ns,
        inode: identity.inode,
        data_start,
        header_hash: xxh3_128(&bytes),
        metadata,
        tensors,
    })
}

/// The bytes of the header's JSON; what comes back fits in the file and begins like an object.
pub(super) fn read_json(file: &File, path: &Path, size: u64) -> Result<Vec<u8>> {
    // A little more than the length, to see whether JSON follows before anything is allocated for it.
    let mut start = [0; 16];
    let filled = positional::fill(file, &mut start, 0).map_err(Error::io(path))?;
    let start = &start[..filled];
    let refuse = |reason: &str| match foreign::recognise(path, start) {
        Some(other) => Error::format(path, other),
        None => damaged(path, reason),
    };
    let Some((prefix, json)) = start.split_first_chunk::<{ PREFIX as usize }>() else {
        return Err(refuse(&format!("it has {filled} bytes, fewer than the 8 that hold a header's length")));
    };
    let length = u64::from_le_bytes(*prefix);
    if length > MAX_HEADER_BYTES {
        let reason = format!("it claims a header of {length} bytes, the format allows {MAX_HEADER_BYTES}");
        return Err(refuse(&format!("{reason}: not a safetensors file")));
    }
    if length > size.saturating_sub(PREFIX) {
        let reason =
            format!("its header should be {length} bytes long, longer than the file, which has {size} bytes");
        return Err(refuse(&format!("{reason}: it is truncated")));
    }
    if length == 0 || json.first() != Some(&b'{') {
        return Err(refuse("its header is not a JSON object, which begins with {"));
    }
    let mut bytes = vec![0; length as usize];
    if positional::fill(file, &mut bytes, PREFIX).map_err(Error::io(path))? < bytes.len() {
        return Err(damaged(path, "it became shorter while it was read"));
    }
    Ok(bytes)
}

pub(super) fn hex(hash: u128) -> String {
    format!("{hash:032x}")
}

fn as_hex<S: Serializer>(hash: &u128, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_str(&hex(*hash))
}

fn damaged(path: &Path, reason: &str) -> Error {
    Error::format(path, format!("{reason}; fetch or save the file again"))
}

/// A text that the file chose, for a message: of a long one `most` characters, half from its begin, half from its end.
fn clipped(text: &str, most: usize) -> Cow<'_, str> {
    let half = most / 2;
    let starts = || text.char_indices().map(|(start, _)| start);
    match (starts().nth(half), half.checked_sub(1).and_then(|last| starts().rev().nth(last))) {
        (Some(head), Some(tail)) if head < tail => Cow::Owned(format!("{}…{}", &text[..head], &text[tail..])),
        _ => Cow::Borrowed(text),
    }
}
