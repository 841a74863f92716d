//! How far a transfer is: a bar with rate and remaining time on standard error when that is a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::Output;

/// The bar of one transfer; cheap to clone, silent when nobody is watching.
#[derive(Clone, Debug)]
pub(crate) struct Meter(ProgressBar);

impl Meter {
    /// For `name`, of so many bytes if that is known.
    pub(crate) fn new(name: &str, total: Option<u64>, output: Output) -> Self {
        if output.is_json() {
            return Self::silent();
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
        let template = match total {
            Some(_) => "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            None => "{msg} {spinner} {bytes} {bytes_per_sec} {elapsed}",
        };
        let style = ProgressStyle::with_template(template).expect("the templates above are sound");
        bar.set_style(style.progress_chars("=> "));
        bar.set_message(name.to_owned());
        Self(bar)
    }

    /// For `name`, of things that are counted.
    pub(crate) fn counting(name: &str, output: Output) -> Self {
        if output.is_json() {
            return Self::silent();
        }
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{msg} [{bar:30}] {human_pos}/{human_len} {eta}");
        bar.set_style(style.expect("the template is sound").progress_chars("=> "));
        bar.set_message(name.to_owned());
        Self(bar)
    }

    /// So many of so many.
    pub(crate) fn count(&self, done: u64, all: u64) {
        self.0.set_length(all.max(done));
        self.0.set_position(done);
    }

    /// One that shows nothing.
    pub(crate) fn silent() -> Self {
        Self(ProgressBar::hidden())
    }

    /// So many bytes in all have been moved.
    pub(crate) fn at(&self, bytes: u64) {
        self.0.set_position(bytes);
    }

    /// Does something that writes lines; the bar is out of their way meanwhile.
    pub(crate) fn beside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.0.suspend(write)
    }

    /// Takes the bar away.
    pub(crate) fn done(&self) {
        self.0.finish_and_clear();
    }
}
