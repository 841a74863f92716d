//! `barge explain`: where a value's replicas are, and why.

use std::time::Duration;

use shared::size::ByteSize;
use shared::wire::cluster::{ExplainRequest, ExplainedBlob, ExplainedReplica, Explanation};
use shared::wire::routes::EXPLAIN;

use super::cluster::ask_leader;
use crate::args::ExplainArgs;
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output::{Output, table};
use crate::signed::Caller;

pub(crate) async fn run(client: &Client, args: ExplainArgs, output: Output) -> Result<Exit, Failure> {
    let caller = Caller::new(&args.secret, client.trust())?;
    let question = ExplainRequest { key: args.key.clone() };
    let found: Result<Explanation, Failure> = ask_leader(client, &caller, EXPLAIN, &question).await;
    let found = found.map_err(|f| f.for_key(&args.key))?;
    output.result(&found, || text(&found))?;
    Ok(Exit::Ok)
}

fn text(found: &Explanation) -> String {
    let parts = match found.parts {
        0 => "one blob".to_owned(),
        n => format!("{n} parts"),
    };
    let head = table(&[
        vec!["key".into(), found.key.to_string()],
        vec!["size".into(), format!("{} ({}), {parts}", found.size, ByteSize(found.size))],
        vec!["blake3".into(), found.blake3.to_string()],
        vec!["generation".into(), found.generation.to_string()],
        vec!["replicas".into(), format!("{} wanted, {} acknowledgement", found.wanted, found.mode)],
        vec!["next step".into(), found.next.clone()],
    ]);
    let mut rows = vec![
        ["blob", "volume", "state", "segment", "extent", "last verified", "remark"]
            .map(String::from)
            .to_vec(),
    ];
    rows.extend(found.blobs.iter().flat_map(|b| b.replicas.iter().map(|c| row(b, c))));
    let mut ring = vec![["ring", "address", "zone", "why"].map(String::from).to_vec()];
    ring.extend(found.ring.iter().map(|v| {
        let zone = v.zone.as_ref().map_or_else(|| "-".into(), ToString::to_string);
        vec![v.volume.to_string(), v.address.clone(), zone, v.why.clone()]
    }));
    format!("{head}\n\n{}\n\n{}", table(&rows), table(&ring))
}

fn row(blob: &ExplainedBlob, copy: &ExplainedReplica) -> Vec<String> {
    let name = blob.part.map_or_else(|| blob.blob.to_string(), |n| format!("{} (part {n})", blob.blob));
    let place = copy.location.as_ref();
    let verified = place.map_or_else(
        || "-".into(),
        |p| {
            let at = std::time::UNIX_EPOCH + Duration::from_millis(p.verified.unix_ms());
            humantime::format_rfc3339_seconds(at).to_string()
        },
    );
    vec![
        name,
        copy.address.clone(),
        copy.state.name().into(),
        place.map_or_else(|| "-".into(), |p| p.segment.to_string()),
        place.map_or_else(|| "-".into(), |p| format!("{}+{}", p.offset, p.length)),
        verified,
        copy.trouble.clone().unwrap_or_default(),
    ]
}
