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

/// Tells the kernel that the file is read from `offset` on. A hint: a refusal changes nothing.
#[cfg(target_os = "linux")]
pub(super) fn will_read_on(file: &File, offset: u64) {
    use std::os::fd::AsRawFd;
    if let Ok(offset) = offset.try_into() {
        // SAFETY: a call without pointers, on a descriptor that the borrow of `file` keeps open.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), offset, 0, libc::POSIX_FADV_SEQUENTIAL) };
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn will_read_on(_file: &File, _offset: u64) {}
