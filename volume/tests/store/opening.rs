//! Opening with several threads has the same outcome as with one: the same report, inventory and files.

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use tempfile::TempDir;
use volume::store::{Access, InventoryEntry, OpenReport, RealDisk, Store};

use super::kit::{Kit, PAGE, blob, body, get, put, put_as};

/// What can be done to one segment or its index.
#[derive(Clone, Debug)]
enum Corruption {
    LoseIndex,
    CutIndex(usize),
    FlipIndex(usize),
    /// The index as it was before the deletes.
    OldIndex,
    Flip(usize),
    Cut(usize),
    FlipFirstPage,
    Unborn,
    Duplicate,
}

fn corruption() -> impl Strategy<Value = Corruption> {
    prop_oneof![
        Just(Corruption::LoseIndex),
        (0..2000_usize).prop_map(Corruption::CutIndex),
        (0..2000_usize).prop_map(Corruption::FlipIndex),
        Just(Corruption::OldIndex),
        any::<usize>().prop_map(Corruption::Flip),
        any::<usize>().prop_map(Corruption::Cut),
        Just(Corruption::FlipFirstPage),
        Just(Corruption::Unborn),
        Just(Corruption::Duplicate),
    ]
}

/// A directory of several segments, some sealed, with deletes; and its indexes from before the deletes.
struct Filled {
    kit: Kit,
    old: BTreeMap<String, Vec<u8>>,
}

async fn filled() -> Filled {
    let mut kit = Kit::new();
    kit.options.segment_bytes = 100_000;
    let (store, _) = kit.open().await;
    let mut blobs = Vec::new();
    for n in 0..40 {
        blobs.push(put(&store, &body(n * 997 % 30_000, n as u64)).await);
        store.punched().await;
    }
    let old = files(kit.dir.path()).into_iter().filter(|(name, _)| name.ends_with(".idx")).collect();
    // One is deleted while a reader pins it, and stored again: a duplicate if the old index comes back.
    let twice = blobs[7];
    let reader = store.reader(twice).await.unwrap();
    store.delete(blobs.iter().copied().skip(4).step_by(3).collect()).await.unwrap();
    put_as(&store, twice, &body(7 * 997, 7)).await.unwrap();
    std::mem::forget(reader);
    store.close().await;
    Filled { kit, old }
}

fn files(volume: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(volume.join("segments")).unwrap().map(|e| e.unwrap());
    entries.map(|e| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap())).collect()
}

/// Copies a directory, holes included.
fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    std::fs::create_dir(to.path().join("segments")).unwrap();
    for (name, bytes) in files(from) {
        let file = std::fs::File::create(to.path().join("segments").join(name)).unwrap();
        file.set_len(bytes.len() as u64).unwrap();
        for (n, page) in (0..).zip(bytes.chunks(4096)).filter(|(_, page)| page.iter().any(|b| *b != 0)) {
            file.write_all_at(page, n * PAGE).unwrap();
        }
    }
    to
}

fn apply(volume: &Path, old: &BTreeMap<String, Vec<u8>>, number: usize, corruption: &Corruption) {
    let names: Vec<String> = files(volume).into_keys().filter(|n| n.ends_with(".seg")).collect();
    let name = &names[number % names.len()];
    let seg = volume.join("segments").join(name);
    let idx = seg.with_extension("idx");
    let edit = |path: &Path, change: &dyn Fn(&mut Vec<u8>)| {
        if let Ok(mut bytes) = std::fs::read(path) {
            change(&mut bytes);
            std::fs::write(path, bytes).unwrap();
        }
    };
    let flip = |path: &Path, at: usize| {
        let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
        let at = at as u64 % file.metadata().unwrap().len().max(1);
        let mut byte = [0];
        if file.read_at(&mut byte, at).unwrap() == 1 {
            file.write_all_at(&[byte[0] ^ 8], at).unwrap();
        }
    };
    let cut = |to: usize| {
        let file = std::fs::File::options().write(true).open(&seg).unwrap();
        file.set_len(to as u64 % file.metadata().unwrap().len().max(1)).unwrap();
    };
    match corruption {
        Corruption::LoseIndex => drop(std::fs::remove_file(idx)),
        Corruption::CutIndex(to) => edit(&idx, &|bytes| bytes.truncate(*to)),
        Corruption::FlipIndex(at) if idx.exists() => flip(&idx, *at),
        Corruption::FlipIndex(_) => {}
        Corruption::OldIndex => {
            if let Some(old) = old.get(&name.replace("seg", "idx")) {
                std::fs::write(idx, old).unwrap();
            }
        }
        Corruption::Flip(at) => flip(&seg, *at),
        Corruption::Cut(to) => cut(*to),
        Corruption::FlipFirstPage => flip(&seg, 50),
        Corruption::Unborn => cut(100),
        Corruption::Duplicate => drop(std::fs::copy(&seg, seg.with_file_name("0000000777.seg"))),
    }
}

type Opened = (OpenReport, Vec<InventoryEntry>, BTreeMap<String, Vec<u8>>);

/// Opens without a runtime, so that background work is done when it returns.
fn opened(kit: &Kit, volume: &Path, threads: usize) -> Opened {
    let options = volume::store::Options { open_threads: threads, ..kit.options.clone() };
    let (store, report) = Store::open(Arc::new(RealDisk::open(volume).unwrap()), options).unwrap();
    let inventory = store.inventory(None, usize::MAX);
    drop(store);
    (report, inventory, files(volume))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn several_threads_open_as_one(
        corruptions in prop::collection::vec((any::<usize>(), corruption()), 0..6),
        threads in 2..9_usize,
    ) {
        let f = runtime().block_on(filled());
        let (one, many) = (copy(f.kit.dir.path()), copy(f.kit.dir.path()));
        for dir in [&one, &many] {
            corruptions.iter().for_each(|(number, corruption)| apply(dir.path(), &f.old, *number, corruption));
        }
        for _ in 0..2 {
            let (serial, parallel) = (opened(&f.kit, one.path(), 1), opened(&f.kit, many.path(), threads));
            prop_assert_eq!(&serial.0, &parallel.0);
            prop_assert_eq!(&serial.1, &parallel.1);
            prop_assert!(serial.2 == parallel.2, "the files differ");
        }
    }
}

#[tokio::test]
async fn the_first_of_two_copies_counts_whoever_reads_first() {
    for threads in [1, 4] {
        let mut kit = Kit::new();
        kit.options.segment_bytes = 1;
        kit.options.open_threads = threads;
        let (store, _) = kit.open().await;
        let id = blob();
        put_as(&store, id, &body(9000, 1)).await.unwrap();
        store.punched().await;
        let index = std::fs::read(kit.idx(0)).unwrap();
        let reader = store.reader(id).await.unwrap();
        store.delete(vec![id]).await.unwrap();
        put_as(&store, id, &body(9000, 1)).await.unwrap();
        store.punched().await;
        std::mem::forget(reader);
        drop(store);
        std::fs::write(kit.idx(0), index).unwrap();
        let (store, report) = kit.open().await;
        assert_eq!((report.blobs, report.duplicates), (1, 1));
        store.punched().await;
        assert_eq!(get(&store, id).await, body(9000, 1));
        assert!(kit.seg(0).exists());
    }
}

/// Counts the descriptors of this process for a file.
fn descriptors(path: &Path) -> usize {
    let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    links.filter(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == path)).count()
}

#[tokio::test]
async fn a_sealed_segment_holds_one_descriptor_and_its_deletes_give_space_back() {
    let mut kit = Kit::new();
    kit.options.segment_bytes = 1 << 20;
    let (store, _) = kit.open().await;
    let value = body(600_000, 1);
    let ids = [put(&store, &value).await, put(&store, &value).await, put(&store, b"open").await];
    store.close().await;
    assert_eq!(descriptors(&kit.seg(0).canonicalize().unwrap()), 1, "sealed a moment ago");
    drop(store);
    let (store, _) = kit.open().await;
    let (sealed, open) = (kit.seg(0).canonicalize().unwrap(), kit.seg(1).canonicalize().unwrap());
    let both = 1 + usize::from(RealDisk::open(kit.dir.path()).unwrap().is_direct());
    assert_eq!((descriptors(&sealed), descriptors(&open)), (1, both));
    let before = kit.allocated();
    store.delete(vec![ids[0]]).await.unwrap();
    store.punched().await;
    assert!(kit.allocated() + 600_000 <= before);
    assert_eq!(descriptors(&kit.idx(0).canonicalize().unwrap()), 0, "its index was open for the delete only");
    // A read past the page cache returns what was written through it.
    let file = kit.disk().open("0000000000.seg", Access::Cached).unwrap();
    let mut pages = vec![0; 4 * 4096];
    let start = pages.as_ptr().align_offset(4096);
    let cached = std::fs::read(&sealed).unwrap();
    file.read_disk_at(&mut pages[start..start + 8192], PAGE).unwrap();
    assert!(pages[start..start + 8192] == cached[4096..3 * 4096]);
    assert_eq!(store.status().dead_bytes, 0);
    drop(store);
    // The mark is there for a scan: the delete survives the loss of the index.
    std::fs::remove_file(kit.idx(0)).unwrap();
    let (store, report) = kit.open().await;
    assert_eq!((report.blobs, report.quarantined, report.indexes_rebuilt), (2, 0, 1));
    assert_eq!(get(&store, ids[1]).await, value);
}
