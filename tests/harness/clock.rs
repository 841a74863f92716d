//! Clocks that tests can shift, one per process: a preloaded library (`clock.c`) adds an offset read from a file.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use crate::folder::Folder;
use crate::tool::compile;

const SOURCE: &str = include_str!("clock.c");

/// The clock of one process.
#[derive(Debug)]
pub struct ShiftedClock {
    library: PathBuf,
    path: PathBuf,
    shift: File,
}

impl ShiftedClock {
    /// Creates this many clocks, correct until they are shifted.
    ///
    /// # Panics
    /// If there is no compiler or the file cannot be created.
    pub async fn several(folder: &Folder, count: usize) -> Vec<Self> {
        let library = compile(folder, "clock.so", SOURCE, &["-shared", "-fPIC"]).await;
        let clock = |n| {
            let path = folder.join(format!("clock{n}"));
            let shift = File::options().write(true).create(true).truncate(true).open(&path);
            let clock = Self { library: library.clone(), path, shift: shift.expect("a file") };
            clock.set(0);
            clock
        };
        (0..count).map(clock).collect()
    }

    /// Returns the process's environment variables.
    pub fn env(&self) -> Vec<(String, OsString)> {
        let variable = |name: &str, path: &PathBuf| (name.to_owned(), path.clone().into_os_string());
        vec![variable("LD_PRELOAD", &self.library), variable("CLOCK_SHIFT", &self.path)]
    }

    /// Sets how many milliseconds the clock is ahead of the true time; negative is behind.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub fn set(&self, ahead_ms: i64) {
        self.shift.write_all_at(&ahead_ms.to_ne_bytes(), 0).expect("its file can be written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool::run_command;

    #[tokio::test]
    async fn a_process_sees_its_own_time() {
        let folder = Folder::new("clock");
        let clocks = ShiftedClock::several(&folder, 2).await;
        clocks[1].set(-3_600_000);
        let mut times = Vec::new();
        for clock in &clocks {
            let mut date = tokio::process::Command::new("date");
            date.arg("+%s").envs(clock.env());
            let ran = run_command(date, None).await;
            times.push(String::from_utf8_lossy(&ran.out).trim().parse::<i64>().expect("seconds"));
        }
        assert!((3590..=3600).contains(&(times[0] - times[1])), "{times:?}");
    }
}
