//! Restricts what a server writes to its own user: values, names, and encrypted secrets.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::process::{geteuid, umask};

/// From now on files of this process are created with mode 0600 and directories with 0700, whatever its user's umask.
/// Not for commands that write a file for their user.
pub fn set_private_umask() {
    umask(Mode::RWXG | Mode::RWXO);
}

/// Opens or creates the file at `path`, readable and writable only by its user. In a directory that others can write
/// to, an existing file of this name may be theirs.
///
/// # Errors
/// `AlreadyExists` if the name is a link, or anything but a file of this user: then nothing is touched.
pub fn own_file(path: &Path) -> io::Result<File> {
    let planted = || {
        io::Error::new(
            io::ErrorKind::AlreadyExists,
            "the name belongs to a link, or to something other than a file of this user",
        )
    };
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
    // A second hard link would be another way to the file, too.
    if !found.is_file() || found.uid() != geteuid().as_raw() || found.nlink() != 1 {
        return Err(planted());
    }
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(file)
}

/// Gives a file the mode of this process's new files.
///
/// # Errors
/// If the file system refuses.
pub fn release(file: &File) -> io::Result<()> {
    // The umask can only be read by setting it. A file that another thread creates meanwhile is too private, never
    // too open.
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
