//! `barge volume inspect`: the contents of a volume's segments according to indexes and headers; verifies nothing.

use serde_json::json;
use shared::key::Key;
use shared::size::ByteSize;
use volume::store::inspect::{InspectDepth, NotInspected};

use super::figures::{Totals, record_state, segment_json};
use super::{Seen, Volume, index, refusal, state};
use crate::args::VolumeInspectArgs;
use crate::exit::{Exit, Failure};
use crate::output::{Output, table};

pub(super) fn run(args: &VolumeInspectArgs, output: Output) -> Result<Exit, Failure> {
    let volume = Volume::open(&args.directory, output)?;
    let closeness = if args.records { InspectDepth::Records } else { InspectDepth::Index };
    let numbers = volume.inspector.segments().iter().map(|(number, _)| *number);
    let all: Vec<Seen> = numbers.map(|n| (n, volume.inspector.segment(n, closeness, |_| {}))).collect();
    let document = json!({
        "volume": volume.inspector.volume(),
        "volume_named_by": volume.named_by(),
        "cluster": volume.glimpse.cluster,
        "segments_gone": volume.gone(),
        "segments": all.iter().map(segment_json).collect::<Vec<_>>(),
        "total": Totals::of(&all).json(),
    });
    let text = || if args.records { records(&all) } else { segments(&all) };
    output.result(&document, || format!("volume {}\n\n{}", volume.inspector.volume(), text()))?;
    Ok(Exit::Ok)
}

fn segments(all: &[Seen]) -> String {
    let heads = [
        "segment",
        "state",
        "bytes",
        "live",
        "live bytes",
        "dead",
        "dead bytes",
        "not given back",
        "torn",
        "bad",
        "index",
    ];
    let mut rows = vec![heads.map(String::from).to_vec()];
    rows.extend(all.iter().map(|(number, seen)| {
        let mut row = vec![number.to_string(), state(seen).into()];
        match seen {
            Ok(seen) => row.extend([
                ByteSize(seen.bytes).to_string(),
                seen.live.records.to_string(),
                ByteSize(seen.live.bytes).to_string(),
                seen.dead.records.to_string(),
                ByteSize(seen.dead.bytes).to_string(),
                ByteSize(seen.unpunched.bytes).to_string(),
                ByteSize(seen.torn_bytes).to_string(),
                seen.bad.len().to_string(),
                index(seen.index).into(),
            ]),
            Err(closed) => {
                row.extend(std::iter::repeat_n("-".to_owned(), heads.len() - 3));
                row.push(match closed {
                    NotInspected::Uninitialized => "empty: the next start removes it".into(),
                    NotInspected::Refused(why) => refusal(*why).0,
                });
            }
        }
        row
    }));
    table(&rows)
}

fn records(all: &[Seen]) -> String {
    let heads = ["segment", "offset", "blob", "length", "state", "key"];
    let mut rows = vec![heads.map(String::from).to_vec()];
    for (number, seen) in all.iter().filter_map(|(n, seen)| seen.as_ref().ok().map(|s| (n, s))) {
        rows.extend(seen.records.iter().map(|r| {
            vec![
                number.to_string(),
                r.offset.to_string(),
                r.blob.to_string(),
                r.length.to_string(),
                record_state(r.state).into(),
                r.key.as_ref().map_or("(its header cannot be read)", Key::as_str).into(),
            ]
        }));
        rows.extend(seen.bad.iter().map(|b| {
            vec![
                number.to_string(),
                b.offset.to_string(),
                b.blob.map_or_else(|| "-".into(), |b| b.to_string()),
                "-".into(),
                "bad".into(),
                b.key.as_ref().map_or("(its header cannot be read)", Key::as_str).into(),
            ]
        }));
    }
    table(&rows)
}
