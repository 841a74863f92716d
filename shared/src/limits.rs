//! All limits of Barge, each with its reason. A number that bounds memory, time or fan-out anywhere in the product
//! is a constant here, never a literal at its place of use.

mod access;
mod calls;
mod metadata;
mod resp;
mod space;

use std::time::Duration;

pub use access::*;
pub use calls::*;
pub use metadata::*;
pub use resp::*;
pub use space::*;

/// Longest key in bytes: S3's longest bucket, a slash and S3's longest key, so that every S3 name is a key.
pub const KEY_BYTES_MAX: usize = 1024 + 1 + BUCKET_BYTES_MAX;
/// Longest bucket in bytes (S3's limit).
pub const BUCKET_BYTES_MAX: usize = 63;
/// Longest content type, in bytes. No media type is longer.
pub const CONTENT_TYPE_BYTES_MAX: usize = 256;
/// User metadata of one object in bytes, names and values together. S3 allows 2 KiB; common HTTP servers accept
/// header blocks of 8 KiB, and a record's header page must hold it.
pub const METADATA_BYTES_MAX: usize = 8 * 1024;
/// User metadata entries of one object.
pub const METADATA_ENTRIES_MAX: usize = 128;

/// Largest single blob. The block checksums of a blob in flight stay in memory until its trailer is written: 64 bytes
/// per MiB, so 4 MiB for 64 GiB. Larger values are uploaded in parts.
pub const BLOB_BYTES_MAX: u64 = 64 << 30;
/// Parts of one object (S3's limit).
pub const PARTS_MAX: u16 = 10_000;
/// Bytes of a value per batch handed to MD5 or SHA. An upload holds two: one is hashed while
/// the next one arrives.
pub const HASH_BATCH_BYTES: usize = 512 << 10;
/// How long a batch of one value waits for batches of others, to be hashed with them. Values that bring a batch
/// within twice this time (50 MB/s) are worth waiting for.
pub const MD5_GATHERING: Duration = Duration::from_millis(5);
/// Smallest part except the last (S3's limit), so that a large value needs few parts.
pub const PART_BYTES_MIN: u64 = 5 << 20;
/// Tags of one object (S3's limit).
pub const TAGS_MAX: usize = 10;
/// Tags of one bucket (S3's limit).
pub const BUCKET_TAGS_MAX: usize = 50;
/// Characters of a tag's key (S3's limit).
pub const TAG_KEY_CHARS_MAX: usize = 128;
/// Characters of a tag's value (S3's limit).
pub const TAG_VALUE_CHARS_MAX: usize = 256;
/// Largest manifest in bytes: each part takes about 100.
pub const MANIFEST_BYTES_MAX: usize = 2 << 20;
/// Parts of one deleted object or upload that one command removes from the tables; other commits wait meanwhile.
pub const PARTS_REMOVED_AT_ONCE: usize = 256;
/// A multipart upload that was not completed expires after this time.
pub const UPLOAD_EXPIRY: Duration = Duration::from_secs(7 * 24 * 3600);
/// Largest object, in parts (S3's limit).
pub const OBJECT_BYTES_MAX: u64 = 5 << 40;

/// Checksum unit of a blob's body: the bytes to read and verify in order to serve one byte.
pub const BLOCK_BYTES: usize = 64 * 1024;
/// Alignment of everything in a segment: O_DIRECT and hole punching work in these units.
pub const PAGE_BYTES: usize = 4096;
/// One aligned write buffer. Measured: below 512 KiB the device waits for us; above 4 MiB nothing is gained.
pub const WRITE_BUFFER_BYTES: usize = 1 << 20;
/// Write buffers of one volume. With four per upload, 8 uploads run at full speed and the others share the rest.
/// Bounds the write path to 32 MiB, besides `CARRY_BYTES_MAX` per lane.
pub const WRITE_BUFFERS: usize = 32;
/// Full buffers of one upload that are not on the disk yet: one being written, the others queued, so that the disk
/// never waits for us. Measured with one client and 256 MiB: 961 MB/s with one, 1230 with three.
pub const WRITES_IN_FLIGHT: usize = 3;
/// Bytes that an upload keeps before it takes a write buffer: three header pages, and the trickle of a slow client.
pub const CARRY_BYTES_MAX: usize = 32 * 1024;
/// An upload that waits this long, for its client or the next volume, gives its write buffer back.
pub const BUFFER_PATIENCE: Duration = Duration::from_millis(200);
/// The same while others wait for a buffer: enough for the next bytes of a client that sends at full speed.
pub const BUFFER_PATIENCE_CONTENDED: Duration = Duration::from_millis(5);
/// While others wait for a buffer, one is filled for at most this long: a trickling client must not hold it longer.
pub const BUFFER_HOLD_CONTENDED: Duration = Duration::from_millis(100);
/// Largest piece read and verified at once for a download.
pub const READ_BUFFER_BYTES: usize = 256 * 1024;
/// Read buffers of one volume: 16 MiB in all. A download holds one while it reads, and those its socket has not taken
/// yet; a download that finds none allocates one block.
pub const READ_BUFFERS: usize = 64;
/// Highest replication factor: the length of a chain, and of the list in a ticket.
pub const REPLICAS_MAX: usize = 8;

/// Append lanes (open segments) of one volume, so concurrent uploads; more are refused with 503. Each takes
/// three file descriptors and `CARRY_BYTES_MAX` of memory: enough lanes that hundreds of slow clients keep
/// none from others.
pub const LANES_MAX: usize = 1024;
/// Space reserved on the disk for a segment's index, and each step by which it grows: 1024 entries. A delete's entry
/// goes there and needs no new block when the disk is full.
pub const INDEX_ROOM_BYTES: u64 = 64 << 10;
/// Threads that open a volume's segments. Each reads one index at a time and waits for the disk: more than eight gain
/// nothing, and each has the entries of one segment in memory.
pub const OPEN_THREADS_MAX: usize = 8;

/// Ranges in one request; with more, the whole value is returned (RFC 9110 §14.2 allows ignoring them).
pub const RANGES_MAX: usize = 16;

/// hyper's buffer for one connection, in each direction. Together with `CONNECTIONS_MAX` it bounds the memory that
/// clients can take up.
pub const HTTP_BUFFER_BYTES: usize = 128 * 1024;
/// Receive window of one connection; the kernel holds up to twice as much. By default the kernel gives up to
/// `net.ipv4.tcp_rmem` (6 to 32 MB) to each of several hundred uploads, runs out of socket memory and drops segments,
/// and single uploads stall for 10 s. Measured with 64 uploads and 64 downloads through a master on one machine: 1.7
/// GB and 37,000 dropped segments in one run without, 1,900 in two runs with it (clients' sockets are unbounded).
pub const SOCKET_WINDOW_BYTES: u32 = 1 << 20;
/// Connections waiting to be accepted. The system leaves further ones unanswered.
pub const ACCEPT_BACKLOG: u32 = 1024;
/// Headers of one request: a percent-encoded key of 1024 bytes, a ticket, metadata.
pub const HTTP_HEADERS_MAX: usize = 128;
/// Connections of one server.
pub const CONNECTIONS_MAX: usize = 8192;
/// Time limit for a whole header block: a slower client is slow on purpose. It also applies to an idle connection
/// that is kept alive.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection is cut after this time without a byte of the request body received or of the response taken.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Lowest average rate of a value in bytes per second, once `BODY_RATE_GRACE` has passed: a client that sends a byte
/// a minute must not hold a lane and reserved space forever.
pub const BODY_RATE_MIN: u64 = 256;
/// How long a body may be slower than `BODY_RATE_MIN`.
pub const BODY_RATE_GRACE: Duration = Duration::from_secs(120);
/// Bytes of the body read and discarded after an early answer, so that the client sees the answer and not a reset.
pub const DRAIN_BYTES_MAX: usize = 256 * 1024;
/// How long a body is read and discarded after an early answer.
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(1);

/// The last link of a chain is dropped if it takes no byte for this long, the one before it after twice as long, and
/// so on: a stall must not cost the healthy volumes in front of it.
pub const CHAIN_STALL_TIMEOUT: Duration = Duration::from_secs(5);
/// From the last body byte to the receipt of one volume: a slow fdatasync. Along a chain the waits add up, so that
/// each link gives up on the next one before its predecessor gives up on it.
pub const RECEIPT_TIMEOUT: Duration = Duration::from_secs(10);
/// A commit without an answer after this time is also sent to the next master: if the first one was the leader and
/// hangs, the others have elected another leader by now.
pub const COMMIT_PATIENCE: Duration = Duration::from_secs(2);
/// From the last body byte to the answer of a commit.
pub const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for a TLS handshake or close: one or two round trips, and milliseconds of computation.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Shortest interval between checks, made by handshakes, of whether the certificate files have changed.
pub const TLS_RELOAD_INTERVAL: Duration = Duration::from_secs(1);
/// Frames of an upload that the streaming master keeps until the volume is known to take it, so that a volume that is
/// down or full costs the client nothing.
pub const REPLAY_FRAMES: usize = 3;
/// Attempts to find a volume for an upload, or to continue a download from another replica.
pub const ATTEMPTS_MAX: usize = 4;
/// Frames of a value, at most `HTTP_BUFFER_BYTES` each, that wait in the channel to the next link of a chain.
pub const CHAIN_FRAMES: usize = 2;

/// Lifetime of a ticket; an upload that began within it may end later.
pub const TICKET_LIFETIME: Duration = Duration::from_secs(600);
/// How long after its blob id was allocated a write ticket may still be accepted somewhere. A volume remembers for
/// this long that it deleted the blob.
pub const TICKET_MEMORY: Duration =
    TICKET_LIFETIME.saturating_add(CLOCK_SKEW_MAX).saturating_add(CLOCK_SKEW_MAX);
/// How far clocks of one cluster may differ before tickets fail.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(60);
/// Largest setting of a bucket: each is one entry of the masters' log, and is read with every request of the bucket.
pub const SETTING_BYTES_MAX: usize = 64 << 10;
/// Redirects between master and volume before a client gets 503 instead of another one.
pub const HOPS_MAX: u8 = 8;
/// Longest ticket in a URL, in characters.
pub const TICKET_CHARS_MAX: usize = 4096;

/// Interval between searches for segments past their age.
pub const SEALING_INTERVAL: Duration = Duration::from_secs(60);
/// Interval between searches for segments that are due for a scrub, if the last one found none.
pub const SCRUB_INTERVAL: Duration = Duration::from_secs(60);
/// Scrub rate in bytes per second: a terabyte in nine hours, and a few per cent of a disk's bandwidth.
pub const SCRUB_RATE: u64 = 32 << 20;
/// Shortest interval between two scrubs of the same segment.
pub const SCRUB_EVERY: Duration = Duration::from_secs(7 * 24 * 3600);
/// Interval between searches for segments worth compacting, if the last one found none.
pub const COMPACTION_INTERVAL: Duration = Duration::from_secs(5);
/// Compaction rate in bytes per second while there is room for uploads; without room there is no limit.
pub const COMPACTION_RATE: u64 = 128 << 20;

/// Blobs waiting to be healed on one volume; the next reader or scrub finds the excess again.
pub const HEALING_QUEUE: usize = 1024;
/// Corrupt blobs that a volume lists in its report, which is sent every second; further ones are only counted.
pub const CORRUPT_SHOWN: usize = 32;
/// Corrupt blobs that a volume remembers.
pub const CORRUPT_MAX: usize = 10_000;
/// Interval between attempts to heal a blob: the volume with the intact replica may be back.
pub const HEALING_RETRY: Duration = Duration::from_secs(10);

/// Interval between heartbeats of a volume.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// A heartbeat, or the question for one, that is not answered within this time is sent again: the loss of one does
/// not make a volume down.
pub const HEARTBEAT_TIMEOUT: Duration = Duration::from_millis(1500);
/// A volume that has been silent for this long is down: no new replicas are placed on it.
pub const DOWN_AFTER: Duration = Duration::from_secs(3);
/// A volume silent for this long is lost: its replicas are re-created elsewhere. Longer than a machine's reboot.
pub const REPAIR_AFTER: Duration = Duration::from_secs(600);
/// Interval between repairs of what `async` replication left under-replicated.
pub const ASYNC_EVERY: Duration = Duration::from_secs(10);
/// Replicas to add or remove that a master plans at once, for blobs with the fewest first; the rest is planned later.
pub const REPAIR_PLAN: usize = 4096;
/// Replicas that a master has re-created at the same time, on all volumes together.
pub const REPAIRS_AT_ONCE: usize = 32;
/// Blobs examined between two checks for other work.
pub const SURVEY_PAGE: usize = 4096;
/// State changes of volumes that are kept for `barge cluster events`.
pub const EVENTS_MAX: usize = 1000;
/// Volumes of the ring that are listed when a value's placement is explained.
pub const EXPLAIN_VOLUMES: usize = 32;
/// A differing range of an inventory with fewer blobs than this is listed instead of divided.
pub const COMPARE_LIST: usize = 64;
/// Orphan candidates that a master remembers; a candidate is collected when it is seen again.
pub const MISMATCHES_REMEMBERED: usize = 100_000;
/// Age at which an orphan is collected: far above the time that any commit takes.
pub const ORPHAN_GRACE: Duration = Duration::from_secs(600);
/// Blob ids in one page of an inventory, or in one delete call.
pub const INVENTORY_PAGE: usize = 4096;
/// Bounds in one request for digests of an inventory: 40 bytes of JSON each, and as much in the answer.
pub const DIGEST_BOUNDS_MAX: usize = 4096;
/// Addresses that a server checks in one examination: those of a cluster of some size.
pub const EXAMINE_URLS_MAX: usize = 256;
/// Replicas that a volume adds at the same time: the disk writes while another one is being opened or synced.
pub const INCOMING_REPLICAS_MAX: usize = 4;
/// Default bytes per second of replicas added to one volume: 4 TB in nine hours, with little effect on clients.
pub const REPAIR_RATE: u64 = 128 << 20;
/// Deleted blobs for which a master remembers that a volume without them keeps their tombstone, so that a DELETE that
/// is repeated forever does not fill that volume's disk.
pub const TOMBSTONES_ELSEWHERE: usize = 4096;
/// Deletes sent to one volume in one call: few enough that the answer arrives within `CALL_TIMEOUT` even if every
/// tombstone is a slow sync.
pub const RECLAIM_BATCH: usize = 256;
/// Answered calls to one volume whose outcome the masters have not committed yet; the next call is sent meanwhile.
pub const RECLAIM_UNNOTED: usize = 4;
/// A DELETE, or a refusal of an upload, is answered when the volumes that are up have made it durable, and at
/// the latest after this: two syncs of a slow disk. A hanging volume must not delay every delete until it is
/// found to be down.
pub const DELETE_ACK_TIMEOUT: Duration = Duration::from_secs(1);
/// A volume's tombstone file is rewritten without obsolete tombstones when it is larger than this (26,000 tombstones)
/// and more than half of it is obsolete: blobs that are gone everywhere, expiries that were set again.
pub const TOMBSTONES_BYTES: u64 = 1 << 20;
/// Tombstones in one page of the answer to a rebuild: 120 bytes of JSON each.
pub const TOMBSTONES_PAGE: usize = 4096;
/// An upload that took longer than this is not committed. For this long the master remembers each deleted key's
/// generation, so that a commit older than the delete does not undo it. 64 GiB at 0.8 MB/s.
pub const UPLOAD_TIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// Interval between scans for deleted keys that may be forgotten because their uploads have all ended.
pub const TOMBSTONE_EXPIRY_INTERVAL: Duration = Duration::from_secs(3600);
/// Records whose headers and trailers a volume reads in one run on a blocking thread.
pub const RECORDS_AT_ONCE: usize = 64;
/// Bytes of records in one page, as JSON; with its envelope a page is smaller than `MESSAGE_BYTES_MAX`.
pub const RECORDS_PAGE_BYTES: usize = 768 << 10;
/// Volumes that a rebuild reads concurrently: four keep a network busy, and each has one page in memory.
pub const REBUILD_VOLUMES_AT_ONCE: usize = 4;
/// Records that a rebuild requests at once: each takes two reads of a disk that may have to seek.
pub const REBUILD_PAGE: usize = 512;
/// Records that a rebuild writes in one batch.
pub const REBUILD_BATCH: usize = 4096;

/// Entries of one listing page by default.
pub const LIST_LIMIT: usize = 1000;
/// Largest listing page that a client may ask for.
pub const LIST_LIMIT_MAX: usize = 10_000;
/// Commands proposed in one entry of the log: bounds the batch in memory.
pub const COMMIT_BATCH: usize = 512;
/// Commands that wait to be proposed; further ones wait in their requests.
pub const PROPOSE_QUEUE: usize = 1024;
/// Approximate bytes of commands in one entry of the replicated log: a batch that exceeds this is closed. An entry
/// must reach another master within `RAFT_HEARTBEAT`: this takes 17 Mbit/s.
pub const RAFT_ENTRY_BYTES: usize = 512 << 10;
/// Largest message between masters: one entry may exceed `RAFT_ENTRY_BYTES` by one command.
pub const RAFT_MESSAGE_BYTES_MAX: usize = 6 << 20;
/// Interval between heartbeats of the leader, and how long it waits for an answer before it asks again: a slow sync
/// of a follower must fit.
pub const RAFT_HEARTBEAT: Duration = Duration::from_millis(250);
/// A master stands for election after `RAFT_ELECTION_MAX` without a leader plus a random time between these two:
/// writes resume after 1.6 to 2 s (failover), and a pause of half a second does not depose the leader.
pub const RAFT_ELECTION_MIN: Duration = Duration::from_millis(600);
/// See `RAFT_ELECTION_MIN`. Nobody votes for another leader for this long after the leader's last message.
pub const RAFT_ELECTION_MAX: Duration = Duration::from_millis(1000);
/// How long a leader confirmed by a majority answers reads alone, counted from before it asked: shorter than
/// `RAFT_ELECTION_MAX`, by more than two machines' clocks can drift apart meanwhile.
pub const RAFT_LEASE: Duration = Duration::from_millis(700);
/// Log entries between two checkpoints of the tables: what a start has to apply again.
pub const RAFT_CHECKPOINT_ENTRIES: u64 = 512;
/// Log entries kept for a master that was away; one that lacks more gets a snapshot.
pub const RAFT_ENTRIES_KEPT: u64 = 16_384;
/// A joining master gets a vote when it lacks at most this many entries.
pub const RAFT_LAG_MAX: u64 = 1000;
/// One part of a snapshot sent to another master: half a message.
pub const SNAPSHOT_PART_BYTES: usize = 512 << 10;
/// A snapshot expires when nobody has read from it for this long: a restarted master can continue with the same one.
/// The log is not truncated meanwhile.
pub const SNAPSHOT_KEPT: Duration = Duration::from_secs(120);
/// Records per step of writing a snapshot; commits wait for one step.
pub const SNAPSHOT_STEP: usize = 256;
/// From the last byte of a snapshot until the receiving master uses it.
pub const SNAPSHOT_INSTALL_TIMEOUT: Duration = Duration::from_secs(1800);
/// How long a request waits for a leader: an election and a half.
pub const LEADER_TIMEOUT: Duration = Duration::from_secs(4);
/// From handing a command to the leader to its outcome, which is unknown after that: the majority may be lost.
pub const PROPOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Masters of one cluster: even with seven, each write waits for four.
pub const MASTERS_MAX: usize = 7;

/// sled's page cache. Its default of 1 GiB is more than the rest of the master together.
pub const SLED_CACHE_BYTES: u64 = 32 << 20;

/// sled's segment. A node of 16 records, each with the longest key and the most metadata, is 180 KiB. It must be less
/// than a quarter of a segment, or sled puts it into a file of its own.
pub const SLED_SEGMENT_BYTES: usize = 2 << 20;

/// Size at which a new segment of the Raft log begins: what one purge frees, and what an opening reads at once.
pub const RAFT_LOG_SEGMENT_BYTES: u64 = 64 << 20;
/// Bytes of the newest Raft log entries kept in memory: the tables, and followers that keep up, never read the disk.
pub const RAFT_LOG_CACHE_BYTES: usize = 16 << 20;
/// Bytes of entries sent to one follower at once: see `RAFT_ENTRY_BYTES`.
pub const RAFT_LOG_READ_BYTES: usize = 512 << 10;
/// Bytes of appends that share one write and one sync of the Raft log.
pub const RAFT_LOG_BATCH_BYTES: usize = 4 << 20;
/// Largest entry of the Raft log: far above any command, and a bound on the size that a corrupt length can claim.
pub const RAFT_LOG_ENTRY_BYTES_MAX: usize = 5 << 20;
/// Bytes of the log between two checkpoints of the tables, if reached before `RAFT_CHECKPOINT_ENTRIES`: about ten
/// seconds of a start, and the memory that a start needs to apply them.
pub const RAFT_CHECKPOINT_BYTES: u64 = 16 << 20;
/// Bytes of the log kept for a master that was away, if reached before `RAFT_ENTRIES_KEPT`.
pub const RAFT_LOG_KEPT_BYTES: u64 = 256 << 20;
/// The log is not truncated while a snapshot is being sent, unless it exceeds this size: the disk matters more.
pub const RAFT_LOG_HELD_BYTES: u64 = 4 << 30;
/// Jobs waiting for the thread that writes the Raft log; further ones wait in their callers.
pub const RAFT_LOG_QUEUE: usize = 64;

/// Points of each volume on the ring; a volume's weight scales the distance to them.
pub const VIRTUAL_NODES: u32 = 128;

/// Size at which a segment is sealed.
pub const SEGMENT_BYTES: u64 = 1 << 30;
/// Largest `SEGMENT_BYTES` that may be configured: offsets are 32-bit counts of pages, and the last value of a
/// segment may have any size.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 40;
/// Age at which a segment is sealed.
pub const SEGMENT_AGE: Duration = Duration::from_secs(24 * 3600);

const _: () = assert!(RAFT_LEASE.as_millis() * 10 <= RAFT_ELECTION_MAX.as_millis() * 8);
const _: () = assert!(RAFT_HEARTBEAT.as_millis() * 2 < RAFT_ELECTION_MIN.as_millis());
const _: () = assert!(SNAPSHOT_PART_BYTES <= MESSAGE_BYTES_MAX / 2);
const _: () = assert!(PROPOSE_TIMEOUT.as_millis() + LEADER_TIMEOUT.as_millis() < COMMIT_TIMEOUT.as_millis());
const _: () =
    assert!(COMMIT_PATIENCE.as_millis() >= RAFT_ELECTION_MIN.as_millis() + RAFT_ELECTION_MAX.as_millis());
const _: () = assert!(2 * COMMIT_PATIENCE.as_millis() < COMMIT_TIMEOUT.as_millis());
const _: () = assert!(BLOCK_BYTES.is_multiple_of(PAGE_BYTES));
const _: () = assert!(READ_BUFFER_BYTES.is_multiple_of(BLOCK_BYTES));
const _: () = assert!(CARRY_BYTES_MAX <= WRITE_BUFFER_BYTES);
const _: () = assert!(CARRY_BYTES_MAX >= 4 * PAGE_BYTES);
const _: () = assert!(WRITES_IN_FLIGHT < WRITE_BUFFERS);
const _: () = assert!(BUFFER_PATIENCE_CONTENDED.as_millis() < BUFFER_PATIENCE.as_millis());
const _: () = assert!(BUFFER_PATIENCE.as_millis() < CHAIN_STALL_TIMEOUT.as_millis());
const _: () = assert!(WRITE_BUFFER_BYTES.is_multiple_of(BLOCK_BYTES));
const _: () = assert!(LIST_LIMIT <= LIST_LIMIT_MAX);
const _: () = assert!(METADATA_STUCK.as_secs() < RUNTIME_STUCK.as_secs());
const _: () = assert!(RECORDS_PAGE_BYTES + (64 << 10) < MESSAGE_BYTES_MAX);
const _: () = assert!(
    ACCESS_KEYS_PAGE * 3 * (KEY_BYTES_MAX + ACCESS_NOTE_BYTES_MAX + ACCESS_ID_CHARS_MAX + 128)
        < MESSAGE_BYTES_MAX
);
const _: () = assert!(TOMBSTONES_PAGE * 150 < MESSAGE_BYTES_MAX);
const _: () = assert!(DELETE_ACK_TIMEOUT.as_secs() < COMMIT_TIMEOUT.as_secs());
const _: () = assert!(16 * (KEY_BYTES_MAX + METADATA_BYTES_MAX + 2048) < SLED_SEGMENT_BYTES / 4);
const _: () = assert!(BLOB_BYTES_MAX / BLOCK_BYTES as u64 * 4 <= 4 << 20);
const _: () = assert!(TICKET_LIFETIME.as_secs() > CLOCK_SKEW_MAX.as_secs());
const _: () = assert!(ORPHAN_GRACE.as_secs() > 2 * (COMMIT_TIMEOUT.as_secs() + CLOCK_SKEW_MAX.as_secs()));
const _: () = assert!(POOL_IDLE_TIMEOUT.as_secs() < HEADER_TIMEOUT.as_secs());
const _: () = assert!(MESSAGE_BYTES_MAX < RAFT_LOG_ENTRY_BYTES_MAX);
const _: () = assert!(RAFT_ENTRY_BYTES + MESSAGE_BYTES_MAX < RAFT_LOG_ENTRY_BYTES_MAX);
const _: () = assert!(RAFT_LOG_ENTRY_BYTES_MAX + RAFT_LOG_READ_BYTES < RAFT_MESSAGE_BYTES_MAX);
const _: () = assert!(RAFT_LOG_READ_BYTES <= RAFT_LOG_CACHE_BYTES);
const _: () =
    assert!(RAFT_CHECKPOINT_BYTES < RAFT_LOG_KEPT_BYTES && RAFT_LOG_KEPT_BYTES < RAFT_LOG_HELD_BYTES);
const _: () = assert!(RAFT_LOG_BATCH_BYTES as u64 <= RAFT_LOG_SEGMENT_BYTES);
const _: () = assert!(DOWN_AFTER.as_secs() >= 2 * HEARTBEAT_INTERVAL.as_secs());
const _: () = assert!(HEARTBEAT_INTERVAL.as_millis() < HEARTBEAT_TIMEOUT.as_millis());
const _: () =
    assert!(HEARTBEAT_INTERVAL.as_millis() + HEARTBEAT_TIMEOUT.as_millis() < DOWN_AFTER.as_millis());
