//! How an operator steers the care of copies: what volumes are to do, the moving of values, orphans, when uploads are acknowledged.
//! All of it is signed, but that the events may be read with an access key; what only the leader knows is refused by the others.

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use shared::http::body::{self, Body};
use shared::http::client::base_url;
use shared::http::signed::read_signed;
use shared::ids::VolumeId;
use shared::wire::access::Change;
use shared::wire::cluster::{
    DutyStatus, DutyWish, Modes, OrphansReport, OrphansRequest, RebalanceStatus, RebalanceVolume, SetDuty,
    SetMode, SteerRebalance,
};
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::master::VolumeState;
use shared::work::blocking;

use crate::master::Master;
use crate::plan::drain::is_last;
use crate::plan::rebalance::Balance;
use crate::plan::survey::{Finder, held};
use crate::state::command::Command;
use crate::tables::meta::{self, Rebalance};
use crate::tables::standing::{Duty, Standing};
use crate::tables::{TableError, bucket, mode, reclaim, replica, standing};
use crate::work::leave::leave;
use crate::work::strays::look;
use crate::work::upkeep::{duties, observe};

/// As `read_signed`, when this master leads.
pub(super) async fn of_leader<T: DeserializeOwned>(
    master: &Master,
    request: Request<Incoming>,
) -> Result<T, ErrorReply> {
    let message = read_signed(request).await?;
    if !master.group.leads() {
        return Err(ErrorReply::new(
            ErrorCode::NotLeader,
            "this master does not lead",
            "ask the leader: `barge cluster status` shows which master that is",
        ));
    }
    master.group.current().await?;
    Ok(message)
}

pub(super) fn events(master: &Master) -> Response<Body> {
    observe(master);
    body::json(StatusCode::OK, &master.cluster.events())
}

fn find(master: &Master, name: &str) -> Result<VolumeId, ErrorReply> {
    let address = base_url(name);
    let named = |v: &shared::wire::master::VolumeSummary| {
        v.volume.to_string() == name || v.address == address || v.public_url == address
    };
    let mut found = master.cluster.summaries().into_iter().filter(named);
    match (found.next(), found.next()) {
        (Some(volume), None) => Ok(volume.volume),
        (None, _) => Err(ErrorReply::new(
            ErrorCode::NotFound,
            format!("there is no volume {name}"),
            "name it by its id or address, as `barge cluster status` shows them",
        )),
        _ => Err(ErrorReply::new(ErrorCode::BadRequest, "several volumes are there", "name it by its id")),
    }
}

/// Sets what a volume is to do, and says how far it has come.
pub(super) async fn duty(
    master: &Arc<Master>,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let SetDuty { volume, duty } = of_leader(master, request).await?;
    let volume = find(master, &volume)?;
    let tables = master.database.tree();
    let before = standing::read(&tables, volume)?.map_or(Duty::Serve, |s| s.duty);
    let wish = match duty {
        DutyWish::Serve => Duty::Serve,
        // One that is to leave is emptied anyway.
        DutyWish::Drain if before == Duty::Leave => Duty::Leave,
        DutyWish::Drain => Duty::Drain,
        DutyWish::Retire => Duty::Leave,
    };
    if before == Duty::Gone && wish == Duty::Serve {
        return Err(ErrorReply::new(
            ErrorCode::NotFound,
            "the volume was retired: it has left for good",
            "give its disk an empty directory: it joins as a new volume",
        ));
    }
    if wish == Duty::Leave && before != Duty::Leave && before != Duty::Gone {
        refuse_last_copies(master, volume).await?;
    }
    if before != wish && before != Duty::Gone {
        let standing = Standing { duty: wish, since: master.config.clock.now() };
        master.sequencer.propose(Command::SetDuty { volume, standing }).await?;
    }
    master.cluster.set_duties(&duties(&tables)?);
    observe(master);
    master.care.repair.notify_one();
    let database = Arc::clone(&master.database);
    let (blobs, reclaiming) = blocking(move || {
        let tree = database.tree();
        Ok::<_, TableError>((replica::count(&tree, volume)?, reclaim::count(&tree, volume)?))
    })
    .await?;
    if wish == Duty::Leave && blobs == 0 {
        leave(master, volume).await?;
        master.cluster.set_duties(&duties(&tables)?);
        observe(master);
    }
    let state = master.cluster.state_of(volume).unwrap_or(VolumeState::Down);
    Ok(body::json(StatusCode::OK, &DutyStatus { volume, state, blobs, reclaiming }))
}

async fn refuse_last_copies(master: &Arc<Master>, volume: VolumeId) -> Result<(), ErrorReply> {
    let (database, topology) = (Arc::clone(&master.database), master.cluster.topology());
    let serves = topology.gives(volume);
    let last = blocking(move || {
        let (tree, mut finder) = (database.tree(), Finder::default());
        let (mut count, mut first) = (0u64, None);
        for item in replica::after(&tree, volume, None) {
            let (blob, key) = item?;
            if let Some(spot) = finder.spot(&tree, &key, blob)?
                && let Some(held) = held(&tree, blob, &spot)?
                && is_last(volume, &held, &topology)
            {
                count += 1;
                first.get_or_insert(key);
            }
        }
        Ok::<_, TableError>((count, first))
    })
    .await?;
    match last {
        (0, _) => Ok(()),
        // It can give them away before it leaves, unless that was not even begun.
        (count, first) => {
            let hint = if serves {
                "drain it first: its values are copied to other volumes"
            } else {
                "bring it back, or another volume with copies of them"
            };
            let refusal = ErrorReply::new(
                ErrorCode::PreconditionFailed,
                format!("the volume holds the last copy of {count} blobs"),
                hint,
            );
            Err(first.map_or(refusal.clone(), |key| refusal.for_key(&key)))
        }
    }
}

/// The moving of values, where it was begun.
pub(super) fn rebalance_status(master: &Master) -> Result<Option<RebalanceStatus>, TableError> {
    // What there is to be moved only the leader knows.
    let state = meta::rebalance(&master.database.tree())?.filter(|_| master.group.leads());
    Ok(state.map(|state| plan(master, Some(state))))
}

fn plan(master: &Master, state: Option<Rebalance>) -> RebalanceStatus {
    let topology = master.cluster.topology();
    let balance = Balance::of(&topology, master.config.replication.wanted());
    let volumes = topology.seats().map(|(volume, seat)| RebalanceVolume {
        volume,
        zone: seat.zone.clone(),
        fullness: seat.fullness(),
        over_bytes: balance.over.get(&volume).copied().unwrap_or(0),
        under_bytes: balance.under.get(&volume).copied().unwrap_or(0),
    });
    // Each volume takes in at the rate that is set; the one that lacks most is the last.
    let most = balance.under.values().max().copied().unwrap_or(0).min(balance.bytes());
    let rate = master.config.repair_rate;
    RebalanceStatus {
        running: state.is_some_and(|s| !s.paused),
        paused: state.is_some_and(|s| s.paused),
        bytes: balance.bytes(),
        planned_bytes: state.map_or(0, |s| s.planned_bytes),
        secs: (rate > 0).then(|| most.div_ceil(rate)),
        volumes: volumes.collect(),
    }
}

pub(super) async fn rebalance(
    master: &Master,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let steer: SteerRebalance = of_leader(master, request).await?;
    let before = meta::rebalance(&master.database.tree())?;
    let planned_bytes = plan(master, before).bytes;
    let begun = || Rebalance { since: master.config.clock.now(), paused: false, planned_bytes };
    let after = match steer {
        SteerRebalance::Plan => before,
        SteerRebalance::Start => Some(Rebalance { paused: false, ..before.unwrap_or_else(begun) }),
        SteerRebalance::Pause => before.map(|state| Rebalance { paused: true, ..state }),
        SteerRebalance::Cancel => None,
    };
    if after != before {
        master.sequencer.propose(Command::SetRebalance(after)).await?;
        master.care.rebalance.notify_one();
    }
    Ok(body::json(StatusCode::OK, &plan(master, after)))
}

/// Compares all inventories with the tables now.
pub(super) async fn orphans(
    master: &Arc<Master>,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let OrphansRequest { dry_run } = of_leader(master, request).await?;
    let mut report = OrphansReport::default();
    for volume in master.cluster.all_alive() {
        if let Err(error) = look(master, &volume, None, &mut report).await {
            tracing::warn!(volume = volume.address, %error, "a volume could not be compared");
            report.silent.push(volume.volume);
        }
    }
    if !dry_run {
        master.care.look_now();
    }
    Ok(body::json(StatusCode::OK, &report))
}

pub(super) async fn modes(master: &Master, request: Request<Incoming>) -> Result<Response<Body>, ErrorReply> {
    let () = read_signed(request).await?;
    master.group.current().await?;
    shown_modes(master)
}

fn shown_modes(master: &Master) -> Result<Response<Body>, ErrorReply> {
    let all = mode::all(&master.database.tree())?;
    let buckets = all.into_iter().map(|(name, mode)| (name, mode.to_string())).collect();
    Ok(body::json(StatusCode::OK, &Modes { everywhere: master.config.mode.to_string(), buckets }))
}

pub(super) async fn set_mode(
    master: &Master,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let Change { sequence, change: SetMode { bucket, mode } } = read_signed(request).await?;
    let refuse = |why: String, hint| ErrorReply::new(ErrorCode::BadRequest, why, hint);
    let mode = mode.map(|m| m.parse().map_err(|e| refuse(format!("{m}: {e}"), "sync waits for all copies")));
    let mode = mode.transpose()?;
    let key = shared::key::Key::new(&format!("{bucket}/k"))?;
    if bucket::of(&key) != Some(bucket.as_str()) {
        return Err(refuse(
            format!("{bucket} is no bucket"),
            "a bucket is what stands before the first slash of a key",
        ));
    }
    master.change_in_sequence(sequence, Command::SetMode { bucket, mode }).await?;
    master.group.current().await?;
    shown_modes(master)
}
