//! Which file it is: what tells a file from another one, or from what it was before.

use std::fs::{self, File, Metadata, OpenOptions};
use std::path::Path;

use crate::error::{Error, Result};

/// What the file system says of a file. Time and inode are 0 where there is no inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub size: u64,
    pub mtime_ns: i64,
    pub inode: u64,
}

impl Identity {
    #[cfg(unix)]
    pub fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        // Any time can be set on a file: far from the epoch nanoseconds do not fit.
        let mtime_ns = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
        Self { size: metadata.len(), mtime_ns, inode: metadata.ino() }
    }

    #[cfg(not(unix))]
    pub fn of(metadata: &Metadata) -> Self {
        Self { size: metadata.len(), mtime_ns: 0, inode: 0 }
    }

    /// What differs between the file of the plan and the file now, `None` where nothing does.
    pub fn changes_to(&self, now: &Self) -> Option<String> {
        if self.size != now.size {
            Some(format!("it had {} bytes when the plan was made and has {} now", self.size, now.size))
        } else if self.inode != now.inode {
            Some("it was replaced by another file (another inode) since the plan was made".to_owned())
        } else if self.mtime_ns != now.mtime_ns {
            Some("it was written to (another mtime) since the plan was made".to_owned())
        } else {
            None
        }
    }
}

/// Opens a regular file, and nothing else: a pipe would wait for a writer, a device has no end.
pub(super) fn open_regular(path: &Path) -> Result<(File, Identity)> {
    // Asked by path first, because to open a device can already do something to it; asked again of the open file,
    // because the path may have become something else in between.
    require_regular(path, &fs::metadata(path).map_err(Error::io(path))?)?;
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.custom_flags(libc::O_NONBLOCK);
    }
    let file = options.open(path).map_err(Error::io(path))?;
    let metadata = file.metadata().map_err(Error::io(path))?;
    require_regular(path, &metadata)?;
    Ok((file, Identity::of(&metadata)))
}

fn require_regular(path: &Path, metadata: &Metadata) -> Result<()> {
    if metadata.is_file() {
        return Ok(());
    }
    let reason = if metadata.is_dir() {
        "it is a directory, not a file; name a .safetensors file inside it"
    } else {
        "it is a pipe, a socket or a device, not a regular file; copy what it holds to a file first"
    };
    Err(Error::format(path, reason))
}
