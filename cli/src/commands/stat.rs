//! `barge stat`: a key's metadata, from the master alone.

use http::Method;
use http::header::{ETAG, HeaderMap};
use serde_json::{Map, Value, json};
use shared::size::ByteSize;
use shared::wire::routes::{EXPIRES_HEADER, GENERATION_HEADER, METADATA_PREFIXES};

use crate::args::StatArgs;
use crate::client::{Client, header, key_url, patiently};
use crate::exit::{Exit, Failure};
use crate::output::{Output, table};

pub(crate) async fn run(client: &Client, args: StatArgs, output: Output) -> Result<Exit, Failure> {
    let url = key_url(client, &args.key)?;
    let answer = patiently(async || client.ask(Method::HEAD, url.clone(), &HeaderMap::new()).await).await;
    let answer = answer.map_err(|f| f.for_key(&args.key))?;
    let text = |name: &str| header(&answer, name).map(str::to_owned);
    let size: Option<u64> = text("content-length").and_then(|l| l.parse().ok());
    let mut metadata = Map::new();
    for (name, value) in answer.headers() {
        if METADATA_PREFIXES.iter().any(|p| name.as_str().starts_with(p)) {
            metadata.insert(name.to_string(), String::from_utf8_lossy(value.as_bytes()).into());
        }
    }
    let known = json!({
        "key": args.key,
        "size": size,
        "blake3": text(ETAG.as_str()).map(|e| e.trim_matches('"').to_owned()),
        "generation": text(GENERATION_HEADER),
        "content_type": text("content-type"),
        "last_modified": text("last-modified"),
        "expires": text(EXPIRES_HEADER),
        "metadata": metadata,
    });
    output.result(&known, || lines(&known, size))?;
    Ok(Exit::Ok)
}

fn lines(known: &Value, size: Option<u64>) -> String {
    let mut rows = Vec::new();
    let mut add = |name: &str, value: &Value| {
        let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if !value.is_null() {
            rows.push(vec![name.replace('_', " "), shown]);
        }
    };
    for (name, value) in known.as_object().into_iter().flatten() {
        match (name.as_str(), size) {
            ("metadata", _) => value.as_object().into_iter().flatten().for_each(|(n, v)| add(n, v)),
            ("size", Some(size)) => add(name, &format!("{size} ({})", ByteSize(size)).into()),
            _ => add(name, value),
        }
    }
    table(&rows)
}
