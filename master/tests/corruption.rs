//! A metadata directory with a flipped bit, in every 4 KiB: a master refuses to start and says what to do, or starts
//! with everything. It never continues with missing keys or older versions of them: after a crash it detects that at
//! the start, after a clean shutdown by the verification in the background.

#![expect(clippy::unwrap_used, reason = "a test's helpers fail as its body does")]

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use master::internals::{Command, Commit, Kind, Object, Tables, apply, scan};
use master::offline::Database;
use shared::clock::Timestamp;
use shared::condition::WriteCondition;
use shared::digest::Digest;
use shared::ids::{BlobId, VolumeId};
use tests::{Dice, amount};

/// Enough that sled has several segments, some of them with replaced records.
const BATCHES: u64 = 150;
const BATCH: u64 = 10;
const KEYS: u64 = 900;
/// The unit in which a disk loses data, in bytes.
const PAGE: u64 = 4096;

fn fill(path: &Path) -> BTreeMap<Vec<u8>, Object> {
    let database = Database::open(path).unwrap();
    for batch in 0..BATCHES {
        let tree = database.tree();
        let mut tables = Tables::new(&tree);
        for n in batch * BATCH..(batch + 1) * BATCH {
            let commit = Commit {
                key: format!("folder/{:05}", n % KEYS * 7919 % 100_000).parse().unwrap(),
                blob: BlobId::next(None, Timestamp::from_unix_ms((1 << 40) + n), [1; 10]),
                size: n,
                digest: Digest::of(&n.to_le_bytes()),
                content_type: None,
                metadata: vec![],
                replicas: vec![VolumeId::from_bytes([1; 16]), VolumeId::from_bytes([2; 16])],
                wanted: 2,
                min_replicas: 1,
                condition: WriteCondition::None,
            };
            apply(&mut tables, &Command::Commit(commit)).unwrap();
        }
        database.commit(tables).unwrap();
        database.checkpoint().unwrap();
    }
    database.mark_closed().unwrap();
    objects(&database).unwrap()
}

fn objects(database: &Database) -> Result<BTreeMap<Vec<u8>, Object>, String> {
    scan(&database.tree(), Kind::Object, b"", None).map(|r| r.map_err(|e| e.to_string())).collect()
}

#[derive(Debug, Default)]
struct Tally {
    refused: u64,
    whole: u64,
    seen: u64,
    proved_wrong: u64,
    silent: Vec<String>,
}

impl Tally {
    /// Opens the directory as a master does, and classifies the result.
    fn look(&mut self, path: &Path, expected: &BTreeMap<Vec<u8>, Object>, what: &str) {
        let looked = Database::open(path).map_err(|e| e.to_string()).map(|database| {
            let database = Arc::new(database);
            let proof = database.begin_proof();
            let proved = loop {
                match proof.step() {
                    Ok(true) => {}
                    ended => break ended.is_ok(),
                }
            };
            // sled panics on some corrupt input; the reads of a master catch that.
            let found = catch_unwind(AssertUnwindSafe(|| objects(&database)));
            (found.unwrap_or_else(|_| Err("a panic".into())), proved)
        });
        match looked {
            Err(message) => {
                assert!(message.contains("barge cluster rebuild"), "{what}: {message}");
                self.refused += 1;
            }
            Ok((Ok(found), _)) if found == *expected => self.whole += 1,
            Ok((Ok(_), false)) => self.proved_wrong += 1,
            Ok((Ok(found), true)) => {
                self.silent.push(format!("{what}: {} of {} keys", found.len(), expected.len()));
            }
            Ok((Err(_), _)) => self.seen += 1,
        }
    }
}

fn copy(from: &Path, to: &Path, closed: bool) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir_all(to.join("sled/blobs")).unwrap();
    fs::copy(from.join("applied"), to.join("applied")).unwrap();
    if closed {
        fs::copy(from.join("closed"), to.join("closed")).unwrap();
    }
    for entry in fs::read_dir(from.join("sled")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join("sled").join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn no_key_is_missed_in_silence() {
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = (dir.path().join("good"), dir.path().join("bad"));
    let expected = fill(&good);
    let mut tally = Tally::default();
    let mut places = Vec::new();
    for entry in fs::read_dir(good.join("sled")).unwrap() {
        let entry = entry.unwrap();
        let length = if entry.file_type().unwrap().is_file() { entry.metadata().unwrap().len() } else { 0 };
        let used =
            fs::read(entry.path()).map_or(0, |b| b.iter().rposition(|b| *b != 0).map_or(0, |n| n as u64 + 1));
        println!("{:?}: {length} bytes", entry.file_name());
        // Each page of the disk, and more positions in small files.
        let step = (used / 40).clamp(1, PAGE);
        places.extend((0..used).step_by(usize::try_from(step).unwrap()).map(|at| (entry.file_name(), at)));
    }
    // The long run tests every position, the others every fourth.
    let every = usize::try_from(amount("BARGE_CORRUPTION_EVERY", 4, 1)).unwrap();
    let first = Dice::of_run().index(every);
    for (n, (name, start)) in places.iter().enumerate().skip(first).step_by(every) {
        let closed = n / every % 2 == 1;
        copy(&good, &bad, closed);
        let path = bad.join("sled").join(name);
        let mut bytes = fs::read(&path).unwrap();
        let at = (usize::try_from(*start).unwrap() + n * 769 % 4096).min(bytes.len() - 1);
        bytes[at] ^= 1 << (n % 8);
        fs::write(&path, &bytes).unwrap();
        tally.look(
            &bad,
            &expected,
            &format!("bit {} of byte {at} of {name:?} flipped, closed: {closed}", n % 8),
        );
        if n / every % 25 == 0 {
            copy(&good, &bad, closed);
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_len(*start).unwrap();
            tally.look(&bad, &expected, &format!("{name:?} cut at {start}"));
        }
    }
    println!(
        "{} refused, {} whole, {} seen later, {} by the background verification, {} silent",
        tally.refused,
        tally.whole,
        tally.seen,
        tally.proved_wrong,
        tally.silent.len()
    );
    assert!(tally.silent.is_empty(), "{}", tally.silent.join("\n"));
}
