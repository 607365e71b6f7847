//! The file with the small matrices: written while modules are decomposed, its header last.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::module::Pair;
use super::request::{Precision, Request};
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::kernels::convert::Element;
use crate::kernels::level::Level;
use crate::linalg::Mat;

/// What readers of the format accept at most.
const MAX_HEADER: usize = 100_000_000;

/// A safetensors file in the making. How many directions are kept is known only at the end, so the header gets the room
/// that it takes at the most, and the tensors follow one another in the order in which they come.
pub struct Store {
    path: PathBuf,
    dtype: Dtype,
    /// Bytes in front of the data section.
    start: usize,
    state: Mutex<State>,
}

struct State {
    file: File,
    /// Bytes of the data section so far.
    end: u64,
    header: String,
}

impl Store {
    pub fn create(path: &Path, request: &Request) -> Result<Self> {
        let dtype = match request.precision {
            Precision::Float32 => Dtype::F32,
            Precision::Float64 => Dtype::F64,
        };
        let entries: usize = request.modules.iter().map(|module| 2 * module.terms.len()).sum();
        let ranks = request.modules.iter().flat_map(|module| module.terms.iter().map(|term| term.rank));
        let largest =
            ranks.max().unwrap_or(0).max(request.modules.iter().map(|m| m.columns() as u64).max().unwrap_or(0));
        let longest = entry(entries, entries, "p", dtype, [largest as usize; 2], [u64::from(u32::MAX) << 16; 2]);
        let start = (8 + 2 + entries * longest.len()).next_multiple_of(8);
        if start > MAX_HEADER {
            let reason =
                format!("{entries} small matrices do not go into one file; decompose fewer modules at a time");
            return Err(Error::plan(reason));
        }
        let file = File::create(path).map_err(Error::io(path))?;
        let state = State { file, end: 0, header: String::new() };
        Ok(Self { path: path.to_path_buf(), dtype, start, state: Mutex::new(state) })
    }

    /// Appends the matrices of a module.
    ///
    /// # Errors
    ///
    /// Where the file cannot be written, or a number does not go into float32.
    pub fn append(&self, index: usize, name: &str, pairs: &[Pair]) -> Result<()> {
        let (mut bytes, mut values) = (Vec::new(), Vec::new());
        let mut places = Vec::new();
        for (term, pair) in pairs.iter().enumerate() {
            for (which, matrix) in [("p", &pair.p), ("q", &pair.q)] {
                let begin = bytes.len();
                encode(self.dtype, matrix, &mut values, &mut bytes).map_err(|reason| Error::tensor(name, reason))?;
                places.push((term, which, [matrix.nrows(), matrix.ncols()], begin as u64, bytes.len() as u64));
            }
        }
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State { file, end, header } = &mut *state;
        let written = file.seek(SeekFrom::Start(self.start as u64 + *end)).and_then(|_| file.write_all(&bytes));
        written.map_err(Error::io(&self.path))?;
        for (term, which, shape, begin, stop) in places {
            let separator = if header.is_empty() { "" } else { "," };
            let offsets = [*end + begin, *end + stop];
            header.push_str(separator);
            header.push_str(&entry(index, term, which, self.dtype, shape, offsets));
        }
        *end += bytes.len() as u64;
        Ok(())
    }

    /// Writes the header.
    pub fn finish(self) -> Result<()> {
        let State { mut file, header, .. } = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut text = ((self.start - 8) as u64).to_le_bytes().to_vec();
        text.extend_from_slice(b"{");
        text.extend_from_slice(header.as_bytes());
        text.extend_from_slice(b"}");
        text.resize(self.start, b' ');
        file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&text)).map_err(Error::io(&self.path))
    }
}

fn entry(index: usize, term: usize, which: &str, dtype: Dtype, shape: [usize; 2], offsets: [u64; 2]) -> String {
    format!(r#""{index}.{term}.{which}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":{offsets:?}}}"#)
}

/// Appends a matrix row by row.
fn encode(
    dtype: Dtype,
    matrix: &Mat<f64>,
    values: &mut Vec<f64>,
    bytes: &mut Vec<u8>,
) -> std::result::Result<(), String> {
    values.clear();
    values.extend((0..matrix.nrows()).flat_map(|i| (0..matrix.ncols()).map(move |j| matrix[(i, j)])));
    let begin = bytes.len();
    bytes.resize(begin + values.len() * dtype.size(), 0);
    if f64::store(Level::detect(), dtype, values, &mut bytes[begin..]) {
        return Err("its factors are too small or too large for float32; ask for precision float64".to_owned());
    }
    Ok(())
}
