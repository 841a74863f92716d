//! Rebuild (disaster recovery, guarantee 6): re-creates the metadata from the volumes alone. It asks every volume for
//! its records and tombstones, collects them on disk, and writes a new metadata directory with the newest version of
//! each key that was neither deleted nor refused.
//!
//! It changes nothing on a volume, and nothing in a directory that is not empty. Until its last step is done, a master
//! refuses to start on the directory. Dead records go onto the reclaim list, so that their space is freed. `ask`
//! queries the volumes, `collect` stores the answers, `plan` decides, `write` writes, `work_directory` is the folder.

mod ask;
mod collect;
mod parts;
mod plan;
mod work_directory;
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
use work_directory::WorkDirectory;

#[derive(Clone, Debug)]
pub struct Options {
    /// The new metadata directory.
    pub directory: PathBuf,
    /// Base URLs of all volumes.
    pub volumes: Vec<String>,
    /// Replicas wanted of each value.
    pub replication: Replication,
    /// The secret that the servers of the cluster sign with.
    pub secret: ClusterSecret,
    /// The certificates it trusts when volumes use TLS.
    pub trust: Trust,
    /// Continues even if a volume does not serve all of its records.
    pub without_corrupt: bool,
    pub clock: Clock,
}

/// The progress of a rebuild, for display.
#[derive(Debug, Default)]
pub struct RebuildProgress {
    /// Blobs that the volumes report.
    pub expected: AtomicU64,
    /// Records read so far.
    pub read: AtomicU64,
    /// Records processed so far.
    pub written: AtomicU64,
}

/// The result of a rebuild.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    pub cluster: Option<ClusterId>,
    pub volumes: u64,
    /// Keys with a value.
    pub objects: u64,
    /// Bytes of their values; replicas are not counted.
    pub bytes: u64,
    pub blobs: u64,
    pub under_replicated: u64,
    /// Versions still on a volume that a newer one has replaced.
    pub superseded: u64,
    /// Versions of deleted keys still on a volume.
    pub deleted: u64,
    /// Blobs still on a volume whose commit was refused.
    pub refused: u64,
    /// Values whose replicas differ; the majority decided.
    pub conflicts: u64,
    /// Parts that no object references: of unfinished uploads, or of objects that are gone.
    pub parts_left: u64,
    /// Records that a volume could not read.
    pub corrupt: u64,
    /// Blobs without a good replica anywhere (their keys are unknown), and objects that lack a part
    /// or their manifest.
    pub lost: u64,
    /// Segments that volumes do not serve; blobs that are only there are not found.
    pub segments_refused: u64,
    /// Quarantined ranges of segments, with the same effect.
    pub ranges_quarantined: u64,
    /// Duration in seconds.
    pub seconds: f64,
}

/// A failed rebuild; it leaves no new metadata.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    #[error("no volume was given: list all of them with --volumes HOST:PORT,HOST:PORT")]
    NoVolumes,
    /// A volume cannot be reached, or refuses to answer.
    #[error("{}", unanswered(.0))]
    Volume(#[from] CallError),
    #[error(
        "the volume at {address} belongs to no cluster: leave it out; it joins when it is started with --master"
    )]
    NoCluster { address: String },
    #[error(
        "the volume at {address} belongs to cluster {theirs}, the others to {ours}: list volumes of one cluster only"
    )]
    OtherCluster { address: String, theirs: ClusterId, ours: ClusterId },
    #[error("{address} and {other} are the same volume, {volume}: list each volume once")]
    Same { address: String, other: String, volume: VolumeId },
    /// A volume that cannot list all of its records.
    #[error(
        "the volume at {address} does not serve all of its records: {segments} segments refused, {ranges} ranges \
         quarantined. See its log and `barge volume check`, and repair it if possible; or pass --without-corrupt: \
         values that are only there will be missing then, and values that they replaced or deleted may reappear"
    )]
    NotServed { address: String, segments: u64, ranges: u64 },
    /// The directory is not empty.
    #[error(
        "{path} is not empty, it holds {found}: move that directory away (and keep it), then run this again"
    )]
    InTheWay {
        path: PathBuf,
        /// One of its files.
        found: String,
    },
    #[error("{path}: {source}")]
    Io {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The new tables, or the collected answers.
    #[error(transparent)]
    Tables(#[from] TableError),
}

fn unanswered(error: &CallError) -> String {
    let advice = match error {
        CallError::Refused { detail, .. } => &detail.hint,
        _ => "start it again, or leave it out: values that only it holds will be missing then",
    };
    format!("a volume did not list its records: {error}; {advice}")
}

impl From<sled::Error> for RebuildError {
    fn from(e: sled::Error) -> Self {
        Self::Tables(e.into())
    }
}

/// Re-creates the metadata.
///
/// # Errors
/// When a volume cannot be asked, or the directory cannot be written. It leaves no metadata then; run it again.
pub async fn rebuild(options: Options, progress: Arc<RebuildProgress>) -> Result<Report, RebuildError> {
    let started = std::time::Instant::now();
    let directory = options.directory.clone();
    let place = blocking(move || WorkDirectory::prepare(&directory)).await?;
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

async fn fill(
    options: &Options,
    place: &WorkDirectory,
    progress: &Arc<RebuildProgress>,
) -> Result<Report, RebuildError> {
    let peers =
        PeerClient::new(options.secret.clone(), options.clock.clone()).trusting(options.trust.clone());
    let volumes = ask::who(&peers, &options.volumes).await?;
    if !options.without_corrupt {
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
