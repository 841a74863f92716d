//! `barge volume check`: reads every byte of a volume and verifies it: block checksums, digests, headers, indexes.

use serde_json::json;
use shared::key::Key;
use shared::size::ByteSize;
use volume::store::inspect::{BadRecord, Flaw, InspectDepth, NotInspected};
use volume::store::{FormatError, IndexState, Refusal, SegmentNumber};

use super::figures::{Totals, segment_json};
use super::{Seen, Volume, refusal};
use crate::args::VolumeCheckArgs;
use crate::exit::{Exit, Failure};
use crate::output::{Output, table};
use crate::progress::Meter;

pub(super) fn run(args: &VolumeCheckArgs, output: Output) -> Result<Exit, Failure> {
    let volume = Volume::open(&args.directory, output)?;
    let segments = volume.inspector.segments();
    let meter = Meter::new("checking", Some(segments.iter().map(|(_, bytes)| bytes).sum()), output);
    let mut all: Vec<Seen> = Vec::with_capacity(segments.len());
    let mut before = 0;
    for (number, bytes) in segments {
        let seen = volume.inspector.segment(*number, InspectDepth::Bytes, |at| meter.at(before + at));
        before += bytes;
        meter.at(before);
        let seen = (*number, seen);
        if !output.is_json() {
            meter
                .beside(|| findings(&seen).iter().try_for_each(|line| output.result(&(), || line.clone())))?;
        }
        all.push(seen);
    }
    meter.done();
    let (totals, verdict) = (Totals::of(&all), Verdict::of(&all));
    let document = json!({
        "volume": volume.inspector.volume(),
        "volume_named_by": volume.named_by(),
        "cluster": volume.glimpse.cluster,
        "segments_gone": volume.gone(),
        "good": verdict.exit() == Exit::Ok,
        "segments": all.iter().map(segment_json).collect::<Vec<_>>(),
        "total": totals.json(),
    });
    output.result(&document, || summary(&volume, &totals, &verdict))?;
    Ok(verdict.exit())
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Verdict {
    /// Corrupt records and ranges.
    bad_records: usize,
    /// Segments that are corrupt as a whole.
    bad_segments: usize,
    bad_indexes: usize,
    /// Segments of another format version, which cannot be judged.
    unknown: usize,
}

impl Verdict {
    fn of(all: &[Seen]) -> Self {
        let mut verdict = Self::default();
        for (_, seen) in all {
            match seen {
                Ok(inspection) => {
                    verdict.bad_records += inspection.bad.len();
                    verdict.bad_indexes += usize::from(inspection.index == IndexState::Rotten);
                }
                Err(NotInspected::Uninitialized) => {}
                Err(NotInspected::Refused(Refusal::Header(FormatError::Version(_)))) => verdict.unknown += 1,
                Err(NotInspected::Refused(_)) => verdict.bad_segments += 1,
            }
        }
        verdict
    }

    fn exit(&self) -> Exit {
        match self {
            Self { bad_records: 0, bad_segments: 0, bad_indexes: 0, unknown: 0 } => Exit::Ok,
            Self { bad_records: 0, bad_segments: 0, bad_indexes: 0, .. } => Exit::Failure,
            _ => Exit::Unverified,
        }
    }

    fn text(&self) -> String {
        let parts = [
            ("bad records", self.bad_records),
            ("bad segments", self.bad_segments),
            ("corrupt indexes", self.bad_indexes),
            ("segments that this version cannot read", self.unknown),
        ];
        let parts: Vec<_> =
            parts.iter().filter(|(_, n)| *n > 0).map(|(of, n)| format!("{of}: {n}")).collect();
        if parts.is_empty() { "all good".into() } else { parts.join(", ") }
    }
}

/// One line for each problem in a segment, with what to do about it.
pub(super) fn findings((number, seen): &Seen) -> Vec<String> {
    match seen {
        Ok(inspection) => {
            let index = (inspection.index == IndexState::Rotten).then(|| {
                format!("segment {number}: its index is corrupt; the next start rebuilds it from the segment")
            });
            index.into_iter().chain(inspection.bad.iter().map(|bad| finding(*number, bad))).collect()
        }
        Err(NotInspected::Uninitialized) => Vec::new(),
        Err(NotInspected::Refused(why)) => {
            let (what, next) = refusal(*why);
            vec![format!("segment {number}: {what}; {next}")]
        }
    }
}

fn finding(number: SegmentNumber, bad: &BadRecord) -> String {
    let key = bad.key.as_ref().map_or("a record whose key cannot be read", Key::as_str);
    let blob = bad.blob.map_or_else(|| "unknown blob".into(), |b| format!("blob {b}"));
    let next = next(bad);
    format!("{key}: {}; {blob}, segment {number}, offset {}; {next}", bad.flaw, bad.offset)
}

/// What to do about a bad record.
pub(super) fn next(bad: &BadRecord) -> String {
    if let Flaw::Unreadable(_) = bad.flaw {
        return "see the kernel's log about this disk".into();
    }
    match bad.key.as_ref().map(Key::as_str) {
        Some(key) => {
            format!(
                "barge get {key:?} FILE reads another replica, barge put FILE {key:?} stores the value again"
            )
        }
        None => "the masters know its key; other volumes may hold replicas".into(),
    }
}

fn summary(volume: &Volume, totals: &Totals, verdict: &Verdict) -> String {
    let mut rows = vec![
        vec!["volume".into(), format!("{} (by its {})", volume.inspector.volume(), volume.named_by())],
        vec!["segments".into(), format!("{}, {}", totals.segments, ByteSize(totals.bytes))],
        vec!["live".into(), format!("{} records, {}", totals.live.records, ByteSize(totals.live.bytes))],
        vec![
            "deleted".into(),
            format!("{} records, {} not given back", totals.dead.records, ByteSize(totals.kept.bytes)),
        ],
    ];
    if totals.torn_bytes > 0 {
        let torn = format!("{} of unfinished uploads: no corruption, the next start truncates them", {
            ByteSize(totals.torn_bytes)
        });
        rows.push(vec!["torn".into(), torn]);
    }
    if totals.indexes_made > 0 {
        let text = format!(
            "{} missing or stale: no corruption, the next start re-creates them",
            totals.indexes_made
        );
        rows.push(vec!["indexes".into(), text]);
    }
    rows.push(vec!["verdict".into(), verdict.text()]);
    table(&rows)
}
