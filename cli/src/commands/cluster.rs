//! `barge cluster`: what the master thinks of its volumes, and the rebuild of what a master knows.

mod diff;
mod rebuild;

use http::Method;
use http::header::HeaderMap;
use shared::wire::master::{ClusterStatus, DamagedValue, VolumeState, VolumeSummary};
use shared::wire::routes::STATUS;

use crate::args::ClusterCommand;
use crate::client::{self, Client, patiently};
use crate::exit::{Exit, Failure};
use crate::output::{Output, table};
use crate::size::ByteSize;

pub(crate) async fn run(client: &Client, command: ClusterCommand, output: Output) -> Result<Exit, Failure> {
    match command {
        ClusterCommand::Status => status(client, output).await,
        ClusterCommand::Rebuild(args) => Box::pin(rebuild::run(client, args, output)).await,
    }
}

async fn status(client: &Client, output: Output) -> Result<Exit, Failure> {
    let url = client.url(STATUS)?;
    let answer = patiently(async || client.ask(Method::GET, url.clone(), &HeaderMap::new()).await).await?;
    let status: ClusterStatus = client::json(answer).await?;
    output.result(&status, || text(&status))?;
    Ok(Exit::Ok)
}

fn text(status: &ClusterStatus) -> String {
    let summary = table(&[
        vec!["cluster".into(), status.cluster.to_string()],
        vec!["version".into(), status.version.clone()],
        vec!["values".into(), format!("{} ({})", status.objects, ByteSize(status.bytes))],
        vec!["copies".into(), format!("{}, at least {} for an upload", status.replicas, status.min_replicas)],
        vec!["degraded".into(), format!("{} with fewer copies", status.degraded)],
        vec!["to reclaim".into(), format!("{} blobs", status.reclaim_pending)],
    ]);
    let heads = ["volume", "state", "zone", "url", "free", "capacity", "blobs", "remark"];
    let mut rows = vec![heads.map(String::from).to_vec()];
    rows.extend(status.volumes.iter().map(row));
    let volumes = if status.volumes.is_empty() { "no volumes yet".into() } else { table(&rows) };
    let damaged: String = status.damaged.iter().map(damaged).collect();
    format!("{summary}\n\n{volumes}{damaged}")
}

fn damaged(value: &DamagedValue) -> String {
    let name = value.key.as_ref().map_or_else(|| format!("blob {}", value.blob), ToString::to_string);
    format!("\ndamaged  {name}: no good copy was found by volume {}", value.volume)
}

fn row(v: &VolumeSummary) -> Vec<String> {
    let state = match v.state {
        VolumeState::Up => "up",
        VolumeState::ReadOnly => "read-only",
        VolumeState::Full => "full",
        VolumeState::Down => "down",
    };
    let silent = match (v.state, v.silent_ms) {
        (VolumeState::Down, Some(ms)) => Some(format!("silent for {} s", ms / 1000)),
        (VolumeState::Down, None) => Some("not heard of since the master started".into()),
        _ => None,
    };
    let remarks: Vec<String> = v.reason.iter().cloned().chain(silent).collect();
    vec![
        v.volume.to_string(),
        state.into(),
        v.zone.as_ref().map_or_else(|| "-".into(), ToString::to_string),
        v.public_url.clone(),
        ByteSize(v.available_bytes).to_string(),
        ByteSize(v.capacity_bytes).to_string(),
        v.blobs.to_string(),
        remarks.join("; "),
    ]
}
