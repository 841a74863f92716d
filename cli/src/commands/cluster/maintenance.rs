//! `barge cluster repair`, `drain`, `decommission`, `rebalance`, `orphans`, `replication`, `events`:
//! maintenance of replicas.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::size::ByteSize;
use shared::wire::cluster::{
    DrainStatus, Event, OrphansReport, OrphansRequest, RebalanceAction, RebalanceStatus, RepairStatus,
    ReplicationModes, SetAdminState, SetReplicationMode, WantedAdminState,
};
use shared::wire::master::VolumeState;
use shared::wire::routes::{ADMIN_STATE, EVENTS, MODES, MODES_SET, ORPHANS, REBALANCE};

use super::masters::leader;
use super::query::query;
use super::status;
use crate::args::{
    DrainArgs, OrphansArgs, QueryArgs, RebalanceArgs, RebalanceVerb, ReplicationArgs, WatchArgs,
};
use crate::client::{Client, patiently};
use crate::exit::{Exit, Failure};
use crate::output::{Output, table};
use crate::signed::Caller;

/// The interval at which --watch polls.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// The repair queue counts as empty only after this many polls in a row found it so.
const LOOKS: u32 = 2;

/// Calls the leader, and retries until it answers; only for idempotent calls.
pub(crate) async fn ask_leader<Q: Serialize + Sync, A: DeserializeOwned>(
    client: &Client,
    caller: &Caller,
    path: &str,
    message: &Q,
) -> Result<A, Failure> {
    patiently(async || caller.call(&leader(client, caller).await?, path, message).await).await
}

pub(crate) async fn repair(client: &Client, args: &WatchArgs, output: Output) -> Result<Exit, Failure> {
    let mut quiet = 0;
    loop {
        let now = status::fetch(client, &args.secret).await?;
        let Some(repair) = now.repair else {
            return Err(
                Failure::new(Exit::Unavailable, "the leader cannot be reached").next("see the masters' logs")
            );
        };
        output.result(&repair, || repair_line(&repair))?;
        quiet = if repair.queued_blobs == 0 && now.under_replicated == 0 { quiet + 1 } else { 0 };
        if !args.watch || quiet >= LOOKS {
            return Ok(Exit::Ok);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The repair queue, in one line.
pub(super) fn repair_line(repair: &RepairStatus) -> String {
    let mut parts = Vec::new();
    if repair.queued_blobs == 0 {
        parts.push("the repair queue is empty".to_owned());
    } else {
        parts.push(format!(
            "{} blobs ({}) in the repair queue",
            repair.queued_blobs,
            ByteSize(repair.queued_bytes)
        ));
        let by = repair.queued_by_replicas.iter().enumerate().filter(|(_, n)| **n > 0);
        parts.extend(by.map(|(copies, n)| format!("{n} with {copies} replicas")));
    }
    if repair.bytes_per_second > 0 {
        parts.push(format!("{}/s", ByteSize(repair.bytes_per_second)));
    }
    if let Some(secs) = repair.eta_secs {
        parts.push(format!("{} left", humantime::format_duration(Duration::from_secs(secs))));
    }
    if repair.without_source > 0 {
        parts.push(format!("{} have no replica on a volume that is up", repair.without_source));
    }
    if repair.without_destination > 0 {
        parts.push(format!("{} have no volume with room", repair.without_destination));
    }
    if repair.deleting > 0 {
        parts.push(format!("{} wait for volumes that have just deleted them", repair.deleting));
    }
    if repair.replicas_added + repair.replicas_removed > 0 {
        let (made, bytes) = (repair.replicas_added, ByteSize(repair.replicated_bytes));
        parts.push(format!("{made} replicas ({bytes}) added, {} removed", repair.replicas_removed));
    }
    parts.extend(repair.trouble.iter().map(|what| format!("trouble: {what}")));
    parts.join(", ")
}

pub(crate) async fn drain(
    client: &Client,
    args: DrainArgs,
    wish: WantedAdminState,
    output: Output,
) -> Result<Exit, Failure> {
    let caller = Caller::new(&args.secret, client.trust())?;
    let duty = if args.cancel { WantedAdminState::Serve } else { wish };
    let message = SetAdminState { volume: args.volume, admin_state: duty };
    loop {
        let now: DrainStatus = ask_leader(client, &caller, ADMIN_STATE, &message).await?;
        output.result(&now, || {
            let DrainStatus { volume, state, blobs, reclaiming } = &now;
            format!("{volume}  {}  {blobs} blobs to move, {reclaiming} to delete", state.name())
        })?;
        let done = match duty {
            WantedAdminState::Serve => true,
            WantedAdminState::Drain => now.blobs == 0 && now.reclaiming == 0,
            WantedAdminState::Decommission => now.state == VolumeState::Decommissioned,
        };
        if done || !args.watch {
            return Ok(Exit::Ok);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

pub(crate) async fn rebalance(client: &Client, args: RebalanceArgs, output: Output) -> Result<Exit, Failure> {
    let caller = Caller::new(&args.secret, client.trust())?;
    let mut steer = match args.action {
        RebalanceVerb::Plan => RebalanceAction::Plan,
        RebalanceVerb::Start => RebalanceAction::Start,
        RebalanceVerb::Pause => RebalanceAction::Pause,
        RebalanceVerb::Cancel => RebalanceAction::Cancel,
    };
    loop {
        let now: RebalanceStatus = ask_leader(client, &caller, REBALANCE, &steer).await?;
        if args.watch {
            output.result(&now, || rebalance_line(&now))?;
        } else {
            output.result(&now, || rebalance_text(&now))?;
        }
        if !args.watch || !now.running {
            return Ok(Exit::Ok);
        }
        steer = RebalanceAction::Plan;
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Progress of a rebalance, in one line.
pub(super) fn rebalance_line(now: &RebalanceStatus) -> String {
    let state = match (now.running, now.paused) {
        (true, _) => "running",
        (_, true) => "paused",
        _ => "not running",
    };
    let left = format!("{} to move", ByteSize(now.bytes));
    let at_rate =
        |secs| format!(", {} at the configured rate", humantime::format_duration(Duration::from_secs(secs)));
    format!("{state}, {left}{}", now.secs.map(at_rate).unwrap_or_default())
}

fn rebalance_text(now: &RebalanceStatus) -> String {
    let mut rows = vec![["volume", "zone", "full", "gives", "takes"].map(String::from).to_vec()];
    rows.extend(now.volumes.iter().map(|v| {
        vec![
            v.volume.to_string(),
            v.zone.as_ref().map_or_else(|| "-".into(), ToString::to_string),
            format!("{:.1} %", v.fullness * 100.0),
            ByteSize(v.over_bytes).to_string(),
            ByteSize(v.under_bytes).to_string(),
        ]
    }));
    format!("{}\n\n{}", rebalance_line(now), table(&rows))
}

pub(crate) async fn orphans(client: &Client, args: OrphansArgs, output: Output) -> Result<Exit, Failure> {
    let caller = Caller::new(&args.secret, client.trust())?;
    let found: OrphansReport =
        ask_leader(client, &caller, ORPHANS, &OrphansRequest { dry_run: args.dry_run }).await?;
    output.result(&found, || orphans_text(&found, args.dry_run))?;
    Ok(if found.unreachable.is_empty() { Exit::Ok } else { Exit::Unavailable })
}

fn orphans_text(found: &OrphansReport, dry_run: bool) -> String {
    let mut lines: Vec<String> = found
        .shown
        .iter()
        .map(|stray| match (stray.length, stray.age_ms) {
            (Some(length), age) => {
                let age = humantime::format_duration(Duration::from_secs(age.unwrap_or(0) / 1000));
                format!("orphan   {}  on {}  {}  {age} old", stray.blob, stray.volume, ByteSize(length))
            }
            (None, _) => format!("missing  {}  on {}", stray.blob, stray.volume),
        })
        .collect();
    let (bytes, young) = (ByteSize(found.orphan_bytes), found.young);
    lines.push(format!(
        "{} orphans ({bytes}), {young} of them too young to be collected; {} replicas missing; {} exchanged",
        found.orphans,
        found.missing,
        ByteSize(found.exchanged_bytes)
    ));
    if !dry_run && found.orphans > young {
        lines.push("orphans that are old enough are collected once they have been seen twice".into());
    }
    lines.extend(found.unreachable.iter().map(|volume| format!("volume {volume} could not be asked")));
    lines.join("\n")
}

pub(crate) async fn replication(
    client: &Client,
    args: ReplicationArgs,
    output: Output,
) -> Result<Exit, Failure> {
    let caller = Caller::new(&args.secret, client.trust())?;
    let modes: ReplicationModes = match (args.bucket, args.mode) {
        (Some(bucket), Some(mode)) => {
            let mode = Some(mode).filter(|mode| mode != "default");
            caller.change(client, MODES_SET, &SetReplicationMode { bucket, mode }).await?
        }
        (bucket, _) => {
            let mut modes: ReplicationModes = caller.ask(client, MODES, &()).await?;
            modes.buckets.retain(|(name, _)| bucket.as_ref().is_none_or(|bucket| bucket == name));
            modes
        }
    };
    output.result(&modes, || {
        let mut rows = vec![vec!["everywhere".to_owned(), modes.everywhere.clone()]];
        rows.extend(modes.buckets.iter().map(|(name, mode)| vec![format!("{name}/"), mode.clone()]));
        table(&rows)
    })?;
    Ok(Exit::Ok)
}

pub(crate) async fn events(client: &Client, args: &QueryArgs, output: Output) -> Result<Exit, Failure> {
    let events: Vec<Event> = query(client, &args.secret, EVENTS).await?;
    output.result(&events, || {
        let row = |e: &Event| {
            let at = std::time::UNIX_EPOCH + Duration::from_millis(e.at.unix_ms());
            let from = e.from.map_or("-", VolumeState::name);
            vec![
                humantime::format_rfc3339_seconds(at).to_string(),
                e.volume.to_string(),
                e.address.clone(),
                format!("{from} → {}", e.to.name()),
                e.reason.clone(),
            ]
        };
        table(&events.iter().map(row).collect::<Vec<_>>())
    })?;
    Ok(Exit::Ok)
}
