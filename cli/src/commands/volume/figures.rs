//! Figures of segments: their totals, and both as JSON.

use serde_json::{Value, json};
use volume::store::IndexState;
use volume::store::inspect::{BadRecord, Count, NotInspected, Record, RecordState};

use super::check::next;
use super::{Seen, index, refusal, state};

/// Totals over all segments.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) segments: usize,
    pub(super) bytes: u64,
    pub(super) live: Count,
    pub(super) dead: Count,
    pub(super) kept: Count,
    pub(super) torn_bytes: u64,
    pub(super) bad: usize,
    /// Indexes that are missing or stale.
    pub(super) indexes_made: usize,
}

impl Totals {
    pub(super) fn of(all: &[Seen]) -> Self {
        let mut totals = Self { segments: all.len(), ..Self::default() };
        for seen in all.iter().filter_map(|(_, seen)| seen.as_ref().ok()) {
            totals.bytes += seen.bytes;
            add(&mut totals.live, seen.live);
            add(&mut totals.dead, seen.dead);
            add(&mut totals.kept, seen.unpunched);
            totals.torn_bytes += seen.torn_bytes;
            totals.bad += seen.bad.len();
            totals.indexes_made += usize::from(matches!(seen.index, IndexState::Missing | IndexState::Stale));
        }
        totals
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "segments": self.segments,
            "bytes": self.bytes,
            "live": count(self.live),
            "dead": count(self.dead),
            "not_given_back": count(self.kept),
            "torn_bytes": self.torn_bytes,
            "bad": self.bad,
        })
    }
}

fn add(sum: &mut Count, more: Count) {
    sum.records += more.records;
    sum.bytes += more.bytes;
}

fn count(count: Count) -> Value {
    json!({"records": count.records, "bytes": count.bytes})
}

pub(super) fn segment_json((number, seen): &Seen) -> Value {
    let (number, state) = (number.to_string(), state(seen));
    match seen {
        Ok(seen) => {
            let mut json = json!({
                "segment": number,
                "state": state,
                "bytes": seen.bytes,
                "live": count(seen.live),
                "dead": count(seen.dead),
                "not_given_back": count(seen.unpunched),
                "torn_bytes": seen.torn_bytes,
                "index": index(seen.index),
                "bad": seen.bad.iter().map(bad_json).collect::<Vec<_>>(),
            });
            if !seen.records.is_empty() {
                json["records"] = seen.records.iter().map(record_json).collect();
            }
            json
        }
        Err(NotInspected::Uninitialized) => json!({"segment": number, "state": state}),
        Err(NotInspected::Refused(why)) => {
            let (what, next) = refusal(*why);
            json!({"segment": number, "state": state, "what": what, "next": next})
        }
    }
}

fn bad_json(bad: &BadRecord) -> Value {
    json!({
        "offset": bad.offset,
        "bytes": bad.bytes,
        "blob": bad.blob,
        "key": bad.key,
        "what": bad.flaw.to_string(),
        "next": next(bad),
    })
}

fn record_json(record: &Record) -> Value {
    json!({
        "offset": record.offset,
        "blob": record.blob,
        "key": record.key,
        "length": record.length,
        "state": record_state(record.state),
    })
}

pub(super) fn record_state(state: RecordState) -> &'static str {
    match state {
        RecordState::Live => "live",
        RecordState::Dead => "deleted",
        RecordState::Unpunched => "deleted, not given back",
    }
}
