//! The verbs against a cluster that misbehaves: interrupted, changing, corrupt.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use shared::digest::Digest;
use shared::key::Key;

use crate::args::{LsArgs, PutArgs, RmArgs};
use crate::client::Client;
use crate::commands::server::none_left_out;
use crate::commands::{get, ls, put, rm};
use crate::download::{Target, part_of};
use crate::exit::{Exit, Failure};
use crate::fake::{Fake, Faults};
use crate::output::Output;

/// A directory that is removed with its test.
pub(super) struct Dir(PathBuf);

impl Dir {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("barge-cli-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn bytes(len: usize, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new_keyed(&[seed; 32]).finalize_xof().fill(&mut bytes);
    bytes
}

fn key() -> Key {
    Key::new("bucket/a value").unwrap()
}

fn quiet() -> Output {
    Output::new(true)
}

async fn fetch(fake: &Fake, path: &Path) -> Result<Target, Failure> {
    get::fetch(&Client::new(fake.url()).unwrap(), &key(), path, quiet()).await
}

fn put_args(file: &Path) -> PutArgs {
    PutArgs {
        file: file.to_owned(),
        key: key(),
        content_type: Some("text/plain".into()),
        meta: vec![("owner".into(), "me".into())],
        expires: None,
        if_absent: false,
        if_match: None,
    }
}

async fn store(fake: &Fake, args: PutArgs) -> Result<Exit, Failure> {
    put::run(&Client::new(fake.url()).unwrap(), args, quiet()).await
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_stopped() {
    let value = bytes(3_000_000, 1);
    // Faults are popped from the end.
    let fake = Fake::start(Faults { cut_downloads: vec![700_000, 1_000_000], ..Faults::default() }).await;
    fake.set(&key(), &value);
    let dir = Dir::new();
    let target = fetch(&fake, &dir.file("f")).await.unwrap();
    assert_eq!(target, Target { blake3: Digest::of(&value), size: 3_000_000 });
    assert_eq!(std::fs::read(dir.file("f")).unwrap(), value);
    assert_eq!(dir.names(), ["f"]);
    let ranges = fake.ranges();
    assert_eq!(ranges.len(), 3);
    assert_eq!(ranges[0], None);
    assert!(ranges[1..].iter().all(|r| r.as_ref().is_some_and(|r| r != "bytes=0-")), "{ranges:?}");
}

#[tokio::test]
async fn a_later_run_takes_up_what_is_left_and_verifies_it() {
    let value = bytes(1_000_000, 2);
    let fake = Fake::start(Faults::default()).await;
    fake.set(&key(), &value);
    let dir = Dir::new();
    let part = part_of(&dir.file("f"), Target { blake3: Digest::of(&value), size: 1_000_000 });
    std::fs::write(&part, &value[..400_000]).unwrap();
    fetch(&fake, &dir.file("f")).await.unwrap();
    assert_eq!(std::fs::read(dir.file("f")).unwrap(), value);
    assert_eq!(fake.ranges(), [Some("bytes=400000-".to_owned())]);
    // A corrupt part file costs a second download, not the value.
    std::fs::write(&part, bytes(400_000, 3)).unwrap();
    fetch(&fake, &dir.file("f")).await.unwrap();
    assert_eq!(std::fs::read(dir.file("f")).unwrap(), value);
    assert_eq!(dir.names(), ["f"]);
}

#[tokio::test]
async fn a_part_file_that_is_too_long_is_fetched_from_the_beginning() {
    let value = bytes(1_000, 8);
    let fake = Fake::start(Faults::default()).await;
    fake.set(&key(), &value);
    let dir = Dir::new();
    let part = part_of(&dir.file("f"), Target { blake3: Digest::of(&value), size: 1_000 });
    for length in [1_001, 2_000] {
        std::fs::write(&part, bytes(length, 9)).unwrap();
        fetch(&fake, &dir.file("f")).await.unwrap();
        assert_eq!(std::fs::read(dir.file("f")).unwrap(), value, "beside {length} bytes");
        assert_eq!(dir.names(), ["f"]);
    }
    assert_eq!(fake.ranges(), [None, None], "from the beginning");
}

#[tokio::test]
async fn a_link_in_the_place_of_the_part_file_is_not_followed() {
    let value = bytes(1_000, 7);
    let fake = Fake::start(Faults::default()).await;
    fake.set(&key(), &value);
    let dir = Dir::new();
    let part = part_of(&dir.file("f"), Target { blake3: Digest::of(&value), size: 1_000 });
    let (there, not_there) = (dir.file("precious"), dir.file("nothing"));
    std::fs::write(&there, "as it was").unwrap();
    for target in [&there, &not_there] {
        std::os::unix::fs::symlink(target, &part).unwrap();
        let failure = fetch(&fake, &dir.file("f")).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Failure);
        assert!(failure.to_string().contains("remove it"), "{failure}");
        assert_eq!(std::fs::read_to_string(&there).unwrap(), "as it was");
        assert!(!not_there.exists() && !dir.file("f").exists());
        std::fs::remove_file(&part).unwrap();
    }
    fetch(&fake, &dir.file("f")).await.unwrap();
    assert_eq!(std::fs::read(dir.file("f")).unwrap(), value);
    assert_eq!(dir.names(), ["f", "precious"]);
}

#[tokio::test]
async fn a_value_that_changes_on_the_way_is_never_mixed() {
    let (old, new) = (bytes(500_000, 4), bytes(600_000, 5));
    let faults =
        Faults { cut_downloads: vec![200_000], then_replace: Some(new.clone()), ..Faults::default() };
    let fake = Fake::start(faults).await;
    fake.set(&key(), &old);
    let dir = Dir::new();
    fetch(&fake, &dir.file("f")).await.unwrap();
    assert_eq!(std::fs::read(dir.file("f")).unwrap(), new);
    assert_eq!(dir.names(), ["f"]);
}

#[tokio::test]
async fn bytes_that_are_not_the_values_end_in_6_and_leave_no_file() {
    let fake = Fake::start(Faults { spoil_downloads: 1, ..Faults::default() }).await;
    fake.set(&key(), &bytes(100_000, 6));
    let dir = Dir::new();
    let failure = fetch(&fake, &dir.file("f")).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Unverified);
    assert!(dir.names().is_empty());
}

#[tokio::test]
async fn a_missing_key_is_3_and_an_empty_value_is_a_file() {
    let fake = Fake::start(Faults::default()).await;
    let dir = Dir::new();
    assert_eq!(fetch(&fake, &dir.file("f")).await.unwrap_err().exit, Exit::NotFound);
    fake.set(&key(), b"");
    fetch(&fake, &dir.file("f")).await.unwrap();
    assert_eq!(std::fs::read(dir.file("f")).unwrap(), b"");
}

#[tokio::test]
async fn a_refused_upload_goes_back_to_the_master() {
    let fake = Fake::start(Faults { refuse_uploads: 1, silent_uploads: 1, ..Faults::default() }).await;
    let (dir, value) = (Dir::new(), bytes(2_000_000, 7));
    std::fs::write(dir.file("f"), &value).unwrap();
    assert_eq!(store(&fake, put_args(&dir.file("f"))).await.unwrap(), Exit::Ok);
    assert_eq!(fake.get(&key()).unwrap(), value);
}

#[tokio::test]
async fn a_conditional_upload_of_unknown_outcome_is_not_repeated() {
    let fake = Fake::start(Faults { silent_uploads: 1, ..Faults::default() }).await;
    let dir = Dir::new();
    std::fs::write(dir.file("f"), b"value").unwrap();
    let args = PutArgs { if_absent: true, ..put_args(&dir.file("f")) };
    assert_eq!(store(&fake, args).await.unwrap_err().exit, Exit::Unavailable);
    let args = PutArgs { if_absent: true, ..put_args(&dir.file("f")) };
    assert_eq!(store(&fake, args).await.unwrap_err().exit, Exit::Conflict);
    let args = PutArgs { if_match: Some(Digest::of(b"value").to_string()), ..put_args(&dir.file("f")) };
    assert_eq!(store(&fake, args).await.unwrap(), Exit::Ok);
}

#[tokio::test]
async fn what_was_stored_is_compared_with_what_was_sent() {
    let fake = Fake::start(Faults { spoil_uploads: 1, ..Faults::default() }).await;
    let dir = Dir::new();
    std::fs::write(dir.file("f"), b"value").unwrap();
    assert_eq!(store(&fake, put_args(&dir.file("f"))).await.unwrap_err().exit, Exit::Unverified);
}

#[tokio::test]
async fn a_pipe_is_stored_and_is_read_once_only() {
    use std::io::Write;
    use std::os::fd::AsRawFd;
    let value = bytes(1_500_000, 8);
    let fake = Fake::start(Faults { silent_uploads: 1, ..Faults::default() }).await;
    for wanted in [Some(Exit::Unavailable), None] {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let path = PathBuf::from(format!("/dev/fd/{}", reader.as_raw_fd()));
        let sent = value.clone();
        let writing = std::thread::spawn(move || writer.write_all(&sent));
        let result = store(&fake, put_args(&path)).await;
        assert_eq!(result.err().map(|f| f.exit), wanted);
        assert_eq!(fake.get(&key()).unwrap(), value);
        writing.join().unwrap().unwrap();
    }
}

#[tokio::test]
async fn no_server_is_5() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = Client::new(&format!("http://{gone}")).unwrap();
    let args =
        LsArgs { prefix: String::new(), delimiter: None, limit: None, all: false, start: None, long: false };
    assert_eq!(ls::run(&client, args, quiet()).await.unwrap_err().exit, Exit::Unavailable);
}

#[tokio::test]
async fn deleting_goes_on_after_a_key_that_is_not_there() {
    let fake: Arc<Fake> = Fake::start(Faults::default()).await;
    fake.set(&key(), b"value");
    let keys = vec![Key::new("not/there").unwrap(), key()];
    let client = Client::new(fake.url()).unwrap();
    assert_eq!(rm::run(&client, RmArgs { keys }, quiet()).await.unwrap(), Exit::NotFound);
    assert_eq!(fake.len(), 0);
}

#[test]
fn fewer_masters_than_there_are_directories_is_an_error() {
    let dir = Dir::new();
    for name in ["master", "master2", "master3", "volume4"] {
        std::fs::create_dir(dir.file(name)).unwrap();
    }
    for masters in 1..=2 {
        let error = none_left_out(&dir.0, masters).unwrap_err().to_string();
        assert!(error.contains("master3 ") && error.contains("--masters 3"), "{error}");
    }
    assert!(none_left_out(&dir.0, 3).is_ok() && none_left_out(&dir.0, 5).is_ok());
    assert!(none_left_out(&dir.file("new"), 1).is_ok());
}
