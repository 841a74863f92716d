//! `barge ls`: keys in byte order, one page at a time, so that memory does not grow with the bucket. As JSON it
//! prints one page per line.

use http::Method;
use http::header::HeaderMap;
use shared::key::encode_query;
use shared::size::ByteSize;
use shared::wire::master::ListPage;
use shared::wire::routes::LIST;

use crate::args::LsArgs;
use crate::client::{self, Client, patiently};
use crate::exit::{Exit, Failure};
use crate::output::{Output, shown, table};

pub(crate) async fn run(client: &Client, args: LsArgs, output: Output) -> Result<Exit, Failure> {
    let mut start = args.start.clone();
    let mut wanted = args.entries_max();
    while wanted > 0 {
        let page = page(client, &args, start.as_deref(), wanted).await?;
        wanted = wanted.saturating_sub(page.keys.len() + page.prefixes.len());
        output.result(&page, || text(&page, args.long))?;
        start = page.next;
        if start.is_none() {
            return Ok(Exit::Ok);
        }
    }
    if let Some(start) = start {
        output.note(&format!("there are more keys: use --all, or --start {start:?}"));
    }
    Ok(Exit::Ok)
}

async fn page(
    client: &Client,
    args: &LsArgs,
    start: Option<&str>,
    wanted: usize,
) -> Result<ListPage, Failure> {
    let mut path = format!("/{}?{LIST}&limit={}", encode_query(&args.prefix), args.page(wanted));
    if let Some(start) = start {
        path += &format!("&start={}", encode_query(start));
    }
    if let Some(delimiter) = args.delimiter {
        path += &format!("&delimiter={}", encode_query(&delimiter.to_string()));
    }
    let url = client.url(&path)?;
    let answer = patiently(async || client.ask(Method::GET, url.clone(), &HeaderMap::new()).await).await?;
    client::json(answer).await
}

/// Merges keys and prefixes in byte order.
fn text(page: &ListPage, long: bool) -> String {
    let mut rows: Vec<(&str, Vec<String>)> = Vec::with_capacity(page.keys.len() + page.prefixes.len());
    for k in &page.keys {
        let name = k.key.as_str();
        let cells =
            [ByteSize(k.size).to_string(), k.last_modified.clone(), k.blake3.to_string(), name.to_owned()];
        rows.push((name, cells.to_vec()));
    }
    for p in &page.prefixes {
        rows.push((p, vec!["-".into(), String::new(), String::new(), p.clone()]));
    }
    rows.sort_by_key(|(name, _)| *name);
    if long {
        return table(&rows.into_iter().map(|(_, cells)| cells).collect::<Vec<_>>());
    }
    rows.iter().map(|(name, _)| shown(name)).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::clock::Timestamp;
    use shared::digest::Digest;
    use shared::ids::BlobId;
    use shared::key::Key;
    use shared::wire::master::ListedKey;

    #[test]
    fn keys_and_prefixes_are_one_list() {
        let random = [7; 10];
        let generation = BlobId::next(None, Timestamp::from_unix_ms(1), random);
        let key = |k: &str| ListedKey {
            key: Key::new(k).unwrap(),
            size: 5,
            blake3: Digest::of(b"value"),
            generation,
            content_type: None,
            last_modified: "today".into(),
        };
        let page = ListPage { keys: vec![key("a"), key("c")], prefixes: vec!["b/".into()], next: None };
        assert_eq!(text(&page, false), "a\nb/\nc");
        assert!(text(&page, true).lines().nth(1).unwrap().ends_with("b/"));
    }
}
