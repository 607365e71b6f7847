//! How two stored tensors differ, and what a file's bytes hash to: streamed, whatever the size.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;
use xxhash_rust::xxh3::Xxh3;

use super::read_header;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::kernels::BLOCK;
use crate::kernels::convert::Element;
use crate::kernels::level::Level;

/// Bytes read at a time.
const CHUNK: usize = 1 << 20;

/// A stored tensor: `begin` counts from the start of the data section.
#[derive(Clone, Copy, Debug)]
pub struct Region<'a> {
    pub path: &'a Path,
    pub begin: u64,
    pub dtype: Dtype,
}

/// How two tensors differ. Differences are those of elements that are not NaN in both.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    pub equal_bytes: bool,
    pub max_abs: f64,
    pub mean_abs: f64,
    /// Places where exactly one of the two is NaN.
    pub nan: u64,
}

impl Region<'_> {
    fn open(&self) -> Result<BufReader<File>> {
        let start = read_header(self.path)?.data_start;
        let mut file = File::open(self.path).map_err(Error::io(self.path))?;
        file.seek(SeekFrom::Start(start + self.begin)).map_err(Error::io(self.path))?;
        Ok(BufReader::with_capacity(CHUNK, file))
    }
}

/// Compares `n` elements, until `cancel` is set.
pub fn compare(a: Region<'_>, b: Region<'_>, n: u64, cancel: &AtomicBool) -> Result<Difference> {
    let mut readers = [a.open()?, b.open()?];
    let mut difference = Difference { equal_bytes: a.dtype == b.dtype, max_abs: 0.0, mean_abs: 0.0, nan: 0 };
    let floats = a.dtype.is_float() && b.dtype.is_float();
    let (mut bytes, mut values) = ([Vec::new(), Vec::new()], [[0f64; BLOCK]; 2]);
    let (mut left, mut sum) = (n, 0.0);
    while left > 0 {
        require_going(cancel)?;
        let len = left.min(BLOCK as u64) as usize;
        for ((region, reader), bytes) in [a, b].iter().zip(&mut readers).zip(&mut bytes) {
            bytes.resize((len as u64 * region.dtype.bits()).div_ceil(8) as usize, 0);
            reader.read_exact(bytes).map_err(Error::io(region.path))?;
        }
        difference.equal_bytes &= bytes[0] == bytes[1];
        if floats {
            f64::load(Level::detect(), a.dtype, &bytes[0], &mut values[0][..len]);
            f64::load(Level::detect(), b.dtype, &bytes[1], &mut values[1][..len]);
            for (&x, &y) in values[0][..len].iter().zip(&values[1][..len]) {
                // Equal infinities do not differ.
                let distance = if x == y { 0.0 } else { (x - y).abs() };
                difference.nan += u64::from(x.is_nan() != y.is_nan());
                if !distance.is_nan() {
                    difference.max_abs = difference.max_abs.max(distance);
                    sum += distance;
                }
            }
        }
        left -= len as u64;
    }
    difference.mean_abs = if n == 0 { 0.0 } else { sum / n as f64 };
    Ok(difference)
}

fn require_going(cancel: &AtomicBool) -> Result<()> {
    if cancel.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
}

/// XXH3-128 of all of a file, until `cancel` is set.
pub fn hash_file(path: &Path, cancel: &AtomicBool) -> Result<u128> {
    let mut file = File::open(path).map_err(Error::io(path))?;
    let (mut hash, mut bytes) = (Xxh3::new(), vec![0; CHUNK]);
    loop {
        require_going(cancel)?;
        match file.read(&mut bytes).map_err(Error::io(path))? {
            0 => return Ok(hash.digest128()),
            n => hash.update(&bytes[..n]),
        }
    }
}
