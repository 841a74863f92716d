//! The oracle: what the store may answer, as known from outside.
//!
//! The client keeps a journal: each change is recorded before it is sent, and its outcome after.
//! A change without a clear outcome is *unknown*, never *not done*. One key has one writer at a time
//! and any number of readers.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use shared::digest::Digest;

/// The effect of a change on its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Put {
        /// Length in bytes.
        length: u64,
        /// BLAKE3 of the bytes.
        digest: Digest,
    },
    Delete,
}

/// What a read saw.
pub type Seen = Change;

impl Change {
    pub fn put(bytes: &[u8]) -> Self {
        Self::Put { length: bytes.len() as u64, digest: Digest::of(bytes) }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { length, digest } => write!(f, "{length} bytes {}", &digest.to_string()[..12]),
            Self::Delete => f.write_str("nothing"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Pending,
    Ok,
    Error,
    Unknown,
}

#[derive(Clone, Copy, Debug)]
struct Event {
    change: Change,
    outcome: Outcome,
    /// Logical time of all starts and ends.
    begun: u64,
    ended: u64,
}

#[derive(Debug, Default)]
struct Journal {
    keys: BTreeMap<String, Vec<Event>>,
    clock: u64,
    file: Option<File>,
}

/// The journal, shared by all writers and readers.
#[derive(Clone, Debug, Default)]
pub struct Oracle(Arc<Mutex<Journal>>);

/// A change in progress. Dropped without an outcome, it is unknown.
#[derive(Debug)]
#[must_use]
pub struct Intent {
    oracle: Oracle,
    key: String,
    at: usize,
}

/// The store gave an answer that it must not give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation(pub String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The moment a read started.
#[derive(Clone, Copy, Debug)]
pub struct Moment(u64);

impl Oracle {
    /// Returns an oracle with a journal on disk, to analyze a violation.
    ///
    /// # Panics
    /// If the file cannot be created.
    pub fn with_journal(path: &Path) -> Self {
        let oracle = Self::default();
        oracle.journal().file = Some(File::create(path).expect("a journal"));
        oracle
    }

    fn journal(&self) -> MutexGuard<'_, Journal> {
        self.0.lock().expect("no task panics with the journal")
    }

    /// Records a change that is about to be sent.
    pub fn intend(&self, key: &str, change: Change) -> Intent {
        let mut journal = self.journal();
        let begun = journal.tick();
        let events = journal.keys.entry(key.to_owned()).or_default();
        events.push(Event { change, outcome: Outcome::Pending, begun, ended: u64::MAX });
        let at = events.len() - 1;
        journal.note(format_args!("{begun} {key} intends {change}"));
        Intent { oracle: self.clone(), key: key.to_owned(), at }
    }

    /// Records the start of a read.
    pub fn moment(&self) -> Moment {
        Moment(self.journal().tick())
    }

    /// Returns all keys that a change was ever meant to write.
    pub fn keys(&self) -> Vec<String> {
        self.journal().keys.keys().cloned().collect()
    }

    /// Returns what a read may see that started at `since` and has just ended.
    pub fn allowed(&self, key: &str, since: Moment) -> Vec<Change> {
        let journal = self.journal();
        let events = journal.keys.get(key).map_or(&[][..], Vec::as_slice);
        let settled = events.iter().rposition(|e| e.outcome == Outcome::Ok && e.ended < since.0);
        let mut allowed = vec![settled.map_or(Change::Delete, |at| events[at].change)];
        // Anything after the last acknowledged change may have happened, unless it was refused.
        let after = settled.map_or(0, |at| at + 1);
        allowed.extend(events[after..].iter().filter(|e| e.outcome != Outcome::Error).map(|e| e.change));
        // An unknown put has not ended: it may take effect after a delete that was acknowledged
        // since. After an acknowledged put it may not: generations only grow.
        if let Some(at) = settled.filter(|at| events[*at].change == Change::Delete) {
            let earlier = events[..at].iter().rev();
            let open =
                earlier.take_while(|e| !matches!((e.outcome, e.change), (Outcome::Ok, Change::Put { .. })));
            allowed.extend(open.filter(|e| e.outcome == Outcome::Unknown).map(|e| e.change));
        }
        allowed
    }

    /// Judges what a read saw that started at `since`.
    ///
    /// # Errors
    /// If the store may not answer that.
    pub fn check(&self, key: &str, since: Moment, seen: &Seen) -> Result<(), Violation> {
        let allowed = self.allowed(key, since);
        if allowed.contains(seen) {
            return Ok(());
        }
        let journal = self.journal();
        let events = journal.keys.get(key).map_or(&[][..], Vec::as_slice);
        let known = events.iter().rev().find(|e| e.change == *seen && e.outcome != Outcome::Error);
        let refused = events.iter().any(|e| e.change == *seen && e.outcome == Outcome::Error);
        let why = match known {
            None if *seen != Change::Delete && refused => "bytes that were refused".to_owned(),
            None if *seen == Change::Delete => "an acknowledged value is gone".to_owned(),
            None => "bytes that were never written to this key".to_owned(),
            Some(e) => format!("a stale state ({:?}, started at {})", e.outcome, e.begun),
        };
        let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        let history: Vec<String> = events
            .iter()
            .rev()
            .take(6)
            .map(|e| format!("{} {:?} {}..{}", e.change, e.outcome, e.begun, e.ended))
            .collect();
        Err(Violation(format!(
            "{key}: a read that started at {} saw {seen}: {why}. Allowed: {}. Last changes: {}",
            since.0,
            allowed.join(", "),
            history.join("; ")
        )))
    }
}

impl Journal {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn note(&mut self, line: fmt::Arguments<'_>) {
        if let Some(file) = &mut self.file {
            let _ = writeln!(file, "{line}");
        }
    }
}

impl Intent {
    /// Acknowledged: it has happened, for good.
    pub fn ok(self) {
        self.end(Outcome::Ok);
    }

    /// Refused: it has not happened and never will.
    pub fn refused(self) {
        self.end(Outcome::Error);
    }

    pub fn unknown(self) {
        self.end(Outcome::Unknown);
    }

    fn end(&self, outcome: Outcome) {
        let mut journal = self.oracle.journal();
        let now = journal.tick();
        let Some(event) = journal.keys.get_mut(&self.key).and_then(|e| e.get_mut(self.at)) else { return };
        if event.outcome == Outcome::Pending {
            event.outcome = outcome;
            event.ended = now;
            let (begun, key) = (event.begun, &self.key);
            journal.note(format_args!("{now} {key} {outcome:?} of {begun}"));
        }
    }
}

impl Drop for Intent {
    fn drop(&mut self) {
        self.end(Outcome::Unknown);
    }
}

#[cfg(test)]
mod tests;
