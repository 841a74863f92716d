//! Tests of the audit log: its file, and its lines when the disk is slow or full or the file is moved.

use std::collections::HashSet;
use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use shared::http::serve::Context as Asked;
use shared::ids::RequestId;

use super::*;

fn line() -> Line {
    let context = Asked { request_id: RequestId::random(), peer: ([192, 0, 2, 1], 7).into() };
    Line::new("native", "GetObject", context, Timestamp::from_unix_ms(1_700_000_000_123))
        .about(Some("b"), Some("k\n\""))
}

fn texts(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn lines_are_appended_for_the_user_alone_and_the_file_may_be_moved() {
    let folder = tempfile::tempdir().unwrap();
    let (path, old) = (folder.path().join("audit"), folder.path().join("audit.1"));
    let audit = Audit::open(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    audit.note(Box::new(line()));
    audit.flush().await;
    std::fs::rename(&path, &old).unwrap();
    audit.note(Box::new(line()));
    audit.queue.send(Message::Reopen).unwrap();
    audit.note(Box::new(line()));
    audit.flush().await;
    let again = Audit::open(&path).unwrap();
    again.note(Box::new(line()));
    again.flush().await;
    assert_eq!((texts(&old).len(), texts(&path).len()), (2, 2), "existing lines are kept");
    let first = &texts(&old)[0];
    assert_eq!(first["time"], "2023-11-14T22:13:20.123Z");
    assert_eq!(
        (&first["operation"], &first["key"], &first["peer"]),
        (&"GetObject".into(), &"k\n\"".into(), &"192.0.2.1:7".into())
    );
    assert!(first["access_key"].is_null());
    assert!(Audit::open(folder.path()).unwrap_err().to_string().contains("--audit-log"));
}

/// A writer that blocks at each write until it is released.
struct Slow(Receiver<()>, Arc<Mutex<Vec<u8>>>);

impl Write for Slow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // It no longer blocks once the sender is dropped.
        let _ = self.0.recv();
        self.1.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_slow_disk_holds_nobody_up_and_what_is_dropped_is_said() {
    let (hold, let_go) = channel();
    let written = Arc::new(Mutex::new(Vec::new()));
    let audit = Audit::writing(Slow(let_go, Arc::clone(&written)), || None);
    let sent = u64::try_from(2 * AUDIT_QUEUE).unwrap();
    for _ in 0..sent {
        audit.note(Box::new(line()));
    }
    let dropped = audit.dropped.get();
    assert!(dropped > 0 && dropped < sent, "{dropped} of {sent}");
    drop(hold);
    audit.flush().await;
    let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let told: u64 = lines.iter().filter_map(|l| l["dropped"].as_u64()).sum();
    assert_eq!(told, dropped);
    let ids: HashSet<_> = lines.iter().filter_map(|l| l["request_id"].as_str()).collect();
    assert_eq!(u64::try_from(ids.len()).unwrap(), sent - dropped, "every other line is written exactly once");
}

/// A full disk.
struct Full;

impl Write for Full {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_full_disk_is_counted() {
    let audit = Audit::writing(Full, || None);
    audit.note(Box::new(line()));
    audit.flush().await;
    assert!(audit.dropped.get() > 0);
}
