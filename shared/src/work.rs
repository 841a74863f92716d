//! How work that is not a request runs: the blocking pool, the worker loop, the shutdown signal.

use std::cell::Cell;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

/// Runs `f` on the blocking pool: disk calls and hashing, never anything that waits for a peer.
///
/// A future that is dropped half way leaves `f` running to its end; its result is thrown away.
#[expect(clippy::disallowed_methods, reason = "the one place where the blocking pool is entered")]
pub async fn blocking<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    if Inline::is_entered() {
        return f();
    }
    match tokio::task::spawn_blocking(f).await {
        Ok(value) => value,
        Err(e) => match e.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down and will not run it: whoever waits is being dropped too.
            Err(_) => std::future::pending().await,
        },
    }
}

/// While one of these lives, `blocking` on this thread runs its closure at once instead of handing it to the
/// pool. For simulations: on a runtime of one thread, one seed then gives one order of events.
#[derive(Debug)]
pub struct Inline {
    outer: bool,
    /// It speaks of the thread it was made on.
    stays: PhantomData<*const ()>,
}

thread_local! {
    static INLINE: Cell<bool> = const { Cell::new(false) };
}

impl Inline {
    /// Turns it on for this thread, until the guard is dropped.
    #[must_use]
    pub fn enter() -> Self {
        Self { outer: INLINE.replace(true), stays: PhantomData }
    }

    fn is_entered() -> bool {
        INLINE.get()
    }
}

impl Drop for Inline {
    fn drop(&mut self) {
        INLINE.set(self.outer);
    }
}

/// The end of a server, told to all its parts: cheap to clone, waited for with `wait`.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

/// The hand that gives the signal; dropping it gives it too.
#[derive(Debug)]
pub struct ShutdownTrigger(watch::Sender<bool>);

impl Shutdown {
    /// A signal and the hand that gives it.
    pub fn new() -> (ShutdownTrigger, Self) {
        let (tx, rx) = watch::channel(false);
        (ShutdownTrigger(tx), Self(rx))
    }

    /// Given by SIGINT or SIGTERM to this process.
    ///
    /// # Errors
    /// When the process cannot install the handlers.
    pub fn on_signals() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let (trigger, shutdown) = Self::new();
        tokio::spawn(async move {
            tokio::select! { _ = int.recv() => {}, _ = term.recv() => {} }
            trigger.fire();
        });
        Ok(shutdown)
    }

    /// Returns once the signal was given, at once if it was before.
    pub async fn wait(&self) {
        let mut rx = self.0.clone();
        // An error is a dropped trigger, which means the same.
        let _ = rx.wait_for(|fired| *fired).await;
    }

    /// Whether it was given.
    pub fn fired(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}

impl ShutdownTrigger {
    /// Gives the signal.
    pub fn fire(&self) {
        self.0.send_replace(true);
    }

    /// Whether it was given.
    pub fn fired(&self) -> bool {
        *self.0.borrow()
    }
}

/// What a worker's tick says of the work left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing left: wait for the interval or a nudge.
    Idle,
    /// More at hand: tick again at once.
    More,
}

/// A piece of background work: a `tick` that does a bounded amount and says whether there is more.
pub trait Worker: Send + 'static {
    /// Its name, for logs.
    const NAME: &'static str;
    /// Does a bounded amount of work.
    fn tick(&mut self) -> impl Future<Output = Progress> + Send;
}

/// The one worker loop: ticks every `interval`, at once when `nudge` is notified, until the end of
/// the server. A tick that is under way then is finished, not dropped.
pub async fn run_worker<W: Worker>(
    mut worker: W,
    interval: Duration,
    nudge: Arc<Notify>,
    shutdown: Shutdown,
) {
    tracing::debug!(worker = W::NAME, ?interval, "worker started");
    while !shutdown.fired() {
        if worker.tick().await == Progress::More {
            continue;
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            () = nudge.notified() => {}
            () = shutdown.wait() => {}
        }
    }
    tracing::debug!(worker = W::NAME, "worker stopped");
}
