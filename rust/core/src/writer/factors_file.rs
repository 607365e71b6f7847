//! A file of matrices on their way to a merge, in any order and of ranks that are not known beforehand.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::header::MAX_HEADER;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::kernels::convert::Element;
use crate::kernels::level::Level;

/// What an entry of the header takes at the most: a short name and four numbers of twenty digits.
const ENTRY: usize = 192;

/// Elements that are encoded at a time.
const PART: usize = 1 << 16;

/// A safetensors file in the making: room for the header is kept in front, data follow one behind the other.
pub struct FactorsFile {
    path: PathBuf,
    header_bytes: usize,
    state: Mutex<State>,
}

struct State {
    file: File,
    header: String,
    end: u64,
}

impl FactorsFile {
    /// For so many matrices, whose names are short.
    pub fn create(path: &Path, matrices: usize) -> Result<Self> {
        let header_bytes = (8 + 2 + matrices * ENTRY).next_multiple_of(64);
        if header_bytes > MAX_HEADER {
            return Err(Error::plan(format!(
                "{matrices} matrices do not go into one file; merge fewer modules at a time"
            )));
        }
        let file = File::create(path).map_err(Error::io(path))?;
        let state = State { file, header: String::from("{"), end: 0 };
        Ok(Self { path: path.to_owned(), header_bytes, state: Mutex::new(state) })
    }

    /// Adds a matrix whose elements come row by row. Says whether any is infinite or NaN in `dtype`.
    pub fn add<R: Element>(&self, name: &str, dtype: Dtype, shape: [u64; 2], values: &[R]) -> Result<bool> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (start, end) = (state.end, state.end + (values.len() * dtype.size()) as u64);
        let comma = if state.header.len() > 1 { "," } else { "" };
        let [rows, columns] = shape;
        state.header.push_str(&format!(
            r#"{comma}"{name}":{{"dtype":"{dtype}","shape":[{rows},{columns}],"data_offsets":[{start},{end}]}}"#
        ));
        state.end = end;
        self.write(&mut state.file, start, dtype, values)
    }

    fn write<R: Element>(&self, file: &mut File, at: u64, dtype: Dtype, values: &[R]) -> Result<bool> {
        file.seek(SeekFrom::Start(self.header_bytes as u64 + at)).map_err(Error::io(&self.path))?;
        let (mut bytes, mut special) = (vec![0; values.len().min(PART) * dtype.size()], false);
        for part in values.chunks(PART) {
            let bytes = &mut bytes[..part.len() * dtype.size()];
            special |= R::store(Level::detect(), dtype, part, bytes);
            file.write_all(bytes).map_err(Error::io(&self.path))?;
        }
        Ok(special)
    }

    /// Writes the header; returns the bytes of the file.
    pub fn finish(self) -> Result<u64> {
        let State { mut file, mut header, end } = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        header.push('}');
        if header.len() + 8 > self.header_bytes {
            return Err(Error::plan(format!("{} bytes of header have no room", header.len())));
        }
        let mut bytes = ((self.header_bytes - 8) as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(self.header_bytes, b' ');
        file.rewind().and_then(|()| file.write_all(&bytes)).map_err(Error::io(&self.path))?;
        Ok(self.header_bytes as u64 + end)
    }
}
