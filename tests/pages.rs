//! The commands of README.md and of the pages in docs/, run as a reader does: in order, in one shell and an empty
//! directory, with the ports they name, which each page has to itself in a network namespace.
//!
//! A page is judged by its commands alone. Its blocks in `text` need other machines; the commands of docs/s3 are
//! those of the scripts in `clients/`, which `s3` runs.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tests::folder::binary;
use tests::tool::run;
use tests::{Folder, skip};
use tokio::process::Command;

use crate::s3;
use crate::tidy::{files, root};

mod links;

/// Time limit for a page, on a busy machine.
const LIMIT: Duration = Duration::from_secs(240);
/// Bytes of a failed page's output that are shown.
const SHOWN: usize = 6000;
/// The command with which pages wait for their servers.
const WAIT: &str = "until curl -sf localhost:3000/_/health; do sleep 0.2; done";
/// The command that stops the servers.
const STOP: &str = "kill $(jobs -p) && wait";
/// A plain `wait` succeeds however the servers end. Ended by a signal is fine.
const WAITING: &str = "wait() {
  (($# == 0)) || { builtin wait \"$@\"; return; }
  local pid ended=0
  for pid in $(jobs -p); do
    builtin wait \"$pid\" || case $? in 137 | 143) ;; *) ended=1 ;; esac
  done
  return $ended
}
";
/// The output that a comment announces: a status, or a value.
const PROMISED: &[&str] = &["201", "examplevalue"];
/// An error status ends the page, and every status is printed.
const CURLRC: &[u8] = b"silent\nshow-error\nfail\nwrite-out = \"%{stderr}\\n%{http_code}\\n\"\n";

/// Ways to get a private network: as root, and as another user.
const UNSHARE: [&[&str]; 2] = [&["--net"], &["--map-root-user", "--net"]];

/// README.md's block for a checkout with sources, and its replacement when the programs are already built.
const INSTEAD: &[(&str, &[&str])] = &[
    ("cargo run --release -- server ", &["barge server &", WAIT, "head -c 5000000 /dev/urandom > bigfile"]),
    ("./tests/run ", &["export AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=bargebarge"]),
];

/// A test of a page.
macro_rules! pages {
    ($($name:ident: $page:literal;)*) => {
        const PAGES: &[&str] = &[$($page),*];
        $(#[tokio::test]
        async fn $name() {
            check($page, steps(&read($page)), Vec::new()).await;
        })*
    };
}

pages! {
    access_keys: "docs/access-keys.md";
    backup_and_restore: "docs/backup-and-restore.md";
    command_reference: "docs/command-reference.md";
    disk_dies: "docs/disk-dies.md";
    getting_started: "docs/getting-started.md";
    growing_and_draining: "docs/growing-and-draining.md";
    metadata_lost: "docs/metadata-lost.md";
    monitoring: "docs/monitoring.md";
    one_machine: "docs/one-machine.md";
    redis_clients: "docs/redis-clients.md";
    s3_clients: "docs/s3-clients.md";
    three_masters: "docs/three-masters.md";
    tls: "docs/tls.md";
}

#[tokio::test]
async fn readme() {
    let Some(python) = s3::python("test-venv", s3::PACKAGES).await else { return };
    let mut all = steps(&read("README.md"));
    for (start, instead) in INSTEAD {
        let at = all.iter().position(|step| step.text.starts_with(start)).expect("README.md says INSTEAD");
        let line = all[at].line;
        all.splice(at..=at, instead.iter().map(|text| Step { line, text: (*text).to_owned() }));
    }
    assert_eq!(all.iter().filter_map(promised).collect::<Vec<_>>(), PROMISED);
    all.push(Step { line: 0, text: STOP.to_owned() });
    check("README.md", all, vec![python.with_file_name("aws")]).await;
}

#[test]
fn every_page_with_commands_has_its_test() {
    let pages = files(&["md"]).filter(|f| f.starts_with("docs/") && !steps(&read(f)).is_empty());
    let (clients, pages): (Vec<_>, Vec<_>) = pages.partition(|page| page.starts_with("docs/s3/"));
    assert_eq!(pages, PAGES, "name each page with a block in `sh` in tests/pages.rs");
    for page in clients {
        let text = read(&page);
        let script = text.split("Run by `").nth(1).and_then(|rest| rest.split('`').next());
        let there = script.is_some_and(|s| s.starts_with("tests/clients/") && root().join(s).exists());
        assert!(there, "{page} does not say which script of tests/clients runs its commands");
    }
}

/// Each of these pages is wrong in the line beside it, or hangs there.
#[tokio::test]
async fn planted_mistakes_are_found() {
    let asked = format!("barge server &\n{WAIT}\ncurl localhost:3000/missing\n{STOP}");
    let wrong = [
        ("true\nfalse\ntrue", 3),
        ("false && true", 2),
        ("echo \\\n  $unknown", 2),
        ("curl localhost:3000", 2),
        ("echo 500   # 201: created", 2),
        ("true\nsleep 1000 &", 3),
        ("(exit 101) &\nwait", 3),
        (asked.as_str(), 4),
    ];
    let Some(unshare) = namespace("mistakes").await else { return };
    let tried = async |block: &str, limit| {
        let steps = steps(&format!("```text\nfalse\n```\n```sh\n{block}\n```\n"));
        walk("planted.md", steps, Vec::new(), unshare, limit).await
    };
    assert_eq!(tried("echo 201   # 201\nsleep 1000 &\nkill $! && wait", LIMIT).await, Ok(()));
    for (block, line) in wrong {
        let why = tried(block, LIMIT).await.expect_err(block);
        assert!(why.starts_with(&format!("planted.md:{}: ", line + 3)), "{block}: {why}");
    }
    let why = tried("until false; do sleep 0.2; done", Duration::from_secs(3)).await.expect_err("no end");
    assert!(why.contains("still running"), "{why}");
}

/// A command of a page, with its continuation lines.
#[derive(Debug)]
struct Step {
    line: usize,
    text: String,
}

/// Returns the commands of a page's `sh` blocks.
fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let (mut fenced, mut ours) = (false, false);
    for (line, text) in (1..).zip(page.lines()) {
        if text.starts_with("```") {
            fenced = !fenced;
            ours = fenced && text == "```sh";
        } else if ours && !text.is_empty() {
            match steps.last_mut().filter(|step| step.text.ends_with('\\')) {
                Some(step) => step.text.extend(["\n", text]),
                None => steps.push(Step { line, text: text.to_owned() }),
            }
        }
    }
    steps
}

/// Returns the output that a command's comment announces.
fn promised(step: &Step) -> Option<&str> {
    let (_, comment) = step.text.rsplit_once("# ")?;
    let word = comment.split([' ', ':']).next()?;
    PROMISED.contains(&word).then_some(word)
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).expect("the page can be read")
}

/// Runs a page; fails with the command that failed.
async fn check(page: &str, steps: Vec<Step>, programs: Vec<PathBuf>) {
    let Some(unshare) = namespace(page).await else { return };
    if let Err(why) = walk(page, steps, programs, unshare, LIMIT).await {
        panic!("{why}");
    }
}

/// Returns the options of `unshare` that give a private network here. Without any, skips the page.
async fn namespace(page: &str) -> Option<&'static [&'static str]> {
    let mut why = String::new();
    for options in UNSHARE {
        let ran = run("unshare", options.iter().chain(&["ip", "link", "set", "lo", "up"])).await;
        if ran.code == 0 {
            return Some(options);
        }
        why = ran.err;
    }
    skip(format_args!("the commands of {page}"), format_args!("they need a network namespace: {why}"));
    None
}

/// Runs commands in one shell, with our programs and these in its path; returns the failed command and the output.
async fn walk(
    page: &str,
    mut steps: Vec<Step>,
    programs: Vec<PathBuf>,
    unshare: &[&str],
    limit: Duration,
) -> Result<(), String> {
    let line = steps.last().expect("a page has commands").line;
    steps.push(Step { line, text: "[ -z \"$(jobs -pr)\" ]   # a page stops its servers".into() });
    let folder = Folder::new(&page.replace(['/', '.'], "-"));
    let [bin, home, empty] = ["bin", "home", "empty"].map(|name| folder.join(name));
    for directory in [&bin, &home, &empty] {
        fs::create_dir(directory).expect("a directory for the page");
    }
    for program in ["barge", "master", "volume"].map(binary).into_iter().chain(programs) {
        symlink(&program, bin.join(program.file_name().expect("a program"))).expect("a link");
    }
    fs::write(home.join(".curlrc"), CURLRC).expect("a file for the page");
    let said = folder.join("said");
    let file = File::create(&said).expect("a file for what it prints");
    let mut shell = Command::new("unshare");
    shell.args(unshare).arg("bash").arg(folder.file("page.sh", script(page, &steps).as_bytes()));
    // Without the user's environment variables.
    shell.current_dir(&empty).env_clear().env("HOME", &home).env("PATH", s3::path_with(&bin));
    shell.stdin(Stdio::null()).stdout(file.try_clone().expect("a descriptor")).stderr(file).process_group(0);
    let mut shell = shell.spawn().expect("unshare starts");
    let id = shell.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let ended = tokio::time::timeout(limit, shell.wait()).await;
    // Kills all that it has started. Nothing is left of a page that stops its servers.
    let _ = kill_process_group(id.expect("the child has not been reaped"), Signal::KILL);
    let how = match ended {
        Ok(status) => Some(status.expect("its end")).filter(|s| !s.success()).map(|s| s.to_string()),
        Err(_) => Some(format!("is still running after {limit:?}")),
    };
    verdict(page, &steps, how, &String::from_utf8_lossy(&fs::read(&said).expect("the output can be read")))
}

/// The commands as a script that reports the current one and ends with the first that fails.
fn script(page: &str, steps: &[Step]) -> String {
    let mut script = format!("set -eu\nip link set lo up\n{WAITING}");
    for Step { line, text } in steps {
        // With -e alone, `a && b` may fail unnoticed.
        let _ = write!(script, "printf '\\n== %s\\n' {page}:{line}\n{text}\n(($? == 0))\n");
    }
    script
}

/// Finds the command that a page ended with, or whose output differs from its comment.
fn verdict(page: &str, steps: &[Step], how: Option<String>, said: &str) -> Result<(), String> {
    let printed: Vec<&str> = said.split(&format!("\n== {page}:")).skip(1).collect();
    let wrong = |(step, printed): &(&Step, &str)| {
        promised(step).is_some_and(|word| !printed.lines().skip(1).any(|line| line.starts_with(word)))
    };
    let (step, why) = match how {
        Some(how) => (steps.get(printed.len().saturating_sub(1)), how),
        None => match steps.iter().zip(printed.iter().copied()).find(wrong) {
            Some((step, _)) => (Some(step), "printed something other than its comment says".into()),
            None => return Ok(()),
        },
    };
    let Step { line, text } = step.expect("the output names a command of the page");
    let end = &said.as_bytes()[said.len().saturating_sub(SHOWN)..];
    Err(format!("{page}:{line}: {why}: {text}\n{}", String::from_utf8_lossy(end)))
}
