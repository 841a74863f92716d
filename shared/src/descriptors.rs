//! File descriptors: a volume holds one per sealed segment and two per open one, a server one per connection. The
//! usual soft limit of 1024 exists for programs that use `select`; ours use what the hard limit allows.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the soft limit of this process to its hard limit. If that fails, the current limit stays.
pub fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "the limit of file descriptors could not be raised");
        }
    }
}

/// The number of files that this process may open.
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
