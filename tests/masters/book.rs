//! The clients' book: what each of them did to a few hot keys, key by key. A key that has had enough operations, or
//! too many whose outcome is unknown, is left alone and another takes its place, so that every history can be judged.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use shared::digest::Digest;
use tests::history::{Operation, Outcome, ValueId};
use tests::linear::{Verdict, judge};
use tests::{Dice, value, versions};

/// Operations after which a key has had enough.
const OPERATIONS: usize = 300;
/// Unknown ones among them.
const UNKNOWN: usize = 16;
/// Bytes of a value.
const BYTES: std::ops::Range<u64> = 12..6000;

/// All that was done.
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
    /// The values that were sent to it, by their ETags.
    values: Mutex<HashMap<String, ValueId>>,
    latest: Mutex<Option<ValueId>>,
}

/// What the judges found.
#[derive(Debug, Default)]
pub struct Findings {
    /// A history for each key that has none that is right.
    pub violations: Vec<String>,
    /// Keys that were too hard.
    pub undecided: usize,
    pub keys: usize,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics with it")
}

/// The bytes of a value.
pub fn bytes_of(id: ValueId) -> Vec<u8> {
    let len = BYTES.start + Dice::new(id).below(BYTES.end - BYTES.start);
    value(id, usize::try_from(len).expect("small"))
}

/// The ETag of a value.
pub fn etag_of(id: ValueId) -> String {
    Digest::of(&bytes_of(id)).etag()
}

impl Book {
    /// An empty one, with so many keys at a time.
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

    /// A key to work on.
    pub fn page(&self, dice: &mut Dice) -> Arc<Page> {
        let mut page = lock(&self.hot[dice.index(self.hot.len())]);
        if page.is_full() {
            *page = self.new_page();
        }
        Arc::clone(&page)
    }

    /// The moment, for `Operation`.
    pub fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).expect("runs are shorter")
    }

    /// A value for `page` that nobody has written.
    pub fn new_value(&self, page: &Page) -> ValueId {
        let id = self.values.fetch_add(1, Ordering::Relaxed);
        lock(&page.values).insert(etag_of(id), id);
        id
    }

    /// Counts what happened.
    pub fn count(&self, what: impl Into<String>) {
        *lock(&self.counts).entry(what.into()).or_default() += 1;
    }

    pub fn counts(&self) -> BTreeMap<String, u64> {
        lock(&self.counts).clone()
    }

    /// The keys, the last ones last.
    pub fn pages(&self) -> Vec<Arc<Page>> {
        lock(&self.pages).clone()
    }

    /// Judges all keys, or those that nobody works on any more: what is under way is not written down yet, and may be
    /// what others see.
    pub fn judge(&self, all: bool) -> Findings {
        let mut findings = Findings::default();
        let pages = self.pages();
        // The book has it, and this list.
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

    /// Writes down what happened.
    pub fn add(&self, operation: Operation) {
        match operation.outcome {
            Outcome::Saw(Some(value)) => *lock(&self.latest) = Some(value),
            Outcome::Done => *lock(&self.latest) = operation.call.brings(),
            _ => {}
        }
        lock(&self.operations).push(operation);
    }

    /// A value that somebody saw or wrote a moment ago.
    pub fn latest(&self) -> Option<ValueId> {
        *lock(&self.latest)
    }

    /// The value with this ETag; none when it was never sent to this key.
    pub fn value_with(&self, etag: &str) -> Option<ValueId> {
        lock(&self.values).get(etag).copied()
    }
}
