//! `barge cluster rebuild`: a new metadata directory from the volumes, or with `--dry-run` only what would differ.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use master::Replication;
use master::offline::{Database, OpenError, Options, RebuildError, RebuildProgress, Report, rebuild};
use serde::Serialize;
use shared::clock::Clock;
use shared::http::client::base_url;
use shared::size::ByteSize;
use shared::telemetry::{LogFormat, init_logs};
use shared::wire::master::ClusterStatus;
use shared::wire::routes::STATUS;
use shared::work::blocking;

use super::diff::{Diff, Source, compare};
use super::query::query;
use crate::args::{RebuildArgs, SecretArgs};
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output::{Output, table};
use crate::progress::Meter;

/// How often the bar is updated.
const TICK: Duration = Duration::from_millis(100);

/// The result of a dry run.
#[derive(Serialize)]
struct Compared {
    #[serde(flatten)]
    report: Report,
    /// `None` if there was nothing to compare with.
    diff: Option<Diff>,
    /// Why nothing was compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_compared: Option<String>,
}

/// A temporary directory, removed on drop.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub(super) async fn run(client: &Client, args: RebuildArgs, output: Output) -> Result<Exit, Failure> {
    init_logs(LogFormat::Text);
    let usage = |e: String| Failure::new(Exit::Usage, e);
    let secret = args.secret.find().map_err(|e| usage(e.to_string()))?;
    let options = Options {
        directory: args.directory.clone(),
        volumes: args.volumes.iter().filter(|v| !v.is_empty()).map(|v| base_url(v)).collect(),
        replication: Replication::new(args.replicas, None).map_err(|e| usage(e.to_string()))?,
        secret,
        trust: client.trust().clone(),
        // A dry run harms nothing; the warning is in the report.
        without_corrupt: args.without_corrupt || args.dry_run,
        clock: Clock::System,
    };
    if args.dry_run {
        return dry_run(client, options, &args.secret, output).await;
    }
    let report = watched(options, output).await?;
    let path = args.directory.display().to_string();
    output.result(&report, || {
        let next = "start the master on it as before, with all volumes running; access keys are not on volumes: create them again";
        format!("{}\n\nthe metadata is in {path}: {next}", text(&report))
    })?;
    Ok(Exit::Ok)
}

/// Rebuilds and shows a bar.
async fn watched(options: Options, output: Output) -> Result<Report, Failure> {
    let (meter, progress) = (Meter::counting("records", output), Arc::new(RebuildProgress::default()));
    let work = rebuild(options, Arc::clone(&progress));
    tokio::pin!(work);
    let mut tick = tokio::time::interval(TICK);
    let outcome = loop {
        tokio::select! {
            outcome = &mut work => break outcome,
            _ = tick.tick() => {
                // Each record counts twice: when it is read and when it is decided.
                let [expected, read, written] = [&progress.expected, &progress.read, &progress.written]
                    .map(|n| n.load(Ordering::Relaxed));
                meter.count(read + written, expected.max(read) * 2);
            }
        }
    };
    meter.done();
    outcome.map_err(|e| failure(&e))
}

fn failure(error: &RebuildError) -> Failure {
    let exit = match error {
        RebuildError::NoVolumes | RebuildError::Same { .. } => Exit::Usage,
        RebuildError::Volume(_) => Exit::Unavailable,
        RebuildError::InTheWay { .. } => Exit::Conflict,
        _ => Exit::Failure,
    };
    Failure::new(exit, error.to_string())
}

async fn dry_run(
    client: &Client,
    options: Options,
    secret: &SecretArgs,
    output: Output,
) -> Result<Exit, Failure> {
    let directory = options.directory.clone();
    let name = directory.file_name().map_or_else(|| "metadata".into(), |n| n.to_string_lossy().into_owned());
    let temporary = Temporary(directory.with_file_name(format!("{name}.dry-run-{}", std::process::id())));
    let there = there(client, secret, &directory).await;
    let report = watched(Options { directory: temporary.0.clone(), ..options }, output).await?;
    let (diff, not_compared) = match there {
        Ok((there, against)) => {
            check_same(&report, secret, &there).await?;
            let path = temporary.0.clone();
            let rebuilt = blocking(move || Database::open(&path)).await;
            let rebuilt = rebuilt.map_err(|e| Failure::new(Exit::Failure, e.to_string()))?;
            (Some(compare(Source::Directory(Arc::new(rebuilt)), there, against).await?), None)
        }
        Err(why) => (None, Some(why)),
    };
    drop(temporary);
    let exit = match &diff {
        None => Exit::Unavailable,
        Some(diff) if diff.is_none() => Exit::Ok,
        Some(_) => Exit::Failure,
    };
    let compared = Compared { report, diff, not_compared };
    output.result(&compared, || {
        let why = || compared.not_compared.clone().unwrap_or_default();
        let diff = compared.diff.as_ref().map_or_else(why, Diff::text);
        format!("{}\n\n{diff}", text(&compared.report))
    })?;
    Ok(exit)
}

/// Opens what to compare with: the metadata in the directory, else the running cluster. Returns why, if
/// there is neither.
async fn there(client: &Client, secret: &SecretArgs, directory: &Path) -> Result<(Source, String), String> {
    if directory.join("sled").exists() {
        let path = directory.to_owned();
        match blocking(move || Database::open(&path)).await {
            Ok(database) => {
                let against = format!("the metadata in {}, as of its last checkpoint", directory.display());
                return Ok((Source::Directory(Arc::new(database)), against));
            }
            // A master uses the directory: ask its cluster.
            Err(OpenError::InUse(_)) => {}
            Err(error) => return Err(format!("nothing was compared: {error}")),
        }
    }
    match query::<ClusterStatus>(client, secret, STATUS).await {
        Ok(_) => Ok((Source::Cluster(client.clone()), "the running cluster".to_owned())),
        Err(error) => Err(format!(
            "nothing was compared: {} holds no metadata, and no master of the cluster answers: {error}",
            directory.display()
        )),
    }
}

/// Refuses to compare with another cluster, where everything would differ.
async fn check_same(report: &Report, secret: &SecretArgs, there: &Source) -> Result<(), Failure> {
    let theirs = match there {
        Source::Directory(database) => {
            let identity = database.identity().map_err(|e| Failure::new(Exit::Failure, e.to_string()))?;
            identity.map(|i| i.cluster)
        }
        Source::Cluster(client) => Some(query::<ClusterStatus>(client, secret, STATUS).await?.cluster),
    };
    if theirs.is_some() && report.cluster == theirs {
        return Ok(());
    }
    let theirs = theirs.map_or_else(|| "none".into(), |c| c.to_string());
    let what = format!(
        "the metadata to compare with belongs to cluster {theirs}, but the volumes belong to another one"
    );
    Err(Failure::new(Exit::Failure, what).next("name the volumes of that cluster, or its master with --url"))
}

fn text(report: &Report) -> String {
    let mut rows = vec![
        vec!["cluster".into(), report.cluster.map_or_else(String::new, |c| c.to_string())],
        vec!["values".into(), format!("{} ({})", report.objects, ByteSize(report.bytes))],
        vec!["records".into(), format!("{} on {} volumes", report.blobs, report.volumes)],
        vec!["under-replicated".into(), format!("{} values", report.under_replicated)],
        vec![
            "to reclaim".into(),
            format!("{} replaced, {} deleted, {} refused", report.superseded, report.deleted, report.refused),
        ],
        vec![
            "corrupt".into(),
            format!("{} records, {} without another replica", report.corrupt, report.lost),
        ],
    ];
    let (segments, ranges) = (report.segments_refused, report.ranges_quarantined);
    if segments + ranges > 0 {
        let what = format!(
            "{segments} segments, {ranges} corrupt ranges: values that only they hold were not found"
        );
        rows.push(vec!["NOT SERVED".into(), what]);
    }
    if report.conflicts > 0 {
        rows.push(vec!["conflicts".into(), format!("{} values whose replicas differ", report.conflicts)]);
    }
    rows.push(vec!["took".into(), format!("{:.1} s", report.seconds)]);
    table(&rows)
}
