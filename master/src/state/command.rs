//! Commands and their outcomes. A command holds everything that its outcome depends on, besides the tables.

use serde::{Deserialize, Serialize};
use shared::access::AccessKeyId;
use shared::attributes::Attributes;
use shared::clock::Timestamp;
use shared::condition::WriteCondition;
use shared::digest::Digest;
use shared::ids::{BlobId, ClusterId, VolumeId};
use shared::key::Key;
use shared::tombstone::KeyHash;
use shared::wire::master::CommitOutcome;

use crate::tables::access_key::AccessKey;
use crate::tables::bucket::{AbortRule, Bucket, CorsRule};
use crate::tables::meta::Rebalance;
use crate::tables::mode::Mode;
use crate::tables::object::Object;
use crate::tables::standing::Standing;
use crate::tables::unsettled::Spot;
use crate::tables::upload::{PartRecord, Upload};
use crate::tables::volume::VolumeRecord;

/// A change to the metadata.
///
/// It is what the replicated log holds, in postcard: variants and fields keep their places, new ones come at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Makes a blob the current value of its key.
    Commit(Commit),
    /// Removes a key.
    Delete {
        key: Key,
        /// What must hold of its value.
        condition: WriteCondition,
    },
    /// A volume joined, or says something new of itself.
    Volume(VolumeRecord),
    /// A volume has durably deleted blobs.
    Reclaimed {
        volume: VolumeId,
        blobs: Vec<BlobId>,
        /// When, by the proposing master's clock.
        at: Timestamp,
    },
    /// Graves that no commit can come for any more.
    Purge { graves: Vec<(VolumeId, BlobId)> },
    /// A volume holds blobs that no object refers to, and whose tickets and receipts have long expired.
    Orphaned {
        volume: VolumeId,
        /// Which blobs, with their lengths.
        blobs: Vec<(BlobId, u64)>,
    },
    /// A new cluster begins; the first of these counts.
    Founded(ClusterId),
    /// Deleted keys that no upload can come for any more, each with the generation that was deleted.
    Forget { keys: Vec<(KeyHash, BlobId)> },
    /// As `Commit`, with what S3 adds.
    Store(Box<Store>),
    /// Begins an upload in parts.
    BeginUpload { key: Key, id: BlobId, upload: Upload },
    /// A part is durable.
    PutPart {
        key: Key,
        upload: BlobId,
        /// What it is, and whose receipts were good.
        part: PartRecord,
        /// Copies without which it fails.
        min_replicas: u8,
    },
    /// Makes one value of parts.
    Complete {
        upload: BlobId,
        /// The parts, in order. The manifest, whose digest the commit has, must be theirs at that moment.
        numbers: Vec<u16>,
        store: Box<Store>,
    },
    /// Gives an upload up.
    Abort { key: Key, upload: BlobId },
    /// Takes some of the parts of condemned uploads out of the tables.
    Scrap { uploads: Vec<BlobId> },
    /// Changes the tags of an object.
    Tag {
        key: Key,
        /// Its generation when it was looked at.
        generation: BlobId,
        /// The tags from now on.
        tags: Vec<(String, String)>,
    },
    /// Creates a bucket.
    CreateBucket { name: String, bucket: Bucket },
    /// Sets a bucket up anew.
    SetBucket { name: String, setting: Setting },
    /// Removes a bucket without values.
    DeleteBucket { name: String },
    /// An access key is made; another one of that id is replaced.
    PutAccessKey { id: AccessKeyId, key: Box<AccessKey> },
    /// An access key is good no more.
    RevokeAccessKey { id: AccessKeyId },
    /// Copies of blobs are about to be taken in by a volume.
    Expect {
        volume: VolumeId,
        /// Which blobs, and where they are named.
        blobs: Vec<(BlobId, Spot)>,
    },
    /// A volume has taken copies in, by its receipts.
    Arrived {
        volume: VolumeId,
        /// Which blobs, with their lengths, and where they are named.
        blobs: Vec<(BlobId, u64, Spot)>,
    },
    /// Copies that are on their way are not needed any more.
    Forgo {
        /// To which volume.
        volume: VolumeId,
        /// Which blobs, with their lengths.
        blobs: Vec<(BlobId, u64)>,
    },
    /// A copy is one too many.
    Drop(Drop),
    /// A volume does not have what it should.
    Missing {
        volume: VolumeId,
        /// Which blobs, and where they are named.
        blobs: Vec<(BlobId, Spot)>,
    },
    /// Looks again where all of a value in parts is.
    Weigh { key: Key, upload: BlobId },
    /// What is to become of a volume.
    SetDuty {
        volume: VolumeId,
        /// What, and since when.
        standing: Standing,
    },
    /// Begins, pauses or ends the moving of values between volumes.
    SetRebalance(Option<Rebalance>),
    /// When uploads of a bucket are acknowledged.
    SetMode {
        /// Its name; it need not be there yet.
        bucket: String,
        /// None: as everywhere.
        mode: Option<Mode>,
    },
    /// Notes blobs with too few copies that tables of an older version do not list.
    Owe {
        /// Which, and where they are named.
        blobs: Vec<(BlobId, Spot)>,
        /// Whether these were all.
        last: bool,
    },
    /// A change of access keys or of bucket settings, with its sequence number.
    InSequence {
        /// Changes before it.
        sequence: u64,
        /// What is carried out when it is its turn.
        change: Box<Command>,
    },
}

/// Takes a copy away: the one command that does, and it names those that stay.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drop {
    /// From which volume.
    pub volume: VolumeId,
    pub blob: BlobId,
    /// Where it is named.
    pub spot: Spot,
    /// Volumes that have just been seen to hold good copies. As many as are wanted.
    pub keep: Vec<VolumeId>,
}

/// A commit by an S3 client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Store {
    /// What every commit has.
    pub commit: Commit,
    pub attributes: Attributes,
}

/// What changes of a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Setting {
    /// Who may read without a key.
    PublicRead(bool),
    /// Which pages of other origins may read answers.
    Cors(Vec<CorsRule>),
    /// Names and values.
    Tags(Vec<(String, String)>),
    /// When uploads that were not completed go.
    AbortUploads(Vec<AbortRule>),
}

impl Command {
    /// Bytes it takes in the log, about and at least.
    pub fn weight(&self) -> usize {
        const FIXED: usize = 256;
        const PLACE: usize = 34;
        FIXED
            + match self {
                Self::Commit(commit) => commit.weight(),
                Self::Delete { key, .. } => key.as_str().len(),
                Self::Reclaimed { blobs, .. } => blobs.len() * PLACE,
                Self::Purge { graves } => graves.len() * PLACE,
                Self::Orphaned { blobs, .. } => blobs.len() * PLACE,
                Self::Forget { keys } => keys.len() * PLACE,
                Self::Store(store) => store.weight(),
                Self::Complete { numbers, store, .. } => store.weight() + numbers.len() * 3,
                Self::BeginUpload { upload, .. } => pairs(&upload.metadata) + pairs(&upload.tags),
                Self::Tag { tags, .. } => pairs(tags),
                Self::SetBucket { setting, .. } => setting.weight(),
                Self::Scrap { uploads } => uploads.len() * PLACE,
                Self::PutPart { .. } | Self::Abort { .. } | Self::CreateBucket { .. } => 0,
                Self::DeleteBucket { .. } | Self::Volume(_) | Self::Founded(_) => 0,
                Self::PutAccessKey { key, .. } => key.weight(),
                Self::Expect { blobs, .. } | Self::Missing { blobs, .. } | Self::Owe { blobs, .. } => {
                    blobs.iter().map(|(_, spot)| PLACE + spot.key.as_str().len()).sum()
                }
                Self::Arrived { blobs, .. } => {
                    blobs.iter().map(|(_, _, spot)| PLACE + spot.key.as_str().len()).sum()
                }
                Self::Forgo { blobs, .. } => blobs.len() * PLACE,
                Self::Drop(drop) => drop.spot.key.as_str().len() + drop.keep.len() * PLACE,
                Self::Weigh { key, .. } => key.as_str().len(),
                Self::RevokeAccessKey { .. } | Self::SetDuty { .. } | Self::SetRebalance(_) => 0,
                Self::SetMode { .. } => 0,
                Self::InSequence { change, .. } => change.weight(),
            }
    }
}

/// Bytes of names and values.
fn pairs(pairs: &[(String, String)]) -> usize {
    pairs.iter().map(|(n, v)| n.len() + v.len() + 4).sum()
}

impl Commit {
    fn weight(&self) -> usize {
        self.key.as_str().len() + pairs(&self.metadata)
    }
}

impl Store {
    fn weight(&self) -> usize {
        self.commit.weight() + pairs(&self.attributes.tags)
    }
}

impl Setting {
    /// Bytes it takes in the log and the tables, about.
    pub fn weight(&self) -> usize {
        let lengths = |texts: &[String]| texts.iter().map(|t| t.len() + 2).sum::<usize>();
        match self {
            Self::PublicRead(_) => 0,
            Self::Tags(tags) => pairs(tags),
            Self::AbortUploads(rules) => {
                let id = |r: &AbortRule| r.id.as_ref().map_or(0, String::len);
                rules.iter().map(|r| r.prefix.len() + id(r) + 64).sum()
            }
            Self::Cors(rules) => {
                let of = |r: &CorsRule| [&r.origins, &r.methods, &r.headers, &r.exposed].map(|t| lengths(t));
                rules.iter().flat_map(of).sum()
            }
        }
    }
}

/// What is committed: everything the receipts and the client said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    pub key: Key,
    /// The blob, which becomes its generation.
    pub blob: BlobId,
    /// Its length in bytes.
    pub size: u64,
    /// BLAKE3 of its bytes.
    pub digest: Digest,
    /// Content type, where one was given.
    pub content_type: Option<String>,
    pub metadata: Vec<(String, String)>,
    /// The volumes whose receipts were good.
    pub replicas: Vec<VolumeId>,
    pub wanted: u8,
    /// Copies without which it fails.
    pub min_replicas: u8,
    /// What must hold of the key's present value.
    pub condition: WriteCondition,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Of a commit: what, and how many replicas counted.
    Commit(CommitOutcome, usize),
    /// Of a delete: what was there.
    Deleted(Box<Object>),
    /// Of a delete, or of a revocation: nothing was there.
    NotFound,
    /// Of a delete: the condition did not hold.
    ConditionFailed,
    /// Of any: a record it depends on is damaged; nothing was changed.
    Damaged,
    Done,
    /// The bucket is not there.
    NoBucket,
    /// The bucket is there already.
    BucketExists,
    /// The bucket has values.
    BucketNotEmpty,
    /// The upload is not there: it was completed or given up, or never begun.
    NoUpload,
    /// Of a completion: it was done before, and the object is still the one it made.
    CompletedBefore(Box<Object>),
    /// Of a completion: the parts are not those of the manifest any more.
    PartsChanged,
    /// It must not be done: the last copies of something would go.
    LastCopies,
    /// Of a change in sequence: another one came before it; nothing was changed.
    Outdated,
}
