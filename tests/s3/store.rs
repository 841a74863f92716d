//! A store for tests of S3 clients: one master, three volumes, and access keys; over TLS for clients that require it.
//!
//! Only `s3_environment` knows how the S3 API is started and keys are created; the rest sees variables.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use tests::authority::Authority;
use tests::cluster::free_port;
use tests::folder::binary;
use tests::tool::run_command;
use tests::{Folder, Server, Spec};
use tokio::process::Command;

/// A key with all permissions.
const ADMIN: (&str, &str) = ("BKTESTADMIN000000001", "of-the-tests-admin-0123456789-0123456789");
/// A read-only key.
const READER: (&str, &str) = ("BKTESTREADER00000001", "of-the-tests-reader-012345678-0123456789");
/// A key for a prefix of one bucket, and that prefix.
const SCOPED: (&str, &str) = ("BKTESTSCOPED00000001", "of-the-tests-scoped-012345678-0123456789");
/// The domain for virtual-hosted bucket names.
const DOMAIN: &str = "s3.test";
const SCOPE: &str = "scoped-bucket/some/prefix/";

/// The store; it ends when this is dropped.
#[derive(Debug)]
pub struct Store {
    /// Environment variables for clients: `BARGE_S3_ENDPOINT` and so on.
    pub environment: Vec<(&'static str, String)>,
    // Dropped in this order: the directory is removed after the process has ended.
    _server: Server,
    _folder: Folder,
}

impl Store {
    /// Starts a store, with TLS if `secured`.
    pub async fn start(name: &str, secured: bool) -> Self {
        let folder = Folder::new(name);
        let (server, environment) = if secured {
            let authority = folder.join("ca.pem");
            let (chain, key, _) = Authority::new(&authority).issue();
            folder.file("chain.pem", chain.as_bytes());
            folder.file("key.pem", key.as_bytes());
            s3_environment(&folder, Some(&authority)).await
        } else {
            s3_environment(&folder, None).await
        };
        Self { environment, _server: server, _folder: folder }
    }
}

/// Starts the servers with S3, creates the keys, returns the clients' variables. With an authority they speak TLS.
async fn s3_environment(folder: &Folder, authority: Option<&Path>) -> (Server, Vec<(&'static str, String)>) {
    let s3 = format!("127.0.0.1:{}", free_port());
    let secret = folder.join("secret");
    let mut args: Vec<OsString> =
        ["server", "--listen", "127.0.0.1:0", "--volumes", "3", "--reserve", "16MiB"]
            .map(Into::into)
            .to_vec();
    args.extend(["--s3-domain", DOMAIN, "--s3-listen", &s3].map(OsString::from));
    args.extend(["--data".into(), folder.join("data").into(), "--secret-file".into(), secret.clone().into()]);
    if let Some(authority) = authority {
        for (name, file) in [("--tls-cert", "chain.pem"), ("--tls-key", "key.pem")] {
            args.extend([name.into(), folder.join(file).into()]);
        }
        args.extend(["--tls-ca".into(), authority.into()]);
    }
    let server = Server::start(Spec::new("server", "barge", args), folder.path()).await.expect("a server");
    for (key, permission, scope) in
        [(ADMIN, "admin", None), (READER, "read", None), (SCOPED, "write", Some(SCOPE))]
    {
        let mut create = Command::new(binary("barge"));
        create.current_dir(folder.path()).env("HOME", folder.path()).env_remove("BARGE_ACCESS_KEY");
        create.args(["--url", server.url(), "key", "create", "--secret-file"]).arg(&secret);
        create.args(authority.map(|file| [OsStr::new("--tls-ca"), file.as_os_str()]).iter().flatten());
        make_key(create, key, permission, scope).await;
    }
    // Some clients accept only names in certificates, no addresses.
    let endpoint = match authority {
        None => format!("http://{s3}"),
        Some(_) => format!("https://{}", s3.replace("127.0.0.1", "localhost")),
    };
    let environment = [
        ("BARGE_S3_ENDPOINT", endpoint),
        ("BARGE_S3_KEY", ADMIN.0.into()),
        ("BARGE_S3_SECRET", ADMIN.1.into()),
        ("BARGE_S3_READ_KEY", READER.0.into()),
        ("BARGE_S3_READ_SECRET", READER.1.into()),
        ("BARGE_S3_PREFIX_KEY", SCOPED.0.into()),
        ("BARGE_S3_PREFIX_SECRET", SCOPED.1.into()),
        ("BARGE_S3_PREFIX", SCOPE.into()),
        ("BARGE_S3_DOMAIN", DOMAIN.into()),
        ("BARGE_PROGRAM", binary("barge").display().to_string()),
        ("BARGE_URL", server.url().to_owned()),
        ("BARGE_SECRET_FILE", secret.display().to_string()),
    ];
    let bundle = authority.map(|file| ("AWS_CA_BUNDLE", file.display().to_string()));
    (server, environment.into_iter().chain(bundle).collect())
}

/// Runs `barge key create` with a given id and secret.
async fn make_key(mut create: Command, key: (&str, &str), permission: &str, scope: Option<&str>) {
    create.args(["--permission", permission, "--id", key.0, "--secret", key.1]);
    create.args(scope.map(|s| ["--scope", s]).iter().flatten());
    let ran = run_command(create, None).await;
    assert_eq!(ran.code, 0, "no key was made: {}", ran.err);
}
