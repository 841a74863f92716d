//! A test's directory on the real disk. It is removed after the test and kept if the test fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Creates one under `target/test-data`: /tmp may be in memory, which says nothing about disks.
    ///
    /// # Panics
    /// If it cannot be created.
    pub fn new(name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = target().join("test-data").join(format!("{name}-{}-{count}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a directory for the test");
        Self(path)
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the path of a name in it.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file with these bytes in it and returns its path.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).expect("a file for the test");
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if std::thread::panicking() {
            crate::say(format_args!("the test's directory is kept: {}", self.0.display()));
        } else {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

/// Returns the build directory: the test executable is in `target/PROFILE/deps`.
///
/// # Panics
/// If the test executable is elsewhere.
pub fn target() -> PathBuf {
    let exe = std::env::current_exe().expect("the test knows where it is");
    exe.ancestors().nth(3).expect("a test executable is in target/PROFILE/deps").to_owned()
}

/// Returns the path of one of our binaries, beside the test executable.
///
/// # Panics
/// If it has not been built.
pub fn binary(name: &str) -> PathBuf {
    let exe = std::env::current_exe().expect("the test knows where it is");
    let path = exe.ancestors().nth(2).expect("a test executable is in target/PROFILE/deps").join(name);
    assert!(path.exists(), "{} is missing: run `cargo build --workspace --bins` first", path.display());
    path
}
