//! Checks that every option of `barge server` reaches the servers: an option that is parsed and not passed on would
//! silently do nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use clap::{CommandFactory, Parser};
use shared::secret::KeyPurpose;

use super::*;
use crate::args::{Args, Command};
use crate::commands::tests::Dir;

/// The configurations made from a command line: two masters and a volume.
struct Made {
    masters: [master::Config; 2],
    volume: volume::Config,
}

impl Made {
    fn masters(&self, holds: impl Fn(&master::Config) -> bool) -> bool {
        self.masters.iter().all(holds)
    }

    /// Their public URLs.
    fn public(&self) -> [Option<&str>; 3] {
        let [first, second] = &self.masters;
        [&first.public_url, &second.public_url, &self.volume.public_url].map(Option::as_deref)
    }
}

/// An option with a value other than its default, further options that it needs, and whether it reached
/// all servers concerned.
type Row = (&'static str, &'static [&'static str], fn(&Made) -> bool);

/// `DIR` stands for a directory with a certificate and its key, and room for files.
const ROWS: [Row; 20] = [
    ("data", &["DIR/elsewhere"], |m| {
        let within = |path: &Path| path.parent().is_some_and(|p| p.ends_with("elsewhere"));
        m.masters(|c| within(&c.data)) && within(&m.volume.data)
    }),
    ("replicas", &["3"], |m| m.masters(|c| c.replication.wanted() == 3)),
    ("min-replicas", &["1"], |m| m.masters(|c| c.replication.min() == 1)),
    ("listen", &["0.0.0.0:3000"], |m| m.masters(|c| !c.open)),
    ("repair-after", &["7s"], |m| m.masters(|c| c.repair_after == Duration::from_secs(7))),
    ("repair-rate", &["7MiB"], |m| m.masters(|c| c.repair_rate == 7 << 20)),
    ("replication", &["quorum"], |m| m.masters(|c| format!("{:?}", c.mode) == "Quorum")),
    ("async-every", &["7s"], |m| m.masters(|c| c.async_every == Duration::from_secs(7))),
    ("s3-region", &["here"], |m| m.masters(|c| c.s3.region.as_deref() == Some("here"))),
    ("s3-domain", &["s3.example"], |m| m.masters(|c| c.s3.domain.as_deref() == Some("s3.example"))),
    ("s3-etag", &["blake3"], |m| m.masters(|c| c.s3.blake3_etags)),
    ("s3-accept-sse", &["noop"], |m| m.masters(|c| c.s3.noop)),
    ("upload-expiry", &["7s"], |m| m.masters(|c| c.upload_expiry == Duration::from_secs(7))),
    ("public-url", &["http://store.example:8080"], |m| {
        let ports = ["8080", "3002", "3001"].map(|port| Some(format!("http://store.example:{port}")));
        m.public() == ports.each_ref().map(Option::as_deref)
    }),
    ("insecure-no-auth", &["--listen", "0.0.0.0:3000"], |m| m.masters(|c| c.open && c.any_host)),
    ("no-redirect", &[], |m| m.masters(|c| c.no_redirect)),
    ("tls-cert", &["DIR/chain.pem", "--tls-key", "DIR/key.pem"], |m| {
        let said = |url: &Option<String>| url.as_ref().is_some_and(|url| url.starts_with("https://"));
        m.masters(|c| c.tls.is_some() && said(&c.advertise))
            && m.volume.tls.is_some()
            && said(&m.volume.advertise)
    }),
    ("audit-log", &["DIR/audit.log"], |m| m.masters(|c| c.audit.is_some())),
    ("reserve", &["7MiB"], |m| m.volume.reserve_bytes == 7 << 20),
    ("secret-file", &["DIR/other"], |m| {
        let same = |secret: &ClusterSecret| {
            secret.mac(KeyPurpose::Call, &[b"x"])
                == ClusterSecret::from_bytes(OTHER).mac(KeyPurpose::Call, &[b"x"])
        };
        m.masters(|c| same(&c.secret)) && same(&m.volume.secret)
    }),
];

/// The content of `DIR/other`.
const OTHER: &[u8] = b"another secret than the usual one";

/// Options that are not in the servers' configurations, and the key, which is tested with its certificate.
const ELSEWHERE: [&str; 6] = ["masters", "volumes", "s3-listen", "resp-listen", "log-format", "tls-key"];

fn made(line: &[String], trust: &Trust) -> Made {
    let args = Args::try_parse_from(line).unwrap_or_else(|e| panic!("{line:?}: {e}"));
    let Command::Server(args) = args.command else { panic!("it is barge server") };
    let setup = Setup::new(&args, trust.clone()).unwrap_or_else(|e| panic!("{line:?}: {e}"));
    let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let (first, url) = setup.master(1, at(3000), &[]);
    let (second, _) = setup.master(2, at(3002), std::slice::from_ref(&url));
    let volume = setup.volume(1, at(3001), &[url]);
    Made { masters: [first, second], volume }
}

/// A command line with all other options at their defaults.
fn line(dir: &Dir, more: &[&str]) -> Vec<String> {
    let mut words = vec!["barge".to_owned(), "server".to_owned()];
    words.extend(more.iter().map(|word| word.replace("DIR", &dir.file("").display().to_string())));
    for (option, name) in [("--data", "data"), ("--secret-file", "secret")] {
        if !more.contains(&option) {
            words.extend([option.to_owned(), dir.file(name).display().to_string()]);
        }
    }
    words
}

fn write_files(dir: &Dir) {
    use std::os::unix::fs::PermissionsExt;
    let certified = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(dir.file("chain.pem"), certified.cert.pem()).unwrap();
    std::fs::write(dir.file("key.pem"), certified.signing_key.serialize_pem()).unwrap();
    std::fs::write(dir.file("other"), OTHER).unwrap();
    for name in ["key.pem", "other"] {
        std::fs::set_permissions(dir.file(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    }
}

#[test]
fn every_option_reaches_the_servers() {
    let dir = Dir::new();
    write_files(&dir);
    let usual = made(&line(&dir, &[]), &Trust::default());
    for (option, value, reached) in ROWS {
        let named = format!("--{option}");
        let made = made(&line(&dir, &[&[named.as_str()], value].concat()), &Trust::default());
        assert!(!reached(&usual), "{named} {value:?} is the default, and shows nothing");
        assert!(reached(&made), "{named} {value:?} does not reach all servers");
    }
}

#[test]
fn no_option_is_left_out() {
    let all = Args::command();
    let server = all.find_subcommand("server").unwrap();
    let shown = server.get_arguments().filter(|arg| !arg.is_hide_set());
    let options: BTreeSet<_> =
        shown.filter_map(|arg| arg.get_long()).filter(|name| *name != "help").collect();
    let known: BTreeSet<_> = ROWS.iter().map(|row| row.0).chain(ELSEWHERE).collect();
    assert_eq!(options, known, "say in ROWS what each option does to the servers");
}

#[test]
fn all_servers_find_each_other_and_believe_whom_they_should() {
    let dir = Dir::new();
    write_files(&dir);
    let trust = Trust::from_file(&dir.file("chain.pem")).unwrap();
    let made = made(&line(&dir, &[]), &trust);
    let [first, second] = &made.masters;
    assert_eq!(first.join, [""; 0]);
    assert_eq!(
        (&second.join[..], &made.volume.masters[..]),
        (&["http://127.0.0.1:3000".to_owned()][..], &second.join[..])
    );
    for advertised in [&first.advertise, &second.advertise, &made.volume.advertise] {
        assert!(advertised.as_ref().is_some_and(|url| url.starts_with("http://127.0.0.1:300")));
    }
    for theirs in [&first.trust, &second.trust, &made.volume.trust] {
        assert!(Arc::ptr_eq(&theirs.config(), &trust.config()));
    }
}
