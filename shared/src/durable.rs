//! Makes names of directories and files survive a power cut: a name is durable only when its directory was synced.

use std::fs::{self, File};
use std::io;
use std::io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem};
use std::path::Path;

/// Creates a directory and its missing parents, each durably. An existing one may have been created by a process that
/// died before it was synced: it is synced now, unless its parent is not ours to open, cannot change, or is on a file
/// system that syncs no directories.
///
/// # Errors
/// If one cannot be created or synced.
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

/// Makes it durable that a file or directory has this name, or no longer has it; does not sync its contents.
///
/// # Errors
/// If its directory cannot be synced.
pub fn sync_name(path: &Path) -> io::Result<()> {
    File::open(parent_of(path))?.sync_all()
}

fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
