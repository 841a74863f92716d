//! Fuzz test: does the library read a request as this guard does? Requests of all operations are built, signed,
//! changed, and given to both. What the guard admits, the library must read as the same operation, bucket, key,
//! source and prefix, with the same key or none, and with the same parts signed; or refuse.
//!
//! `BARGE_SEED` repeats and prints one request; `BARGE_REQUESTS` sets their number. A long run uses new
//! ones each time.

mod changes;
mod draft;
mod library;
mod signing;

use std::collections::BTreeSet;

use bytes::Bytes;
use rand::rngs::Xoshiro256PlusPlus as Chance;
use rand::{RngExt, SeedableRng};

use crate::s3::request::guard::planted::{Mistake, plant};
use crate::s3::request::guard::*;
use crate::s3::request::operation_name::{OperationShape, operation_of, operations};
use crate::s3::request::{presigned_headers, unreadable_headers};
use changes::{change, content_type, hoist};
use draft::{DOMAIN, RequestDraft, one};
use library::{Library, Read};
use signing::{Shown, sign};

/// Requests of an ordinary run, which takes some seconds.
const REQUESTS: u64 = 5_000;
const OWNER: &str = "owner";

#[derive(Debug)]
enum Outcome {
    /// The guard refused it.
    Refused,
    /// The guard admitted it, and the library refused it.
    Late,
    /// Both read it in the same way.
    Same(Box<Read>),
}
struct Readers {
    settings: S3Settings,
    library: Library,
}

impl Readers {
    fn new(hosted: bool) -> Self {
        let domain = hosted.then(|| DOMAIN.to_owned());
        Self { settings: S3Settings { domain, ..S3Settings::default() }, library: Library::new(hosted) }
    }

    /// Gives a request to both; fails with what they disagree about.
    async fn compare(&self, mut request: Request<Bytes>) -> Result<Outcome, String> {
        presigned_headers::restore(&mut request);
        let about = RequestContext::of(
            &request,
            self.settings.domain.as_deref(),
            std::net::Ipv4Addr::LOCALHOST.into(),
            String::new(),
        );
        let Ok(kind) = check_request(&self.settings, OWNER, &request, &about) else {
            return Ok(Outcome::Refused);
        };
        let expected = operation_of(
            request.method(),
            request.uri().query(),
            request.headers(),
            about.bucket.is_some(),
            about.key.is_some(),
        );
        let (query, copied) = (request.uri().query().map(str::to_owned), source(&request));
        let shows = request.headers().contains_key(AUTHORIZATION) || has(&request, "X-Amz-Signature");
        let (mut head, body) = request.into_parts();
        unreadable_headers::join_metadata(&mut head.headers);
        if let Some(odd) = unreadable_headers::unreadable_headers(&head).filter(|_| about.key.is_some()) {
            head.extensions.insert(odd);
        }
        let read = self.library.read(Request::from_parts(head, body)).await;
        let Some(operation) = read.operation.clone() else { return Ok(Outcome::Late) };
        let differs = |what: &str, ours: &dyn std::fmt::Debug| {
            Err(format!("{what}: we read {ours:?}, the library {read:?}"))
        };
        if (&read.bucket, &read.key) != (&about.bucket, &about.key) {
            return differs("bucket and key", &(&about.bucket, &about.key));
        }
        match kind {
            RequestKind::Form if operation != "PostObject" => return differs("a form", &kind),
            RequestKind::Other if expected != operation || operation == "PostObject" => {
                return differs("operation", &expected);
            }
            // A caller with a key is never taken for anonymous.
            _ if shows != read.proved => return differs("whether a key is shown", &shows),
            _ => {}
        }
        if read.source.is_some() && read.source != copied {
            return differs("source", &copied);
        }
        let value = |name: &str| query_value(query.as_deref(), name);
        let listing = operation.starts_with("ListObject") || operation == "ListMultipartUploads";
        if listing && read.prefix.clone().unwrap_or_default() != value("prefix").unwrap_or_default() {
            return differs("prefix", &value("prefix"));
        }
        let known = |name: &&str| value(name).is_some();
        if !read.asked.iter().all(known) {
            return differs("queries of a read", &query);
        }
        Ok(Outcome::Same(Box::new(read)))
    }

    /// Checks that a verified request no longer is one when a header of S3, or its host, changes.
    async fn covered(&self, draft: &RequestDraft, read: &Read) -> Result<(), String> {
        let presigned = draft.query.iter().any(|p| p.starts_with("X-Amz-Signature="));
        // What is in the query as well is covered there, even without the header.
        let queried = |name: &str| {
            draft.query.iter().any(|p| p.split('=').next().is_some_and(|n| n.eq_ignore_ascii_case(name)))
        };
        let free = |name: &str| presigned && name == "x-amz-content-sha256" || queried(name);
        let names: BTreeSet<_> = draft
            .headers
            .iter()
            .map(|(n, _)| n.clone())
            .filter(|n| n.starts_with("x-amz-") && !free(n))
            .collect();
        for name in &names {
            let mut without = draft.clone();
            without.headers.retain(|(n, _)| n != name);
            let mut other = draft.clone();
            other.headers.iter_mut().filter(|(n, _)| n == name).for_each(|(_, v)| v.push(b'x'));
            for changed in [without, other] {
                self.unproved(&changed, name, read).await?;
            }
        }
        for (at, pair) in draft.query.iter().enumerate() {
            if pair.to_ascii_lowercase().starts_with(presigned_headers::PREFIX) && !pair.starts_with("X-Amz-")
            {
                let mut other = draft.clone();
                other.query[at].push('x');
                self.unproved(&other, pair, read).await?;
            }
        }
        let mut added = draft.clone();
        added.add("x-amz-meta-added", b"1");
        self.unproved(&added, "x-amz-meta-added", read).await?;
        let mut moved = draft.clone();
        moved.host = b"elsewhere.test".to_vec();
        if moved.host == draft.host { Ok(()) } else { self.unproved(&moved, "host", read).await }
    }

    async fn unproved(&self, changed: &RequestDraft, name: &str, read: &Read) -> Result<(), String> {
        let Some(request) = changed.build() else { return Ok(()) };
        match self.compare(request).await? {
            Outcome::Same(now) if now.proved => {
                Err(format!("{name} is not covered by the signature: {read:?}, then {now:?}"))
            }
            _ => Ok(()),
        }
    }

    /// Builds the request of a seed and compares.
    async fn one(&self, seed: u64, show: bool) -> Result<Outcome, String> {
        let draft = drafted(operations(), seed);
        let Some(request) = draft.build() else { return Ok(Outcome::Refused) };
        let outcome = async {
            let outcome = self.compare(request).await?;
            if let Outcome::Same(read) = &outcome
                && read.proved
            {
                self.covered(&draft, read).await?;
            }
            Ok(outcome)
        };
        let outcome: Result<_, String> = outcome.await;
        if show {
            println!("{draft:#?}\n{outcome:?}");
        }
        outcome.map_err(|what| format!("BARGE_SEED={seed}: {what}\n{draft:?}"))
    }
}

/// Returns the source of a copy, by its header.
fn source<B>(request: &Request<B>) -> Option<(String, String)> {
    let text = text(request.headers(), "x-amz-copy-source")?;
    let path = text.split("?versionId=").next()?;
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8().ok()?.into_owned();
    let (bucket, key) = decoded.strip_prefix('/').unwrap_or(&decoded).split_once('/')?;
    Some((bucket.to_owned(), key.to_owned()))
}

fn drafted(how: &[OperationShape], seed: u64) -> RequestDraft {
    let mut chance = Chance::seed_from_u64(seed);
    let forms = how.iter().find(|how| how.name == "PostObject").filter(|_| chance.random_bool(0.1));
    let mut draft = RequestDraft::valid(forms.unwrap_or_else(|| one(&mut chance, how)), &mut chance);
    if forms.is_some() && chance.random_bool(0.7) {
        content_type(&mut draft, &mut chance);
        return draft;
    }
    for _ in 0..chance.random_range(0..3) {
        change(&mut draft, &mut chance);
    }
    if chance.random_bool(0.2) {
        hoist(&mut draft, &mut chance);
    }
    let shown = *one(&mut chance, &[Shown::No, Shown::Header, Shown::Header, Shown::Link]);
    sign(&mut draft, shown, 0.3, &mut chance);
    for _ in 0..chance.random_range(0..3) {
        change(&mut draft, &mut chance);
    }
    draft
}

#[expect(clippy::disallowed_methods, reason = "it says which requests a test makes, and nothing else")]
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|n| n.parse().unwrap())
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Returns a reader with a domain and one without; each gets half of the requests.
fn readers() -> [Readers; 2] {
    [Readers::new(true), Readers::new(false)]
}

#[test]
fn the_library_reads_what_we_read() {
    let readers = readers();
    let both = |seed: u64| &readers[usize::try_from(seed % 2).unwrap()];
    if let Some(seed) = number("BARGE_SEED") {
        run(both(seed).one(seed, true)).unwrap();
        return;
    }
    let long = number("BARGE_LONG").is_some_and(|n| n > 0);
    let count = number("BARGE_REQUESTS").unwrap_or(if long { 100_000 } else { REQUESTS });
    let first = if long { rand::random::<u32>().into() } else { 0 };
    println!("{count} requests from {first}");
    let (mut refused, mut late, mut same, mut proved) = (0, 0, 0, 0);
    run(async {
        for seed in first..first + count {
            match both(seed).one(seed, false).await {
                Err(what) => panic!("{what}"),
                Ok(Outcome::Refused) => refused += 1,
                Ok(Outcome::Late) => late += 1,
                Ok(Outcome::Same(read)) => (same, proved) = (same + 1, proved + u64::from(read.proved)),
            }
        }
    });
    println!(
        "{count} requests: {refused} refused by us, {late} by the library, {same} read alike, {proved} of them proved"
    );
    assert!(same * 10 > count && proved * 20 > count && refused * 10 > count, "too few of a kind");
}

#[test]
fn every_operation_is_arrived_at_or_refused() {
    let readers = readers();
    let mut refused = BTreeSet::new();
    for (n, how) in operations().iter().enumerate() {
        for shown in [Shown::No, Shown::Header, Shown::Link] {
            for seed in 0..6 {
                let mut chance = Chance::seed_from_u64(n as u64 * 100 + seed);
                let mut draft = RequestDraft::valid(how, &mut chance);
                if how.name != "PostObject" {
                    sign(&mut draft, shown, 0.0, &mut chance);
                }
                match run(readers[0].compare(draft.build().unwrap())) {
                    Ok(Outcome::Same(read)) => {
                        assert_eq!(read.operation.as_deref(), Some(how.name), "{draft:?}");
                        assert_eq!(read.proved, shown != Shown::No && how.name != "PostObject", "{draft:?}");
                    }
                    Ok(_) => drop(refused.insert(how.name)),
                    Err(what) => panic!("{what}\n{draft:?}"),
                }
            }
        }
    }
    assert_eq!(refused, NOT_TAKEN.into(), "operations that the guard refuses by their request alone");
}

/// Operations with a parameter or header that the guard refuses.
const NOT_TAKEN: [&str; 1] = ["WriteGetObjectResponse"];

/// Checks that a planted mistake is found.
fn found(mistake: Mistake) {
    let readers = readers();
    plant(Some(mistake));
    let what = run(async {
        for seed in 0..REQUESTS {
            if let Err(what) = readers[usize::try_from(seed % 2).unwrap()].one(seed, false).await {
                return Some((seed, what));
            }
        }
        None
    });
    plant(None);
    let (seed, what) = what.unwrap_or_else(|| panic!("{mistake:?} is not found in {REQUESTS} requests"));
    println!("{mistake:?} is found at {seed}: {what}");
    run(readers[usize::try_from(seed % 2).unwrap()].one(seed, false)).unwrap();
}

#[test]
fn forms_that_are_not_ascii_are_missed_and_found() {
    found(Mistake::FormsAreAscii);
}

#[test]
fn names_in_any_case_are_believed_and_found() {
    found(Mistake::NamesInAnyCase);
}
