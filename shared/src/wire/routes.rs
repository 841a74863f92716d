//! Paths, query names and header names. Everything of ours lives under `/_/`; the rest are keys.

/// GET: 200 when the server can do its work, 503 with a reason when not.
pub const HEALTH: &str = "/_/health";
/// GET: Prometheus text.
pub const METRICS: &str = "/_/metrics";
/// POST, signed: JSON of what the server knows of itself (on a master: of its cluster). GET on a master, with an access key
/// where there are any.
pub const STATUS: &str = "/_/status";
/// POST, signed for any recipient: under which name this server takes calls.
pub const RECIPIENT: &str = "/_/recipient";
/// POST to a master, signed: a volume registers itself or tells that it lives.
pub const HEARTBEAT: &str = "/_/heartbeat";
/// POST to a master, signed: receipts in, outcome out.
pub const COMMIT: &str = "/_/commit";
/// POST to a volume, signed: who are you; used by masters that were given a static list.
pub const IDENTIFY: &str = "/_/identify";
/// POST to a volume, signed: delete blobs.
pub const DELETE: &str = "/_/delete";
/// POST to a volume, signed: a page of the blobs it holds.
pub const INVENTORY: &str = "/_/inventory";
/// POST to a volume, signed: a page of its records, with what their headers say.
pub const RECORDS: &str = "/_/records";
/// POST to a volume, signed: a page of what it knows to be deleted or refused.
pub const TOMBSTONES: &str = "/_/tombstones";

/// POST to a volume, signed: take a copy of a blob in.
pub const COPY: &str = "/_/copy";
/// POST to a volume, signed: where these blobs are on its disk.
pub const LOOK: &str = "/_/look";
/// POST to a volume, signed: digests of what it holds, by range.
pub const DIGESTS: &str = "/_/digests";
/// POST to any server, signed: look at yourself, and fetch these addresses.
pub const EXAMINE: &str = "/_/examine";

/// POST to a master, signed: a volume asks for other copies of a blob that it should hold.
pub const COPIES: &str = "/_/copies";

/// POST to a master, signed, or GET as `STATUS`: what became of volumes of late, as this master saw it.
pub const EVENTS: &str = "/_/events";
/// POST to the leader, signed: what a volume is to do.
pub const DUTY: &str = "/_/duty";
/// POST to the leader, signed: the moving of values between volumes.
pub const REBALANCE: &str = "/_/rebalance";
/// POST to the leader, signed: compares all inventories with the tables now.
pub const ORPHANS: &str = "/_/orphans";
/// POST to a master, signed: where a value is and why.
pub const EXPLAIN: &str = "/_/explain";
/// POST to a master, signed: when uploads are acknowledged.
pub const MODES: &str = "/_/modes";
/// POST to a master, signed: when uploads of a bucket are acknowledged, from now on.
pub const MODES_SET: &str = "/_/modes/set";
/// POST to a master, signed: has all servers look at themselves and at each other.
pub const DOCTOR: &str = "/_/doctor";

/// POST to a master, signed: takes a command to the leader.
pub const PROPOSE: &str = "/_/propose";
/// POST to the leader, signed: how far one must have come to have seen all that was acknowledged.
pub const READ_INDEX: &str = "/_/read-index";
/// POST to a master, signed: entries of the log.
pub const RAFT_APPEND: &str = "/_/raft/append";
/// POST to a master, signed: a request for its vote.
pub const RAFT_VOTE: &str = "/_/raft/vote";
/// POST to a master, signed: a snapshot is on offer.
pub const RAFT_OFFER: &str = "/_/raft/offer";
/// POST to a master, signed: a part of it.
pub const RAFT_PART: &str = "/_/raft/part";
/// POST to a master, signed: all of it is there.
pub const RAFT_INSTALL: &str = "/_/raft/install";
/// POST to a master, signed: what its tables held at some places of the log.
pub const TABLES_COMPARE: &str = "/_/tables/compare";
/// POST to a master, signed: writes a snapshot of its tables for a master whose own are damaged.
pub const TABLES_OFFER: &str = "/_/tables/offer";
/// POST to a master, signed: a part of it.
pub const TABLES_PART: &str = "/_/tables/part";
/// POST to a master, signed, or GET as `STATUS`: the masters of the cluster.
pub const MASTERS: &str = "/_/masters";
/// POST to a master, signed: who are you.
pub const MASTER_SELF: &str = "/_/masters/self";
/// POST to a master, signed: takes a step towards making a master a voter of the cluster.
pub const MASTERS_ADD: &str = "/_/masters/add";
/// POST to a master, signed: takes a master out of the cluster.
pub const MASTERS_REMOVE: &str = "/_/masters/remove";
/// POST to a master that waits, signed: makes it the first of a new cluster.
pub const MASTERS_INIT: &str = "/_/masters/init";
/// POST to a master, signed: a snapshot of the metadata, as a stream.
pub const BACKUP: &str = "/_/backup";

/// POST to a master, signed: a page of the access keys, without their secrets.
pub const KEYS: &str = "/_/keys";
/// POST to a master, signed: makes an access key, or replaces it.
pub const KEYS_PUT: &str = "/_/keys/put";
/// POST to a master, signed: an access key is good no more.
pub const KEYS_REVOKE: &str = "/_/keys/revoke";
/// POST to a master, signed: whether anybody may read a bucket's values without an access key.
pub const KEYS_ANONYMOUS: &str = "/_/keys/anonymous";

/// Query name of the ticket in a redirect to a volume.
pub const TICKET: &str = "ticket";
/// Query name of the hop count in a redirect back to the master.
pub const HOPS: &str = "hops";
/// Query name: answer an upload with a redirect although no `Expect` came, or no length, and whatever else speaks against it:
/// a client that asks for its ticket sends no value, and none must be stored.
pub const REDIRECT: &str = "redirect";
/// Query name: the length of the value whose upload is to be redirected, in bytes.
pub const LENGTH: &str = "length";
/// Query name: answer through the master, never with a redirect.
pub const STREAM: &str = "stream";
/// Query name: answer from what this master knows, without asking whether it is the newest.
pub const STALE: &str = "stale";
/// Query name: list keys instead of reading one.
pub const LIST: &str = "list";

/// Header: signature of a call between servers.
pub const SIGNATURE_HEADER: &str = "barge-signature";
/// Header: signature of the answer to such a call.
pub const ANSWER_HEADER: &str = "barge-answer";
/// Header: 32 hex digits that a server sends with a ticket, so that the answer proves who gave it ...
pub const NONCE_HEADER: &str = "barge-nonce";
/// ... by this header.
pub const PROOF_HEADER: &str = "barge-proof";
/// Header: the request's id, in every answer.
pub const REQUEST_ID_HEADER: &str = "barge-request-id";
/// Header: `1` for a client that cannot follow redirects: its request is answered through the master.
pub const NO_REDIRECT_HEADER: &str = "barge-no-redirect";
/// Header: BLAKE3 that the client declares of its value, 64 hex digits.
pub const BLAKE3_HEADER: &str = "barge-blake3";
/// Header: the generation of a value served.
pub const GENERATION_HEADER: &str = "barge-generation";
/// Header: marks an answer that may be older than the newest acknowledged write, as it was asked for with `STALE`.
pub const STALE_HEADER: &str = "barge-stale";
/// Header: marks an upload that came down a chain, not from a client: the receiver returns
/// receipts and leaves the commit to the first volume.
pub const CHAIN_HEADER: &str = "barge-chain";
/// Header: marks a read by a volume whose own copy is bad: it is answered from the disk as it is, or refused, so that
/// two volumes with the same bad block do not ask each other for ever.
pub const HEALING_HEADER: &str = "barge-healing";
/// Prefixes of user metadata headers, stored and given back as they came.
pub const METADATA_PREFIXES: [&str; 2] = ["barge-meta-", "x-amz-meta-"];

/// Prefix of what servers note beside a value's metadata; never taken from a client, never shown to one.
pub const INTERNAL_PREFIX: &str = "barge-internal-";
/// On a record: it is a part of the upload that is named, `UPLOAD.NUMBER`, and no version of its key.
pub const PART_NOTE: &str = "barge-internal-part";
/// On a record: its bytes are the manifest of a value in parts.
pub const MANIFEST_NOTE: &str = "barge-internal-manifest";

/// The value of `name` in a query string, percent-decoded; `Some("")` when it stands alone.
pub fn query_value(query: Option<&str>, name: &str) -> Option<String> {
    query?.split('&').find_map(|pair| {
        let (n, v) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = |text: &str| {
            percent_encoding::percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
        };
        // A name may be written with escapes, too.
        (n == name || n.contains(['%', '+']) && decoded(n) == name).then(|| decoded(v))
    })
}

/// What permits something to whoever reads it: tickets, and signatures of presigned links.
const PERMITTING: [&str; 4] = [TICKET, "X-Amz-Signature", "X-Amz-Security-Token", "Signature"];

/// The query without its ticket or signature: what may stand in a log.
pub fn without_ticket(query: &str) -> String {
    let permits = |pair: &&str| PERMITTING.iter().any(|name| query_value(Some(pair), name).is_some());
    let kept: Vec<_> = query.split('&').filter(|pair| !permits(pair)).collect();
    kept.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_values() {
        let q = Some("list&limit=5&start=a%2Fb+c&ticket=x");
        assert_eq!(query_value(q, LIST).as_deref(), Some(""));
        assert_eq!(query_value(q, "start").as_deref(), Some("a/b c"));
        assert_eq!(query_value(q, "star"), None);
        assert_eq!(query_value(None, LIST), None);
        assert_eq!(without_ticket("list&ticket=secret&a=1"), "list&a=1");
        assert_eq!(without_ticket("X-Amz-Date=1&X%2DAmz-Signature=secret"), "X-Amz-Date=1");
        assert_eq!(query_value(Some("%73tart=a"), "start").as_deref(), Some("a"));
    }
}
