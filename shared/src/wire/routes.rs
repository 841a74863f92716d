//! Paths, query parameters and header names. Barge's own paths are under `/_/`; all others are keys.

/// GET: 200 when the server can do its work, otherwise 503 with a reason.
pub const HEALTH: &str = "/_/health";
/// GET: Prometheus text.
pub const METRICS: &str = "/_/metrics";
/// POST, signed: status of the server as JSON; on a master, of its cluster. GET on a master, with an access key if
/// there are any.
pub const STATUS: &str = "/_/status";
/// POST, signed for any recipient: the recipient name for which this server accepts signed calls.
pub const RECIPIENT: &str = "/_/recipient";
/// POST to a master, signed: registration or heartbeat of a volume.
pub const HEARTBEAT: &str = "/_/heartbeat";
/// POST to a master, signed: commits an upload by its receipts.
pub const COMMIT: &str = "/_/commit";
/// POST to a volume, signed: its report; for masters with a static list of volumes.
pub const IDENTIFY: &str = "/_/identify";
/// POST to a volume, signed: deletes blobs.
pub const DELETE: &str = "/_/delete";
/// POST to a volume, signed: a page of the blobs it holds.
pub const INVENTORY: &str = "/_/inventory";
/// POST to a volume, signed: a page of its records, with the contents of their headers.
pub const RECORDS: &str = "/_/records";
/// POST to a volume, signed: a page of its tombstones.
pub const TOMBSTONES: &str = "/_/tombstones";

/// POST to a volume, signed: adds a replica of a blob.
pub const ADD_REPLICA: &str = "/_/add-replica";
/// POST to a volume, signed: where blobs are on its disk.
pub const LOCATE: &str = "/_/locate";
/// POST to a volume, signed: digests of its inventory, by range.
pub const DIGESTS: &str = "/_/digests";
/// POST to any server, signed: examines the server, and whether it reaches the given URLs.
pub const EXAMINE: &str = "/_/examine";

/// POST to a master, signed: where a volume finds other replicas of a blob that it should hold.
pub const REPLICA_SOURCES: &str = "/_/replica-sources";

/// POST to a master, signed, or GET as `STATUS`: recent state changes of volumes, as this master saw them.
pub const EVENTS: &str = "/_/events";
/// POST to the leader, signed: sets the admin state of a volume.
pub const ADMIN_STATE: &str = "/_/admin-state";
/// POST to the leader, signed: shows, starts, pauses or cancels the rebalance.
pub const REBALANCE: &str = "/_/rebalance";
/// POST to the leader, signed: compares all inventories with the tables now.
pub const ORPHANS: &str = "/_/orphans";
/// POST to the leader, signed: where a value is and why.
pub const EXPLAIN: &str = "/_/explain";
/// POST to a master, signed: the replication modes of all buckets.
pub const MODES: &str = "/_/replication-modes";
/// POST to a master, signed: sets the replication mode of a bucket.
pub const MODES_SET: &str = "/_/replication-modes/set";
/// POST to a master, signed: examines all servers.
pub const DOCTOR: &str = "/_/doctor";

/// POST to a master, signed: forwards a command to the leader.
pub const PROPOSE: &str = "/_/propose";
/// POST: the time of this master's clock, in milliseconds since the Unix epoch.
pub const CLOCK: &str = "/_/clock";
/// POST to the leader, signed: the log index up to which a master must have applied to serve a linearizable read.
pub const READ_INDEX: &str = "/_/read-index";
/// POST to a master, signed: appends log entries.
pub const RAFT_APPEND: &str = "/_/raft/append";
/// POST to a master, signed: requests its vote.
pub const RAFT_VOTE: &str = "/_/raft/vote";
/// POST to a master, signed: offers a snapshot.
pub const RAFT_OFFER: &str = "/_/raft/offer";
/// POST to a master, signed: a part of the offered snapshot.
pub const RAFT_PART: &str = "/_/raft/part";
/// POST to a master, signed: installs the snapshot once all parts have arrived.
pub const RAFT_INSTALL: &str = "/_/raft/install";
/// POST to a master, signed: checksums of its tables at some log positions.
pub const TABLES_COMPARE: &str = "/_/tables/compare";
/// POST to a master, signed: writes a snapshot of its tables for a master whose own tables are corrupt.
pub const TABLES_OFFER: &str = "/_/tables/offer";
/// POST to a master, signed: a part of that snapshot.
pub const TABLES_PART: &str = "/_/tables/part";
/// POST to a master, signed, or GET as `STATUS`: the masters of the cluster.
pub const MASTERS: &str = "/_/masters";
/// POST to a master, signed: its id, addresses and cluster.
pub const MASTER_SELF: &str = "/_/masters/self";
/// POST to a master, signed: takes the next step of adding a master, first as a learner, then as a voter.
pub const MASTERS_ADD: &str = "/_/masters/add";
/// POST to a master, signed: removes a master from the cluster.
pub const MASTERS_REMOVE: &str = "/_/masters/remove";
/// POST to a master without a cluster, signed: makes it the first of a new cluster.
pub const MASTERS_INIT: &str = "/_/masters/init";
/// POST to a master, signed: a snapshot of the metadata, as a stream.
pub const BACKUP: &str = "/_/backup";

/// POST to a master, signed: a page of the access keys, without their secrets.
pub const KEYS: &str = "/_/keys";
/// POST to a master, signed: creates or replaces an access key.
pub const KEYS_PUT: &str = "/_/keys/put";
/// POST to a master, signed: revokes an access key.
pub const KEYS_REVOKE: &str = "/_/keys/revoke";
/// POST to a master, signed: sets whether anyone may read a bucket's values without an access key.
pub const KEYS_ANONYMOUS: &str = "/_/keys/anonymous";

/// Query parameter: the ticket in a redirect to a volume.
pub const TICKET: &str = "ticket";
/// Query parameter: the hop count in a redirect back to the master.
pub const HOPS: &str = "hops";
/// Query parameter: redirect an upload even without `Expect` or a length. A client that asks for a ticket in this way
/// sends no value, and none must be stored.
pub const REDIRECT: &str = "redirect";
/// Query parameter: length in bytes of the value whose upload is to be redirected.
pub const LENGTH: &str = "length";
/// Query parameter: stream through the master, never redirect.
pub const STREAM: &str = "stream";
/// Query parameter: answer from this master's tables without checking that they are current.
pub const STALE: &str = "stale";
/// Query parameter: list keys instead of reading one.
pub const LIST: &str = "list";

/// Header: signature of a call between servers.
pub const SIGNATURE_HEADER: &str = "barge-signature";
/// Header: signature of the answer to such a call.
pub const ANSWER_HEADER: &str = "barge-answer";
/// Header: nonce of 32 hex digits that a server sends with a ticket; the answer proves its
/// sender with `PROOF_HEADER`.
pub const NONCE_HEADER: &str = "barge-nonce";
/// Header: proof over nonce, target and status that the answer comes from a server of the cluster.
pub const PROOF_HEADER: &str = "barge-proof";
/// Header: the request's id, in every answer.
pub const REQUEST_ID_HEADER: &str = "barge-request-id";
/// Header: `1` for a client that cannot follow redirects; its requests are streamed through the master.
pub const NO_REDIRECT_HEADER: &str = "barge-no-redirect";
/// Header: BLAKE3 of the value as the client declares it, 64 hex digits.
pub const BLAKE3_HEADER: &str = "barge-blake3";
/// Header: the generation of the value in the answer.
pub const GENERATION_HEADER: &str = "barge-generation";
/// Header: marks an answer to a `STALE` request, which may be older than the newest acknowledged write.
pub const STALE_HEADER: &str = "barge-stale";
/// Header: marks an upload from a server, not from a client: the receiver returns receipts and does not commit.
pub const CHAIN_HEADER: &str = "barge-chain";
/// Header: marks a read by a volume whose own replica is corrupt. It is answered from disk without read repair, or
/// refused, so that two volumes with the same corrupt block do not ask each other forever.
pub const HEALING_HEADER: &str = "barge-healing";
/// On an upload: when the value expires (`shared::expiry::Expires`). On an answer: the date of its expiry.
pub const EXPIRES_HEADER: &str = "barge-expires";
/// Prefixes of user metadata headers, which are stored and returned unchanged.
pub const METADATA_PREFIXES: [&str; 2] = ["barge-meta-", "x-amz-meta-"];

/// Prefix of metadata that servers add; never accepted from a client and never shown to one.
pub const INTERNAL_PREFIX: &str = "barge-internal-";
/// On a record: it is part `UPLOAD.NUMBER` of a multipart upload, not a version of its key.
pub const PART_HEADER: &str = "barge-internal-part";
/// On a record: its bytes are the manifest of a multipart object.
pub const MANIFEST_HEADER: &str = "barge-internal-manifest";

/// Returns the value of `name` in a query string, percent-decoded; `Some("")` for a name without a value.
pub fn query_value(query: Option<&str>, name: &str) -> Option<String> {
    query?.split('&').find_map(|pair| {
        let (n, v) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = |text: &str| {
            percent_encoding::percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
        };
        // The name may be percent-encoded too.
        (n == name || n.contains(['%', '+']) && decoded(n) == name).then(|| decoded(v))
    })
}

/// Query parameters that grant access to anyone who reads them: tickets, and signatures of presigned URLs.
const PERMITTING: [&str; 4] = [TICKET, "X-Amz-Signature", "X-Amz-Security-Token", "Signature"];

/// Returns the query without tickets and signatures, safe to log.
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
