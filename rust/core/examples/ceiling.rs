//! The time that moving a job's bytes takes when nothing is computed: every input byte is read into buffers that
//! stay in the L2 cache, by all cores, while every output byte is written beside it; then the output is synced.
//!
//! ```text
//! ceiling --threads 2 --out FILE --out-bytes N INPUT…
//! ```
//!
//! The last line on stdout is the seconds it took.

use std::error::Error;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

const READ_BYTES: u64 = 256 << 10;
const WRITE_BYTES: usize = 2 << 20;
/// What O_DIRECT asks of addresses, offsets and lengths on every common disk.
const ALIGNMENT: usize = 4096;

struct Request {
    threads: usize,
    out: PathBuf,
    out_bytes: u64,
    inputs: Vec<PathBuf>,
}

impl Request {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, Box<dyn Error>> {
        let mut request = Self { threads: 1, out: PathBuf::new(), out_bytes: 0, inputs: Vec::new() };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--threads" => request.threads = value()?.parse()?,
                "--out" => request.out = value()?.into(),
                "--out-bytes" => request.out_bytes = value()?.parse()?,
                _ => request.inputs.push(argument.into()),
            }
        }
        Ok(request)
    }
}

/// The pieces of all inputs, handed out in file order to whichever thread is free.
struct Inputs {
    files: Vec<(File, u64)>,
    next: AtomicU64,
}

impl Inputs {
    fn open(paths: &[PathBuf]) -> io::Result<Self> {
        let open = |path: &PathBuf| {
            let file = File::open(path)?;
            let size = file.metadata()?.len();
            Ok((file, size))
        };
        Ok(Self { files: paths.iter().map(open).collect::<io::Result<_>>()?, next: AtomicU64::new(0) })
    }

    fn piece(&self) -> Option<(&File, u64, u64)> {
        let mut number = self.next.fetch_add(1, Ordering::Relaxed);
        for (file, size) in &self.files {
            let pieces = size.div_ceil(READ_BYTES);
            if number < pieces {
                let offset = number * READ_BYTES;
                return Some((file, offset, READ_BYTES.min(size - offset)));
            }
            number -= pieces;
        }
        None
    }

    fn read_all(&self) -> io::Result<()> {
        let mut buffer = vec![0_u8; usize::try_from(READ_BYTES).map_err(io::Error::other)?];
        while let Some((file, offset, length)) = self.piece() {
            let wanted = usize::try_from(length).map_err(io::Error::other)?;
            read_exact_at(file, &mut buffer[..wanted], offset)?;
            std::hint::black_box(&buffer);
        }
        Ok(())
    }
}

#[cfg(unix)]
fn read_exact_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, buffer, offset)
}

#[cfg(not(unix))]
fn read_exact_at(_: &File, _: &mut [u8], _: u64) -> io::Result<()> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

#[cfg(target_os = "linux")]
fn create(path: &std::path::Path, bytes: u64) -> io::Result<File> {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    let mut options = File::options();
    options.write(true).create(true).truncate(true);
    let file = options.clone().custom_flags(libc::O_DIRECT).open(path).or_else(|_| options.open(path))?;
    let length = libc::off_t::try_from(bytes).map_err(io::Error::other)?;
    // SAFETY: the descriptor belongs to `file`, which outlives the call; no memory is passed.
    if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) } != 0 {
        file.set_len(bytes)?;
    }
    Ok(file)
}

#[cfg(not(target_os = "linux"))]
fn create(path: &std::path::Path, bytes: u64) -> io::Result<File> {
    let file = File::create(path)?;
    file.set_len(bytes)?;
    Ok(file)
}

/// Writes whole blocks, the last one past the end, and cuts the file to its size.
fn write_all(mut file: File, bytes: u64) -> io::Result<()> {
    let mut storage: Vec<u8> = (0..WRITE_BYTES + ALIGNMENT).map(|at| (at % 251) as u8).collect();
    let skip = storage.as_ptr().align_offset(ALIGNMENT);
    let block = &mut storage[skip..skip + WRITE_BYTES];
    for _ in 0..bytes.div_ceil(WRITE_BYTES as u64) {
        file.write_all(block)?;
    }
    file.set_len(bytes)?;
    file.sync_all()
}

fn main() -> Result<(), Box<dyn Error>> {
    let request = Request::parse(std::env::args().skip(1))?;
    let inputs = Inputs::open(&request.inputs)?;
    let start = Instant::now();
    let out = create(&request.out, request.out_bytes)?;
    std::thread::scope(|scope| -> io::Result<()> {
        let writer = scope.spawn(|| write_all(out, request.out_bytes));
        let readers: Vec<_> = (0..request.threads).map(|_| scope.spawn(|| inputs.read_all())).collect();
        for thread in readers.into_iter().chain([writer]) {
            thread.join().map_err(|_| io::Error::other("a thread panicked"))??;
        }
        Ok(())
    })?;
    writeln!(io::stdout(), "{:.6}", start.elapsed().as_secs_f64())?;
    Ok(())
}
