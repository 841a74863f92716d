//! A server process: started, killed, frozen, and restarted on the same address and directory.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::folder::binary;

/// Limit from the start of a process to its first line, on a busy machine.
const START: Duration = Duration::from_secs(60);
/// Log lines shown when a test fails.
const TAIL: usize = 40;

#[derive(Clone, Debug)]
pub struct Spec {
    /// The name in logs and messages.
    pub name: String,
    /// `master`, `volume` or `barge`.
    pub program: &'static str,
    pub args: Vec<OsString>,
    /// Environment variables besides the usual ones.
    pub env: Vec<(String, OsString)>,
    /// The program, with arguments, that starts it and becomes it; usually none.
    pub through: Vec<OsString>,
}

impl Spec {
    /// A program with arguments.
    pub fn new<I: Into<OsString>>(
        name: &str,
        program: &'static str,
        args: impl IntoIterator<Item = I>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            program,
            args: args.into_iter().map(Into::into).collect(),
            env: Vec::new(),
            through: Vec::new(),
        }
    }

    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    fn command(&self, home: &Path) -> Command {
        let mut words = self.through.iter().cloned().chain([binary(self.program).into_os_string()]);
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words).args(&self.args).current_dir(home).kill_on_drop(true).stdin(Stdio::null());
        for name in ["PORT", "XDG_CONFIG_HOME", "BARGE_URL", "BARGE_ACCESS_KEY", "BARGE_TLS_CA", "LD_PRELOAD"]
        {
            command.env_remove(name);
        }
        command
            .env("HOME", home)
            .env("RUST_LOG", "info,master=debug,volume=debug,shared=debug,sled=warn,openraft=warn");
        command.envs(self.env.iter().map(|(n, v)| (n, v)));
        command
    }

    /// Runs the program to its end: for starts that must fail.
    ///
    /// # Panics
    /// If it does not end.
    pub async fn run_to_end(&self, home: &Path) -> (ExitStatus, String) {
        let output = self.command(home).output();
        let output = tokio::time::timeout(START, output).await;
        let output = output.unwrap_or_else(|_| panic!("{} is still running after {START:?}", self.name));
        let output = output.expect("the process can be started");
        let said = [output.stdout, output.stderr].concat();
        (output.status, String::from_utf8_lossy(&said).into_owned())
    }
}

/// A server under test. Killed when dropped; its log is shown if the test failed.
#[derive(Debug)]
pub struct Server {
    spec: Spec,
    home: PathBuf,
    url: String,
    child: Option<Child>,
    // Kept open: a server that prints to a closed pipe would fail.
    lines: Option<Lines<BufReader<ChildStdout>>>,
}

impl Server {
    /// Starts it in `home` and waits for its first line, which ends with its address.
    ///
    /// # Errors
    /// Its log, if it exits first.
    pub async fn start(spec: Spec, home: &Path) -> Result<Self, String> {
        let mut server = Self { spec, home: home.to_owned(), url: String::new(), child: None, lines: None };
        server.restart().await?;
        Ok(server)
    }

    /// Restarts it with the same arguments.
    ///
    /// # Errors
    /// Its log, if it exits before it listens.
    ///
    /// # Panics
    /// If it cannot be started at all.
    pub async fn restart(&mut self) -> Result<(), String> {
        self.begin();
        self.listens().await
    }

    /// Starts it without waiting until it listens: for faults while it opens.
    ///
    /// # Panics
    /// If it cannot be started at all.
    pub fn begin(&mut self) {
        let log = File::options().create(true).append(true).open(self.log_path()).expect("a log file");
        let mut command = self.spec.command(&self.home);
        command.stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().expect("the process can be started");
        let lines = BufReader::new(child.stdout.take().expect("its output is a pipe")).lines();
        (self.child, self.lines) = (Some(child), Some(lines));
    }

    /// Waits until it listens after `begin`.
    ///
    /// # Errors
    /// Its log, if it exits before.
    ///
    /// # Panics
    /// If it was not started with `begin`.
    pub async fn listens(&mut self) -> Result<(), String> {
        let lines = self.lines.as_mut().expect("`begin` was called");
        let first = tokio::time::timeout(START, lines.next_line()).await;
        let first = first.map_err(|_| format!("{} says nothing:\n{}", self.spec.name, self.log()))?;
        let Ok(Some(first)) = first else {
            self.kill().await;
            return Err(format!("{} did not start:\n{}", self.spec.name, self.log()));
        };
        let url = first.split_whitespace().last().unwrap_or_default();
        assert!(
            url.starts_with("http://") || url.starts_with("https://"),
            "the first line ends with the address: {first}"
        );
        self.url = url.to_owned();
        Ok(())
    }

    /// Its process id.
    ///
    /// # Panics
    /// If it does not run.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().and_then(Child::id).expect("it runs")
    }

    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Returns its address as a base URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn address(&self) -> &str {
        self.url.split_once("://").map_or(&*self.url, |(_, address)| address)
    }

    /// Sets its arguments from the next start on.
    pub fn spec_mut(&mut self) -> &mut Spec {
        &mut self.spec
    }

    /// Reports whether it was started and has not been killed or seen to exit since.
    pub fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|c| matches!(c.try_wait(), Ok(None)))
    }

    /// Sends SIGKILL and waits until the process is gone.
    pub async fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.start_kill();
            let _ = child.wait().await;
        }
    }

    /// Returns what `barge server` prints after its first line: all about how to connect.
    ///
    /// # Panics
    /// If it does not print that.
    pub async fn banner(&mut self) -> String {
        let lines = self.lines.as_mut().expect("`begin` was called");
        let mut said = String::new();
        while !said.contains("S3 clients") || !said.ends_with("\n\n") {
            let line = tokio::time::timeout(START, lines.next_line()).await.expect("a line in time");
            said.push_str(&line.expect("its output").expect("one more line"));
            said.push('\n');
        }
        said
    }

    /// Sends SIGTERM without waiting for the exit.
    pub fn ask_to_end(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGTERM and waits for the exit.
    ///
    /// # Panics
    /// If it does not exit in time.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        let mut child = self.child.take().expect("it runs");
        let ended = tokio::time::timeout(START, child.wait()).await;
        ended.unwrap_or_else(|_| panic!("{} does not exit", self.spec.name)).expect("its status")
    }

    /// Sends SIGSTOP: it keeps its sockets and does nothing.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.as_ref().and_then(Child::id).and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = id.and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }

    /// Returns the path of its log.
    pub fn log_path(&self) -> PathBuf {
        self.home.join(format!("{}.log", self.spec.name))
    }

    /// Returns its log so far, of all its runs.
    pub fn log(&self) -> String {
        fs::read(self.log_path()).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
            crate::say(format_args!("--- end of the log of {} ---\n{tail}", self.spec.name));
        }
    }
}
