//! `barge cluster repair`, `drain`, `retire`, `rebalance`, `orphans`, `replication`, `events`: how a cluster looks after its copies.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::size::ByteSize;
use shared::wire::cluster::{
    DutyStatus, DutyWish, Event, Modes, OrphansReport, OrphansRequest, RebalanceStatus, RepairStatus,
    SetDuty, SetMode, SteerRebalance,
};
use shared::wire::master::VolumeState;
use shared::wire::routes::{DUTY, EVENTS, MODES, MODES_SET, ORPHANS, REBALANCE};

use super::look::look;
use super::masters::leader;
use super::status;
use crate::args::{DutyArgs, LookArgs, OrphansArgs, RebalanceArgs, ReplicationArgs, Steer, WatchArgs};
use crate::client::{Client, patiently};
use crate::exit::{Exit, Failure};
use crate::output::{Output, table};
use crate::signed::Caller;

/// Between two looks at how far something is.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// What is owed is said to be nothing when it was so at two looks, one after the other.
const LOOKS: u32 = 2;

/// A call to the leader, until one answers; only for what may be done twice.
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
            return Err(Failure::new(Exit::Unavailable, "the leader cannot be reached").next("see its log"));
        };
        output.result(&repair, || repair_line(&repair))?;
        quiet = if repair.owed_blobs == 0 && now.degraded == 0 { quiet + 1 } else { 0 };
        if !args.watch || quiet >= LOOKS {
            return Ok(Exit::Ok);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// What is owed, in one line.
pub(super) fn repair_line(repair: &RepairStatus) -> String {
    let mut parts = Vec::new();
    if repair.owed_blobs == 0 {
        parts.push("nothing is owed".to_owned());
    } else {
        parts.push(format!("{} blobs ({}) owed", repair.owed_blobs, ByteSize(repair.owed_bytes)));
        let by = repair.owed_by_copies.iter().enumerate().filter(|(_, n)| **n > 0);
        parts.extend(by.map(|(copies, n)| format!("{n} with {copies} copies")));
    }
    if repair.bytes_per_second > 0 {
        parts.push(format!("{}/s", ByteSize(repair.bytes_per_second)));
    }
    if let Some(secs) = repair.eta_secs {
        parts.push(format!("{} left", humantime::format_duration(Duration::from_secs(secs))));
    }
    if repair.without_source > 0 {
        parts.push(format!("{} have no copy on a volume that is up", repair.without_source));
    }
    if repair.without_destination > 0 {
        parts.push(format!("{} find no volume with room", repair.without_destination));
    }
    if repair.deleting > 0 {
        parts.push(format!("{} wait for volumes that have just deleted them", repair.deleting));
    }
    if repair.copied_blobs + repair.dropped_blobs > 0 {
        let (made, bytes) = (repair.copied_blobs, ByteSize(repair.copied_bytes));
        parts.push(format!("{made} copies ({bytes}) made, {} taken away", repair.dropped_blobs));
    }
    parts.extend(repair.trouble.iter().map(|what| format!("trouble: {what}")));
    parts.join(", ")
}

pub(crate) async fn duty(
    client: &Client,
    args: DutyArgs,
    wish: DutyWish,
    output: Output,
) -> Result<Exit, Failure> {
    let caller = Caller::new(&args.secret, client.trust())?;
    let duty = if args.cancel { DutyWish::Serve } else { wish };
    let message = SetDuty { volume: args.volume, duty };
    loop {
        let now: DutyStatus = ask_leader(client, &caller, DUTY, &message).await?;
        output.result(&now, || {
            let DutyStatus { volume, state, blobs, reclaiming } = &now;
            format!("{volume}  {}  {blobs} blobs to move, {reclaiming} to delete", state.name())
        })?;
        let done = match duty {
            DutyWish::Serve => true,
            DutyWish::Drain => now.blobs == 0 && now.reclaiming == 0,
            DutyWish::Retire => now.state == VolumeState::Retired,
        };
        if done || !args.watch {
            return Ok(Exit::Ok);
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

pub(crate) async fn rebalance(client: &Client, args: RebalanceArgs, output: Output) -> Result<Exit, Failure> {
    let caller = Caller::new(&args.secret, client.trust())?;
    let mut steer = match args.steer {
        Steer::Plan => SteerRebalance::Plan,
        Steer::Start => SteerRebalance::Start,
        Steer::Pause => SteerRebalance::Pause,
        Steer::Cancel => SteerRebalance::Cancel,
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
        steer = SteerRebalance::Plan;
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// How far it is, in one line.
pub(super) fn rebalance_line(now: &RebalanceStatus) -> String {
    let state = match (now.running, now.paused) {
        (true, _) => "under way",
        (_, true) => "paused",
        _ => "not begun",
    };
    let left = format!("{} to be moved", ByteSize(now.bytes));
    let at_rate =
        |secs| format!(", {} at the rate that is set", humantime::format_duration(Duration::from_secs(secs)));
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
    Ok(if found.silent.is_empty() { Exit::Ok } else { Exit::Unavailable })
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
        "{} records ({bytes}) that nothing refers to, {young} of them too young to be collected; {} copies missing; {} exchanged",
        found.orphans,
        found.missing,
        ByteSize(found.exchanged_bytes)
    ));
    if !dry_run && found.orphans > young {
        lines.push("what is old enough goes as soon as it was seen so twice".into());
    }
    lines.extend(found.silent.iter().map(|volume| format!("volume {volume} could not be asked")));
    lines.join("\n")
}

pub(crate) async fn replication(
    client: &Client,
    args: ReplicationArgs,
    output: Output,
) -> Result<Exit, Failure> {
    let caller = Caller::new(&args.secret, client.trust())?;
    let modes: Modes = match (args.bucket, args.mode) {
        (Some(bucket), Some(mode)) => {
            let mode = Some(mode).filter(|mode| mode != "default");
            caller.change(client, MODES_SET, &SetMode { bucket, mode }).await?
        }
        (bucket, _) => {
            let mut modes: Modes = caller.ask(client, MODES, &()).await?;
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

pub(crate) async fn events(client: &Client, args: &LookArgs, output: Output) -> Result<Exit, Failure> {
    let events: Vec<Event> = look(client, &args.secret, EVENTS).await?;
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
