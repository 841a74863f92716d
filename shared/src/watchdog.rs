//! Ends a server whose runtime no longer runs. A thread of the runtime that waits for a disk that hangs can stop all
//! timers, and with them every other limit in time; then only a thread outside of the runtime notices.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use tokio::runtime::Handle;

use crate::limits::RUNTIME_STUCK;

/// Interval between two signs of life.
const BEAT: Duration = Duration::from_secs(1);
/// How long the last line of the log may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Ends this process, with an error in its log, if `runtime` runs no timer for `RUNTIME_STUCK`. A supervisor
/// restarts it once the kernel lets the process go; other masters elect another leader meanwhile.
///
/// # Errors
/// When the thread cannot be started.
pub fn end_when_stuck(runtime: &Handle) -> std::io::Result<()> {
    watch(runtime, BEAT, beats(RUNTIME_STUCK), || {
        say_within(LAST_WORDS, || {
            tracing::error!(
                within = ?RUNTIME_STUCK,
                "this server hangs: no task has run; probably a disk does not answer. Exiting"
            );
        });
        std::process::exit(1)
    })
}

/// Calls `say`, which may hang as well: the log can be on the same disk, or its pipe full. Returns after `limit`.
fn say_within(limit: Duration, say: impl FnOnce() + Send + 'static) {
    let (told, ended) = sync_channel(1);
    let said = std::thread::Builder::new().spawn(move || {
        say();
        let _ = told.send(());
    });
    if said.is_ok() {
        let _ = ended.recv_timeout(limit);
    }
}

/// Missing signs of life after which a runtime is stuck. Counted, not timed: a process that was stopped and
/// goes on has lost much time and one or two beats.
fn beats(stuck: Duration) -> u32 {
    u32::try_from(stuck.as_millis() / BEAT.as_millis()).unwrap_or(u32::MAX)
}

/// Calls `stuck` after `limit` missing signs of life; ends with the runtime.
fn watch(
    runtime: &Handle,
    every: Duration,
    limit: u32,
    stuck: impl FnOnce() + Send + 'static,
) -> std::io::Result<()> {
    let (beat, beats) = sync_channel(1);
    runtime.spawn(async move {
        loop {
            tokio::time::sleep(every).await;
            // Full if the thread has not looked since the last one.
            let _ = beat.try_send(());
        }
    });
    let check = move || {
        let mut missed = 0;
        while missed < limit {
            match beats.recv_timeout(every * 2) {
                Ok(()) => missed = 0,
                Err(RecvTimeoutError::Timeout) => missed += 2,
                // The runtime has ended.
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        stuck();
    };
    std::thread::Builder::new().name("barge-watchdog".to_owned()).spawn(check).map(drop)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    const TICK: Duration = Duration::from_millis(2);

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    }

    #[test]
    fn a_runtime_whose_threads_are_blocked_is_noticed() {
        let (runtime, (stuck, noticed)) = (runtime(), channel());
        watch(runtime.handle(), TICK, 50, move || stuck.send(()).unwrap()).unwrap();
        let (release, blocked) = channel::<()>();
        runtime.spawn(async move { blocked.recv() });
        noticed.recv_timeout(Duration::from_secs(60)).unwrap();
        drop(release);
    }

    #[test]
    fn a_runtime_that_runs_or_has_ended_is_not() {
        let (runtime, (stuck, noticed)) = (runtime(), channel::<()>());
        watch(runtime.handle(), TICK, 200, move || stuck.send(()).unwrap()).unwrap();
        assert_eq!(noticed.recv_timeout(TICK * 500), Err(RecvTimeoutError::Timeout));
        drop(runtime);
        // The thread ends, and drops its sender unused.
        assert_eq!(noticed.recv_timeout(Duration::from_secs(60)), Err(RecvTimeoutError::Disconnected));
    }

    #[test]
    fn a_log_that_hangs_does_not_keep_the_process() {
        let (release, blocked) = channel::<()>();
        say_within(TICK, move || {
            let _ = blocked.recv();
        });
        // Still blocked: the receiver lives.
        release.send(()).unwrap();
    }

    #[test]
    fn a_stuck_runtime_is_given_the_whole_limit() {
        assert_eq!(BEAT * beats(RUNTIME_STUCK), RUNTIME_STUCK);
    }
}
