//! What a server writes is for its own user: values, names, and secrets that are sealed.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::process::{geteuid, umask};

/// From here on files of this process are 0600 and directories 0700, whatever its user's own mask. Not for commands that
/// write a file for their user.
pub fn keep_private() {
    umask(Mode::RWXG | Mode::RWXO);
}

/// The file at `path`, to be read and written by its user alone; made when it is not there. In a directory that others can
/// write to, what has this name may be theirs.
///
/// # Errors
/// `AlreadyExists` when a link or something else than a file of this user has the name: then nothing is touched.
pub fn own_file(path: &Path) -> io::Result<File> {
    let planted =
        || io::Error::new(io::ErrorKind::AlreadyExists, "a link, or no file of this user, is there");
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let opened = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(flags)
        .open(path);
    let file = opened.map_err(|e| {
        let link = e.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
        if link { planted() } else { e }
    })?;
    let found = file.metadata()?;
    // A second name of it would be a link as well.
    if !found.is_file() || found.uid() != geteuid().as_raw() || found.nlink() != 1 {
        return Err(planted());
    }
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Gives a file the mode that new ones of this process have.
///
/// # Errors
/// When the file system refuses.
pub fn release(file: &File) -> io::Result<()> {
    // It can only be read by setting it. A file that another thread makes meanwhile is too private, never too open.
    let mask = umask(Mode::RWXG | Mode::RWXO);
    umask(mask);
    file.set_permissions(Permissions::from_mode(0o666 & !mask.bits()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_not_a_file_of_our_own_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let mode = |name: &str| fs::metadata(at(name)).unwrap().permissions().mode() & 0o777;
        fs::write(at("precious"), "as it was").unwrap();
        let before = mode("precious");
        symlink(at("precious"), at("link")).unwrap();
        symlink(at("nothing"), at("dangling")).unwrap();
        fs::hard_link(at("precious"), at("second")).unwrap();
        fs::create_dir(at("dir")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        for name in ["link", "dangling", "second", "pipe"] {
            assert_eq!(own_file(&at(name)).unwrap_err().kind(), io::ErrorKind::AlreadyExists, "{name}");
        }
        assert!(own_file(&at("dir")).is_err());
        assert_eq!(
            (fs::read_to_string(at("precious")).unwrap().as_str(), mode("precious")),
            ("as it was", before)
        );
        assert!(!at("nothing").exists());

        let file = own_file(&at("new")).unwrap();
        assert_eq!(mode("new"), 0o600);
        release(&file).unwrap();
        assert_eq!(mode("new"), before, "as any other new file");
        drop(own_file(&at("new")).unwrap());
        assert_eq!(mode("new"), 0o600, "taken up again");
    }
}
