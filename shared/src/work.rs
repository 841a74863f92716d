//! How work that is not a request runs: the blocking pool, the worker loop, the shutdown signal.

use std::cell::Cell;
use std::future::Future;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};

/// Runs `f` on the blocking pool: disk calls and hashing, never anything that waits for a peer.
///
/// If the future is dropped, `f` still runs to its end; its result is discarded.
#[expect(clippy::disallowed_methods, reason = "the one place where the blocking pool is entered")]
pub async fn blocking<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    if Inline::is_entered() {
        return f();
    }
    match tokio::task::spawn_blocking(f).await {
        Ok(value) => value,
        Err(e) => match e.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down and will not run it: our caller is being dropped, too.
            Err(_) => std::future::pending().await,
        },
    }
}

/// While one of these lives, `blocking` on this thread runs its closure immediately instead of on the pool. For
/// simulations: on a single-threaded runtime, one seed then gives one order of events.
#[derive(Debug)]
pub struct Inline {
    outer: bool,
    /// Not `Send`: it applies to the thread it was created on.
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

/// The shutdown signal as its receivers see it: cheap to clone, awaited with `wait`.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

/// Sends the shutdown signal; so does dropping it.
#[derive(Debug)]
pub struct ShutdownTrigger(watch::Sender<bool>);

impl Shutdown {
    /// A trigger and its signal.
    pub fn new() -> (ShutdownTrigger, Self) {
        let (tx, rx) = watch::channel(false);
        (ShutdownTrigger(tx), Self(rx))
    }

    /// A signal that is sent when this process gets SIGINT or SIGTERM.
    ///
    /// # Errors
    /// If the handlers cannot be installed.
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

    /// Returns once the signal has been sent, immediately if it was before.
    pub async fn wait(&self) {
        let mut rx = self.0.clone();
        // An error means a dropped trigger, which sends the signal, too.
        let _ = rx.wait_for(|fired| *fired).await;
    }

    /// Whether the signal has been sent.
    pub fn fired(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }
}

impl ShutdownTrigger {
    /// Sends the signal.
    pub fn fire(&self) {
        self.0.send_replace(true);
    }

    /// Whether the signal has been sent.
    pub fn fired(&self) -> bool {
        *self.0.borrow()
    }
}

/// Whether a worker has work left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TickResult {
    /// None: wait for the interval or a nudge.
    Idle,
    /// Some: tick again immediately.
    More,
}

/// Background work: a `tick` that does a bounded amount and reports whether there is more.
pub trait Worker: Send + 'static {
    /// Its name, for logs.
    const NAME: &'static str;
    /// Does a bounded amount of work.
    fn tick(&mut self) -> impl Future<Output = TickResult> + Send;
}

/// The worker loop: ticks every `interval`, and immediately when `nudge` is notified, until shutdown. A tick in
/// progress then is completed, not dropped.
pub async fn run_worker<W: Worker>(
    mut worker: W,
    interval: Duration,
    nudge: Arc<Notify>,
    shutdown: Shutdown,
) {
    tracing::debug!(worker = W::NAME, ?interval, "worker started");
    while !shutdown.fired() {
        if worker.tick().await == TickResult::More {
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
