//! Access over the wire: browser pages on the machine of an open master, clients that guess secrets, clients without
//! a key that ask about the cluster; and what the audit log records about all of them.

mod administrators;
mod audit;
mod browser;
mod cors;
mod guesses;
mod strangers;
mod unseen;

use std::ffi::OsString;

use tests::cluster::free_port;
use tests::folder::binary;
use tests::raw::{Raw, RawAnswer};
use tests::tool::{Ran, run_command};
use tests::{Folder, Server, Spec};

/// A master with both APIs and one volume, in one process.
struct Site {
    server: Server,
    /// `HOST:PORT` of the S3 API.
    s3: String,
    // Last: the directory is removed after the process has ended.
    folder: Folder,
}

impl Site {
    /// Starts the site on this loopback address, with more arguments.
    async fn start(name: &str, host: &str, more: &[&str]) -> Self {
        let folder = Folder::new(name);
        let s3 = format!("{host}:{}", free_port());
        let listen = format!("{host}:0");
        let mut args: Vec<OsString> =
            ["server", "--listen", &listen, "--s3-listen", &s3].map(Into::into).to_vec();
        args.extend(["--volumes", "1", "--replicas", "1", "--reserve", "16MiB"].map(OsString::from));
        args.extend(["--data".into(), folder.join("data").into_os_string()]);
        args.extend(["--secret-file".into(), folder.join("secret").into_os_string()]);
        args.extend(more.iter().map(OsString::from));
        let server =
            Server::start(Spec::new("server", "barge", args), folder.path()).await.expect("a server");
        Self { server, s3, folder }
    }

    /// Runs `barge` with the cluster's secret; it must succeed.
    async fn signed(&self, args: &[&str]) -> Ran {
        let ran = self.barge(args).await;
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
        ran
    }

    /// Runs `barge` with the cluster's secret.
    async fn barge(&self, args: &[&str]) -> Ran {
        let secret = self.folder.join("secret").display().to_string();
        self.run(&[args, &["--secret-file", &secret]].concat(), &[]).await
    }

    /// Runs `barge` with nothing but these environment variables.
    async fn run(&self, args: &[&str], variables: &[(&str, &str)]) -> Ran {
        let mut command = tokio::process::Command::new(binary("barge"));
        command.current_dir(self.folder.path()).env("HOME", self.folder.path());
        for name in ["BARGE_ACCESS_KEY", "BARGE_URL", "XDG_CONFIG_HOME"] {
            command.env_remove(name);
        }
        command.args(["--url", self.server.url()]).args(args).envs(variables.iter().copied());
        run_command(command, None).await
    }
}

/// Sends one request with exactly these header lines to `HOST:PORT` and reads the answer.
fn ask(address: &str, line: &str, headers: &[&str], body: &str) -> RawAnswer {
    let mut raw = Raw::connect(address);
    let fields: String = headers.iter().map(|h| format!("{h}\r\n")).collect();
    let length = body.len();
    raw.send(format!(
        "{line} HTTP/1.1\r\n{fields}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    ));
    raw.answer()
}

fn text(answer: &RawAnswer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}
