//! `barge cluster doctor`: all servers examine themselves and try to reach each other, at their public addresses too.
//! The caller interprets the results.

use std::time::Duration;

use futures_util::{StreamExt, stream};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use shared::descriptors;
use shared::http::body::{self, Body};
use shared::http::reachability::check_urls;
use shared::http::signed_calls::read_signed;
use shared::ids::{ClusterId, VolumeId};
use shared::limits::EXAMINE_URLS_MAX;
use shared::wire::cluster::{DoctorReport, DoctorRequest, Examined};
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::replicas::{Examination, ExamineRequest};
use shared::wire::routes::EXAMINE;

use crate::cluster::Cluster;
use crate::config::Config;
use crate::raft::group::Group;
use crate::volumes::Volumes;
use shared::http::client::PeerClient;

/// Servers examined at once: each tests its disk, and servers of one machine would disturb each other.
const AT_ONCE: usize = 4;
/// Time limit of one examination; it fetches its URLs concurrently, with a few seconds for each.
const PATIENCE: Duration = Duration::from_secs(60);

fn of_us(ours: &Cluster, asked: ClusterId) -> Result<(), ErrorReply> {
    if asked == ours.id() {
        return Ok(());
    }
    Err(ErrorReply::new(
        ErrorCode::WrongCluster,
        "this master belongs to another cluster",
        "ask a master of that cluster",
    ))
}

/// Examines this master.
pub(super) async fn examine(
    cluster: &Cluster,
    peers: &PeerClient,
    config: &Config,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let question: ExamineRequest = read_signed(request).await?;
    of_us(cluster, question.cluster)?;
    if question.urls.len() > EXAMINE_URLS_MAX {
        return Err(ErrorReply::new(ErrorCode::BadBody, "too many URLs in one call", "send fewer"));
    }
    let reached = check_urls(peers.http(), question.urls).await;
    let examination = Examination {
        now: config.clock.now(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        files_max: descriptors::limit(),
        disk: None,
        reached,
    };
    Ok(body::json(StatusCode::OK, &examination))
}

/// Has all servers examined.
pub(super) async fn doctor(
    group: &Group,
    volumes: &Volumes,
    config: &Config,
    request: Request<Incoming>,
) -> Result<Response<Body>, ErrorReply> {
    let DoctorRequest { cluster } = read_signed(request).await?;
    of_us(&volumes.cluster, cluster)?;
    let masters = group.masters().into_iter().map(|m| (m.address, m.public_url, None));
    let known = volumes.cluster.summaries().into_iter();
    let known = known.filter(|v| v.state != shared::wire::master::VolumeState::Decommissioned);
    let known = known.map(|v| (v.address, v.public_url, Some(v.volume)));
    let servers: Vec<_> = masters.chain(known).collect();
    let mut urls: Vec<_> = servers.iter().flat_map(|(a, p, _)| [a.clone(), p.clone()]).collect();
    urls.sort();
    urls.dedup();
    urls.truncate(EXAMINE_URLS_MAX);
    let each =
        servers.into_iter().map(|server| ask(&volumes.cluster, config, &volumes.peers, server, urls.clone()));
    let servers = stream::iter(each).buffered(AT_ONCE).collect().await;
    Ok(body::json(StatusCode::OK, &DoctorReport { servers }))
}

async fn ask(
    cluster: &Cluster,
    config: &Config,
    peers: &PeerClient,
    (address, public_url, volume): (String, String, Option<VolumeId>),
    urls: Vec<String>,
) -> Examined {
    let question = ExamineRequest { cluster: cluster.id(), urls };
    let asked = config.clock.now();
    let answer = peers.call_within(&address, EXAMINE, &question, PATIENCE).await;
    let answered = config.clock.now();
    let (found, trouble) = match answer {
        Ok(found) => (Some(found), None),
        Err(error) => (None, Some(error.to_string())),
    };
    Examined { address, public_url, volume, asked, answered, found, trouble }
}
