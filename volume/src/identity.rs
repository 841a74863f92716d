//! The identity of a volume: `volume.json` and `lock` in its directory. Created once; the cluster is added when the
//! volume joins one, and never changes after that.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use shared::durable::create_dir_all;
use shared::ids::{ClusterId, VolumeId};

/// Format version of everything in a volume's directory.
pub const FORMAT_VERSION: u32 = 1;
const FILE: &str = "volume.json";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    format_version: u32,
    volume: VolumeId,
    cluster: Option<ClusterId>,
}

/// A volume's directory, opened and locked.
#[derive(Debug)]
pub struct Identity {
    folder: PathBuf,
    record: RwLock<Record>,
    // Held while the volume runs; the operating system releases it with the process.
    _lock: File,
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("the volume's directory {path}: {source}")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "the volume's directory {0} is in use by another process: stop that volume, or give this one a directory of its own"
    )]
    InUse(PathBuf),
    #[error(
        "the volume's directory {path} has format version {found}; this volume reads version {FORMAT_VERSION}: use the version of Barge that wrote it"
    )]
    OtherVersion { path: PathBuf, found: u32 },
    /// The file does not parse.
    #[error(
        "{0} is not a volume's description. If this directory holds segments, restore the file from a backup: its volume id is the one in their headers"
    )]
    Unreadable(PathBuf),
    #[error(
        "{0} is missing, but its directory holds segments: restore it from a backup, or use another directory"
    )]
    Missing(PathBuf),
    #[error(
        "the volume belongs to cluster {ours}, but the master to cluster {theirs}: point the volume at its own master, or give it another directory"
    )]
    OtherCluster { ours: ClusterId, theirs: ClusterId },
}

impl Identity {
    /// Opens and locks a volume's directory; creates it if there is none.
    ///
    /// # Errors
    /// When it is in use, has another format version, or is not a volume's. Nothing is changed then.
    pub fn open(folder: &Path) -> Result<Self, IdentityError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| IdentityError::Io { path, source }
        };
        create_dir_all(folder).map_err(io(folder))?;
        let lock_path = folder.join("lock");
        let lock = File::options().create(true).append(true).open(&lock_path).map_err(io(&lock_path))?;
        lock.try_lock().map_err(|e| match e {
            fs::TryLockError::WouldBlock => IdentityError::InUse(folder.to_owned()),
            fs::TryLockError::Error(source) => IdentityError::Io { path: lock_path.clone(), source },
        })?;
        let path = folder.join(FILE);
        let record = match fs::read(&path) {
            Ok(text) => read(&text, &path)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let segments = folder.join("segments");
                if fs::read_dir(&segments).is_ok_and(|mut entries| entries.next().is_some()) {
                    return Err(IdentityError::Missing(path));
                }
                let new =
                    Record { format_version: FORMAT_VERSION, volume: VolumeId::random(), cluster: None };
                write(folder, &new).map_err(io(&path))?;
                new
            }
            Err(e) => return Err(io(&path)(e)),
        };
        Ok(Self { folder: folder.to_owned(), record: RwLock::new(record), _lock: lock })
    }

    pub fn volume(&self) -> VolumeId {
        self.record.read().unwrap_or_else(PoisonError::into_inner).volume
    }

    /// The cluster it belongs to, once it has joined one.
    pub fn cluster(&self) -> Option<ClusterId> {
        self.record.read().unwrap_or_else(PoisonError::into_inner).cluster
    }

    /// Joins a cluster, or checks that the volume belongs to it.
    ///
    /// # Errors
    /// When the volume belongs to another cluster, or `volume.json` cannot be written.
    pub fn join(&self, cluster: ClusterId) -> Result<(), IdentityError> {
        let mut record = self.record.write().unwrap_or_else(PoisonError::into_inner);
        match record.cluster {
            Some(ours) if ours == cluster => Ok(()),
            Some(ours) => Err(IdentityError::OtherCluster { ours, theirs: cluster }),
            None => {
                let joined = Record { cluster: Some(cluster), ..*record };
                write(&self.folder, &joined)
                    .map_err(|source| IdentityError::Io { path: self.folder.join(FILE), source })?;
                *record = joined;
                Ok(())
            }
        }
    }
}

/// Read-only access to the identity of a volume that does not run. While this is held no volume can start in the
/// directory, unless none ever did (then there is no lock file).
#[derive(Debug)]
pub struct Glimpse {
    /// The volume's id; `None` if `volume.json` is missing or unreadable.
    pub volume: Option<VolumeId>,
    /// The cluster it has joined.
    pub cluster: Option<ClusterId>,
    _lock: Option<File>,
}

impl Glimpse {
    /// Reads the identity of the volume in `folder`.
    ///
    /// # Errors
    /// When the volume runs, has another format version, or does not exist.
    pub fn of(folder: &Path) -> Result<Self, IdentityError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| IdentityError::Io { path, source }
        };
        let there = |opened: io::Result<File>| match opened {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            file => file.map(Some),
        };
        fs::metadata(folder).map_err(io(folder))?;
        let lock_path = folder.join("lock");
        let lock = there(File::open(&lock_path)).map_err(io(&lock_path))?;
        match lock.as_ref().map(File::try_lock_shared) {
            None | Some(Ok(())) => {}
            Some(Err(fs::TryLockError::WouldBlock)) => return Err(IdentityError::InUse(folder.to_owned())),
            Some(Err(fs::TryLockError::Error(source))) => return Err(io(&lock_path)(source)),
        }
        let path = folder.join(FILE);
        let record = match fs::read(&path) {
            Ok(text) => read(&text, &path),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(IdentityError::Missing(path)),
            Err(e) => return Err(io(&path)(e)),
        };
        let record = match record {
            Ok(record) => Some(record),
            Err(IdentityError::Missing(_) | IdentityError::Unreadable(_)) => None,
            Err(other) => return Err(other),
        };
        let (volume, cluster) = (record.map(|r| r.volume), record.and_then(|r| r.cluster));
        Ok(Self { volume, cluster, _lock: lock })
    }
}

fn read(text: &[u8], path: &Path) -> Result<Record, IdentityError> {
    let unreadable = |_| IdentityError::Unreadable(path.to_owned());
    // First the version alone: the rest of another version's file may have another layout.
    #[derive(Deserialize)]
    struct Version {
        format_version: u32,
    }
    let Version { format_version: found } = serde_json::from_slice(text).map_err(unreadable)?;
    if found != FORMAT_VERSION {
        return Err(IdentityError::OtherVersion { path: path.to_owned(), found });
    }
    serde_json::from_slice(text).map_err(unreadable)
}

/// Writes the file atomically: to a temporary file, synced, renamed, and the directory synced.
fn write(folder: &Path, record: &Record) -> io::Result<()> {
    let draft = folder.join(".volume.json.new");
    let mut file = File::create(&draft)?;
    file.write_all(&serde_json::to_vec_pretty(record)?)?;
    file.sync_all()?;
    fs::rename(&draft, folder.join(FILE))?;
    File::open(folder)?.sync_all()?;
    if let Some(parent) = folder.parent().filter(|p| !p.as_os_str().is_empty()) {
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_one_volume_one_cluster() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (ClusterId::random(), ClusterId::random());
        let first = Identity::open(dir.path()).unwrap();
        let volume = first.volume();
        assert!(matches!(Identity::open(dir.path()), Err(IdentityError::InUse(_))));
        first.join(a).unwrap();
        first.join(a).unwrap();
        assert!(matches!(first.join(b), Err(IdentityError::OtherCluster { .. })));
        drop(first);
        let again = Identity::open(dir.path()).unwrap();
        assert_eq!((again.volume(), again.cluster()), (volume, Some(a)));
    }

    #[test]
    fn a_glimpse_changes_nothing_and_is_refused_while_a_volume_runs() {
        let dir = tempfile::tempdir().unwrap();
        let empty = Glimpse::of(dir.path()).unwrap();
        assert_eq!((empty.volume, fs::read_dir(dir.path()).unwrap().count()), (None, 0));
        assert!(matches!(Glimpse::of(&dir.path().join("no")), Err(IdentityError::Io { .. })));
        let running = Identity::open(dir.path()).unwrap();
        assert!(matches!(Glimpse::of(dir.path()), Err(IdentityError::InUse(_))));
        let volume = running.volume();
        drop(running);
        let (one, two) = (Glimpse::of(dir.path()).unwrap(), Glimpse::of(dir.path()).unwrap());
        assert_eq!((one.volume, two.volume), (Some(volume), Some(volume)));
        assert!(matches!(Identity::open(dir.path()), Err(IdentityError::InUse(_))));
        drop((one, two));
        fs::write(dir.path().join(FILE), b"{").unwrap();
        assert_eq!(Glimpse::of(dir.path()).unwrap().volume, None);
        fs::write(dir.path().join(FILE), br#"{"format_version":7}"#).unwrap();
        assert!(matches!(Glimpse::of(dir.path()), Err(IdentityError::OtherVersion { found: 7, .. })));
    }

    #[test]
    fn other_versions_and_foreign_files_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        fs::write(&path, br#"{"format_version":7,"else":1}"#).unwrap();
        assert!(matches!(Identity::open(dir.path()), Err(IdentityError::OtherVersion { found: 7, .. })));
        fs::write(&path, b"hello").unwrap();
        assert!(matches!(Identity::open(dir.path()), Err(IdentityError::Unreadable(_))));
        assert_eq!(fs::read(&path).unwrap(), b"hello");
        fs::remove_file(&path).unwrap();
        fs::create_dir_all(dir.path().join("segments")).unwrap();
        fs::write(dir.path().join("segments/0000000001.seg"), b"").unwrap();
        assert!(matches!(Identity::open(dir.path()), Err(IdentityError::Missing(_))));
    }
}
