//! The offline verbs on directories in all states: exit codes, output, and that they change nothing.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use shared::clock::{Clock, Timestamp};
use shared::digest::Digest;
use shared::ids::BlobId;
use shared::key::Key;
use volume::Identity;
use volume::store::inspect::InspectDepth;
use volume::store::{NewRecord, Options, RealDisk, Store};

use super::{Seen, Volume, check, inspect};
use crate::args::{VolumeCheckArgs, VolumeInspectArgs};
use crate::exit::{Exit, Failure};
use crate::output::Output;

/// A volume of three values of 100,000 bytes, `v/0` to `v/2`; removed with its test.
struct Filled(PathBuf);

impl Filled {
    async fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("barge-volume-{}-{next}", std::process::id()));
        let identity = Identity::open(&path).unwrap();
        let options = Options {
            volume: identity.volume(),
            segment_bytes: 1 << 30,
            segment_age: Duration::from_secs(3600),
            reserve_bytes: 0,
            capacity_bytes: None,
            clock: Clock::manual(Timestamp::from_unix_ms(1_700_000_000_000)),
            open_threads: 1,
        };
        let (store, _) = Store::open(Arc::new(RealDisk::open(&path).unwrap()), options).unwrap();
        for number in 0..3 {
            let length = 100_000;
            let record = NewRecord {
                blob: BlobId::next(None, Timestamp::from_unix_ms(1_700_000_000_000 + number), [1; 10]),
                key: Key::new(&format!("v/{number}")).unwrap(),
                content_type: None,
                metadata: Vec::new(),
                length: Some(length),
            };
            let mut upload = store.begin(record).await.unwrap();
            upload.write(&vec![7; usize::try_from(length).unwrap()]).await.unwrap();
            upload.finish().await.unwrap();
        }
        store.close().await;
        Self(path)
    }

    fn segments(&self) -> PathBuf {
        self.0.join("segments")
    }
    fn seg(&self) -> PathBuf {
        self.segments().join("0000000000.seg")
    }

    fn flip(&self, at: u64) {
        let file = std::fs::File::options().read(true).write(true).open(self.seg()).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 4], at).unwrap();
    }

    /// Names, times and digests of all files.
    fn snapshot(&self) -> Vec<(PathBuf, i64, i64, Digest)> {
        let entries =
            [self.0.clone(), self.segments()].into_iter().flat_map(|d| std::fs::read_dir(d).unwrap());
        let mut all: Vec<_> = entries
            .map(|e| e.unwrap().path())
            .map(|path| {
                let meta = path.metadata().unwrap();
                let bytes = if meta.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
                (path, meta.mtime(), meta.mtime_nsec(), Digest::of(&bytes))
            })
            .collect();
        all.sort();
        all
    }

    /// The results of the two verbs in text and JSON; checks that nothing changes.
    fn ends(&self) -> (Result<Exit, Failure>, Result<Exit, Failure>) {
        let before = self.snapshot();
        let directory = self.0.clone();
        let mut ends = Vec::new();
        for json in [false, true] {
            let output = Output::new(json);
            let checked = check::run(&VolumeCheckArgs { directory: directory.clone() }, output);
            let args = VolumeInspectArgs { directory: directory.clone(), records: json };
            ends.push((checked, inspect::run(&args, output)));
        }
        assert!(before == self.snapshot(), "something was changed");
        ends.pop().unwrap()
    }

    fn said(&self) -> Vec<String> {
        let volume = Volume::open(&self.0, Output::new(true)).unwrap();
        let numbers = volume.inspector.segments().iter().map(|(n, _)| *n);
        let seen = |n| -> Seen { (n, volume.inspector.segment(n, InspectDepth::Bytes, |_| {})) };
        numbers.flat_map(|n| check::findings(&seen(n))).collect()
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// One record takes a header page, 25 pages of body and a trailer page.
const RECORD: u64 = 27 * 4096;

#[tokio::test]
async fn a_good_volume_ends_in_0_and_a_bad_byte_in_6() {
    let f = Filled::new().await;
    assert_eq!((f.ends().0.unwrap(), f.said().len()), (Exit::Ok, 0));
    // A body, a header, a trailer, the first page.
    for (at, words) in [
        (4096 + RECORD + 4096 + 70_000, "v/1: corrupt (block 1); blob "),
        (4096 + RECORD + 70, "a record whose key cannot be read: corrupt (header); blob "),
        (4096 + RECORD + 26 * 4096 + 40, "v/1: corrupt (trailer); blob "),
        (50, "segment 0000000000: its first page: wrong checksum; keep the file"),
    ] {
        f.flip(at);
        let (checked, inspected) = f.ends();
        assert_eq!((checked.unwrap(), inspected.unwrap()), (Exit::Unverified, Exit::Ok));
        let said = f.said();
        assert!(said.len() == 1 && said[0].starts_with(words), "{said:?}");
        f.flip(at);
    }
    assert_eq!(f.ends().0.unwrap(), Exit::Ok);
}

#[tokio::test]
async fn what_the_next_start_mends_is_no_corruption() {
    let f = Filled::new().await;
    let file = std::fs::File::options().append(true).open(f.seg()).unwrap();
    file.write_at(b"half a record", 4096 + 3 * RECORD).unwrap();
    assert_eq!(f.ends().0.unwrap(), Exit::Ok);
    std::fs::remove_file(f.seg().with_extension("idx")).unwrap();
    assert_eq!(f.ends().0.unwrap(), Exit::Ok);
    std::fs::write(f.seg().with_extension("idx"), b"not an index").unwrap();
    assert_eq!(f.ends().0.unwrap(), Exit::Unverified);
}

#[tokio::test]
async fn a_volume_without_its_description_is_known_by_its_segments() {
    let f = Filled::new().await;
    let spoil: [fn(&Path); 2] =
        [|path| std::fs::write(path, b"{").unwrap(), |path| std::fs::remove_file(path).unwrap()];
    for spoil in spoil {
        spoil(&f.0.join("volume.json"));
        assert_eq!(f.ends().0.unwrap(), Exit::Ok);
    }
    // Without its lock file the volume never ran here: there is nothing to lock.
    std::fs::remove_file(f.0.join("lock")).unwrap();
    assert_eq!(f.ends().0.unwrap(), Exit::Ok);
}

#[tokio::test]
async fn a_running_volume_another_version_and_no_volume_are_refused_in_words() {
    let f = Filled::new().await;
    let words = |f: &Filled| {
        let (checked, inspected) = f.ends();
        let (checked, inspected) = (checked.unwrap_err(), inspected.unwrap_err());
        assert_eq!((checked.exit, inspected.exit), (Exit::Failure, Exit::Failure));
        assert_eq!(checked.to_string(), inspected.to_string());
        checked.to_string()
    };
    let running = Identity::open(&f.0).unwrap();
    assert!(words(&f).contains("is running — stop it"));
    drop(running);
    std::fs::write(f.0.join("volume.json"), br#"{"format_version":9}"#).unwrap();
    assert!(words(&f).contains("format version 9"));
    std::fs::remove_file(f.0.join("volume.json")).unwrap();
    std::fs::remove_file(f.seg()).unwrap();
    assert!(words(&f).contains("no segments were found"));
}
