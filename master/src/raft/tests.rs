//! A member of the group must not accept a message for another master, keep its lease over a vote, or answer a read
//! before it has applied what is committed.

use std::sync::Arc;
use std::time::Duration;

use openraft::Vote;
use openraft::raft::{AppendEntriesRequest, VoteRequest};
use shared::clock::Clock;
use shared::digest::Digest;
use shared::http::client::PeerClient;
use shared::ids::ClusterId;
use shared::limits::{MASTERS_MAX, RAFT_ENTRIES_KEPT};
use shared::secret::ClusterSecret;
use shared::wire::master::MembershipState;

use super::error::{AnswerError, NoLeader};
use super::group::Group;
use super::members::MemberError;
use super::recover_tables::TablesPart;
use super::rpc::Envelope;
use super::transfer::{Install, Offer, Part};
use super::{Batch, Peer};
use crate::db::Database;
use crate::state::command::Command;
use crate::tables::meta::Applied;

/// How long a test waits to see that nothing happens.
const WHILE: Duration = Duration::from_millis(200);

/// A master that belongs to no cluster yet.
async fn nobody() -> (tempfile::TempDir, Group) {
    let folder = tempfile::tempdir().unwrap();
    let database = Arc::new(Database::open(&folder.path().join("meta")).unwrap());
    let me = Peer { address: "http://127.0.0.1:1".into(), public_url: "http://127.0.0.1:1".into() };
    let peers = PeerClient::new(ClusterSecret::from_bytes(b"0123456789abcdef"), Clock::System);
    let group = Group::start(database, me, peers, RAFT_ENTRIES_KEPT, Box::new(|_, _| {})).await.unwrap();
    (folder, group)
}

async fn alone() -> (tempfile::TempDir, Group) {
    let (folder, group) = nobody().await;
    group.initialize().await.unwrap();
    group.write(Batch(vec![Command::CreateCluster(ClusterId::random())])).await.unwrap();
    group.ensure_linearizable().await.unwrap();
    (folder, group)
}

#[tokio::test]
async fn what_is_meant_for_another_master_is_refused() {
    let (_folder, group) = alone().await;
    let other = group.id() + 1;
    let vote = Vote::new_committed(99, other);
    let before = group.metrics().vote;
    let misdirected = |error: AnswerError| matches!(error, AnswerError::Misdirected(to) if to.0 == other);
    let append = AppendEntriesRequest { vote, prev_log_id: None, entries: vec![], leader_commit: None };
    assert!(misdirected(group.append(Envelope { to: other, message: append }).await.unwrap_err()));
    let asked = VoteRequest::new(Vote::new(99, other), None);
    assert!(misdirected(group.vote(Envelope { to: other, message: asked }).await.unwrap_err()));
    let offer = Offer { bytes: 1, digest: Digest::of(b"x") };
    assert!(misdirected(group.offered(Envelope { to: other, message: offer.clone() }).await.unwrap_err()));
    let part = Part { digest: offer.digest, offset: 0, bytes: b"x".to_vec() };
    assert!(misdirected(group.part(Envelope { to: other, message: part }).await.unwrap_err()));
    let install = Install { vote, offer, applied: Applied::default() };
    assert!(misdirected(group.install(Envelope { to: other, message: install }).await.unwrap_err()));
    assert_eq!(group.metrics().vote, before, "it was ignored");
}

#[tokio::test]
async fn a_vote_ends_the_lease() {
    let (_folder, group) = alone().await;
    group.ensure_linearizable().await.unwrap();
    assert!(group.lease.holds());
    // Even by a vote request that cannot win: the answer might have been another one.
    let asked = VoteRequest::new(Vote::new(0, group.id() + 1), None);
    group.vote(Envelope { to: group.id(), message: asked }).await.unwrap();
    assert!(!group.lease.holds());
}

#[tokio::test]
async fn a_vote_between_question_and_answer_leaves_no_lease() {
    let (_folder, group) = alone().await;
    let vote = || {
        let asked = VoteRequest::new(Vote::new(0, group.id() + 1), None);
        group.vote(Envelope { to: group.id(), message: asked })
    };
    vote().await.unwrap();
    // Each is polled once before either is answered.
    let (voted, read) = futures_util::future::join(vote(), group.ensure_linearizable()).await;
    assert!(voted.is_ok() && read.is_ok());
    assert!(!group.lease.holds());
}

#[tokio::test]
async fn nothing_is_read_before_what_is_committed_is_applied() {
    let (_folder, group) = alone().await;
    group.ensure_linearizable().await.unwrap();
    assert!(group.lease.holds());
    let applied = group.machine().pretend_applied(Applied::default());
    assert!(tokio::time::timeout(WHILE, group.ensure_linearizable()).await.is_err());
    group.machine().pretend_applied(applied);
    group.ensure_linearizable().await.unwrap();
}

#[tokio::test]
async fn who_leads_nobody_says_of_nothing_that_it_is_committed() {
    let (_folder, group) = nobody().await;
    assert_eq!(group.read_index().await, Err(NoLeader));
    let (_folder, group) = alone().await;
    assert!(group.read_index().await.unwrap() > 0);
}

#[tokio::test]
async fn tables_go_to_masters_of_the_same_cluster_only() {
    let (_folder, group) = alone().await;
    let refused = group.tables_offer(ClusterId::random()).await.unwrap_err();
    assert!(matches!(refused, AnswerError::OtherCluster), "{refused}");
    assert!(group.machine().prepared.lock().await.is_none(), "no snapshot is written for a stranger");
    let ours = group.machine().database().identity().unwrap().unwrap().cluster;
    let offer = group.tables_offer(ours).await.unwrap();
    let part = |digest| TablesPart { digest, offset: 0 };
    let other = group.tables_part(&part(Digest::of(b"another snapshot"))).await.unwrap_err();
    assert!(matches!(other, AnswerError::NotWhole), "{other}");
    let bytes = group.tables_part(&part(offer.digest)).await.unwrap();
    assert_eq!((bytes.len() as u64, Digest::of(&bytes)), (offer.bytes, offer.digest));
    let (_folder, group) = nobody().await;
    assert!(group.tables_offer(ours).await.is_err(), "it belongs to no cluster");
}

#[tokio::test]
async fn there_are_no_more_masters_than_may_be() {
    let (_folder, group) = alone().await;
    let add = async |id: u64, port: usize| {
        let address = format!("http://127.0.0.1:{port}");
        let peer = Peer { public_url: address.clone(), address };
        group.add(group.id().wrapping_add(id), peer).await
    };
    for n in 2..=MASTERS_MAX {
        assert_eq!(add(n as u64, n).await.unwrap(), MembershipState::Learner { behind: None });
    }
    let refused = add(100, 100).await.unwrap_err();
    assert!(matches!(refused, MemberError::TooMany), "{refused}");
    // A master that rejoins with a new id replaces its old one.
    assert_eq!(add(100, 2).await.unwrap(), MembershipState::Learner { behind: None });
    assert_eq!(group.masters().len(), MASTERS_MAX);
}
