//! Redis' own tests. Minutes long, so `tests/run --long` runs them.

use tests::tool::run_command;
use tests::{say, skip};
use tokio::process::Command;

use super::site::{ADMIN, Site};

#[tokio::test(flavor = "multi_thread")]
async fn the_tests_of_redis() {
    if run_command(Command::new("tclsh"), Some(Vec::new())).await.code == 127 {
        return skip("Redis' own tests", "tcl is not installed");
    }
    let (open, locked) = (Site::start("resp-suite").await, Site::start("resp-suite-key").await);
    locked.key(ADMIN, &["--permission", "admin"]).await;
    let mut command = Command::new("bash");
    command.arg(super::source("suite.sh")).arg("127.0.0.1").arg(open.port.to_string());
    command.arg(tests::folder::target().join("test-redis-suite")).arg(locked.port.to_string());
    command.arg(format!("{}:{}", ADMIN.0, ADMIN.1));
    let ran = run_command(command, None).await;
    say(format_args!("{}", ran.text()));
    assert_eq!(ran.code, 0, "{}{}", ran.text(), ran.err);
}
