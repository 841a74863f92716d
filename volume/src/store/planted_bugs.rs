//! Bugs that a test plants in the store (mutation testing), to see that the model catches them: a check that has
//! never failed is not known to work. Compiled into tests only.

use std::cell::Cell;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    /// A record counts before its segment is synced.
    SkipSync,
    /// A scan accepts a record with good header and trailer without reading its body.
    TrustTornTrailer,
    /// A record is punched before its delete is durable.
    PunchFirst,
    /// The directory is not synced after the creation of a segment.
    SkipDirectorySync,
    /// An index is still written after a failed sync.
    ForgetFailedSync,
    /// A segment is still written after a failed sync.
    ForgetPoison,
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Plants a bug on this thread, or removes it.
pub(super) fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether this bug is planted on this thread.
pub(super) fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}
