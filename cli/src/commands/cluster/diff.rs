//! Differences of two sets of metadata: two listings, both in key order, read side by side with one page of
//! each in memory.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

use http::Method;
use http::header::HeaderMap;
use master::offline::{Database, ListQuery, page};
use serde::Serialize;
use shared::ids::BlobId;
use shared::key::encode_query;
use shared::limits::LIST_LIMIT;
use shared::wire::master::{ListPage, ListedKey};
use shared::wire::routes::LIST;
use shared::work::blocking;

use crate::client::{self, Client, patiently};
use crate::exit::{Exit, Failure};

/// Keys shown per kind of difference.
const SHOWN: usize = 20;

/// The source of a listing.
pub(super) enum Source {
    /// A metadata directory that no master uses.
    Directory(Arc<Database>),
    Cluster(Client),
}

/// A listing in progress.
struct Listing {
    source: Source,
    keys: VecDeque<ListedKey>,
    next: Option<String>,
    begun: bool,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Diff {
    /// Description of the other side.
    pub(super) against: String,
    /// Keys that are the same in both.
    pub(super) same: u64,
    /// Keys that the volumes hold and the other side lacks.
    pub(super) missing: FirstTwenty,
    /// Keys that the other side has and the volumes do not hold.
    pub(super) extra: FirstTwenty,
    /// Keys with another generation on the other side.
    pub(super) different: FirstTwenty,
}

/// A count, and the first keys counted.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct FirstTwenty {
    pub(super) count: u64,
    pub(super) first: Vec<String>,
}

impl FirstTwenty {
    fn add(&mut self, line: impl FnOnce() -> String) {
        self.count += 1;
        if self.first.len() < SHOWN {
            self.first.push(line());
        }
    }
}

impl Diff {
    /// Whether nothing differs.
    pub(super) fn is_none(&self) -> bool {
        [&self.missing, &self.extra, &self.different].iter().all(|kind| kind.count == 0)
    }

    pub(super) fn text(&self) -> String {
        let mut out = format!("compared with {}: {} keys are the same", self.against, self.same);
        let kinds = [
            ("missing there", &self.missing),
            ("extra there", &self.extra),
            ("another generation there", &self.different),
        ];
        for (name, kind) in kinds {
            out += &format!("\n{}: {name}", kind.count);
            for line in &kind.first {
                out += &format!("\n  {line}");
            }
            if kind.count > kind.first.len() as u64 {
                out += "\n  ...";
            }
        }
        out
    }
}

impl Listing {
    fn new(source: Source) -> Self {
        Self { source, keys: VecDeque::new(), next: None, begun: false }
    }

    async fn take(&mut self) -> Result<Option<ListedKey>, Failure> {
        while self.keys.is_empty() && (!self.begun || self.next.is_some()) {
            let page = self.source.page(self.next.take()).await?;
            (self.keys, self.next, self.begun) = (page.keys.into(), page.next, true);
        }
        Ok(self.keys.pop_front())
    }
}

impl Source {
    async fn page(&self, start: Option<String>) -> Result<ListPage, Failure> {
        match self {
            Self::Directory(database) => {
                let database = Arc::clone(database);
                let query = ListQuery { prefix: String::new(), start, limit: LIST_LIMIT, delimiter: None };
                let page = blocking(move || page(&database.tree(), &query)).await;
                page.map_err(|e| Failure::new(Exit::Failure, format!("the metadata cannot be read: {e}")))
            }
            Self::Cluster(client) => {
                let mut path = format!("/?{LIST}&limit={LIST_LIMIT}");
                if let Some(start) = start {
                    path += &format!("&start={}", encode_query(&start));
                }
                let url = client.url(&path)?;
                let ask = async || client.ask(Method::GET, url.clone(), &HeaderMap::new()).await;
                client::json(patiently(ask).await?).await
            }
        }
    }
}

/// Compares the rebuilt metadata with the other side.
pub(super) async fn compare(rebuilt: Source, there: Source, against: String) -> Result<Diff, Failure> {
    let mut diff = Diff { against, ..Diff::default() };
    let (mut ours, mut theirs) = (Listing::new(rebuilt), Listing::new(there));
    let (mut left, mut right) = (ours.take().await?, theirs.take().await?);
    loop {
        let order = match (&left, &right) {
            (None, None) => return Ok(diff),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(l), Some(r)) => l.key.cmp(&r.key),
        };
        match (&left, &right) {
            (Some(l), _) if order == Ordering::Less => diff.missing.add(|| line(l, l.generation, None)),
            (_, Some(r)) if order == Ordering::Greater => diff.extra.add(|| line(r, r.generation, None)),
            (Some(l), Some(r)) if l.generation != r.generation => {
                diff.different.add(|| line(l, l.generation, Some(r.generation)));
            }
            _ => diff.same += 1,
        }
        if order != Ordering::Greater {
            left = ours.take().await?;
        }
        if order != Ordering::Less {
            right = theirs.take().await?;
        }
    }
}

fn line(key: &ListedKey, generation: BlobId, there: Option<BlobId>) -> String {
    let there = there.map_or_else(String::new, |there| format!(", there {there}"));
    format!("{}  {generation}{there}", key.key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_twenty_are_shown_and_all_are_counted() {
        let mut diff = Diff { against: "x".into(), same: 7, ..Diff::default() };
        assert!(diff.is_none());
        (0..25).for_each(|n| diff.extra.add(|| format!("key {n}")));
        assert!(!diff.is_none());
        let text = diff.text();
        assert!(text.contains("7 keys are the same") && text.contains("25: extra there"));
        assert_eq!(text.lines().filter(|l| l.starts_with("  key ")).count(), SHOWN);
    }
}
