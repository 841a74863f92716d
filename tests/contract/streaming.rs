//! Clients that cannot follow a redirect are answered by the master itself: those that ask for it, and all clients of
//! a master that was started for them.

use reqwest::Method;
use shared::http::trust::Trust;
use tests::tool::curl;
use tests::{Client, Folder, Server, Spec, value};

use super::cluster;

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_wants_no_redirect_gets_none() {
    let cluster = cluster().await;
    let (folder, client) = (cluster.folder(), cluster.client());
    let bytes = value(3, 3 << 20);
    let file = folder.file("sent", &bytes).display().to_string();
    let url = client.url("plain");
    let sent = curl(folder, ["-H", "Barge-No-Redirect: 1", "-T", &file, &url]).await;
    assert_eq!(sent.status, 201, "without -L: {}", sent.text());
    let header = [("barge-no-redirect", "1")];
    let got = client.once(Method::GET, &url, &header, None).await.unwrap();
    assert!(got.status == 200 && got.body == bytes);
    for header in [&[("barge-no-redirect", "0")][..], &[]] {
        assert_eq!(client.once(Method::GET, &url, header, None).await.unwrap().status, 307, "{header:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_redirects_nobody() {
    let folder = Folder::new("noredirect");
    let data = folder.join("data").display().to_string();
    let args = ["server", "--listen", "127.0.0.1:0", "--volumes", "2", "--reserve", "16MiB", "--no-redirect"];
    let args = args.into_iter().chain(["--data", &data]);
    let server = Server::start(Spec::new("server", "barge", args), folder.path()).await.unwrap();
    let client = Client::trusting(server.url(), &Trust::default());
    let bytes = value(4, 3 << 20);
    let file = folder.file("sent", &bytes).display().to_string();
    let url = client.url("plain");
    let sent = curl(&folder, ["-T", &file, &url]).await;
    assert_eq!(sent.status, 201, "without -L: {}", sent.text());
    let got = client.once(Method::GET, &url, &[], None).await.unwrap();
    assert!(got.status == 200 && got.body == bytes);
    // A request for a ticket carries no value yet: an empty one must not be stored.
    let asked = client.once(Method::PUT, &client.url("asked?redirect"), &[], Some(vec![])).await.unwrap();
    assert_eq!(asked.status, 307);
    assert_eq!(client.get("asked").await.unwrap().status, 404);
    for args in [["put", &file, "by/barge"], ["get", "by/barge", "got"]] {
        let args = ["--url", server.url()].into_iter().chain(args);
        let (status, said) = Spec::new("barge", "barge", args).run_to_end(folder.path()).await;
        assert!(status.success(), "{said}");
    }
    assert!(std::fs::read(folder.join("got")).unwrap() == bytes);
}
