//! Several administrators at once: their changes are made one after the other, and none fails because of another.

use futures_util::future::join_all;

use super::Site;

/// Concurrent commands: more than one of them would retry.
const AT_ONCE: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_several_administrators_at_once_are_all_made() {
    let site = Site::start("administrators", "127.0.0.1", &[]).await;
    let notes: Vec<_> = (0..AT_ONCE).map(|n| format!("number {n}")).collect();
    let created = join_all(notes.iter().map(|note| {
        let site = &site;
        async move { site.barge(&["key", "create", "--permission", "read", "--note", note]).await }
    }));
    for ran in created.await {
        assert_eq!(ran.code, 0, "{}", ran.err);
    }
    let list = site.signed(&["key", "list"]).await;
    let list = String::from_utf8_lossy(&list.out);
    for note in &notes {
        assert!(list.contains(note.as_str()), "{note} is missing: {list}");
    }
}
