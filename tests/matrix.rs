//! The client matrix: what people really upload with. Each client either stores exactly the right bytes
//! or fails loudly and stores nothing: never a short or empty value with a success.

use std::path::{Path, PathBuf};

use futures_util::stream;
use shared::http::trust::Trust;
use tests::tool::{curl, curl_fed, python, run};
use tests::{Cluster, Options, say, value};

/// What a client reports.
struct Believes {
    /// Whether it saw a success.
    success: bool,
    said: String,
}

/// A value to upload, and its URL.
struct Job<'a> {
    cluster: &'a Cluster,
    file: PathBuf,
    bytes: &'a [u8],
    url: String,
}

const PYTHON: &[&str] = &[
    "requests_bytes",
    "requests_file",
    "requests_generator",
    "urllib3_file",
    "urllib3_generator",
    "httpx_bytes",
    "httpx_generator",
    "aiohttp_file",
    "aiohttp_generator",
];
/// These send `Expect: 100-continue`, whether or not they wait for it, and are redirected unless they use `?stream`.
const EXPECT: &[&str] = &[
    "requests_file_expect",
    "requests_generator_expect",
    "urllib3_file_expect",
    "urllib3_generator_expect",
    "httpx_bytes_expect",
    "httpx_generator_expect",
    "aiohttp_file_expect",
    "aiohttp_generator_expect",
];
const CURL: &[&str] = &[
    "curl -T",
    "curl -T no Expect",
    "curl -T no -L",
    "curl -d",
    "curl -d no Expect",
    "curl pipe",
    "curl pipe no Expect",
];
const OTHERS: &[&str] = &["wget", "node buffer", "node stream", "reqwest bytes", "reqwest stream"];

#[tokio::test(flavor = "multi_thread")]
async fn matrix_of_3_mib() {
    matrix(3 << 20, &[CURL, PYTHON, EXPECT, OTHERS]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn matrix_of_an_empty_value() {
    matrix(0, &[CURL, PYTHON, EXPECT, OTHERS]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn matrix_of_70_mib() {
    matrix(70 << 20, &[CURL, PYTHON, OTHERS]).await;
}

/// More than the buffers between client and server hold: part of it is sent when the redirect arrives, part is not.
#[tokio::test(flavor = "multi_thread")]
async fn matrix_of_those_that_expect_of_32_mib() {
    matrix(32 << 20, &[EXPECT]).await;
}

async fn matrix(size: usize, clients: &[&[&str]]) {
    let cluster = Cluster::start("matrix", Options { volumes: 2, ..Options::default() }).await;
    let before = cluster.footprint().await;
    let bytes = value(size as u64, size);
    let file = cluster.folder().file("value", &bytes);
    let python = python().await;
    let mut wrong = Vec::new();
    let clients = clients.iter().flat_map(|some| some.iter());
    let ways = clients.flat_map(|client| {
        let queries: &[&str] = if EXPECT.contains(client) { &["", "?stream"] } else { &[""] };
        queries.iter().map(move |query| (*client, *query))
    });
    for (n, (client, query)) in ways.enumerate() {
        let key = format!("matrix/{n}");
        let url = format!("{}/{key}{query}", cluster.url());
        let job = Job { cluster: &cluster, file: file.clone(), bytes: &bytes, url };
        let believes = match client {
            name if CURL.contains(&name) => with_curl(&job, name).await,
            name if PYTHON.contains(&name) || EXPECT.contains(&name) => {
                with_script(&job, &python, "upload.py", name).await
            }
            name => with_other(&job, name).await,
        };
        let stored = cluster.client().get_streamed(&key).await.expect("a complete response");
        let verdict = match (believes.success, stored.status) {
            (true, 200) if stored.body == bytes => "stored",
            (false, 404) => "refused loudly",
            _ => "WRONG",
        };
        say(format_args!("{size:>9} bytes  {client:<26}{query} {verdict}: {}", believes.said.trim()));
        if verdict == "WRONG" {
            wrong.push(format!(
                "{client}{query}: reports {}, but {} bytes are stored",
                believes.said,
                stored.body.len()
            ));
        }
        if stored.status == 200 {
            assert_eq!(cluster.client().delete(&key).await.expect("an answer").status, 200);
        }
    }
    assert!(wrong.is_empty(), "{size} bytes: {wrong:#?}");
    cluster.back_to(&before, "the matrix").await;
    cluster.assert_no_secrets_in_logs();
}

async fn with_curl(job: &Job<'_>, how: &str) -> Believes {
    let file = job.file.to_string_lossy();
    let at_file = format!("@{file}");
    let mut args = match how.trim_end_matches(" no Expect") {
        "curl -T" => vec!["-L", "-T", &file],
        "curl -T no -L" => vec!["-T", &file],
        "curl -d" => vec!["-L", "--data-binary", &at_file],
        _ => vec!["-L", "-T", "-"],
    };
    if how.ends_with("no Expect") {
        args.extend(["-H", "Expect:"]);
    }
    args.push(&job.url);
    let folder = job.cluster.folder();
    let curled = if how.contains("pipe") {
        curl_fed(folder, args, Some(job.bytes.to_vec())).await
    } else {
        curl(folder, args).await
    };
    let success = curled.code == 0 && (200..300).contains(&curled.status);
    Believes { success, said: format!("exit {}, status {} {}", curled.code, curled.status, curled.err) }
}

async fn with_script(job: &Job<'_>, program: &Path, script: &str, how: &str) -> Believes {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("matrix").join(script);
    let args = [script.as_os_str(), how.as_ref(), job.file.as_os_str(), job.url.as_ref()];
    let ran = run(&program.to_string_lossy(), args).await;
    let last = ran.err.trim().lines().last().unwrap_or_default().to_owned();
    let said = format!("exit {}, status {} {last}", ran.code, String::from_utf8_lossy(&ran.out).trim());
    Believes { success: ran.code == 0, said }
}

async fn with_other(job: &Job<'_>, how: &str) -> Believes {
    match how {
        "wget" => {
            let body = format!("--body-file={}", job.file.display());
            let args = ["-q", "--no-proxy", "--tries=1", "--method=PUT", &body, "-O", "-", &job.url];
            let ran = run("wget", args).await;
            Believes { success: ran.code == 0, said: format!("exit {} {}", ran.code, ran.err.trim()) }
        }
        "node buffer" => with_script(job, Path::new("node"), "upload.mjs", "buffer").await,
        "node stream" => with_script(job, Path::new("node"), "upload.mjs", "stream").await,
        _ => {
            let trust = (*Trust::default().config()).clone();
            let http = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(trust).build();
            let http = http.expect("a client");
            let pieces: Vec<_> = job
                .bytes
                .chunks(65_536)
                .map(|c| Ok::<_, std::io::Error>(bytes::Bytes::copy_from_slice(c)))
                .collect();
            let body = if how == "reqwest stream" {
                reqwest::Body::wrap_stream(stream::iter(pieces))
            } else {
                job.bytes.to_vec().into()
            };
            match http.put(&job.url).body(body).send().await {
                Ok(answer) => {
                    Believes { success: answer.status().is_success(), said: answer.status().to_string() }
                }
                Err(e) => Believes { success: false, said: e.to_string() },
            }
        }
    }
}
