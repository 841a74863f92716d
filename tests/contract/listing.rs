//! `?list`: prefix, delimiter, limit, start, and a cursor that skips and repeats nothing.

use shared::wire::master::ListPage;
use tests::Client;
use tests::folder::binary;
use tests::tool::run;

use super::cluster;

async fn page(client: &Client, path: &str) -> (Vec<String>, Vec<String>, Option<String>) {
    let page: ListPage = client.json(path).await.expect("a page");
    (page.keys.into_iter().map(|k| String::from(k.key)).collect(), page.prefixes, page.next)
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_keys() {
    let cluster = cluster().await;
    let client = cluster.client();
    let all = ["a", "a/1", "a/2", "a/b/1", "a/b/2", "a/c/1", "ab", "b/z 1", "b/ü"];
    for key in all {
        let path = shared::key::Key::new(key).unwrap().to_path();
        assert_eq!(client.put(&path, key.as_bytes().to_vec()).await.unwrap().status, 201);
    }
    assert_eq!(page(&client, "/?list").await, (all.map(String::from).to_vec(), vec![], None));
    assert_eq!(page(&client, "/a/?list").await.0, ["a/1", "a/2", "a/b/1", "a/b/2", "a/c/1"]);
    assert_eq!(page(&client, "/none?list").await, (vec![], vec![], None));
    let grouped = page(&client, "/a/?list&delimiter=/").await;
    assert_eq!(
        (grouped.0, grouped.1),
        (vec!["a/1".into(), "a/2".into()], vec!["a/b/".into(), "a/c/".into()])
    );
    assert_eq!(page(&client, "/?list&start=a/b/2").await.0, ["a/c/1", "ab", "b/z 1", "b/ü"]);
    for (path, wanted) in [("/?list&limit=2", all.len()), ("/?list&limit=1&delimiter=/", 4)] {
        let (mut seen, mut next) = (0, None::<String>);
        loop {
            let cursor = next.as_deref().map(shared::key::encode_query).unwrap_or_default();
            let (keys, prefixes, after) = page(&client, &format!("{path}&start={cursor}")).await;
            seen += keys.len() + prefixes.len();
            assert!(seen <= wanted, "{path} repeats itself");
            next = after;
            if next.is_none() {
                break;
            }
        }
        assert_eq!(seen, wanted, "{path}");
    }
    assert_eq!(client.get("/?list&limit=x").await.unwrap().status, 400);
    for limit in 1..=4 {
        let (url, most) = (cluster.master.url(), limit.to_string());
        let args = ["--json", "--url", url, "ls", "--delimiter", "/", "--limit", &most];
        let ran = run(&binary("barge").to_string_lossy(), args).await;
        let pages = ran.text();
        let pages = pages.lines().map(|line| serde_json::from_str::<ListPage>(line).expect("a page"));
        let shown: usize = pages.map(|page| page.keys.len() + page.prefixes.len()).sum();
        assert_eq!((ran.code, shown), (0, limit), "{}", ran.err);
    }
}
