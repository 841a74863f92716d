//! What the whole-system tests share: real processes on real directories, clients that look at every
//! byte, and the oracle that knows what a store may answer.
//!
//! Nothing here knows how the product works inside: it starts binaries, speaks HTTP, and sends signals.

pub mod authority;
pub mod care;
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
pub mod network;
pub mod oracle;
pub mod place;
pub mod process;
pub mod raw;
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

/// A number from the environment, for tests that can run longer than usual.
///
/// # Panics
/// When it is no number.
pub fn setting(name: &str, default: u64) -> u64 {
    #[expect(clippy::disallowed_methods, reason = "tests have no arguments; this is the one place that asks")]
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

/// Whether a variable is set to something like yes.
pub fn told(name: &str) -> bool {
    #[expect(clippy::disallowed_methods, reason = "tests have no arguments; `setting` and this ask")]
    let said = std::env::var(name).unwrap_or_default();
    !matches!(said.as_str(), "" | "0" | "false")
}

/// Tells the person who runs the tests.
#[expect(clippy::print_stderr, reason = "the output of a test is for people; the one place that prints")]
pub fn say(text: impl std::fmt::Display) {
    eprintln!("{text}");
}
