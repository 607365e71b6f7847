//! One output file: space set aside at once, full blocks written past the page cache where the file system lets us.
//!
//! Buffered writing of gigabytes evicts the inputs from the page cache and swings in speed by a factor of ten; direct
//! writing does neither. Everything here has a plain form for other systems and for file systems that refuse.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use super::pool::DIRECT_ALIGN;
use crate::error::{Error, Result};

/// Makes the file `bytes` long with its space allocated, so that a full disk shows now and not after an hour.
///
/// `keep` says that its bytes are still wanted: it must then exist with this size.
pub(super) fn allocate(path: &Path, bytes: u64, keep: bool) -> Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(!keep).truncate(!keep);
    let file = options.open(path).map_err(Error::io(path))?;
    let size = file.metadata().map_err(Error::io(path))?.len();
    if keep && size != bytes {
        let reason = format!("left by an interrupted run with {size} bytes where {bytes} are expected");
        return Err(Error::format(path, format!("{reason}; delete it and run again")));
    }
    set_aside(&file, bytes).map_err(Error::io(path))
}

#[cfg(target_os = "linux")]
fn set_aside(file: &File, bytes: u64) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    let length = libc::off_t::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    loop {
        // SAFETY: the descriptor is open for the length of the call; no memory is passed.
        if unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, length) } == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            // File systems that cannot set space aside: it is taken as the blocks come.
            Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EPERM) => return file.set_len(bytes),
            _ => return Err(error),
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn set_aside(file: &File, bytes: u64) -> io::Result<()> {
    file.set_len(bytes)
}

/// Refuses files whose sizes together do not fit on the disk that `folder` is on.
///
/// Some file systems find that out by filling the disk to its last block first, under everybody else.
#[cfg(unix)]
pub(super) fn require_space<'a>(folder: &Path, files: impl Iterator<Item = (&'a Path, u64)>) -> Result<()> {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::MetadataExt;

    let missing = files.fold(0u64, |sum, (path, bytes)| {
        let there = path.symlink_metadata().map_or(0, |metadata| metadata.blocks().saturating_mul(512));
        sum.saturating_add(bytes.saturating_sub(there))
    });
    let Ok(name) = std::ffi::CString::new(folder.as_os_str().as_bytes()) else { return Ok(()) };
    let mut disk = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the name ends in a zero byte, and the structure has room for the answer.
    if unsafe { libc::statvfs(name.as_ptr(), disk.as_mut_ptr()) } != 0 {
        return Ok(());
    }
    // SAFETY: filled in, since the call succeeded.
    let disk = unsafe { disk.assume_init() };
    // Wider on some systems than on others.
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
    let (blocks, available, size) = (disk.f_blocks as u64, disk.f_bavail as u64, disk.f_frsize as u64);
    // Network file systems that do not know say 0 blocks.
    if blocks > 0 && missing > available.saturating_mul(size) {
        return Err(Error::io(folder)(io::Error::from_raw_os_error(libc::ENOSPC)));
    }
    Ok(())
}

#[cfg(not(unix))]
pub(super) fn require_space<'a>(_folder: &Path, _files: impl Iterator<Item = (&'a Path, u64)>) -> Result<()> {
    Ok(())
}

/// An open output file.
pub(super) struct OutputFile {
    pub path: PathBuf,
    buffered: File,
    direct: Option<File>,
}

impl OutputFile {
    pub fn open(path: &Path, direct: bool) -> Result<Self> {
        let buffered = OpenOptions::new().read(true).write(true).open(path).map_err(Error::io(path))?;
        let direct = if direct { open_direct(path) } else { None };
        Ok(Self { path: path.to_path_buf(), buffered, direct })
    }

    /// Writes a block, past the page cache if it can; says whether it could.
    ///
    /// `bytes` and `offset` are aligned to [`DIRECT_ALIGN`]. The end of a file is hardly ever: its last bytes, on a page
    /// of their own, go through the page cache.
    pub fn write_block(&self, bytes: &[u8], offset: u64) -> io::Result<bool> {
        let mut done = 0;
        let mut refused = self.direct.is_none();
        if let Some(direct) = &self.direct {
            let aligned = bytes.len() - bytes.len() % DIRECT_ALIGN;
            while done < aligned && done % DIRECT_ALIGN == 0 && !refused {
                match write_at(direct, &bytes[done..aligned], offset + done as u64) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(written) => done += written,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::InvalidInput => refused = true,
                    Err(error) => return Err(error),
                }
            }
        }
        self.write_all(&bytes[done..], offset + done as u64)?;
        Ok(!refused)
    }

    /// Writes through the page cache.
    pub fn write_all(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match write_at(&self.buffered, bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = &bytes[written..];
                    offset += written as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub fn read_all(&self, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match read_at(&self.buffered, bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    bytes = &mut bytes[read..];
                    offset += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits until everything written is safe against power loss.
    pub fn sync(&self) -> io::Result<()> {
        self.buffered.sync_data()
    }
}

#[cfg(target_os = "linux")]
fn open_direct(path: &Path) -> Option<File> {
    use std::os::unix::fs::OpenOptionsExt;

    OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(path).ok()
}

#[cfg(not(target_os = "linux"))]
fn open_direct(_path: &Path) -> Option<File> {
    None
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::write_at(file, bytes, offset)
}

#[cfg(windows)]
fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_write(file, bytes, offset)
}

#[cfg(unix)]
fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, bytes, offset)
}

#[cfg(windows)]
fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, bytes, offset)
}

/// Makes renames, creations and removals in a folder safe against power loss, where the system can.
pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    if cfg!(not(unix)) {
        return Ok(());
    }
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        // Some network file systems cannot sync a folder; there is nothing else to ask them for.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        result => result.map_err(Error::io(folder)),
    }
}
