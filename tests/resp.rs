//! The Redis protocol over the wire: commands beside the native API, access keys, what a connection may send, and
//! redis-cli, redis-benchmark, redis-py and ioredis as they are.

mod expiry;
mod rust_client;
mod site;
mod suite;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::Method;
use shared::limits::GUESSES_FREE;
use tests::folder::target;
use tests::raw::Raw;
use tests::tool::{must, run_command};
use tests::{eventually, skip, value};
use tokio::process::Command;

use site::{ADMIN, READER, SCOPED, Site};

/// What `redis-py` and `ioredis` are installed as.
const PYTHON_PACKAGE: &str = "redis==8.1.0";
const NODE_PACKAGE: &str = "ioredis@6.0.0";
/// Commands, in this order, and their replies.
const CONVERSATION: &[(&str, &str)] = &[
    ("GET b/other", "$11\r\nhello world"),
    ("GETRANGE b/other 6 -1", "$5\r\nworld"),
    ("GETRANGE b/other 20 30", "$0\r\n"),
    ("GETRANGE none 0 1", "$0\r\n"),
    ("STRLEN b/other", ":11"),
    ("EXISTS b/other b/other none", ":2"),
    ("TYPE b/other", "+string"),
    ("TYPE none", "+none"),
    ("TTL b/other", ":-1"),
    ("PTTL none", ":-2"),
    ("PERSIST b/other", ":0"),
    ("DBSIZE", ":2"),
    ("SET b/other x NX", "$-1"),
    ("SET none x XX", "$-1"),
    ("GET none", "$-1"),
    ("SET b/other x XX KEEPTTL", "+OK"),
    ("MGET b/other none", "*2\r\n$1\r\nx\r\n$-1"),
    ("GETDEL b/other", "$1\r\nx"),
    ("GETDEL b/other", "$-1"),
    ("SET new 1 nx", "+OK"),
    ("DEL new none", ":1"),
    ("UNLINK new", ":0"),
    ("PING", "+PONG"),
    ("PING hello", "$5\r\nhello"),
    ("ECHO x", "$1\r\nx"),
    ("SELECT 0", "+OK"),
    ("SELECT 1", "-ERR DB index is out of range"),
    ("COMMAND COUNT", ":42"),
    ("CONFIG GET appendf*", "*2\r\n$11\r\nappendfsync\r\n$6\r\nalways"),
    ("CLIENT SETNAME me", "+OK"),
    ("CLIENT GETNAME", "$2\r\nme"),
    ("CLIENT SETINFO LIB-NAME x", "+OK"),
    ("GET", "-ERR wrong number of arguments for 'get' command"),
    ("FOO", "-ERR unknown command 'FOO'"),
    ("APPEND a b", "-ERR 'APPEND' is not supported: a value is replaced as a whole: SET it again"),
    ("SET a b EX 0", "-ERR invalid expire time in 'set' command"),
    ("SET a b EX", "-ERR syntax error"),
    ("SET a b NX XX", "-ERR syntax error"),
    ("EXISTS a", ":0"),
    ("SET a b EX 100", "+OK"),
    ("TTL a", ":100"),
    ("SET a c KEEPTTL GET", "$1\r\nb"),
    ("TTL a", ":100"),
    ("EXPIRE a 50 GT", ":0"),
    ("EXPIRE a 200 NX", ":0"),
    ("EXPIRE a 200 XX", ":1"),
    ("TTL a", ":200"),
    ("PEXPIREAT a 32503680000000", ":1"),
    ("EXPIRETIME a", ":32503680000"),
    ("GETEX a PERSIST", "$1\r\nc"),
    ("TTL a", ":-1"),
    ("PERSIST a", ":0"),
    ("SET a d EX 100", "+OK"),
    ("SET a e", "+OK"),
    ("TTL a", ":-1"),
    ("SET a f NX GET", "$1\r\ne"),
    ("SET none f XX GET", "$-1"),
    ("SET fresh f GET", "$-1"),
    ("GETSET fresh g", "$1\r\nf"),
    ("SETNX fresh h", ":0"),
    ("SETNX other h", ":1"),
    ("GETBIT other 1", ":1"),
    ("GETBIT other 7", ":0"),
    ("TOUCH other none", ":1"),
    ("EXPIRE a -1", ":1"),
    ("PTTL a", ":-2"),
    ("SET other i EXAT 1", "+OK"),
    ("SETEX fresh 0 x", "-ERR invalid expire time in 'setex' command"),
    ("SETEX fresh 100 x", "+OK"),
    ("TTL fresh", ":100"),
    ("EXPIRE fresh x", "-ERR value is not an integer or out of range"),
    ("EXPIRE fresh 1 LT GT", "-ERR GT and LT options at the same time are not compatible"),
    ("DEL fresh other a", ":1"),
    ("RESET", "+RESET"),
];

#[tokio::test(flavor = "multi_thread")]
async fn commands_are_about_the_keys_of_the_other_apis() {
    let site = Site::start("resp-commands").await;
    let http = site.http();
    let mut redis = site.connect();
    let large = value(1, 3_000_000);
    assert_eq!(redis.ask(&[b"SET", b"b/large", &large]), "+OK");
    assert!(http.get("b/large").await.unwrap().body == large, "what was SET is what GET of HTTP gives");
    assert!(http.put("b/other", b"hello world".to_vec()).await.unwrap().is_success());
    redis.send(&[b"GET", b"b/large"]);
    let frame = redis.frame();
    assert!(frame.strip_prefix(b"$3000000\r\n") == Some(&large[..]));
    for (words, reply) in CONVERSATION {
        assert_eq!(redis.say(words), *reply, "{words}");
    }
    let refused = redis.say("SET a/../b x");
    assert!(refused.starts_with("-ERR"), "{refused}");
    assert!(redis.say("HELLO 3").starts_with("%7\r\n$6\r\nserver"));
    assert_eq!(redis.say("GET none"), "_");
    assert!(redis.say("INFO").contains("db0:keys=1,"));
    let metrics = http.get_text("/_/metrics").await.unwrap();
    for counted in [
        "barge_resp_commands_total{command=\"set\",result=\"ok\"}",
        "barge_resp_commands_total{command=\"other\",result=\"ERR\"}",
        "barge_resp_connections 1",
    ] {
        assert!(metrics.contains(counted), "{counted}: {metrics}");
    }
    let sum = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(name)).expect("a line");
        line.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok()).expect("a number")
    };
    assert!(
        sum("barge_resp_received_bytes_total") >= 3_000_000
            && sum("barge_resp_sent_bytes_total") >= 3_000_000
    );
    assert_eq!(redis.say("QUIT"), "+OK");
    assert_eq!(redis.0.rest(), (Vec::new(), true));
}

/// Many commands are sent at once: the replies come in their order, and a refused value does not end the connection.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_ahead_is_answered_in_order() {
    let site = Site::start("resp-pipeline").await;
    let mut redis = site.connect();
    for n in 0..50 {
        let text = format!("value {n}");
        redis.send(&[b"SET", format!("p/{n}").as_bytes(), text.as_bytes()]);
        redis.send(&[b"SET", b"a//../bad", &vec![7; 100_000]]);
        redis.send(&[b"GET", format!("p/{n}").as_bytes()]);
    }
    for n in 0..50 {
        let text = format!("value {n}");
        assert_eq!(redis.reply(), "+OK", "{n}");
        assert!(redis.reply().starts_with("-ERR"), "{n}");
        assert_eq!(redis.reply(), format!("${}\r\n{text}", text.len()));
    }
    // Each key from the first call to the last is found, whatever is written meanwhile.
    let (mut found, mut cursor) = (std::collections::BTreeSet::new(), "0".to_owned());
    let mut calls = 0;
    loop {
        redis.send(&[b"SCAN", cursor.as_bytes(), b"MATCH", b"p/*", b"COUNT", b"7"]);
        let reply = redis.reply();
        let mut texts = reply.split("\r\n").filter(|line| !line.starts_with(['$', '*']));
        texts.next().expect("a cursor").clone_into(&mut cursor);
        found.extend(texts.map(str::to_owned));
        assert_eq!(redis.ask(&[b"SET", format!("p/0{calls}").as_bytes(), b"x"]), "+OK");
        calls += 1;
        if cursor == "0" {
            break;
        }
    }
    assert!(calls > 5, "{calls}");
    assert!((0..50).all(|n| found.contains(&format!("p/{n}"))), "{found:?}");
    assert!(redis.say("SCAN 999999").starts_with("-ERR this cursor is not known"));
}

/// A page ends early when its keys are long.
#[tokio::test(flavor = "multi_thread")]
async fn no_key_is_lost_between_two_pages() {
    let site = Site::start("resp-pages").await;
    let mut redis = site.connect();
    let keys: Vec<_> = (0..100).map(|n| format!("p/{n:03}{}", "x".repeat(900))).collect();
    for key in &keys {
        assert_eq!(redis.ask(&[b"SET", key.as_bytes(), b"1"]), "+OK");
    }
    let (mut found, mut calls, mut cursor) = (Vec::new(), 0, "0".to_owned());
    while calls == 0 || cursor != "0" {
        let reply = redis.say(&format!("SCAN {cursor} COUNT 1000"));
        let mut texts = reply.split("\r\n").filter(|line| !line.starts_with(['$', '*'])).map(str::to_owned);
        cursor = texts.next().expect("a cursor");
        found.extend(texts);
        calls += 1;
    }
    assert!(found == keys && calls > 1, "{} keys in {calls} calls", found.len());
    let all = redis.say("KEYS p/*");
    assert!(keys.iter().all(|key| all.contains(key)));
}

#[tokio::test(flavor = "multi_thread")]
async fn access_keys_permit_here_what_they_permit_elsewhere() {
    let site = Site::start("resp-access").await;
    let mut early = site.connect();
    assert_eq!(early.say("SET b/x 1"), "+OK", "without keys, this machine may do everything");
    assert!(early.say("AUTH a b").starts_with("-ERR AUTH called without any password configured"));
    site.key(ADMIN, &["--permission", "admin"]).await;
    site.key(SCOPED, &["--permission", "write", "--scope", "b/mine/"]).await;
    assert_eq!(early.say("GET b/x"), "-NOAUTH Authentication required.");
    assert_eq!(early.say("PING"), "-NOAUTH Authentication required.");
    assert!(early.say("HELLO 3").starts_with("-NOAUTH HELLO"));
    assert!(early.say("AUTH BKTESTADMIN000000001 wrong-secret-0123456789").starts_with("-WRONGPASS"));
    assert_eq!(early.say(&format!("AUTH {}:{}", ADMIN.0, ADMIN.1)), "+OK");
    assert_eq!(early.say("GET b/x"), "$1\r\n1");
    site.key(READER, &["--permission", "read"]).await;
    let mut reader = site.connect();
    assert_eq!(reader.say(&format!("AUTH {} {}", READER.0, READER.1)), "+OK");
    for refused in ["SET b/x 2", "DEL b/x", "UNLINK b/x", "GETDEL b/x"] {
        assert!(reader.say(refused).starts_with("-NOPERM"), "{refused}");
    }
    assert_eq!(reader.say("GET b/x"), "$1\r\n1");
    let mut scoped = site.connect();
    let hello = scoped.say(&format!("HELLO 3 AUTH {} {} SETNAME x", SCOPED.0, SCOPED.1));
    assert!(hello.starts_with("%7"), "{hello}");
    assert_eq!(scoped.say("SET b/mine/a 1"), "+OK");
    assert_eq!(scoped.say("GET b/mine/a"), "$1\r\n1");
    for refused in [
        "GET b/x",
        "SET b/x 2",
        "DEL b/mine/a b/x",
        "MGET b/mine/a b/x",
        "GETDEL b/x",
        "EXISTS b/x",
        "DBSIZE",
        "SCAN 0",
        "KEYS *",
        "SCAN 0 MATCH b/*",
        "STRLEN b/x",
    ] {
        let reply = scoped.say(refused);
        assert!(reply.starts_with("-NOPERM"), "{refused}: {reply}");
    }
    assert_eq!(scoped.say("KEYS b/mine/*"), "*1\r\n$8\r\nb/mine/a");
    assert_eq!(scoped.say("GET b/mine/a"), "$1\r\n1", "a refused DEL deletes nothing");
    let long = [b"b/mine/*[".as_slice(), &[b'x'; 60_000], b"]"].concat();
    assert!(scoped.ask(&[b"KEYS", &long]).starts_with("-ERR the pattern is longer than any key"));
    assert_eq!(scoped.ask(&[b"KEYS", &[b"b/mine/*".as_slice(), &[b'k'; 900], b"z"].concat()]), "*0");
    let mut stranger = site.connect();
    for _ in 0..10 {
        assert_eq!(stranger.say("PING"), "-NOAUTH Authentication required.");
    }
    stranger.0.close_writing();
    assert_eq!(stranger.0.rest(), (Vec::new(), true), "ten refusals are enough");
    site.barge(&["key", "revoke", SCOPED.0]).await;
    assert_eq!(scoped.say("GET b/mine/a"), "-NOAUTH Authentication required.");
    eventually(Duration::from_secs(30), "the audit log has it", async || {
        let log = std::fs::read_to_string(site.folder.join("audit")).ok()?;
        let has =
            |what: &str| log.lines().any(|line| line.contains("\"api\":\"resp\"") && line.contains(what));
        (has("\"operation\":\"PutObject\",\"bucket\":\"b\",\"key\":\"mine/a\",\"status\":200")
            && has("\"bucket\":\"b\",\"key\":\"mine/a\",\"status\":403")
            && has("\"bucket\":\"b\",\"key\":\"x\",\"status\":403")
            && has("\"operation\":\"Authenticate\",\"bucket\":null,\"key\":null,\"status\":401")
            && has(&format!("\"access_key\":\"{}\"", ADMIN.0)))
        .then_some(())
    })
    .await;
    let log = std::fs::read_to_string(site.folder.join("audit")).unwrap();
    assert!(!log.contains(ADMIN.1) && !log.contains("wrong-secret"), "no secret is logged");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_that_are_guessed() {
    let site = Site::start("resp-guesses").await;
    site.key(ADMIN, &["--permission", "admin"]).await;
    let waited = async || {
        let metrics = site.http().get_text("/_/metrics").await.expect("metrics");
        !metrics.contains("\nbarge_access_throttled_total 0\n")
    };
    let mut guesses = 0;
    while !waited().await {
        assert!(guesses < 5 * GUESSES_FREE, "nobody who guesses waits");
        // A connection ends after ten refusals.
        let mut redis = site.connect();
        (0..9).for_each(|_| assert!(redis.say(&format!("AUTH {} wrong", ADMIN.0)).starts_with("-WRONGPASS")));
        guesses += 9;
    }
}

/// A page on this machine must not reach a store that trusts this machine.
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_is_not_answered() {
    let site = Site::start("resp-browser").await;
    assert!(site.http().put("kept", b"x".to_vec()).await.unwrap().is_success());
    for request in [
        "POST / HTTP/1.1\r\nHost: x\r\n\r\nSET a b\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        // A greeting of TLS: what follows it could be chosen by the server that a browser was sent from.
        "\u{16}\u{3}\u{1}\n*2\r\n$3\r\nDEL\r\n$4\r\nkept\r\n",
        "howdy there\r\nDEL kept\r\n",
        "DEL kept HTTP/1.1\r\nHost: x\r\n\r\n",
        "PUT /a HTTP/1.1\r\nhost: x\r\n\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n",
    ] {
        let mut raw = Raw::connect(&format!("127.0.0.1:{}", site.port));
        raw.send(request);
        let (said, _) = raw.rest();
        assert!(!String::from_utf8_lossy(&said).contains("+OK"), "{request}");
    }
    assert_eq!(site.http().get("a").await.unwrap().status, 404);
    assert_eq!(site.http().get("kept").await.unwrap().status, 200);
}

/// Memory is taken for bytes that have arrived, and not before a key is shown.
#[tokio::test(flavor = "multi_thread")]
async fn announced_bytes_cost_nothing() {
    let site = Site::start("resp-memory").await;
    let mut first = site.connect();
    assert_eq!(first.ask(&[b"SET", b"m/first", &value(1, 1_000_000)]), "+OK");
    let before = site.memory();
    let mut held = Vec::new();
    for n in 0..200 {
        let mut raw = Raw::connect(&format!("127.0.0.1:{}", site.port));
        raw.send(format!("*3\r\n$3\r\nSET\r\n$4\r\nm/{n:02}\r\n$3000000000\r\n"));
        held.push(raw);
    }
    for _ in 0..300 {
        held.push(Raw::connect(&format!("127.0.0.1:{}", site.port)));
    }
    assert_eq!(first.say("PING"), "+PONG");
    let grown = site.memory().saturating_sub(before);
    // A connection needs about 64 KiB, and one that uploads the buffers of its volumes.
    assert!(grown < 256 << 20, "{grown} bytes for {} connections", held.len());
    drop(held);
    site.key(ADMIN, &["--permission", "admin"]).await;
    let mut stranger = site.connect();
    stranger.0.send("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$3000000000\r\n");
    assert_eq!(stranger.reply(), "-NOAUTH Authentication required.");
    stranger.0.close_writing();
    assert_eq!(stranger.0.rest(), (Vec::new(), true), "its value is not awaited");
}

/// A value that breaks off stores nothing; one whose last replica is gone cuts the connection.
#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_off_is_never_taken_for_whole() {
    let site = Site::start("resp-broken").await;
    let mut half = site.connect();
    half.0.send("*3\r\n$3\r\nSET\r\n$1\r\nh\r\n$1000000\r\n");
    half.0.send(vec![7; 500_000]);
    half.0.close_writing();
    let (said, _) = half.0.rest();
    assert_eq!(String::from_utf8_lossy(&said), "");
    assert_eq!(site.http().get("h").await.unwrap().status, 404);
    let mut wrong = site.connect();
    wrong.0.send("*3\r\n$3\r\nSET\r\n$1\r\nh\r\n$3\r\nabcdef\r\n");
    assert!(wrong.reply().starts_with("-ERR Protocol error"));
    assert_eq!(site.http().send(Method::GET, "h", &[], None).await.unwrap().status, 404);
}

/// Runs a client's program; its last line says that it has passed.
async fn client(mut command: Command, site: &Site) -> String {
    command.env("BARGE_RESP_PORT", site.port.to_string());
    let ran = run_command(command, None).await;
    assert_eq!(ran.code, 0, "{}{}", ran.text(), ran.err);
    ran.text()
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_cli_and_redis_benchmark() {
    let site = Site::start("resp-cli").await;
    let script = source("redis_cli.sh");
    if run_command(Command::new("redis-cli"), Some(Vec::new())).await.code == 127 {
        return skip("redis-cli", "it is not installed");
    }
    let mut command = Command::new("bash");
    command.arg(script).current_dir(site.folder.path());
    let said = client(command, &site).await;
    assert!(said.ends_with("passed\n"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_py() {
    let venv = target().join("test-venv");
    let python = venv.join("bin/python3");
    let usable = async || {
        let mut import = Command::new(&python);
        import.args(["-c", "import redis; assert redis.__version__ == '8.1.0'"]);
        python.exists() && run_command(import, None).await.code == 0
    };
    if !usable().await {
        if !python.exists() {
            must("python3", [OsString::from("-m"), "venv".into(), venv.into_os_string()]).await;
        }
        let mut install = Command::new(&python);
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", PYTHON_PACKAGE]);
        if run_command(install, None).await.code != 0 {
            return skip("redis-py", "it could not be installed");
        }
    }
    let site = Site::start("resp-py").await;
    let mut command = Command::new(&python);
    command.arg(source("redis_py.py"));
    client(command, &site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ioredis() {
    let folder = target().join("test-npm-redis");
    let package = folder.join("node_modules/ioredis/package.json");
    let wanted = NODE_PACKAGE.rsplit_once('@').map_or("", |(_, version)| version);
    let usable = || {
        std::fs::read_to_string(&package)
            .is_ok_and(|text| text.contains(&format!("\"version\": \"{wanted}\"")))
    };
    if !usable() {
        std::fs::create_dir_all(&folder).expect("a folder");
        let mut install = Command::new("npm");
        install
            .args(["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"])
            .arg(&folder)
            .arg(NODE_PACKAGE);
        if run_command(install, None).await.code != 0 || !usable() {
            return skip("ioredis", "it could not be installed");
        }
    }
    let site = Site::start("resp-ioredis").await;
    let mut command = Command::new("node");
    command.arg(source("ioredis.mjs")).env("BARGE_NODE_PACKAGES", &folder);
    client(command, &site).await;
}

fn source(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("resp").join(name)
}
