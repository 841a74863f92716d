//! External programs: curl and similar, mkfs and mount, the C compiler.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};

use crate::folder::{Folder, target};

/// Time limit for a program in the tests.
const LIMIT: Duration = Duration::from_secs(180);

/// The result of a program.
#[derive(Clone, Debug)]
pub struct Ran {
    /// Its exit code; -1 after a signal.
    pub code: i32,
    pub out: Vec<u8>,
    pub err: String,
}

impl Ran {
    /// Returns the output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

/// Runs a program to its end.
///
/// # Panics
/// If it cannot be started or does not end.
pub async fn run<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> Ran {
    let mut command = Command::new(program);
    command.args(args);
    run_command(command, None).await
}

/// As `run`; the program must succeed.
///
/// # Panics
/// If it fails.
pub async fn must<S: AsRef<OsStr>>(program: &str, args: impl IntoIterator<Item = S>) -> Ran {
    let ran = run(program, args).await;
    assert_eq!(ran.code, 0, "{program} failed: {}{}", String::from_utf8_lossy(&ran.out), ran.err);
    ran
}

/// Runs a prepared program, with `input` on a pipe if given.
///
/// # Panics
/// If it cannot be started or does not end.
pub async fn run_command(mut command: Command, input: Option<Vec<u8>>) -> Ran {
    command.kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env_remove(name);
    }
    let mut child: Child = command.spawn().unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
    let pipe = child.stdin.take();
    let feed = async {
        if let (Some(mut pipe), Some(input)) = (pipe, input) {
            // A program that does not want all of it may close the pipe.
            let _ = pipe.write_all(&input).await;
        }
    };
    let both = async { tokio::join!(feed, child.wait_with_output()).1 };
    let output = tokio::time::timeout(LIMIT, both).await;
    let output = output.unwrap_or_else(|_| panic!("{command:?} is still running after {LIMIT:?}"));
    let output = output.expect("its output");
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: output.stdout,
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The result of a curl request.
#[derive(Clone, Debug)]
pub struct Curled {
    /// curl's exit code.
    pub code: i32,
    /// The last status.
    pub status: u16,
    pub redirects: u32,
    /// The body of the last answer.
    pub body: Vec<u8>,
    /// All heads, in order.
    pub heads: String,
    pub err: String,
}

impl Curled {
    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns a header of the last answer.
    pub fn header(&self, name: &str) -> Option<String> {
        let last = self.heads.trim_end().rsplit("\r\n\r\n").next()?;
        let mut lines = last.lines().filter_map(|l| l.split_once(':'));
        lines.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim().to_owned())
    }
}

/// Runs curl with `args`; body and heads are separate.
///
/// # Panics
/// If curl is missing.
pub async fn curl<S: AsRef<OsStr>>(folder: &Folder, args: impl IntoIterator<Item = S>) -> Curled {
    curl_fed(folder, args, None).await
}

/// As `curl`, with `input` on a pipe.
///
/// # Panics
/// If curl is missing.
pub async fn curl_fed<S: AsRef<OsStr>>(
    folder: &Folder,
    args: impl IntoIterator<Item = S>,
    input: Option<Vec<u8>>,
) -> Curled {
    static COUNT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let (body, heads) = (folder.join(format!("curl{count}.body")), folder.join(format!("curl{count}.heads")));
    let mut command = Command::new("curl");
    // -q: ignore the user's configuration.
    command.arg("-q").args(["-sS", "--max-time", "150", "-w", "%{http_code} %{num_redirects}"]);
    command.arg("-o").arg(&body).arg("-D").arg(&heads).args(args);
    let ran = run_command(command, input).await;
    let said = String::from_utf8_lossy(&ran.out).into_owned();
    let (status, redirects) = said.split_once(' ').unwrap_or(("0", "0"));
    let take = |path: &Path| {
        let bytes = std::fs::read(path).unwrap_or_default();
        let _ = std::fs::remove_file(path);
        bytes
    };
    Curled {
        code: ran.code,
        status: status.parse().unwrap_or(0),
        redirects: redirects.parse().unwrap_or(0),
        body: take(&body),
        heads: String::from_utf8_lossy(&take(&heads)).into_owned(),
        err: ran.err,
    }
}

/// Compiles a C source that a test embeds; extra arguments come first.
///
/// # Panics
/// If there is no compiler or it fails.
pub async fn compile(folder: &Folder, name: &str, source: &str, args: &[&str]) -> PathBuf {
    let (from, to) = (folder.file(&format!("{name}.c"), source.as_bytes()), folder.join(name));
    let mut all: Vec<&OsStr> = args.iter().map(OsStr::new).collect();
    all.extend([OsStr::new("-O1"), OsStr::new("-o"), to.as_os_str(), from.as_os_str(), OsStr::new("-ldl")]);
    must("cc", all).await;
    to
}

/// Returns a Python with the HTTP libraries of the client matrix, set up at the first use.
///
/// # Panics
/// If it cannot be set up.
pub async fn python() -> PathBuf {
    const PACKAGES: [&str; 4] = ["requests", "urllib3", "httpx", "aiohttp"];
    let venv = target().join("test-venv");
    let python = venv.join("bin/python");
    let import = format!("import {}", PACKAGES.join(", "));
    let usable = async || python.exists() && run(&python.to_string_lossy(), ["-c", &import]).await.code == 0;
    if !usable().await {
        must("python3", [OsStr::new("-m"), OsStr::new("venv"), venv.as_os_str()]).await;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        must(&python.to_string_lossy(), pip.iter().chain(&PACKAGES)).await;
        assert!(usable().await, "the Python packages of the client matrix are missing");
    }
    python
}
