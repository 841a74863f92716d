//! Where a value is, and why it is there: what the tables name, what the volumes say of it, what the ring proposes, and what is to be
//! done next.

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use shared::http::body::{self, Body};
use shared::ids::{BlobId, VolumeId};
use shared::key::Key;
use shared::limits::EXPLAIN_VOLUMES;
use shared::wire::cluster::{ExplainRequest, ExplainedBlob, ExplainedCopy, ExplainedVolume, Explanation};
use shared::wire::error::ErrorReply;
use shared::wire::master::VolumeState;
use shared::wire::replicas::{LookRequest, LookResponse};
use shared::wire::routes::LOOK;
use shared::work::blocking;

use crate::cluster::topology::{Condition, Topology};
use crate::master::Master;
use crate::plan::repair::{Held, Stuck, Verdict};
use crate::plan::survey::{held, judge_now};
use crate::read;
use crate::tables::unsettled::Spot;
use crate::tables::{TableError, upload};

/// Parts that are explained; the others are counted.
const PARTS_SHOWN: usize = 8;

pub(super) async fn explain(
    master: &Arc<Master>,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    // Others do not know which volumes were compared, and so not what is to be done.
    let ExplainRequest { key } = super::care::of_leader(master, request).await?;
    let object = read::find(master, &key).await?;
    let spots = spots(master, &key, &object).await?;
    let topology = master.cluster.topology();
    let (mut blobs, mut next) = (Vec::new(), Vec::new());
    for (blob, spot) in spots {
        let tree = master.database.tree();
        let Some(mut held) = held(&tree, blob, &spot)? else { continue };
        next.push(say(&judge_now(&tree, &key, &mut held, &topology)?));
        let mut copies = Vec::new();
        for volume in &held.replicas {
            copies.push(copy(master, *volume, &held, &topology).await);
        }
        let part = spot.part.map(|(_, number)| number);
        blobs.push(ExplainedBlob { blob, part, length: held.length, copies });
    }
    let replicas = object.blobs.first().map(|b| b.replicas.clone()).unwrap_or_default();
    let nothing = say(&Verdict::Settled);
    let explanation = Explanation {
        generation: object.generation,
        size: object.size,
        blake3: object.digest,
        wanted: usize::from(object.wanted),
        mode: master.mode(&key)?.to_string(),
        parts: object.parts.as_ref().map_or(0, |p| u32::from(p.count)),
        blobs,
        ring: ring(master, &key, &replicas, &topology),
        next: next.into_iter().find(|next| *next != nothing).unwrap_or(nothing),
        key,
    };
    Ok(body::json(StatusCode::OK, &explanation))
}

async fn spots(
    master: &Arc<Master>,
    key: &Key,
    object: &crate::tables::object::Object,
) -> Result<Vec<(BlobId, Spot)>, TableError> {
    let mut spots: Vec<_> = object.blobs.iter().map(|b| (b.id, Spot::object(key))).collect();
    if let Some(parts) = &object.parts {
        let (database, key, upload) = (Arc::clone(&master.database), key.clone(), parts.upload);
        let found = blocking(move || {
            let parts = upload::parts(&database.tree(), upload, 0).take(PARTS_SHOWN);
            let spot = |r: upload::PartRecord| (r.part.blob, Spot::part(&key, upload, r.part.number));
            parts.map(|r| r.map(spot)).collect::<Result<Vec<_>, _>>()
        });
        spots.extend(found.await?);
    }
    Ok(spots)
}

async fn copy(master: &Master, volume: VolumeId, held: &Held, topology: &Topology) -> ExplainedCopy {
    let state = master.cluster.state_of(volume).unwrap_or(VolumeState::Down);
    let address = master.cluster.address_of(volume).unwrap_or_default();
    let mut copy = ExplainedCopy { volume, address, state, place: None, trouble: None };
    if master.cluster.alive(&[volume]).is_empty() {
        copy.trouble = Some("its volume does not answer".into());
        return copy;
    }
    let question = LookRequest { cluster: master.cluster.id(), volume, blobs: vec![held.blob] };
    let answer: Result<LookResponse, _> = master.peers.call(&copy.address, LOOK, &question).await;
    match answer.map(|answer| answer.places.first().copied().flatten()) {
        Ok(Some(place)) => {
            let trouble = if topology.counts_for(volume, held.blob) {
                "it is damaged and being healed"
            } else {
                "it is damaged, and its volume cannot heal it"
            };
            copy.trouble = place.bad.then(|| trouble.into());
            copy.place = Some(place);
        }
        Ok(None) => copy.trouble = Some("its volume does not have it".into()),
        Err(error) => copy.trouble = Some(error.to_string()),
    }
    copy
}

fn ring(master: &Master, key: &Key, replicas: &[VolumeId], topology: &Topology) -> Vec<ExplainedVolume> {
    let named = |volume: VolumeId| ExplainedVolume {
        volume,
        address: master.cluster.address_of(volume).unwrap_or_default(),
        zone: topology.zone(volume).cloned(),
        why: why(volume, replicas, topology),
    };
    topology.ring().walk(key).take(EXPLAIN_VOLUMES).map(named).collect()
}

fn why(volume: VolumeId, replicas: &[VolumeId], topology: &Topology) -> String {
    if replicas.contains(&volume) {
        return "holds it".into();
    }
    let elsewhere = |zone| replicas.iter().any(|v| topology.zone(*v) == zone);
    match topology.condition(volume) {
        Condition::Lost => "passed over: it has been silent for long".into(),
        Condition::Away => "passed over: it is silent".into(),
        Condition::Leaving { .. } => "passed over: it is to be emptied".into(),
        Condition::Serving => "passed over: it takes no values now".into(),
        Condition::Up if topology.zones() > 1 && elsewhere(topology.zone(volume)) => {
            "free; its zone has a copy already".into()
        }
        Condition::Up => "free; others come before it, or did when the value was written".into(),
    }
}

/// What is to be done, in words.
fn say(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Settled => "nothing: it has its copies".into(),
        Verdict::Copy { to, live } => {
            format!("a copy is owed ({live} count now): volume {to} is to take one in")
        }
        Verdict::Drop { from, .. } => format!("a copy too many: the one on volume {from} is to go"),
        Verdict::Forgo { to } => format!("a copy that was on its way to volume {to} is not needed"),
        Verdict::Stuck(Stuck::NoSource) => "a copy is owed, and no volume that is up has one to give".into(),
        Verdict::Stuck(Stuck::NoDestination) => {
            "a copy is owed, and no other volume that is up has room for it".into()
        }
        Verdict::Stuck(Stuck::Deleting) => {
            "a copy is owed; volumes that could take it are deleting what they had of it: minutes".into()
        }
    }
}
