//! Offline inspection: its results for every kind of corruption, and that it changes nothing.

use std::collections::BTreeMap;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use shared::digest::Digest;
use shared::ids::{BlobId, VolumeId};
use volume::store::inspect::{Flaw, InspectDepth, Inspection, Inspector, NotInspected, RecordState};
use volume::store::{Corruption, FormatError, IndexState, Refusal};

use super::kit::{Kit, PAGE, body, put};
use super::spoil::{cut, flip};

/// Three records, the second one of 300,000 bytes, after one that was deleted.
struct Filled {
    kit: Kit,
    blobs: Vec<BlobId>,
    /// Offsets of the records, and of the end.
    starts: Vec<u64>,
}

async fn filled() -> Filled {
    let kit = Kit::new();
    let (store, _) = kit.open().await;
    let gone = put(&store, &body(50_000, 9)).await;
    let (mut blobs, mut starts) = (Vec::new(), vec![kit.seg_len(0)]);
    for (seed, length) in [10, 300_000, 20].into_iter().enumerate() {
        blobs.push(put(&store, &body(length, seed as u64)).await);
        starts.push(kit.seg_len(0));
    }
    store.delete(vec![gone]).await.unwrap();
    store.close().await;
    Filled { kit, blobs, starts }
}

/// Everything of the files that a tool could change.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, (i64, i64, u64, u64, Option<Digest>)> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            // The file system may allocate blocks for the test's own writes until this sync.
            std::fs::File::open(&path).unwrap().sync_all().unwrap();
            let meta = path.metadata().unwrap();
            let digest = meta.is_file().then(|| Digest::of(&std::fs::read(&path).unwrap()));
            let facts = (meta.mtime(), meta.mtime_nsec(), meta.len(), meta.blocks(), digest);
            if all.insert(path.clone(), facts).is_none() && meta.is_dir() {
                folders.push(path);
            }
        }
    }
    all
}

/// Inspects at all three depths, and checks that nothing changes.
fn look(kit: &Kit) -> [Result<Inspection, NotInspected>; 3] {
    let before = snapshot(kit.dir.path());
    let seen = [InspectDepth::Index, InspectDepth::Records, InspectDepth::Bytes].map(|closeness| {
        let inspector = Inspector::open(kit.dir.path(), Some(kit.options.volume)).unwrap();
        let (number, bytes) = inspector.segments()[0];
        let mut heard = 0;
        let seen = inspector.segment(number, closeness, |at| heard = at);
        if seen.is_ok() {
            assert_eq!(heard, bytes);
        }
        seen
    });
    assert!(before == snapshot(kit.dir.path()), "something was changed");
    seen
}

fn checked(kit: &Kit) -> Inspection {
    let [_, _, checked] = look(kit);
    checked.unwrap()
}

#[tokio::test]
async fn what_is_whole_is_whole() {
    let f = filled().await;
    for sealed in [false, true] {
        if sealed {
            let (store, _) = f.kit.open().await;
            f.kit.options.clock.advance(f.kit.options.segment_age);
            assert_eq!(store.seal_aged().await.unwrap(), 1);
            store.close().await;
        }
        let [index, records, bytes] = look(&f.kit).map(Result::unwrap);
        assert_eq!(index, bytes);
        assert_eq!((bytes.sealed, bytes.bytes), (sealed, f.starts[3]));
        assert_eq!((bytes.live.records, bytes.live.bytes), (3, f.starts[3] - f.starts[0]));
        assert_eq!((bytes.dead.records, bytes.dead.bytes), (1, f.starts[0] - 2 * PAGE));
        assert_eq!((bytes.unpunched.records, bytes.torn_bytes, bytes.index), (0, 0, IndexState::Good));
        assert!(bytes.bad.is_empty() && bytes.records.is_empty());
        let states: Vec<_> = records.records.iter().map(|r| (r.offset, r.state)).collect();
        let live = RecordState::Live;
        let [a, b, c] = [f.starts[0], f.starts[1], f.starts[2]];
        assert_eq!(states, [(PAGE, RecordState::Dead), (a, live), (b, live), (c, live)]);
        assert!(records.records.iter().all(|r| r.key.as_ref().unwrap().as_str() == "bucket/some/key"));
        let blobs: Vec<_> = records.records[1..].iter().map(|r| r.blob).collect();
        assert_eq!((blobs, records.records[2].length), (f.blobs.clone(), 300_000));
    }
}

#[tokio::test]
async fn every_kind_of_rot_is_named_with_its_record() {
    let f = filled().await;
    let seg = f.kit.seg(0);
    let (record, end) = (f.starts[1], f.starts[2]);
    let corruptions = [
        (record + PAGE + 65536 + 3, Corruption::Block(1), true),
        (record + 100, Corruption::Header(FormatError::Checksum), false),
        (record + 3, Corruption::Header(FormatError::Marker), false),
        (end - PAGE + 3, Corruption::Trailer(FormatError::Marker), true),
        (end - PAGE + 50, Corruption::Trailer(FormatError::Checksum), true),
    ];
    for (at, corruption, key) in corruptions {
        flip(&seg, at);
        let [index, _, bytes] = look(&f.kit).map(Result::unwrap);
        assert!(index.bad.is_empty());
        let [bad] = &bytes.bad[..] else { panic!("{corruption}: {:?}", bytes.bad) };
        assert_eq!((bad.offset, bad.bytes, bad.blob), (record, end - record, Some(f.blobs[1])));
        assert_eq!((bad.flaw, bad.key.is_some()), (Flaw::Corrupt(corruption), key));
        assert_eq!((bytes.live.records, bytes.torn_bytes, bytes.index), (3, 0, IndexState::Good));
        // It is found without an index, too; but with a corrupt header the blob is unknown.
        let idx = std::fs::read(f.kit.idx(0)).unwrap();
        std::fs::remove_file(f.kit.idx(0)).unwrap();
        let bytes = checked(&f.kit);
        let [bad] = &bytes.bad[..] else { panic!("{corruption}: {:?}", bytes.bad) };
        assert_eq!((bad.offset, bad.bytes, bad.key.is_some()), (record, end - record, key));
        assert_eq!((bad.flaw, bytes.index), (Flaw::Corrupt(corruption), IndexState::Missing));
        std::fs::write(f.kit.idx(0), idx).unwrap();
        flip(&seg, at);
    }
}

#[tokio::test]
async fn a_torn_tail_is_no_corruption_and_a_lost_record_is() {
    let f = filled().await;
    std::fs::File::options()
        .write(true)
        .open(f.kit.seg(0))
        .unwrap()
        .write_all_at(&body(5000, 7), f.starts[3])
        .unwrap();
    let seen = checked(&f.kit);
    assert_eq!((seen.torn_bytes, seen.bad.len(), seen.live.records), (5000, 0, 3));
    // The last record is truncated, but its entry shows that it counted.
    cut(&f.kit.seg(0), f.starts[3] - 1);
    let seen = checked(&f.kit);
    let [bad] = &seen.bad[..] else { panic!("{:?}", seen.bad) };
    assert_eq!((bad.blob, bad.flaw), (Some(f.blobs[2]), Flaw::Corrupt(Corruption::CutOff)));
    assert_eq!(seen.torn_bytes, f.starts[3] - 1 - f.starts[2]);
}

#[tokio::test]
async fn indexes_are_judged() {
    let f = filled().await;
    let (idx, whole) = (f.kit.idx(0), std::fs::read(f.kit.idx(0)).unwrap());
    let corruptions: [(&dyn Fn(), IndexState, u64); 5] = [
        (&|| std::fs::remove_file(&idx).unwrap(), IndexState::Missing, 3),
        (&|| flip(&idx, 20), IndexState::Rotten, 3),
        (&|| flip(&idx, 64 + 20), IndexState::Rotten, 3),
        (&|| cut(&idx, 64 + 2 * 64), IndexState::Stale, 3),
        (&|| cut(&idx, whole.len() as u64 - 1), IndexState::Stale, 3),
    ];
    for (corruption, state, live) in corruptions {
        corruption();
        for seen in look(&f.kit).map(Result::unwrap) {
            assert_eq!((seen.index, seen.live.records, seen.bad.len()), (state, live, 0));
            assert_eq!((seen.dead.records, seen.unpunched.records), (1, 0));
        }
        std::fs::write(&idx, &whole).unwrap();
    }
}

#[tokio::test]
async fn deleted_space_that_was_not_given_back_is_counted() {
    let f = filled().await;
    let (store, _) = f.kit.open().await;
    let reader = store.reader(f.blobs[1]).await.unwrap();
    store.delete(vec![f.blobs[1]]).await.unwrap();
    std::mem::forget(reader);
    let seen = checked(&f.kit);
    assert_eq!((seen.live.records, seen.dead.records), (2, 2));
    assert_eq!((seen.unpunched.records, seen.unpunched.bytes), (1, f.starts[2] - f.starts[1] - PAGE));
}

#[tokio::test]
async fn other_files_are_told_apart() {
    let f = filled().await;
    for name in ["notes.txt", "0000000007.idx", "0000000000.idx.tmp", "probe.tmp", "scrub.state"] {
        std::fs::write(f.kit.path(name), b"?").unwrap();
    }
    let inspector = Inspector::open(f.kit.dir.path(), None).unwrap();
    assert_eq!(inspector.foreign(), ["notes.txt"]);
    assert_eq!(inspector.orphans().iter().map(ToString::to_string).collect::<Vec<_>>(), ["0000000007"]);
    assert!(look(&f.kit).iter().all(Result::is_ok));
}

#[tokio::test]
async fn a_first_page_that_is_bad_closes_its_segment() {
    let f = filled().await;
    let refused = |why| Err(NotInspected::Refused(Refusal::Header(why)));
    flip(&f.kit.seg(0), 50);
    assert!(look(&f.kit).iter().all(|seen| *seen == refused(FormatError::Checksum)));
    assert!(Inspector::open(f.kit.dir.path(), None).is_err());
    flip(&f.kit.seg(0), 50);
    let inspector = Inspector::open(f.kit.dir.path(), None).unwrap();
    assert_eq!(inspector.volume(), f.kit.options.volume);
    let stranger = Inspector::open(f.kit.dir.path(), Some(VolumeId::random())).unwrap();
    let number = stranger.segments()[0].0;
    assert_eq!(stranger.segment(number, InspectDepth::Bytes, |_| {}), refused(FormatError::Volume));
    cut(&f.kit.seg(0), 100);
    assert!(look(&f.kit).iter().all(|seen| *seen == Err(NotInspected::Uninitialized)));
}
