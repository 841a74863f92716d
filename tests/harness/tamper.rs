//! Faults at the n-th system call of a real process that changes or reads a file: killed, failed or torn.
//!
//! A preloaded library traps the calls (`tamper.c`). It counts over all threads of the process: strace counts per
//! thread, and with a thread pool its numbers identify no position.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::folder::Folder;
use crate::tool::{compile, run_command};

const SOURCE: &str = include_str!("tamper.c");
/// Fields of the control file; see `tamper.c`.
const FIELDS: usize = 17;
const CALLS: usize = 0;
const HAPPENED: usize = 6;
const LIES: usize = 7;
const ALL: usize = 8;

/// Calls that change or read a file, in the library's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Write,
    /// fdatasync, and `sync_file_range`, which sled uses for it.
    SyncData,
    /// fsync, mostly of directories.
    Sync,
    /// rename, renameat, renameat2.
    Rename,
    Truncate,
    /// fallocate: preallocation and hole punching.
    Allocate,
    Remove,
    /// openat with `O_CREAT`.
    Create,
    Read,
}

impl Call {
    pub const ALL: [Self; 9] = [
        Self::Write,
        Self::SyncData,
        Self::Sync,
        Self::Rename,
        Self::Truncate,
        Self::Allocate,
        Self::Remove,
        Self::Create,
        Self::Read,
    ];
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The process is killed instead.
    Kill,
    /// The first half of a write is done, then the process is killed.
    Tear,
    /// It fails with this error and does nothing.
    Fail(rustix::io::Errno),
    /// It fails, and so does every later one.
    FailFromThen(rustix::io::Errno),
    Stall,
    /// From then on, every other one does only the first half and reports that.
    Halve,
    /// From then on, every other one is interrupted by a signal.
    Interrupt,
}

impl Action {
    /// Reports whether the fault must have no visible effect.
    pub fn is_harmless(self) -> bool {
        matches!(self, Self::Halve | Self::Interrupt)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub call: Call,
    /// Position among these calls, from 1.
    pub at: u64,
    pub action: Action,
}

/// The library and the control file of one process.
#[derive(Debug)]
pub struct Tamper {
    library: PathBuf,
    path: PathBuf,
    control: File,
}

/// The library alone, for settings that last as long as the process.
#[derive(Clone, Debug)]
pub struct Library(PathBuf);

impl Library {
    /// Compiles the library. Skips the test where calls cannot be trapped.
    ///
    /// # Panics
    /// With CI=true, where nothing may be skipped.
    pub async fn new(folder: &Folder, test: &str) -> Option<Self> {
        let library = compile(folder, "tamper.so", SOURCE, &["-shared", "-fPIC"]).await;
        let mut probe = tokio::process::Command::new("/bin/true");
        probe.env("LD_PRELOAD", &library);
        let ran = run_command(probe, None).await;
        if ran.code != 0 {
            crate::skip(test, format_args!("it needs seccomp: {}", ran.err.trim()));
            return None;
        }
        Some(Self(library))
    }

    /// Returns the environment variables for a process whose file system has no holes.
    pub fn without_holes(&self) -> Vec<(String, OsString)> {
        vec![self.preload(), ("TAMPER_WITHOUT_HOLES".into(), "1".into())]
    }

    /// Returns the environment variables for a process whose syncs of files with this suffix do nothing and succeed.
    pub fn unsynced(&self, ending: &str) -> Vec<(String, OsString)> {
        vec![self.preload(), ("TAMPER_UNSYNCED".into(), ending.into())]
    }

    /// Returns the environment variables for a process that lists name changes and syncs in `list`.
    pub fn names(&self, list: &Path) -> Vec<(String, OsString)> {
        vec![self.preload(), ("TAMPER_NAMES".into(), list.as_os_str().to_owned())]
    }

    /// Creates the control file of one process.
    ///
    /// # Panics
    /// If it cannot be created.
    pub fn control(&self, path: &Path) -> Tamper {
        let control = File::options().read(true).write(true).create(true).truncate(true).open(path);
        let control = control.expect("a control file");
        control.set_len(8 * FIELDS as u64).expect("its length");
        Tamper { library: self.0.clone(), path: path.to_owned(), control }
    }

    fn preload(&self) -> (String, OsString) {
        ("LD_PRELOAD".into(), self.0.clone().into_os_string())
    }
}

impl Tamper {
    /// Returns the environment variables of the process.
    pub fn env(&self) -> Vec<(String, OsString)> {
        let preload = Library(self.library.clone()).preload();
        vec![preload, ("TAMPER_CONTROL".into(), self.path.clone().into_os_string())]
    }

    /// Arms the fault: calls are counted from now on, until it happens.
    ///
    /// # Panics
    /// If the control file cannot be written.
    pub fn arm(&self, fault: Fault) {
        self.disarm();
        let (action, error, through) = match fault.action {
            Action::Kill => (1, 0, fault.at),
            Action::Tear => (2, 0, fault.at),
            Action::Fail(errno) => (3, errno.raw_os_error(), fault.at),
            Action::FailFromThen(errno) => (3, errno.raw_os_error(), u64::MAX),
            Action::Stall => (4, 0, fault.at),
            Action::Halve => (5, 0, u64::MAX),
            Action::Interrupt => (6, 0, u64::MAX),
        };
        let error = u64::try_from(error).expect("errors are positive");
        for (field, value) in [fault.at, through, action, error, 0, 0].into_iter().enumerate() {
            self.set(1 + field, value);
        }
        let place = Call::ALL.iter().position(|c| *c == fault.call).expect("all are there");
        self.set(CALLS, 1 << place);
    }

    /// Disarms the fault.
    pub fn disarm(&self) {
        self.set(CALLS, 0);
    }

    /// Reports whether the fault has happened since it was armed.
    pub fn happened(&self) -> bool {
        self.get(HAPPENED) > 0
    }

    /// Returns the number of syncs that did nothing.
    pub fn lies(&self) -> u64 {
        self.get(LIES)
    }

    /// Returns the number of calls so far, in the order of `Call::ALL`.
    pub fn all(&self) -> [u64; Call::ALL.len()] {
        std::array::from_fn(|n| self.get(ALL + n))
    }

    fn set(&self, field: usize, value: u64) {
        self.control
            .write_all_at(&value.to_ne_bytes(), 8 * field as u64)
            .expect("its control can be written");
    }

    fn get(&self, field: usize) -> u64 {
        let mut bytes = [0; 8];
        self.control.read_exact_at(&mut bytes, 8 * field as u64).expect("its control can be read");
        u64::from_ne_bytes(bytes)
    }
}
