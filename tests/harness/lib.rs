//! Shared by the whole-system tests: real processes on real directories, clients that check every byte, and
//! the oracle that knows what a store may answer.
//!
//! This code does not know how the product works inside: it starts binaries, speaks HTTP and sends signals.

pub mod authority;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod disk;
pub mod folder;
pub mod forge;
pub mod history;
pub mod holdings;
pub mod linear;
pub mod load;
pub mod maintenance;
pub mod network;
pub mod oracle;
pub mod place;
pub mod process;
pub mod raw;
pub mod redis;
pub mod rot;
pub mod space;
pub mod tamper;
pub mod tool;
pub mod value;
pub mod versions;
pub mod wait;

pub use client::{Answer, Client};
pub use cluster::{Cluster, Options};
pub use folder::Folder;
pub use holdings::Footprint;
pub use oracle::{Change, Oracle, Seen};
pub use process::{Server, Spec};
pub use value::{Dice, value};
pub use wait::eventually;

/// How much of something a test does: `usual` in every run, `long` in `tests/run --long`, or the value of the
/// environment variable `name` if it is set.
///
/// # Panics
/// If the variable is not a number.
pub fn amount(name: &str, usual: u64, long: u64) -> u64 {
    match variable(name) {
        Some(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        None if told("BARGE_LONG") => long,
        None => usual,
    }
}

/// Reports whether an environment variable is set to a value that means yes.
pub fn told(name: &str) -> bool {
    !matches!(variable(name).as_deref(), None | Some("" | "0" | "false"))
}

/// Reports that something is not tested on this machine, on stderr and in the summary of `tests/run`.
///
/// # Panics
/// With CI=true, because a test that has not run must not pass there.
pub fn skip(what: impl std::fmt::Display, why: impl std::fmt::Display) {
    skip_even_in_ci(&what, &why);
    assert!(!told("CI"), "with CI=true nothing may be skipped: {what}: {why}");
}

/// As `skip`, for programs that our scripts cannot install.
pub fn skip_even_in_ci(what: impl std::fmt::Display, why: impl std::fmt::Display) {
    use std::io::Write as _;
    let line = format!("{what}: {why}").replace('\n', " ");
    say(format_args!("SKIPPED: {line}"));
    if let Some(list) = variable("BARGE_SKIPPED") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(list);
        let _ = file.and_then(|mut file| writeln!(file, "{line}"));
    }
}

#[expect(clippy::disallowed_methods, reason = "tests have no arguments; this is the one place that asks")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Prints a message for the person who runs the tests.
#[expect(clippy::print_stderr, reason = "the output of a test is for people; the one place that prints")]
pub fn say(text: impl std::fmt::Display) {
    eprintln!("{text}");
}
