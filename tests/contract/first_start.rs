//! `barge server` in an empty directory and again in the same one: nothing is wrong, so there are no warnings. The
//! banner says how to connect, which changes once there is an access key.

use std::path::Path;

use tests::cluster::free_port;
use tests::folder::binary;
use tests::tool::run_command;
use tests::{Folder, Server, Spec};
use tokio::process::Command;

/// The secret that the examples use while there is no key.
const OPEN_SECRET: &str = "bargebarge";

/// Runs the command that ends with `args` with the configuration below `home`.
async fn barge(home: &Path, args: &[&str]) -> String {
    let mut command = Command::new(binary("barge"));
    command.current_dir(home).env("HOME", home).env_remove("XDG_CONFIG_HOME").args(args);
    let ran = run_command(command, None).await;
    assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
    String::from_utf8_lossy(&ran.out).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_start_warns_of_nothing() {
    let folder = Folder::new("firststart");
    let (listen, s3) = (format!("127.0.0.1:{}", ports()), format!("127.0.0.1:{}", free_port()));
    let args = ["server", "--listen", &listen, "--s3-listen", &s3, "--reserve", "16MiB", "--data", "data"];
    let spec = Spec::new("server", "barge", args);
    let mut server = Server::start(spec, folder.path()).await.expect("it starts");
    let banner = server.banner().await;
    assert!(banner.contains(OPEN_SECRET) && banner.contains(&s3), "{banner}");
    // Each volume has registered once: none was refused and retried a second later.
    let log = server.log();
    let registered = log.lines().filter(|line| line.contains("volume joined")).count();
    assert_eq!(registered, 3, "{log}");
    assert!(!log.contains("belongs to no cluster yet"), "a volume was refused:\n{log}");
    assert!(server.terminate().await.success());

    server.restart().await.expect("it starts again");
    assert!(server.banner().await.contains(OPEN_SECRET));
    let url = server.url().to_owned();
    barge(folder.path(), &["--url", &url, "key", "create", "--id", "BKONE", "--secret", "0123456789abcdef"])
        .await;
    assert!(server.terminate().await.success());
    server.restart().await.expect("it starts once more");
    let banner = server.banner().await;
    assert!(!banner.contains(OPEN_SECRET) && banner.contains("barge key list"), "{banner}");
    assert!(server.terminate().await.success());

    let log = server.log();
    let warned: Vec<_> = log.lines().filter(|l| l.contains("WARN") || l.contains("ERROR")).collect();
    assert!(warned.is_empty(), "{warned:#?}");
    let told = |what: &str| log.lines().filter(|l| l.contains("INFO") && l.contains(what)).count();
    assert_eq!(told("volume=") - told("volume started"), 0, "one line for each volume:\n{log}");
    assert_eq!(told("volume started"), 9, "{log}");
}

/// Returns a port with three free ones after it.
fn ports() -> u16 {
    loop {
        let port = free_port();
        if port < 65_532 && (1..=3).all(|n| std::net::TcpListener::bind(("127.0.0.1", port + n)).is_ok()) {
            return port;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn help_names_the_default_of_s3_listen() {
    let folder = Folder::new("help");
    let said = barge(folder.path(), &["server", "--help"]).await;
    let after = said.split("--s3-listen").nth(1).expect("the option");
    let own = after.split("\n      --").next().unwrap_or_default().to_owned();
    assert!(own.contains("9000"), "{own}");
    assert!(said.contains("--no-redirect"), "{said}");
}
