//! A master that answers Redis clients, and a client that speaks the protocol by hand.

use std::ffi::OsString;

use tests::cluster::free_port;
use tests::folder::binary;
use tests::raw::Raw;
use tests::tool::run_command;
use tests::{Client, Folder, Server, Spec};
use tokio::process::Command;

pub const ADMIN: (&str, &str) = ("BKTESTADMIN000000001", "of-the-tests-admin-0123456789-0123456789");
pub const READER: (&str, &str) = ("BKTESTREADER00000001", "of-the-tests-reader-012345678-0123456789");
pub const SCOPED: (&str, &str) = ("BKTESTSCOPED00000001", "of-the-tests-scoped-012345678-0123456789");

/// One master that answers Redis clients, and two volumes.
pub struct Site {
    pub server: Server,
    pub port: u16,
    pub folder: Folder,
}

impl Site {
    pub async fn start(name: &str) -> Self {
        let (folder, port) = (Folder::new(name), free_port());
        let resp = format!("127.0.0.1:{port}");
        let mut args: Vec<OsString> =
            ["server", "--listen", "127.0.0.1:0", "--resp-listen", &resp, "--volumes", "2"]
                .map(Into::into)
                .to_vec();
        args.extend(["--reserve", "16MiB"].map(OsString::from));
        args.extend(["--audit-log".into(), folder.join("audit").into_os_string()]);
        args.extend([
            "--data".into(),
            folder.join("data").into(),
            "--secret-file".into(),
            folder.join("secret").into(),
        ]);
        let server =
            Server::start(Spec::new("server", "barge", args), folder.path()).await.expect("a server");
        Self { server, port, folder }
    }

    pub fn http(&self) -> Client {
        Client::new(self.server.url())
    }

    pub fn connect(&self) -> Redis {
        Redis(Raw::connect(&format!("127.0.0.1:{}", self.port)))
    }

    /// Runs `barge` with the cluster's secret.
    pub async fn barge(&self, args: &[&str]) {
        let mut command = Command::new(binary("barge"));
        command
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path())
            .env_remove("BARGE_ACCESS_KEY");
        command
            .args(["--url", self.server.url()])
            .args(args)
            .arg("--secret-file")
            .arg(self.folder.join("secret"));
        let ran = run_command(command, None).await;
        assert_eq!(ran.code, 0, "{args:?}: {}", ran.err);
    }

    pub async fn key(&self, (id, secret): (&str, &str), more: &[&str]) {
        self.barge(&[&["key", "create", "--id", id, "--secret", secret], more].concat()).await;
    }

    /// Resident memory of the server in bytes.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.pid())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("a line");
        let kib: u64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
        kib << 10
    }
}

/// A connection that speaks the protocol by hand.
pub struct Redis(pub Raw);

impl Redis {
    pub fn send(&mut self, arguments: &[&[u8]]) {
        let mut out = format!("*{}\r\n", arguments.len()).into_bytes();
        for argument in arguments {
            out.extend_from_slice(format!("${}\r\n", argument.len()).as_bytes());
            out.extend_from_slice(argument);
            out.extend_from_slice(b"\r\n");
        }
        self.0.send(out);
    }

    /// Sends a command, and returns its reply without the last line end.
    pub fn ask(&mut self, arguments: &[&[u8]]) -> String {
        self.send(arguments);
        self.reply()
    }

    /// The words of a command, separated by spaces.
    pub fn say(&mut self, words: &str) -> String {
        let arguments: Vec<_> = words.split(' ').map(str::as_bytes).collect();
        self.ask(&arguments)
    }

    /// Reads one reply, nested ones included, as it came.
    pub fn reply(&mut self) -> String {
        String::from_utf8_lossy(&self.frame()).into_owned()
    }

    pub fn frame(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let mut left = 1;
        while left > 0 {
            left -= 1;
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                line.extend(self.0.some(1));
            }
            let number = || std::str::from_utf8(&line[1..line.len() - 2]).ok()?.parse::<i64>().ok();
            all.extend_from_slice(&line);
            match line[0] {
                b'$' => {
                    if let Some(length) = number().and_then(|n| usize::try_from(n).ok()) {
                        all.extend(self.0.some(length + 2));
                    }
                }
                b'*' => left += number().and_then(|n| usize::try_from(n).ok()).unwrap_or(0),
                b'%' => left += 2 * number().and_then(|n| usize::try_from(n).ok()).unwrap_or(0),
                _ => {}
            }
        }
        all.truncate(all.len() - 2);
        all
    }
}
