//! Helpers to corrupt the files of a closed store: overwrite, flip, truncate.

use std::os::unix::fs::FileExt;
use std::path::Path;

use shared::ids::BlobId;
use volume::store::Store;

use super::kit::{Kit, PAGE, body, get, put};

pub fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    std::fs::File::options().write(true).open(path).unwrap().write_all_at(bytes, at).unwrap();
}

pub fn flip(path: &Path, at: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
}

pub fn cut(path: &Path, to: u64) {
    std::fs::File::options().write(true).open(path).unwrap().set_len(to).unwrap();
}

/// Blobs with their values, and the length of the segment after each.
pub struct Filled {
    pub kit: Kit,
    pub blobs: Vec<(BlobId, Vec<u8>)>,
    pub ends: Vec<u64>,
}

pub async fn filled(sizes: &[usize]) -> Filled {
    let kit = Kit::new();
    let (store, _) = kit.open().await;
    let (mut blobs, mut ends) = (Vec::new(), vec![PAGE]);
    for (seed, size) in sizes.iter().enumerate() {
        let value = body(*size, seed as u64);
        blobs.push((put(&store, &value).await, value));
        ends.push(kit.seg_len(0));
    }
    store.close().await;
    Filled { kit, blobs, ends }
}

pub async fn all_there(store: &Store, blobs: &[(BlobId, Vec<u8>)]) {
    for (blob, value) in blobs {
        assert_eq!(&get(store, *blob).await, value);
    }
}
