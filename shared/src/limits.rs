//! Every limit of Barge in one place, each with its reason. A number that bounds memory, time or
//! fan-out anywhere in the product is a constant here, never a literal at its place of use.

mod access;
mod calls;
mod metadata;
mod space;

use std::time::Duration;

pub use access::{
    ACCESS_ID_CHARS_MAX, ACCESS_KEYS_PAGE, ACCESS_NOTE_BYTES_MAX, ACCESS_SECRET_CHARS_CHOSEN_MIN,
    ACCESS_SECRET_CHARS_MAX, AUDIT_QUEUE, AUDIT_TROUBLE_LOGGED, GUESS_DELAY, GUESS_FORGOTTEN, GUESSERS_MAX,
    GUESSES_FREE, GUESSES_LINES, GUESSES_LOGGED, GUESSES_WAITING, GUESSES_WAITING_EACH,
};
pub use calls::{
    CALL_LIFETIME, CALL_TIMEOUT, CALLS_REMEMBERED, CONNECT_TIMEOUT, MESSAGE_BYTES_MAX, POOL_IDLE_TIMEOUT,
    RECIPIENT_LIFETIME, RECIPIENTS_MAX, REFUSED_CALLS_LOGGED,
};
pub use metadata::{
    CONTENT_CHECK_SHARE, CONTENT_COMPARE_EVERY, CONTENT_PLACE_ENTRIES, CONTENT_PLACES, CONTENT_PROVE_EVERY,
    HEAL_AGAIN_AFTER,
};
pub use space::{RESERVE_BYTES, RESERVE_FIRST_BYTES, RESERVE_STEP_BYTES};

/// Longest key in bytes: the longest that S3 knows, behind the longest bucket and its slash, so that every S3 key is one.
pub const KEY_BYTES_MAX: usize = 1024 + 1 + BUCKET_BYTES_MAX;
/// Longest bucket in bytes (S3's limit).
pub const BUCKET_BYTES_MAX: usize = 63;
/// Longest content type, in bytes. Longer ones are no media types.
pub const CONTENT_TYPE_BYTES_MAX: usize = 256;
/// User metadata of one object, names and values together. S3 allows 2 KiB; header blocks of 8 KiB
/// are what common HTTP servers take, and a record's header page must hold it.
pub const METADATA_BYTES_MAX: usize = 8 * 1024;
/// User metadata entries of one object.
pub const METADATA_ENTRIES_MAX: usize = 128;

/// Largest single blob. The block checksums of a blob in flight are kept in memory until its
/// trailer is written, 64 bytes a MiB: 64 GiB bound them to 4 MiB. Larger values are uploaded in parts.
pub const BLOB_BYTES_MAX: u64 = 64 << 30;
/// Parts of one object (S3's limit).
pub const PARTS_MAX: u16 = 10_000;
/// Bytes of a value that are handed over to be hashed by MD5 or SHA: one batch is hashed while the next comes. Twice as many are
/// in memory, of each upload.
pub const HASH_BATCH_BYTES: usize = 512 << 10;
/// So long a batch of one value waits for those of others, with which it is hashed. Values that bring a batch within twice this
/// time, at 50 MB/s, are worth waiting for.
pub const MD5_GATHERING: Duration = Duration::from_millis(5);
/// Every part but the last has at least so many bytes (S3's limit): few parts make a large value.
pub const PART_BYTES_MIN: u64 = 5 << 20;
/// Tags of one object (S3's limit) ...
pub const TAGS_MAX: usize = 10;
/// ... and of one bucket (S3's limit).
pub const BUCKET_TAGS_MAX: usize = 50;
/// Characters of a tag's key (S3's limit) ...
pub const TAG_KEY_CHARS_MAX: usize = 128;
/// ... and of its value (S3's limit).
pub const TAG_VALUE_CHARS_MAX: usize = 256;
/// The list of the parts of a value: each takes about 100 bytes of it.
pub const MANIFEST_BYTES_MAX: usize = 2 << 20;
/// Parts of one deleted object or upload that are taken out of the tables by one command: commits of others wait meanwhile.
pub const SCRAP_PARTS: usize = 256;
/// An upload in parts that was not completed goes when it is this old.
pub const UPLOAD_EXPIRY: Duration = Duration::from_secs(7 * 24 * 3600);
/// Largest object, in parts (S3's limit).
pub const OBJECT_BYTES_MAX: u64 = 5 << 40;

/// Unit of checksums in a blob's body: what must be read and verified to serve one byte.
pub const BLOCK_BYTES: usize = 64 * 1024;
/// Alignment of everything in a segment: O_DIRECT and hole punching work in these units.
pub const PAGE_BYTES: usize = 4096;
/// One aligned write buffer. Measured: below 512 KiB the device waits for us, above 4 MiB nothing is gained.
pub const WRITE_BUFFER_BYTES: usize = 1 << 20;
/// Write buffers of one volume. With four for each upload, 8 uploads move at full speed, the
/// others share what is left; bounds the write path to 32 MiB, besides `CARRY_BYTES_MAX` a lane.
pub const WRITE_BUFFERS: usize = 32;
/// Buffers of one upload that are full and not on the disk yet: one being written, the others next in line, so that
/// the disk never waits for us. Measured with one client and 256 MiB: 961 MB/s with one, 1230 with three.
pub const WRITES_IN_FLIGHT: usize = 3;
/// What an upload keeps before it takes a write buffer: three header pages, and the trickle of a slow client.
pub const CARRY_BYTES_MAX: usize = 32 * 1024;
/// An upload that waits so long, for its client or for the next volume, gives its write buffer back ...
pub const BUFFER_PATIENCE: Duration = Duration::from_millis(200);
/// ... after so long while others wait for one: enough for the next bytes of a client that sends as fast as it can.
pub const BUFFER_PATIENCE_CONTENDED: Duration = Duration::from_millis(5);
/// While others wait for one, a buffer is filled for so long at most: a client that trickles must not hold it until it
/// is full.
pub const BUFFER_HOLD_CONTENDED: Duration = Duration::from_millis(100);
/// Largest piece read and verified at once for a download.
pub const READ_BUFFER_BYTES: usize = 256 * 1024;
/// Read buffers of one volume: 16 MiB in all. A download holds one while it reads and those its
/// socket has not taken yet; a download that finds none takes one block of its own.
pub const READ_BUFFERS: usize = 64;
/// Replicas of a value at most: the length of a chain, and of the list in a ticket.
pub const REPLICAS_MAX: usize = 8;

/// Lanes (open segments) of one volume: uploads under way at once. More are refused with 503. Each is three descriptors
/// and `CARRY_BYTES_MAX` of memory: so many that slow clients by the hundred keep none from others.
pub const LANES_MAX: usize = 1024;
/// Space set aside on the disk for a segment's index, and each step by which it grows: 1024 entries,
/// so that deletes, whose entries go there, need no new block when the disk is full.
pub const INDEX_ROOM_BYTES: u64 = 64 << 10;
/// Threads that open a volume's segments. Each reads one index at a time and waits for the disk: more than eight
/// gain nothing, and each has the entries of one segment in memory.
pub const OPEN_THREADS_MAX: usize = 8;

/// Ranges in one request, after which it is answered whole (RFC 9110 §14.2 allows ignoring it).
pub const RANGES_MAX: usize = 16;

/// What hyper may buffer of one connection, either way. Together with `CONNECTIONS_MAX` it bounds
/// what clients can make a server hold.
pub const HTTP_BUFFER_BYTES: usize = 128 * 1024;
/// Receive window of one connection; the kernel holds up to twice as much. Left to itself it gives up to
/// `net.ipv4.tcp_rmem` (6 to 32 MB) to each of some hundred uploads, runs out of socket memory and drops segments, and
/// single uploads stand still for 10 s. Measured with 64 uploads and 64 downloads through a master on one machine: 1.7 GB
/// and 37,000 dropped segments in one run without, 1,900 in two runs with it (the clients' own sockets are not bounded).
pub const SOCKET_WINDOW_BYTES: u32 = 1 << 20;
/// Connections that wait to be accepted. The system leaves further ones unanswered.
pub const ACCEPT_BACKLOG: u32 = 1024;
/// Header block of one request: a key of 1024 bytes percent-encoded, a ticket, metadata.
pub const HTTP_HEADERS_MAX: usize = 128;
/// Connections of one server.
pub const CONNECTIONS_MAX: usize = 8192;
/// A client that has not sent its whole header block by then is slow on purpose. It runs on an idle
/// connection that is kept alive as well.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// No byte of a request body for so long, or no byte of a response taken: the connection is cut.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes a second that a value must come at on average, once `BODY_RATE_GRACE` has passed: a lane and the space that
/// was set aside are not held for ever by a byte a minute.
pub const BODY_RATE_MIN: u64 = 256;
/// See `BODY_RATE_MIN`.
pub const BODY_RATE_GRACE: Duration = Duration::from_secs(120);
/// After an early answer at most this much of the body is read and thrown away, so that the client
/// sees the answer and not a reset ...
pub const DRAIN_BYTES_MAX: usize = 256 * 1024;
/// ... and for at most this long.
pub const DRAIN_TIME_MAX: Duration = Duration::from_secs(1);

/// The last link of a chain is dropped when it takes no byte for so long, the one before it after
/// twice as long, and so on: a stall must not cost the healthy volumes in front of it.
pub const CHAIN_STALL_TIMEOUT: Duration = Duration::from_secs(5);
/// From the last body byte to the receipt of one volume: a slow fdatasync. Along a chain the waits add
/// up, so that each link gives up on the next before the one in front gives up on it.
pub const RECEIPT_TIMEOUT: Duration = Duration::from_secs(10);
/// A commit that has no answer by then goes to the next master as well: if the first one was the leader and hangs, the
/// others have elected another one by now.
pub const COMMIT_PATIENCE: Duration = Duration::from_secs(2);
/// From the last body byte to the answer of a commit.
pub const COMMIT_TIMEOUT: Duration = Duration::from_secs(10);
/// A master whose metadata store does not come back from a checkpoint, or its log from a write, for so long stops. No
/// disk is that slow.
pub const METADATA_STUCK: Duration = Duration::from_secs(60);
/// As `METADATA_STUCK`, for entries that are applied: after a start all that no checkpoint covers are applied at once.
pub const METADATA_APPLY_STUCK: Duration = Duration::from_secs(300);
/// A TLS handshake, or a leave-taking, that takes longer is given up: a round trip or two, and some milliseconds of arithmetic.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// New handshakes look so often whether the files of the certificate have changed.
pub const TLS_RELOAD_INTERVAL: Duration = Duration::from_secs(1);
/// Frames of an upload that the streaming master keeps until the volume is known to take it, so that
/// a volume that is down or full costs the client nothing.
pub const REPLAY_FRAMES: usize = 3;
/// Attempts to find a volume that takes an upload, or to go on with a download from another replica.
pub const ATTEMPTS_MAX: usize = 4;
/// Value bytes waiting in the channel to the next link of a chain, in frames of at most
/// `HTTP_BUFFER_BYTES`.
pub const CHAIN_FRAMES: usize = 2;

/// A ticket is good for this long; an upload that began in time may end later.
pub const TICKET_LIFETIME: Duration = Duration::from_secs(600);
/// How long after a blob's id was given out its write ticket may still be accepted somewhere: a
/// volume remembers for so long that it deleted the blob.
pub const TICKET_MEMORY: Duration =
    TICKET_LIFETIME.saturating_add(CLOCK_SKEW_MAX).saturating_add(CLOCK_SKEW_MAX);
/// Clocks of one cluster may differ by so much before tickets fail.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_secs(60);
/// A setting of a bucket: each is one entry of the masters' log, and is read with every request of the bucket.
pub const SETTING_BYTES_MAX: usize = 64 << 10;
/// Master to volume and back: after so many a client is told 503 rather than sent round again.
pub const HOPS_MAX: u8 = 8;
/// Longest ticket in a URL, in characters.
pub const TICKET_CHARS_MAX: usize = 4096;

/// Segments past their age are looked for so often.
pub const SEALING_INTERVAL: Duration = Duration::from_secs(60);
/// Segments that are due to be verified are looked for so often, when none was.
pub const SCRUB_INTERVAL: Duration = Duration::from_secs(60);
/// Bytes a second that a scrub reads: a terabyte in nine hours, and a few per cent of what a disk can give.
pub const SCRUB_RATE: u64 = 32 << 20;
/// What was verified within this time is not verified again.
pub const SCRUB_EVERY: Duration = Duration::from_secs(7 * 24 * 3600);
/// Segments worth compacting are looked for so often, when none was.
pub const COMPACTION_INTERVAL: Duration = Duration::from_secs(5);
/// Bytes a second that a compaction moves while there is room for uploads; without, as fast as it can.
pub const COMPACTION_RATE: u64 = 128 << 20;

/// Blobs waiting to be healed on one volume; what comes on top is met again by its next reader or scrub.
pub const HEALING_QUEUE: usize = 1024;
/// Damaged blobs that a volume names in its report: the rest is counted. Reports travel each second.
pub const DAMAGED_SHOWN: usize = 32;
/// Damaged blobs that a volume remembers.
pub const DAMAGED_MAX: usize = 10_000;
/// A blob that could not be healed is tried again after so long: the volume with the good copy may be back.
pub const HEALING_RETRY: Duration = Duration::from_secs(10);

/// Volumes tell the master that they live.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// A heartbeat, or the question for one, that is not answered by then is sent anew: with one of them lost a volume is
/// still not down.
pub const HEARTBEAT_TIMEOUT: Duration = Duration::from_millis(1500);
/// A volume that has been silent for so long is not chosen any more.
pub const DOWN_AFTER: Duration = Duration::from_secs(3);
/// The copies of a volume that has been silent for so long are made anew elsewhere: longer than a machine takes to start again.
pub const REPAIR_AFTER: Duration = Duration::from_secs(600);
/// What is owed under `async` replication is paid so often.
pub const ASYNC_EVERY: Duration = Duration::from_secs(10);
/// Copies to be made or taken away that a master plans at once; fewest copies first. What does not fit is planned later.
pub const REPAIR_PLAN: usize = 4096;
/// Copies that a master has made at once, to all volumes together.
pub const REPAIRS_AT_ONCE: usize = 32;
/// Blobs that are looked at between two looks at whether other work waits.
pub const SURVEY_PAGE: usize = 4096;
/// What became of volumes: so many of the last events are kept.
pub const EVENTS_MAX: usize = 1000;
/// Volumes of the ring that are named when a value's place is explained.
pub const EXPLAIN_VOLUMES: usize = 32;
/// A range of an inventory that differs is divided unless it has fewer blobs than this; then it is listed.
pub const COMPARE_LIST: usize = 64;
/// Records that nothing refers to which a master remembers until it sees them again; then they go.
pub const STRAYS_REMEMBERED: usize = 100_000;
/// A record that no object names is collected when it is this old: far above any commit's time.
pub const ORPHAN_GRACE: Duration = Duration::from_secs(600);
/// Blob ids in one page of an inventory, or in one delete call.
pub const INVENTORY_PAGE: usize = 4096;
/// Bounds in one question for digests of an inventory: 40 bytes of JSON each, and as much in the answer.
pub const DIGEST_BOUNDS_MAX: usize = 4096;
/// Addresses that a server fetches in one examination: those of a cluster of some size.
pub const EXAMINE_URLS_MAX: usize = 256;
/// Copies that a volume takes in at once: the disk writes while another one is being opened or synced.
pub const COPIES_IN_MAX: usize = 4;
/// Bytes a second of copies that one volume takes in by default: 4 TB are full again in nine hours, and clients notice little.
pub const REPAIR_RATE: u64 = 128 << 20;
/// Blobs of which a master remembers that a volume without them keeps their tombstone, so that a DELETE that is
/// repeated for ever does not fill that volume's disk.
pub const TOLD_ELSEWHERE: usize = 4096;
/// Deletes handed to one volume in one call: small enough that the answer comes in `CALL_TIMEOUT`
/// even when every tombstone is a slow sync.
pub const RECLAIM_BATCH: usize = 256;
/// Calls to one volume that it has answered and that the masters have not noted yet: the next one goes out meanwhile.
pub const RECLAIM_UNNOTED: usize = 4;
/// A DELETE, or a refusal of an upload, is answered when the volumes that are up know of it durably, and at the latest
/// after this: two syncs of a slow disk. A volume that hangs must not hold every delete until it is found to be down.
pub const TOLD_TIMEOUT: Duration = Duration::from_secs(1);
/// A volume's tombstones are rewritten without those that are of no use any more when their file is larger than
/// this (26,000 of them) and more than half of it is.
pub const TOMBSTONES_BYTES: u64 = 1 << 20;
/// Tombstones in one page of the answer to a rebuild: 120 bytes of JSON each.
pub const TOMBSTONES_PAGE: usize = 4096;
/// An upload that took longer than this is not committed: for so long the master knows of every deleted key which
/// generation it had, so that a commit that is older than the delete does not undo it. 64 GiB at 0.8 MB/s.
pub const UPLOAD_TIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// Deleted keys whose uploads have all ended are looked for so often: it is a scan.
pub const FORGET_INTERVAL: Duration = Duration::from_secs(3600);
/// Records whose ends a volume reads in one go on a blocking thread.
pub const RECORDS_AT_ONCE: usize = 64;
/// Bytes of records in one page, as JSON: with what is around them less than `MESSAGE_BYTES_MAX`.
pub const RECORDS_PAGE_BYTES: usize = 768 << 10;
/// Volumes that a rebuild reads side by side: four keep a network busy, and each has one page in memory.
pub const REBUILD_VOLUMES_AT_ONCE: usize = 4;
/// Records that a rebuild asks for at once: each is two reads of a disk that may have to seek.
pub const REBUILD_PAGE: usize = 512;
/// Records that a rebuild writes in one batch.
pub const REBUILD_BATCH: usize = 4096;

/// Keys of one listing page, by default and at most.
pub const LIST_LIMIT: usize = 1000;
/// Largest page a client may ask for.
pub const LIST_LIMIT_MAX: usize = 10_000;
/// Commands applied in one batch, with one flush: bounds the batch in memory.
pub const COMMIT_BATCH: usize = 512;
/// Commands waiting for the applying thread; more wait in their requests.
pub const COMMIT_QUEUE: usize = 1024;
/// Bytes of the commands in one entry of the replicated log, about: a batch is closed when it passes this. An entry must
/// reach another master within `RAFT_HEARTBEAT`: this one takes 17 Mbit/s.
pub const RAFT_ENTRY_BYTES: usize = 512 << 10;
/// Largest message between masters: one entry may pass `RAFT_ENTRY_BYTES` by one command.
pub const RAFT_MESSAGE_BYTES_MAX: usize = 6 << 20;
/// The leader of the masters tells the others that it lives. It waits for so long for one answer, too, and asks again: a
/// slow sync of a follower must fit.
pub const RAFT_HEARTBEAT: Duration = Duration::from_millis(250);
/// A master that has not heard of a leader for `RAFT_ELECTION_MAX` and a random time between these two stands
/// for election: writes flow again after 1.6 to 2 s, and a pause of half a second deposes nobody.
pub const RAFT_ELECTION_MIN: Duration = Duration::from_millis(600);
/// See `RAFT_ELECTION_MIN`. For so long after a leader's last message nobody votes for another one.
pub const RAFT_ELECTION_MAX: Duration = Duration::from_millis(1000);
/// A leader that was confirmed by a majority answers reads by itself for so long, counted from before it asked: less
/// than `RAFT_ELECTION_MAX`, by more than clocks of two machines can drift apart meanwhile.
pub const RAFT_LEASE: Duration = Duration::from_millis(700);
/// Entries of the log between two checkpoints of the tables: what a start has to apply again.
pub const RAFT_CHECKPOINT_ENTRIES: u64 = 512;
/// Entries of the log that are kept for a master that was away; one that lacks more gets a snapshot.
pub const RAFT_ENTRIES_KEPT: u64 = 16_384;
/// A master that joins gets a vote when it lacks no more than so many entries.
pub const RAFT_LAG_MAX: u64 = 1000;
/// One part of a snapshot on its way to another master: half a message.
pub const SNAPSHOT_PART_BYTES: usize = 512 << 10;
/// A snapshot that nobody has read from for so long goes. Long enough that a master that was started again goes on with
/// the same one; the log is not cut meanwhile.
pub const SNAPSHOT_KEPT: Duration = Duration::from_secs(120);
/// Records in one step of writing a snapshot; commits wait for as long as one step takes.
pub const SNAPSHOT_STEP: usize = 256;
/// A master that gets a snapshot needs so long at most from its last byte until it is in use.
pub const SNAPSHOT_INSTALL_TIMEOUT: Duration = Duration::from_secs(1800);
/// For so long a request waits for a leader: an election and a half.
pub const LEADER_TIMEOUT: Duration = Duration::from_secs(4);
/// From handing a command to the leader to its outcome. Afterwards it is unknown: the leader may have lost its majority.
pub const PROPOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Masters of one cluster: a majority of seven must answer each write already.
pub const MASTERS_MAX: usize = 7;

/// sled's page cache. Its default of 1 GiB is more than the rest of the master together.
pub const SLED_CACHE_BYTES: u64 = 32 << 20;

/// sled's segment. A node of 16 records, each with the longest key and the most metadata, is 180 KiB
/// and must be less than a quarter of it, or sled puts it into a file of its own.
pub const SLED_SEGMENT_BYTES: usize = 2 << 20;

/// A segment of the raft log is followed by another when it passes this size: what one purge gives back, and what an
/// opening reads at once.
pub const RAFT_LOG_SEGMENT_BYTES: u64 = 64 << 20;
/// The newest entries of the raft log are kept in memory up to this size: followers that keep up, and the tables, never
/// read from the disk.
pub const RAFT_LOG_CACHE_BYTES: usize = 16 << 20;
/// Entries handed to one follower at once: see `RAFT_ENTRY_BYTES`.
pub const RAFT_LOG_READ_BYTES: usize = 512 << 10;
/// Appends that share one write and one sync of the raft log, in bytes.
pub const RAFT_LOG_BATCH_BYTES: usize = 4 << 20;
/// One entry of the raft log: far above any command, and a bound on what a damaged length can ask for.
pub const RAFT_LOG_ENTRY_BYTES_MAX: usize = 5 << 20;
/// Bytes of the log between two checkpoints of the tables, when they come before `RAFT_CHECKPOINT_ENTRIES`: some ten
/// seconds of a start, and what a start has in memory while it applies them.
pub const RAFT_CHECKPOINT_BYTES: u64 = 16 << 20;
/// Bytes of the log that are kept for a master that was away, when they come before `RAFT_ENTRIES_KEPT`.
pub const RAFT_LOG_KEPT_BYTES: u64 = 256 << 20;
/// The log is not cut while a master is sent a snapshot, unless it has passed this size: the disk matters more.
pub const RAFT_LOG_HELD_BYTES: u64 = 4 << 30;
/// Calls waiting for the thread that writes the raft log; more wait in their callers.
pub const RAFT_LOG_QUEUE: usize = 64;

/// Points each volume has on the ring; its weight counts in the distance to them.
pub const VIRTUAL_NODES: u32 = 128;

/// Segments are sealed when they pass this size ...
pub const SEGMENT_BYTES: u64 = 1 << 30;
/// The largest that may be asked for: offsets are counted in pages with 32 bits, and the last value of a
/// segment may be as large as any.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 40;
/// ... or this age.
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
const _: () = assert!(RECORDS_PAGE_BYTES + (64 << 10) < MESSAGE_BYTES_MAX);
const _: () = assert!(
    ACCESS_KEYS_PAGE * 3 * (KEY_BYTES_MAX + ACCESS_NOTE_BYTES_MAX + ACCESS_ID_CHARS_MAX + 128)
        < MESSAGE_BYTES_MAX
);
const _: () = assert!(TOMBSTONES_PAGE * 150 < MESSAGE_BYTES_MAX);
const _: () = assert!(TOLD_TIMEOUT.as_secs() < COMMIT_TIMEOUT.as_secs());
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
