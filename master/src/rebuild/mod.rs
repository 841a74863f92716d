//! Guarantee 6: the metadata, made anew from the volumes alone. It asks every volume for its records and its tombstones,
//! collects them on disk, and writes a new metadata directory: of each key the newest version that was neither deleted
//! nor refused.
//!
//! It changes nothing on a volume, and nothing in a directory that holds anything. The directory counts from its last
//! step on; before that a master refuses to start there. What was dead already goes onto the reclaim list, so that its
//! space comes back. `collect` keeps what is heard, `ask` hears it, `plan` decides, `write` writes, `place` is the folder.

mod ask;
mod collect;
mod parts;
mod place;
mod plan;
mod write;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use serde::Serialize;
use shared::clock::Clock;
use shared::http::client::{CallError, PeerClient};
use shared::http::trust::Trust;
use shared::ids::{ClusterId, VolumeId};
use shared::secret::ClusterSecret;
use shared::work::blocking;

use crate::config::Replication;
use crate::db::OpenError;
use crate::tables::TableError;
use collect::Collected;
use place::Place;

#[derive(Clone, Debug)]
pub struct Options {
    /// Where the metadata is to be.
    pub directory: PathBuf,
    /// All volumes, as base URLs.
    pub volumes: Vec<String>,
    /// Copies wanted of each value.
    pub replication: Replication,
    /// What the servers of the cluster sign with.
    pub secret: ClusterSecret,
    /// Whom it believes where volumes speak TLS.
    pub trust: Trust,
    /// Goes on although a volume does not serve all it has.
    pub without_damaged: bool,
    pub clock: Clock,
}

/// How far it has come, for who watches.
#[derive(Debug, Default)]
pub struct Progress {
    /// Blobs that the volumes say they hold.
    pub expected: AtomicU64,
    /// Records read so far.
    pub read: AtomicU64,
    /// Records decided and written so far.
    pub written: AtomicU64,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    pub cluster: Option<ClusterId>,
    pub volumes: u64,
    /// Keys with a value.
    pub objects: u64,
    /// Bytes of their values, each counted once.
    pub bytes: u64,
    pub blobs: u64,
    /// Objects with fewer copies than wanted.
    pub degraded: u64,
    /// Versions that a newer one has replaced, and that are still on a volume.
    pub superseded: u64,
    /// Versions of deleted keys that are still on a volume.
    pub deleted: u64,
    /// Blobs still on a volume that never became a value.
    pub refused: u64,
    /// Values of which copies differ: most copies decided.
    pub conflicts: u64,
    /// Parts on a volume that no value has: of uploads that were not completed, and of values that are gone.
    pub parts_left: u64,
    /// Records that a volume could not read.
    pub damaged: u64,
    /// Those of them that no other volume has a good copy of: their keys are unknown.
    pub lost: u64,
    /// Segments that volumes do not serve: what only they hold is not found.
    pub segments_refused: u64,
    /// Ranges of segments that volumes have set aside as damaged, in the same way.
    pub ranges_set_aside: u64,
    /// How long it took.
    pub seconds: f64,
}

/// It did not succeed; there is no new metadata.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// Nothing to read.
    #[error("no volume was named: name all of them with --volumes HOST:PORT,HOST:PORT")]
    NoVolumes,
    /// A volume does not answer.
    #[error("{}", unanswered(.0))]
    Volume(#[from] CallError),
    /// A volume without a cluster.
    #[error(
        "the volume at {0} belongs to no cluster: leave it out, it joins the cluster when it is started with its --master"
    )]
    NoCluster(String),
    /// Volumes of two clusters.
    #[error(
        "the volume at {address} belongs to cluster {theirs}, the others to {ours}: name only the volumes of one cluster"
    )]
    OtherCluster { address: String, theirs: ClusterId, ours: ClusterId },
    /// Two names of one volume.
    #[error("{address} and {other} are the same volume, {volume}: name each once")]
    Same { address: String, other: String, volume: VolumeId },
    /// A volume with holes in what it tells.
    #[error(
        "the volume at {address} does not serve all it has: {segments} segments, and {ranges} damaged ranges; see its log and \
         `barge volume check`, mend what can be mended, or say --without-damaged: values that stand only there will not be \
         found then, and what they had replaced or deleted may be back"
    )]
    NotServed {
        address: String,
        /// Segments that it refused.
        segments: u64,
        /// Ranges that it has set aside.
        ranges: u64,
    },
    /// The directory is not empty.
    #[error("{path} holds {found}: move that directory away (and keep it), then run this again")]
    InTheWay {
        path: PathBuf,
        /// What is in it.
        found: String,
    },
    /// A file or folder says no.
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Its tables, or what was collected.
    #[error(transparent)]
    Tables(#[from] TableError),
}

fn unanswered(error: &CallError) -> String {
    let advice = match error {
        CallError::Refused { detail, .. } => &detail.hint,
        _ => "bring it back, or leave it out: values that only it holds will not be found then",
    };
    format!("a volume does not tell what it holds: {error}; {advice}")
}

impl From<sled::Error> for RebuildError {
    fn from(e: sled::Error) -> Self {
        Self::Tables(e.into())
    }
}

/// Makes the metadata anew.
///
/// # Errors
/// When a volume cannot be asked, or the directory cannot be written. Nothing counts then, and it can be run again.
pub async fn rebuild(options: Options, progress: Arc<Progress>) -> Result<Report, RebuildError> {
    let started = std::time::Instant::now();
    let directory = options.directory.clone();
    let place = blocking(move || Place::prepare(&directory)).await?;
    let outcome = fill(&options, &place, &progress).await;
    let (mut report, place) = match outcome {
        Ok(report) => (report, place),
        Err(error) => {
            blocking(move || place.give_up()).await;
            return Err(error);
        }
    };
    blocking(move || place.finish()).await?;
    report.seconds = rounded(started.elapsed());
    Ok(report)
}

async fn fill(options: &Options, place: &Place, progress: &Arc<Progress>) -> Result<Report, RebuildError> {
    let peers =
        PeerClient::new(options.secret.clone(), options.clock.clone()).trusting(options.trust.clone());
    let volumes = ask::who(&peers, &options.volumes).await?;
    if !options.without_damaged {
        volumes.all_served()?;
    }
    let folder = place.collecting();
    let collected = Arc::new(blocking(move || Collected::open(&folder)).await?);
    ask::all(&peers, &volumes, &collected, progress).await?;
    let (folder, wanted, now) = (place.new_metadata(), options.replication, options.clock.now());
    let progress = Arc::clone(progress);
    blocking(move || {
        let wanted = u8::try_from(wanted.wanted()).unwrap_or(u8::MAX);
        write::write(&folder, &volumes, &collected, wanted, now, &progress)
    })
    .await
}

fn rounded(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}
