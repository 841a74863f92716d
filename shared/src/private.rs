//! What a server writes is for its own user: values, names, and secrets that are sealed.

use rustix::fs::Mode;

/// From here on files of this process are 0600 and directories 0700, whatever its user's own mask. Not for commands that
/// write a file for their user.
pub fn keep_private() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}
