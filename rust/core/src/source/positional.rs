//! Reading at a place of a file, without the file's cursor: threads share a file and do not meet.

use std::fs::File;
use std::io;

/// Fills `buffer` from byte `offset` of the file on; fewer bytes than asked for mean that the file ends there.
pub(super) fn fill(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read_at(file, &mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(n) => filled += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

#[cfg(windows)]
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}

/// How a range will be read.
#[derive(Clone, Copy)]
pub(super) enum Access {
    Sequential,
    Soon,
}

/// Tells the kernel what will be read; a `len` of 0 reaches to the end of the file. A hint: a refusal changes nothing.
#[cfg(target_os = "linux")]
pub(super) fn advise(file: &File, access: Access, offset: u64, len: u64) {
    use std::os::fd::AsRawFd;
    let advice = match access {
        Access::Sequential => libc::POSIX_FADV_SEQUENTIAL,
        Access::Soon => libc::POSIX_FADV_WILLNEED,
    };
    if let (Ok(offset), Ok(len)) = (offset.try_into(), len.try_into()) {
        // SAFETY: a call without pointers, on a descriptor that the borrow of `file` keeps open.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), offset, len, advice) };
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn advise(_file: &File, _access: Access, _offset: u64, _len: u64) {}
