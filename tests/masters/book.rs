//! The clients' book: what each of them did to a few hot keys, key by key. A key with enough operations, or with too
//! many of unknown outcome, is retired and replaced by another, so that every history can be judged.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use shared::digest::Digest;
use tests::history::{Operation, Outcome, ValueId};
use tests::linear::{Verdict, judge};
use tests::{Dice, value, versions};

/// Operations after which a key is retired.
const OPERATIONS: usize = 300;
/// Unknown ones among them after which it is retired.
const UNKNOWN: usize = 16;
/// Size of a value in bytes.
const BYTES: std::ops::Range<u64> = 12..6000;

#[derive(Debug)]
pub struct Book {
    began: Instant,
    hot: Vec<Mutex<Arc<Page>>>,
    pages: Mutex<Vec<Arc<Page>>>,
    values: AtomicU64,
    counts: Mutex<BTreeMap<String, u64>>,
}

#[derive(Debug)]
pub struct Page {
    pub key: String,
    operations: Mutex<Vec<Operation>>,
    /// The values sent to the key, by their ETags.
    values: Mutex<HashMap<String, ValueId>>,
    latest: Mutex<Option<ValueId>>,
}

/// The result of judging.
#[derive(Debug, Default)]
pub struct Findings {
    /// One history for each key that has no valid order.
    pub violations: Vec<String>,
    /// Keys whose histories were too hard.
    pub undecided: usize,
    pub keys: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no task panics with the lock")
}

/// Returns the bytes of a value.
pub fn bytes_of(id: ValueId) -> Vec<u8> {
    let len = BYTES.start + Dice::new(id).below(BYTES.end - BYTES.start);
    value(id, usize::try_from(len).expect("small"))
}

/// Returns the ETag of a value.
pub fn etag_of(id: ValueId) -> String {
    Digest::of(&bytes_of(id)).etag()
}

impl Book {
    /// Returns an empty book with this many keys at a time.
    pub fn new(hot: usize) -> Self {
        let book = Self {
            began: Instant::now(),
            hot: Vec::new(),
            pages: Mutex::default(),
            values: AtomicU64::new(1),
            counts: Mutex::default(),
        };
        let hot = (0..hot).map(|_| Mutex::new(book.new_page())).collect();
        Self { hot, ..book }
    }

    fn new_page(&self) -> Arc<Page> {
        let mut pages = lock(&self.pages);
        let page = Arc::new(Page {
            key: format!("hot/{:05}", pages.len()),
            operations: Mutex::default(),
            values: Mutex::default(),
            latest: Mutex::default(),
        });
        pages.push(Arc::clone(&page));
        page
    }

    /// Returns a key to work on.
    pub fn page(&self, dice: &mut Dice) -> Arc<Page> {
        let mut page = lock(&self.hot[dice.index(self.hot.len())]);
        if page.is_full() {
            *page = self.new_page();
        }
        Arc::clone(&page)
    }

    /// Returns the current time, for `Operation`.
    pub fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).expect("the run is shorter")
    }

    /// Returns a value for `page` that has never been written.
    pub fn new_value(&self, page: &Page) -> ValueId {
        let id = self.values.fetch_add(1, Ordering::Relaxed);
        lock(&page.values).insert(etag_of(id), id);
        id
    }

    /// Counts an event.
    pub fn count(&self, what: impl Into<String>) {
        *lock(&self.counts).entry(what.into()).or_default() += 1;
    }

    pub fn counts(&self) -> BTreeMap<String, u64> {
        lock(&self.counts).clone()
    }

    /// Returns the keys, the last ones last.
    pub fn pages(&self) -> Vec<Arc<Page>> {
        lock(&self.pages).clone()
    }

    /// Judges all keys, or only the retired ones: operations in progress are not recorded yet, and other clients may
    /// see their values.
    pub fn judge(&self, all: bool) -> Findings {
        let mut findings = Findings::default();
        let pages = self.pages();
        // Held by the book and by this list.
        for page in pages.into_iter().filter(|p| all || Arc::strong_count(p) == 2) {
            findings.keys += 1;
            let operations = lock(&page.operations).clone();
            if let Err(why) = versions::check(&operations) {
                findings.violations.push(format!("{}: {why}", page.key));
            }
            match judge(&operations) {
                Verdict::Linearizable => {}
                Verdict::Undecided => findings.undecided += 1,
                Verdict::Violation(why) => {
                    let lines: Vec<String> = why.iter().map(ToString::to_string).collect();
                    let said = lines[lines.len().saturating_sub(60)..].join("\n");
                    findings.violations.push(format!("{} is not linearizable:\n{said}", page.key));
                }
            }
        }
        findings
    }
}

impl Page {
    fn is_full(&self) -> bool {
        let operations = lock(&self.operations);
        let unknown = || operations.iter().filter(|o| o.outcome == Outcome::Unknown).count();
        operations.len() >= OPERATIONS || unknown() >= UNKNOWN
    }

    /// Records an operation.
    pub fn add(&self, operation: Operation) {
        match operation.outcome {
            Outcome::Saw(Some(value)) => *lock(&self.latest) = Some(value),
            Outcome::Done => *lock(&self.latest) = operation.call.brings(),
            _ => {}
        }
        lock(&self.operations).push(operation);
    }

    /// Returns a value that a client has just seen or written.
    pub fn latest(&self) -> Option<ValueId> {
        *lock(&self.latest)
    }

    /// Returns the value with this ETag, or `None` if it was never sent to this key.
    pub fn value_with(&self, etag: &str) -> Option<ValueId> {
        lock(&self.values).get(etag).copied()
    }
}
