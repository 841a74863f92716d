//! One page of the open multipart uploads of a bucket.

use std::collections::BTreeSet;

use shared::ids::BlobId;
use shared::key::Key;

use crate::tables::TableError;
use crate::tables::upload::{self, UploadRecord};

/// Which uploads a page lists.
pub struct UploadQuery {
    /// Bucket, slash and prefix.
    pub prefix: String,
    /// Only uploads after this key, and this id of it.
    pub marker: Option<String>,
    pub id: Option<BlobId>,
    pub delimiter: Option<String>,
    pub limit: usize,
}

#[derive(Default)]
pub struct UploadPage {
    pub uploads: Vec<(Key, BlobId, UploadRecord)>,
    pub prefixes: BTreeSet<String>,
    pub last: Option<(String, BlobId)>,
    pub truncated: bool,
}

impl UploadQuery {
    /// Reads a page. It passes over all uploads below a common prefix, so it is not for a thread of the runtime.
    ///
    /// # Errors
    /// When the tables cannot be read.
    pub fn page(&self, tree: &sled::Tree) -> Result<UploadPage, TableError> {
        let (marker, mut page) = (self.marker.as_deref(), UploadPage::default());
        for item in upload::after(tree, &self.prefix, marker.map(|m| (m, self.id))) {
            let (key, id, upload) = item?;
            let rest = key.as_str().strip_prefix(&self.prefix).unwrap_or_default();
            let delimiter = self.delimiter.as_deref();
            let common =
                delimiter.and_then(|d| rest.find(d).map(|at| self.prefix.clone() + &rest[..at + d.len()]));
            let passed = |c: &String| page.prefixes.contains(c) || marker == Some(c.as_str());
            if common.as_ref().is_some_and(passed) {
                continue;
            }
            if page.uploads.len() + page.prefixes.len() >= self.limit {
                page.truncated = self.limit > 0;
                break;
            }
            page.last = Some((common.clone().unwrap_or_else(|| key.as_str().to_owned()), id));
            match common {
                Some(common) => drop(page.prefixes.insert(common)),
                None => page.uploads.push((key, id, upload)),
            }
        }
        Ok(page)
    }
}
