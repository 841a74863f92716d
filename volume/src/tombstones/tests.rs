//! The tombstones' file: torn, corrupt, and rewritten.

use proptest::prelude::*;

use std::fs;
use std::os::unix::fs::MetadataExt;

use shared::tombstone::{BlobExpiry, KeyHash};

use super::format::{ENTRY_BYTES, HEADER_BYTES, crc, header};
use super::*;

const VOLUME: VolumeId = VolumeId::from_bytes([7; 16]);

fn now() -> Timestamp {
    Timestamp::from_unix_ms(1 << 40)
}

fn blob(n: u64) -> BlobId {
    BlobId::next(None, Timestamp::from_unix_ms((1 << 40) + n), [3; 10])
}

fn tombstone(n: u64) -> Tombstone {
    if n.is_multiple_of(3) {
        return Tombstone::Refused { blob: blob(n) };
    }
    Tombstone::Deleted { key: KeyHash::of(&format!("k{n}").parse().unwrap()), generation: blob(n) }
}

fn open(folder: &Path) -> Tombstones {
    Tombstones::open(folder, VOLUME, now()).unwrap()
}

fn all(tombstones: &Tombstones) -> Vec<Tombstone> {
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = tombstones.page(after).unwrap();
        found.extend(page.tombstones);
        after = page.next;
        if after.is_none() {
            return found;
        }
    }
}

fn some(range: std::ops::Range<u64>) -> Vec<Tombstone> {
    range.map(tombstone).collect()
}

#[test]
fn the_bytes_are_these() {
    let header = header(VOLUME, 0x0102);
    assert_eq!(header[..16], *b"BARGETMB\x01\0\0\0\0\0\0\0");
    assert_eq!((&header[16..32], &header[32..40]), (&[7; 16][..], &[2, 1, 0, 0, 0, 0, 0, 0][..]));
    let entry =
        encode(&Tombstone::Deleted { key: KeyHash::from_bytes([9; 16]), generation: blob(1) }, VOLUME, 0);
    assert_eq!(
        (entry[..4].to_vec(), &entry[4..20], &entry[20..36]),
        (vec![1, 0, 0, 0], &[9; 16][..], &blob(1).as_bytes()[..])
    );
    let sum = u32::from_le_bytes(entry[36..].try_into().unwrap());
    assert_eq!(sum, 0xd42e_fc58, "the golden checksum: {sum:#x}");
}

#[test]
fn what_was_added_is_there_after_every_opening() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    assert_eq!(all(&first), vec![]);
    let blocks = fs::metadata(dir.path().join(FILE)).unwrap().blocks();
    assert!(blocks * 512 >= INDEX_ROOM_BYTES, "space is preallocated from the start");
    first.add(&some(0..5), now()).unwrap();
    first.add(&some(5..9000), now()).unwrap();
    drop(first);
    let second = open(dir.path());
    second.add(&some(9000..9001), now()).unwrap();
    assert_eq!(all(&second), some(0..9001));
    drop(second);
    assert!(matches!(
        Tombstones::open(dir.path(), VolumeId::from_bytes([8; 16]), now()),
        Err(TombstoneError::Stranger(_))
    ));
    let path = dir.path().join(FILE);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 2;
    let sum = crc(&[&bytes[..60]]);
    bytes[60..64].copy_from_slice(&sum);
    fs::write(&path, &bytes).unwrap();
    assert!(matches!(
        Tombstones::open(dir.path(), VOLUME, now()),
        Err(TombstoneError::OtherVersion { found: 2, .. })
    ));
}

#[test]
fn torn_at_every_byte() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).add(&some(0..4), now()).unwrap();
    let path = dir.path().join(FILE);
    let whole = fs::read(&path).unwrap();
    for cut in 0..=whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let opened = open(dir.path());
        let left = cut.saturating_sub(HEADER_BYTES) / ENTRY_BYTES;
        assert_eq!(all(&opened), some(0..left as u64), "cut at {cut}");
        opened.add(&some(50..52), now()).unwrap();
        drop(opened);
        assert_eq!(all(&open(dir.path())).len(), left + 2, "cut at {cut}");
    }
}

#[test]
fn after_a_failed_write_nothing_is_added_and_all_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let tombstones = open(dir.path());
    tombstones.add(&some(0..3), now()).unwrap();
    tombstones.pretend_read_only();
    assert!(matches!(tombstones.add(&some(3..4), now()), Err(TombstoneError::Io { .. })));
    assert!(matches!(tombstones.add(&some(4..5), now()), Err(TombstoneError::Failed(_))));
    assert!(tombstones.state().failed.is_some());
    assert_eq!(all(&tombstones), some(0..3));
    drop(tombstones);
    let again = open(dir.path());
    again.add(&some(3..4), now()).unwrap();
    assert_eq!(all(&again), some(0..4));
}

#[test]
fn those_of_no_use_are_forgotten_when_there_are_many() {
    let dir = tempfile::tempdir().unwrap();
    let tombstones = open(dir.path());
    let many = limit_entries() + 10;
    tombstones.add(&some(0..100), now()).unwrap();
    tombstones.expire(Some(blob(1000)), now(), |_| false);
    assert_eq!(all(&tombstones).len(), 100, "too few for a rewrite");
    for chunk in (100..many).step_by(4096) {
        tombstones.add(&some(chunk..many.min(chunk + 4096)), now()).unwrap();
    }
    let place = tombstones.page(None).unwrap().next;
    tombstones.expire(Some(blob(many / 3)), now(), |_| false);
    assert_eq!(all(&tombstones).len() as u64, many, "less than half");
    // The last check was a moment ago, but if all have expired no check is needed.
    tombstones.expire(Some(blob(many)), now(), |_| false);
    assert_eq!(all(&tombstones), vec![]);
    tombstones.add(&some(0..9), now()).unwrap();
    let page = tombstones.page(place).unwrap();
    assert_eq!((page.tombstones, page.next), (some(0..9), None), "the cursor was of another edition");
    drop(tombstones);
    assert_eq!(all(&open(dir.path())), some(0..9));
}

#[test]
fn what_is_added_while_others_are_forgotten_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let tombstones = open(dir.path());
    tombstones.add(&some(0..100), now()).unwrap();
    let file = tombstones.state().file.clone().unwrap();
    let draft = tombstones.start_rewrite(&file, 100, &|t: &Tombstone| t.newest() >= blob(90), now()).unwrap();
    // More than one step of entries, some of which would have expired.
    tombstones.add(&some(100..100 + READ_ENTRIES * 2), now()).unwrap();
    tombstones.add(&some(3..5), now()).unwrap();
    tombstones.swap(draft, &file, 100).unwrap();
    tombstones.add(&some(6..7), now()).unwrap();
    let expected: Vec<_> =
        some(90..100 + READ_ENTRIES * 2).into_iter().chain(some(3..5)).chain(some(6..7)).collect();
    assert_eq!(all(&tombstones), expected);
    drop(tombstones);
    assert_eq!(all(&open(dir.path())), expected);
}

#[test]
fn adding_goes_on_beside_forgetting() {
    let dir = tempfile::tempdir().unwrap();
    let tombstones = open(dir.path());
    let many = limit_entries() + 10;
    tombstones.add(&some(0..many), now()).unwrap();
    assert!(tombstones.is_expiry_due(Some(blob(many))));
    let done = std::sync::atomic::AtomicBool::new(false);
    let last = std::thread::scope(|scope| {
        let adding = scope.spawn(|| {
            let mut next = many;
            loop {
                tombstones.add(&some(next..next + 10), now()).unwrap();
                next += 10;
                if done.load(std::sync::atomic::Ordering::Relaxed) {
                    return next;
                }
            }
        });
        tombstones.expire(Some(blob(many)), now(), |_| false);
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        adding.join().unwrap()
    });
    assert!(!tombstones.is_expiry_due(Some(blob(many))));
    assert_eq!(all(&tombstones), some(many..last));
    drop(tombstones);
    assert_eq!(all(&open(dir.path())), some(many..last));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn a_corrupt_byte_costs_one_entry_at_most(count in 2u64..30, at: prop::sample::Index, flip in 1u8..) {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path()).add(&some(0..count), now()).unwrap();
        let path = dir.path().join(FILE);
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        fs::write(&path, &bytes).unwrap();
        let hit = at.checked_sub(HEADER_BYTES).map(|n| (n / ENTRY_BYTES) as u64);
        let expected: Vec<_> = (0..count).filter(|n| Some(*n) != hit).map(tombstone).collect();
        let opened = open(dir.path());
        prop_assert_eq!(&all(&opened), &expected);
        opened.add(&some(99..100), now()).unwrap();
        drop(opened);
        let expected: Vec<_> = expected.into_iter().chain(some(99..100)).collect();
        prop_assert_eq!(all(&open(dir.path())), expected);
    }
}

#[test]
fn the_newest_expiry_of_a_blob_is_kept_while_it_is_held() {
    let dir = tempfile::tempdir().unwrap();
    let tombstones = open(dir.path());
    let expires = |n: u64, revision: u32| {
        let at = (revision.is_multiple_of(2)).then(|| Timestamp::from_unix_ms(u64::from(revision)));
        Tombstone::Expires(BlobExpiry { blob: blob(n), at, revision })
    };
    let many = u32::try_from(limit_entries() / 3 + 10).unwrap();
    for revision in (0..many).step_by(1000) {
        let chunk = (revision..many.min(revision + 1000)).flat_map(|r| [1, 2, 3].map(|n| expires(n, r)));
        tombstones.add(&chunk.collect::<Vec<_>>(), now()).unwrap();
    }
    let deleted = some(100_000..100_002);
    tombstones.add(&deleted, now()).unwrap();
    assert!(tombstones.is_expiry_due(None));
    tombstones.expire(None, now(), |held| held != blob(2));
    let left = [&[expires(1, many - 1), expires(3, many - 1)][..], &deleted].concat();
    assert_eq!(all(&tombstones), left);
    drop(tombstones);
    assert_eq!(all(&open(dir.path())), left);
}
