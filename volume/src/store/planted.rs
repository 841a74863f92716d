//! Bugs that a test plants in the store, to see that the model catches them: a check that has never failed is not
//! known to work. Nothing of this is in a product.

use std::cell::Cell;

/// A way to get it wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    /// A record counts before its segment is synced.
    SkipSync,
    /// A scan believes a record whose header and trailer are good without reading its body.
    TrustTornTrailer,
    /// A record is punched before its delete is durable.
    PunchFirst,
    /// The directory is not synced after a segment was created.
    SkipDirectorySync,
    /// An index is written on after a sync of it failed.
    ForgetFailedSync,
    /// A segment is written on after a sync of it failed.
    ForgetPoison,
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Plants a bug on this thread, or takes it out.
pub(super) fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether this bug is planted on this thread.
pub(super) fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}
