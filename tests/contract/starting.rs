//! Starting: kvDB's command lines, what servers show about themselves, and refused starts.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tests::cluster::{add, free_port};
use tests::process::{Server, Spec};
use tests::tool::curl;
use tests::{Client, Cluster, Folder, Options, eventually, value};

use super::cluster;

const UP: Duration = Duration::from_secs(60);

async fn healthy(url: &str) {
    let client = Client::new(url);
    eventually(UP, "the master can store values", async || client.get_text("/_/health").await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_lines_of_kvdb() {
    let folder = Folder::new("seeds");
    let ports = [free_port(), free_port(), free_port()];
    let mut volumes = Vec::new();
    for (n, port) in ports[1..].iter().enumerate() {
        let name = format!("volume{}", n + 1);
        let spec = Spec::new(&name, "volume", [format!("./{name}/")]).env("PORT", port.to_string());
        volumes.push(Server::start(spec, folder.path()).await.unwrap());
        assert!(volumes[n].url().ends_with(&format!(":{port}")));
    }
    let list = format!("localhost:{},localhost:{}", ports[1], ports[2]);
    let spec = Spec::new("master", "master", [list.as_str(), "./cachedb/"]).env("PORT", ports[0].to_string());
    let master = Server::start(spec, folder.path()).await.unwrap();
    healthy(master.url()).await;
    let file = folder.file("in", &value(1, 2 << 20)).display().to_string();
    let url = format!("{}/wehave", master.url());
    assert_eq!(curl(&folder, ["-L", "-T", &file, &url]).await.status, 201);
    assert!(curl(&folder, ["-L", &url]).await.body == value(1, 2 << 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn port_zero_and_the_first_line() {
    let folder = Folder::new("portzero");
    let data = folder.join("data").display().to_string();
    let args = ["server", "--listen", "127.0.0.1:0", "--volumes", "2", "--reserve", "16MiB", "--data", &data];
    let server = Server::start(Spec::new("server", "barge", args), folder.path()).await.unwrap();
    healthy(server.url()).await;
    let client = Client::new(server.url());
    assert_eq!(client.put("k", b"v".to_vec()).await.unwrap().status, 201);
    assert_eq!(client.get("k").await.unwrap().body, b"v");
    let (status, said) = Spec::new("second", "barge", args).run_to_end(folder.path()).await;
    assert!(!status.success() && said.contains("in use by another process"), "{said}");
    assert_eq!(client.get("k").await.unwrap().body, b"v", "the first server keeps working");
}

/// Returns what others may read below a folder.
fn exposed(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder").flatten() {
        // A running server removes files meanwhile.
        let (path, Ok(data)) = (entry.path(), entry.metadata()) else { continue };
        if data.permissions().mode() & 0o077 != 0 {
            found.push(format!("{} {:o}", path.display(), data.permissions().mode()));
        }
        if data.is_dir() {
            found.extend(exposed(&path));
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn what_servers_write_is_for_their_user_alone() {
    let folder = Folder::new("private");
    let data = folder.join("data");
    let args = ["server", "--listen", "127.0.0.1:0", "--volumes", "2", "--reserve", "16MiB", "--data"];
    let args = args.map(String::from).into_iter().chain([data.display().to_string()]);
    let server = Server::start(Spec::new("server", "barge", args), folder.path()).await.unwrap();
    healthy(server.url()).await;
    let client = Client::new(server.url());
    assert_eq!(client.put("k", value(1, 100_000)).await.unwrap().status, 201);
    assert_eq!(client.delete("k").await.unwrap().status, 200);
    assert_eq!(exposed(&data), [""; 0]);
    let backup = folder.join("backup");
    let args = ["--url", server.url(), "cluster", "backup", backup.to_str().unwrap()];
    let (status, said) = Spec::new("backup", "barge", args).run_to_end(folder.path()).await;
    assert!(status.success(), "{said}");
    assert_eq!(backup.metadata().unwrap().permissions().mode() & 0o077, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_prometheus_text() {
    let cluster = cluster().await;
    cluster.client().put("k", value(1, 100_000)).await.unwrap();
    let urls = std::iter::once(&cluster.master).chain(&cluster.volumes).map(Server::url);
    for url in urls {
        let text = Client::new(url).get_text("/_/metrics").await.expect("metrics");
        let mut typed = std::collections::BTreeSet::new();
        for line in text.lines().filter(|l| !l.is_empty()) {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                typed.insert(rest.split(' ').next().unwrap().to_owned());
            } else if !line.starts_with('#') {
                let (name, number) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
                let number_fits = number.parse::<f64>().is_ok() || ["+Inf", "-Inf", "NaN"].contains(&number);
                assert!(number_fits, "no number: {line}");
                let name = name.split('{').next().unwrap();
                let family = typed.iter().any(|t| name.starts_with(t.as_str()));
                assert!(family && name.starts_with("barge_"), "a sample without a type: {line}");
            }
        }
        assert!(typed.len() > 5, "{url} shows little: {typed:?}");
        assert_eq!(text.lines().last(), Some("# EOF"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_of_another_cluster_is_refused() {
    let (ours, mut theirs) = tokio::join!(
        cluster(),
        Cluster::start("other", Options { volumes: 1, replicas: 1, min_replicas: 1, ..Options::default() })
    );
    theirs.volumes[0].kill().await;
    let data = theirs.volume_folder(0).to_owned();
    let mut spec = Spec::new("stray", "volume", [data.as_os_str()]);
    add(&mut spec, "--master", ours.url());
    add(&mut spec, "--listen", "127.0.0.1:0");
    add(&mut spec, "--secret-file", ours.folder().join("secret"));
    let (status, said) = spec.run_to_end(ours.folder().path()).await;
    assert!(!status.success() && said.contains("belongs to cluster"), "{status}: {said}");
    assert_eq!(ours.status().await.unwrap().volumes.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_do_not_share_a_directory() {
    let mut cluster = cluster().await;
    let home = cluster.folder().path().to_owned();
    for server in cluster.servers_mut() {
        let mut spec = server.spec_mut().clone();
        spec.args.truncate(spec.args.len() - 2);
        add(&mut spec, "--listen", "127.0.0.1:0");
        let (status, said) = spec.run_to_end(&home).await;
        assert!(!status.success() && said.contains("in use by another process"), "{status}: {said}");
    }
    assert_eq!(cluster.client().put("k", b"v".to_vec()).await.unwrap().status, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_format_version_is_left_alone() {
    let mut cluster = cluster().await;
    cluster.volumes[0].kill().await;
    let path = cluster.volume_folder(0).join("volume.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let other = text.replace("\"format_version\": 1", "\"format_version\": 99");
    assert_ne!(text, other);
    std::fs::write(&path, &other).unwrap();
    let spec = cluster.volumes[0].spec_mut().clone();
    let (status, said) = spec.run_to_end(cluster.folder().path()).await;
    assert!(!status.success() && said.contains("format version 99"), "{status}: {said}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), other);
    std::fs::write(&path, &text).unwrap();
    cluster.volumes[0].restart().await.unwrap();
    cluster.settled().await;
}
