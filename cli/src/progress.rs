//! Progress of a transfer: a bar with rate and remaining time, on standard error if that is a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::Output;

/// The progress bar of one transfer; cheap to clone, silent if standard error is not a terminal.
#[derive(Clone, Debug)]
pub(crate) struct Meter {
    bar: ProgressBar,
    /// All positions it has had.
    #[cfg(test)]
    places: std::sync::Arc<std::sync::Mutex<Vec<u64>>>,
}

impl Meter {
    /// A bar for `name`, of `total` bytes if known.
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
        Self::of(bar)
    }

    /// A bar for `name` that counts items.
    pub(crate) fn counting(name: &str, output: Output) -> Self {
        if output.is_json() {
            return Self::silent();
        }
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{msg} [{bar:30}] {human_pos}/{human_len} {eta}");
        bar.set_style(style.expect("the template is sound").progress_chars("=> "));
        bar.set_message(name.to_owned());
        Self::of(bar)
    }

    fn of(bar: ProgressBar) -> Self {
        Self {
            bar,
            #[cfg(test)]
            places: std::sync::Arc::default(),
        }
    }

    /// All positions it has had, and its length.
    #[cfg(test)]
    pub(crate) fn places(&self) -> (Vec<u64>, Option<u64>) {
        (self.places.lock().expect("no test panics in between").clone(), self.bar.length())
    }

    /// Sets the position and the length.
    pub(crate) fn count(&self, done: u64, all: u64) {
        self.bar.set_length(all.max(done));
        self.at(done);
    }

    /// A bar that shows nothing.
    pub(crate) fn silent() -> Self {
        Self::of(ProgressBar::hidden())
    }

    /// Sets the number of bytes moved.
    pub(crate) fn at(&self, bytes: u64) {
        self.bar.set_position(bytes);
        #[cfg(test)]
        self.places.lock().expect("no test panics in between").push(self.bar.position());
    }

    /// Hides the bar while `write` prints lines.
    pub(crate) fn beside<T>(&self, write: impl FnOnce() -> T) -> T {
        self.bar.suspend(write)
    }

    /// Removes the bar.
    pub(crate) fn done(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_what_is_to_be_moved() {
        for (total, json, length) in [(Some(7), false, Some(7)), (None, false, None), (Some(7), true, None)] {
            let meter = Meter::new("name", total, Output::new(json));
            meter.at(3);
            meter.at(7);
            assert_eq!(meter.places(), (vec![3, 7], length));
        }
    }

    #[test]
    fn a_bar_that_counts_is_never_shorter_than_what_is_done() {
        let meter = Meter::counting("records", Output::new(false));
        meter.count(2, 10);
        assert_eq!(meter.places(), (vec![2], Some(10)));
        meter.count(12, 10);
        assert_eq!(meter.places(), (vec![2, 12], Some(12)));
    }
}
