//! Has all servers of the cluster look at themselves and at their ways to each other, at each other's addresses for clients, too.
//! What it means is said by whoever asked.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use shared::descriptors;
use shared::http::body::{self, Body};
use shared::http::reach::reach;
use shared::http::signed::read_signed;
use shared::ids::{ClusterId, VolumeId};
use shared::limits::EXAMINE_URLS_MAX;
use shared::wire::cluster::{DoctorReport, DoctorRequest, Examined};
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::replicas::{Examination, ExamineRequest};
use shared::wire::routes::EXAMINE;

use crate::master::Master;

/// Servers that are examined at once: each tries its disk, and those of one machine would disturb each other.
const AT_ONCE: usize = 4;
/// An examination takes no longer: its addresses are fetched side by side, with a few seconds for each.
const PATIENCE: Duration = Duration::from_secs(60);

fn of_us(master: &Master, cluster: ClusterId) -> Result<(), ErrorReply> {
    if cluster == master.cluster.id() {
        return Ok(());
    }
    Err(ErrorReply::new(
        ErrorCode::WrongCluster,
        "this master belongs to another cluster",
        "ask a master of that cluster",
    ))
}

/// Looks at this master.
pub(super) async fn examine(
    master: &Master,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let question: ExamineRequest = read_signed(request).await?;
    of_us(master, question.cluster)?;
    if question.urls.len() > EXAMINE_URLS_MAX {
        return Err(ErrorReply::new(ErrorCode::BadBody, "too many addresses in one call", "send fewer"));
    }
    let reached = reach(master.peers.http(), question.urls).await;
    let examination = Examination {
        now: master.config.clock.now(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        files_max: descriptors::limit(),
        disk: None,
        reached,
    };
    Ok(body::json(StatusCode::OK, &examination))
}

/// Has all servers looked at.
pub(super) async fn doctor(
    master: &Arc<Master>,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let DoctorRequest { cluster } = read_signed(request).await?;
    of_us(master, cluster)?;
    let masters = master.group.masters().into_iter().map(|m| (m.address, m.public_url, None));
    let volumes = master.cluster.summaries().into_iter();
    let volumes = volumes.filter(|v| v.state != shared::wire::master::VolumeState::Retired);
    let volumes = volumes.map(|v| (v.address, v.public_url, Some(v.volume)));
    let servers: Vec<_> = masters.chain(volumes).collect();
    let mut urls: Vec<_> = servers.iter().flat_map(|(a, p, _)| [a.clone(), p.clone()]).collect();
    urls.sort();
    urls.dedup();
    urls.truncate(EXAMINE_URLS_MAX);
    let each = servers.into_iter().map(|server| ask(master, server, urls.clone()));
    let servers = stream::iter(each).buffered(AT_ONCE).collect().await;
    Ok(body::json(StatusCode::OK, &DoctorReport { servers }))
}

async fn ask(
    master: &Master,
    (address, public_url, volume): (String, String, Option<VolumeId>),
    urls: Vec<String>,
) -> Examined {
    let question = ExamineRequest { cluster: master.cluster.id(), urls };
    let asked = master.config.clock.now();
    let answer = master.peers.call_within(&address, EXAMINE, &question, PATIENCE).await;
    let answered = master.config.clock.now();
    let (found, trouble) = match answer {
        Ok(found) => (Some(found), None),
        Err(error) => (None, Some(error.to_string())),
    };
    Examined { address, public_url, volume, asked, answered, found, trouble }
}
