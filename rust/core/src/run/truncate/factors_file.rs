//! A safetensors file whose tensors come in any order and whose ranks are not known beforehand.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};

/// What an entry of the header takes at the most: a short name and four numbers of twenty digits.
const ENTRY: usize = 192;

/// Room for the header is kept in front; data follow one behind the other.
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
    /// For two tensors of each of `jobs` jobs.
    pub fn create(path: &Path, jobs: usize) -> Result<Self> {
        let file = File::create(path).map_err(Error::io(path))?;
        let header_bytes = (8 + 2 + 2 * jobs * ENTRY).next_multiple_of(64);
        let state = State { file, header: String::from("{"), end: 0 };
        Ok(Self { path: path.to_owned(), header_bytes, state: Mutex::new(state) })
    }

    pub fn add(&self, name: &str, shape: [u64; 2], data: &[f32]) -> Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (start, end) = (state.end, state.end + size_of_val(data) as u64);
        let comma = if state.header.len() > 1 { "," } else { "" };
        let [rows, columns] = shape;
        state.header.push_str(&format!(
            r#"{comma}"{name}":{{"dtype":"F32","shape":[{rows},{columns}],"data_offsets":[{start},{end}]}}"#
        ));
        state.end = end;
        self.write(&mut state.file, self.header_bytes as u64 + start, data)
    }

    fn write(&self, file: &mut File, at: u64, data: &[f32]) -> Result<()> {
        file.seek(SeekFrom::Start(at)).map_err(Error::io(&self.path))?;
        for part in data.chunks(1 << 16) {
            let bytes: Vec<u8> = part.iter().flat_map(|x| x.to_le_bytes()).collect();
            file.write_all(&bytes).map_err(Error::io(&self.path))?;
        }
        Ok(())
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
