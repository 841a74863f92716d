//! `barge cluster status`: the masters and volumes, and their states as the masters see them.

use shared::http::client::base_url;
use shared::size::ByteSize;
use shared::wire::master::{ClusterStatus, CorruptValue, MasterRole, VolumeSummary};
use shared::wire::routes::STATUS;

use super::query::query;
use crate::args::{SecretArgs, StatusArgs};
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output::{Output, table};
use crate::signed::Caller;

pub(crate) async fn run(client: &Client, args: StatusArgs, output: Output) -> Result<Exit, Failure> {
    if let Some(server) = &args.server {
        let caller = Caller::new(&args.secret, client.trust())?;
        let known: serde_json::Value = caller.call(&base_url(server), STATUS, &()).await?;
        output.result(&known, || format!("{known:#}"))?;
        return Ok(Exit::Ok);
    }
    let status = fetch(client, &args.secret).await?;
    output.result(&status, || text(&status))?;
    Ok(Exit::Ok)
}

/// Fetches the status from the leader if it can be reached: only the leader knows the repair queue.
pub(super) async fn fetch(client: &Client, secret: &SecretArgs) -> Result<ClusterStatus, Failure> {
    let status: ClusterStatus = query(client, secret, STATUS).await?;
    let leader = status.masters.iter().find(|m| m.role == MasterRole::Leader);
    match leader.filter(|_| status.repair.is_none()) {
        Some(leader) => {
            let there = Client::trusting(&leader.public_url, client.trust().clone())?;
            Ok(query(&there, secret, STATUS).await.unwrap_or(status))
        }
        None => Ok(status),
    }
}

fn text(status: &ClusterStatus) -> String {
    let mut rows = vec![
        vec!["cluster".into(), status.cluster.to_string()],
        vec!["version".into(), status.version.clone()],
        vec!["values".into(), format!("{} ({})", status.objects, ByteSize(status.bytes))],
        vec![
            "replicas".into(),
            format!("{}, at least {} for an upload", status.replicas, status.min_replicas),
        ],
        vec!["under-replicated".into(), format!("{} values", status.under_replicated)],
        vec!["to reclaim".into(), format!("{} blobs", status.reclaim_pending)],
    ];
    if let Some(repair) = &status.repair {
        rows.push(vec!["repair".into(), super::maintenance::repair_line(repair)]);
    }
    if let Some(rebalance) = &status.rebalance {
        rows.push(vec!["rebalance".into(), super::maintenance::rebalance_line(rebalance)]);
    }
    let summary = table(&rows);
    let heads = ["volume", "state", "zone", "url", "free", "capacity", "blobs", "remark"];
    let mut rows = vec![heads.map(String::from).to_vec()];
    rows.extend(status.volumes.iter().map(row));
    let volumes = if status.volumes.is_empty() { "no volumes yet".into() } else { table(&rows) };
    let corrupt: String = status.corrupt.iter().map(corrupt).collect();
    let masters = super::masters::text(&status.masters);
    format!("{summary}\n\n{masters}\n\n{volumes}{corrupt}")
}

fn corrupt(value: &CorruptValue) -> String {
    let name = value.key.as_ref().map_or_else(|| format!("blob {}", value.blob), ToString::to_string);
    format!("\ncorrupt  {name}: volume {} found no intact replica", value.volume)
}

fn row(v: &VolumeSummary) -> Vec<String> {
    vec![
        v.volume.to_string(),
        v.state.name().into(),
        v.zone.as_ref().map_or_else(|| "-".into(), ToString::to_string),
        v.public_url.clone(),
        ByteSize(v.available_bytes).to_string(),
        ByteSize(v.capacity_bytes).to_string(),
        v.blobs.to_string(),
        v.reason.clone().unwrap_or_default(),
    ]
}
