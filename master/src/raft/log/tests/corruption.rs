//! Corruption tests, byte by byte: a changed log is refused, or truncated if the change is in the last batch. A wrong
//! entry is never served, an entry before the last batch is never lost, and a refusal changes nothing.

use std::collections::BTreeMap;

use super::super::error::Corruption;
use super::*;

type Files = BTreeMap<String, Vec<u8>>;

/// A log of several segments with every kind of change: its last segment, the offset of the last batch in it, and the
/// contents before and after that batch.
struct Sample {
    files: Files,
    last: String,
    batch: usize,
    before: Seen,
    after: Seen,
}

fn sample() -> Sample {
    run(async {
        let disk = SimDisk::new(1);
        let mut store = open(&disk).unwrap();
        store.save_vote(&Vote::new(2, 1)).await.unwrap();
        for batch in 0..5 {
            append(&mut store, 1, batch * 3..batch * 3 + 3).await.unwrap();
        }
        store.truncate(id(1, 12)).await.unwrap();
        store.purge(id(1, 7)).await.unwrap();
        append(&mut store, 2, 12..14).await.unwrap();
        append(&mut store, 2, 14..16).await.unwrap();
        let (before, earlier) = (seen(&mut store).await.unwrap(), disk.files());
        append(&mut store, 2, 16..19).await.unwrap();
        let (after, files) = (seen(&mut store).await.unwrap(), disk.files());
        let last = files.keys().rfind(|name| name.ends_with(".log")).unwrap().clone();
        assert!(files.keys().filter(|name| name.ends_with(".log")).count() > 2, "{:?}", files.keys());
        let batch = earlier[&last].len();
        assert!(batch > 100, "there are entries before the last batch");
        Sample { files, last, batch, before, after }
    })
}

/// Opens these files. `None`: refused, and nothing was changed.
fn look(files: &Files) -> Option<Seen> {
    let disk = SimDisk::with_files(files);
    match open(&disk) {
        Ok(mut store) => Some(run(seen(&mut store)).unwrap()),
        Err(OpenError::Io { source, .. }) => panic!("{source}"),
        Err(_) => {
            assert_eq!(disk.files(), *files, "a refusal changes nothing");
            None
        }
    }
}

/// Whether this is the log truncated within its last batch.
fn is_cut(sample: &Sample, found: &Seen) -> bool {
    let (least, most) = (sample.before.entries.len(), sample.after.entries.len());
    (least..=most).contains(&found.entries.len())
        && found.entries[..] == sample.after.entries[..found.entries.len()]
        && (found.vote, found.purged) == (sample.after.vote, sample.after.purged)
}

#[test]
fn every_flipped_bit_is_refused_or_in_the_last_batch() {
    let sample = sample();
    assert_eq!(look(&sample.files), Some(sample.after.clone()));
    for (name, bytes) in &sample.files {
        for at in 0..bytes.len() {
            for mask in [1, 4, 0x80, 0xff] {
                let mut files = sample.files.clone();
                files.get_mut(name).unwrap()[at] ^= mask;
                let may_be_torn = *name == sample.last && at >= sample.batch;
                match look(&files) {
                    Some(found) => assert!(may_be_torn && is_cut(&sample, &found), "{name} {at} {found:?}"),
                    None => assert!(!may_be_torn, "{name} {at}: the last batch may be torn"),
                }
            }
        }
    }
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_off_and_the_log_goes_on() {
    let sample = sample();
    let length = sample.files[&sample.last].len();
    for at in sample.batch..length {
        for zeros in [0, 1, length - at, 5000] {
            let mut files = sample.files.clone();
            let file = files.get_mut(&sample.last).unwrap();
            file.truncate(at);
            file.resize(at + zeros, 0);
            let disk = SimDisk::with_files(&files);
            run(async {
                let mut store = open(&disk).unwrap();
                let found = seen(&mut store).await.unwrap();
                assert!(is_cut(&sample, &found), "{at} {found:?}");
                let next = found.entries.last().unwrap().1 + 1;
                append(&mut store, 3, next..next + 2).await.unwrap();
                drop(store);
                let mut store = open(&disk.power_cut()).unwrap();
                let now = seen(&mut store).await.unwrap().entries;
                assert_eq!(now[..now.len() - 2], found.entries);
                assert_eq!(now[now.len() - 2..], [(3, next), (3, next + 1)]);
            });
        }
    }
}

#[test]
fn a_tail_torn_before_its_good_end_is_cut_off() {
    let sample = sample();
    let mut files = sample.files.clone();
    files.get_mut(&sample.last).unwrap()[sample.batch..sample.batch + 20].fill(0);
    assert_eq!(look(&files), Some(sample.before.clone()), "its later frames were never durable");
}

#[test]
fn a_file_that_is_missing_is_missed() {
    let sample = sample();
    let segments: Vec<_> = sample.files.keys().filter(|name| name.ends_with(".log")).cloned().collect();
    for name in sample.files.keys() {
        let mut files = sample.files.clone();
        files.remove(name);
        let refusal = open(&SimDisk::with_files(&files)).map(|_| ());
        match name.as_str() {
            "vote" => assert!(matches!(refusal, Err(OpenError::VoteMissing { .. })), "{refusal:?}"),
            "purged" => assert!(matches!(refusal, Err(OpenError::Hole { expected: 0, .. })), "{refusal:?}"),
            last if last == sample.last => assert!(refusal.is_ok(), "its loss cannot be detected"),
            _ => assert!(matches!(refusal, Err(OpenError::Hole { .. })), "{name} {refusal:?}"),
        }
    }
    let mut files = sample.files;
    files.retain(|name, _| !segments.contains(name) && name != "vote");
    assert!(matches!(open(&SimDisk::with_files(&files)), Err(OpenError::VoteMissing { .. })));
}

#[test]
fn a_refusal_says_where_and_what_to_do() {
    let sample = sample();
    let mut files = sample.files;
    let (name, bytes) = files.iter_mut().find(|(name, _)| name.ends_with(".log")).unwrap();
    let at = bytes.len() - 3;
    bytes[at] ^= 1;
    let expected = Path::new("/log").join(name);
    let refusal = open(&SimDisk::with_files(&files)).unwrap_err();
    let text = refusal.to_string();
    for part in ["Nothing was changed", "hole in its log", "join the group again", "`barge cluster rebuild`"]
    {
        assert!(text.contains(part), "{text}");
    }
    let OpenError::Rotten { path, offset, corruption } = refusal else { panic!("{text}") };
    assert_eq!((path, corruption), (expected, Corruption::Frame));
    assert!(offset < at as u64);
}

#[test]
fn an_entry_that_rots_while_the_log_is_open_is_not_served() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let mut store = Store::open(folder.path()).unwrap();
        append(&mut store, 1, 0..5).await.unwrap();
        drop(store);
        let mut store = Store::open(folder.path()).unwrap();
        assert_eq!(seen(&mut store).await.unwrap().entries.len(), 5);
        let path = folder.path().join("00000000000000000000.log");
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.len() - 2;
        bytes[at] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        assert!(store.try_get_log_entries(4..5).await.is_err());
        assert_eq!(store.try_get_log_entries(0..4).await.unwrap().len(), 4);
    });
}
