//! File descriptors: a volume holds one for each sealed segment and two for an open one, a server one for each
//! connection. The usual soft limit of 1024 is there for programs that use `select`; ours take what the hard limit allows.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the soft limit of this process to its hard limit. Where that fails, what there is has to do.
pub fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the number of file descriptors could not be raised");
        }
    }
}

/// How many files this process may open.
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
