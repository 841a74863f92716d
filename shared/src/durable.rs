//! Names of directories and files that are there after a power cut: one is durable only when its directory was synced.

use std::fs::{self, File};
use std::io;
use std::io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem};
use std::path::Path;

/// Makes a directory and those above it that are missing, each durably. One that is there may have been made by a process
/// that died before it was synced: it is synced now, unless the directory above is not ours to open, cannot change, or is
/// of a file system that syncs no directories.
///
/// # Errors
/// When one cannot be made or synced.
pub fn create_dir_all(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return match sync_name(path) {
            Err(e) if matches!(e.kind(), PermissionDenied | ReadOnlyFilesystem | InvalidInput) => Ok(()),
            synced => synced,
        };
    }
    let parent = parent_of(path);
    create_dir_all(parent)?;
    match fs::create_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        _ => {}
    }
    sync_name(path)
}

/// Makes durable that a file or directory is known by this name, or no more: its bytes are another matter.
///
/// # Errors
/// When the directory it stands in cannot be synced.
pub fn sync_name(path: &Path) -> io::Result<()> {
    File::open(parent_of(path))?.sync_all()
}

fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
