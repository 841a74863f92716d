//! The commit of a redirected upload: the first volume of the chain sends the ticket and all receipts.

use super::Writer;
use crate::change::unexpected;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::sequencer::ProposeError;
use crate::state::command::{Command, Commit, Outcome};
use crate::state::expiry::NewExpiry;
use crate::write::receipts::verify_receipts;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use shared::condition::WriteCondition;
use shared::expiry::Expires;
use shared::http::body::{self, Body};
use shared::http::signed_calls::read_signed;
use shared::ticket::Ticket;
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::master::{CommitRequest, CommitResponse};

/// How long a committed value is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeToLive {
    Until(Expires),
    /// Until the value that it replaces would have expired.
    Keep,
}

impl Writer {
    /// Commits a value that may expire.
    ///
    /// # Errors
    /// When there is no leader, or the outcome is unknown.
    pub async fn commit_value(
        &self,
        commit: Commit,
        time_to_live: Option<TimeToLive>,
    ) -> Result<Outcome, ProposeError> {
        let expires = match time_to_live {
            None => return self.changes.submit(Command::Commit(commit)).await,
            Some(TimeToLive::Keep) => {
                let command = Command::CommitExpiring { commit: Box::new(commit), expiry: NewExpiry::Keep };
                return self.changes.submit(command).await;
            }
            Some(TimeToLive::Until(expires)) => expires,
        };
        let now = match self.metadata.now().await {
            Ok(now) => now,
            Err(error) => {
                self.refuse(commit).await;
                return Err(error.into());
            }
        };
        let at = expires.resolve(now);
        let command = Command::CommitExpiring { commit: Box::new(commit), expiry: NewExpiry::At(at) };
        let outcome = self.changes.submit(command).await?;
        if at <= now {
            // It must not be seen until the leader notices.
            self.changes.propose(Command::AdvanceTime { to: now }).await?;
        }
        Ok(outcome)
    }

    /// Has a durable blob refused, so that it does not become an orphan.
    pub async fn refuse(&self, mut commit: Commit) {
        commit.condition = WriteCondition::Matches(Vec::new());
        if let Err(error) = self.changes.submit(Command::Commit(commit)).await {
            tracing::debug!(%error, "a blob that is not wanted is left to the search for orphans");
        }
    }

    /// Handles a commit request: verifies the receipts, commits, and answers with the outcome.
    pub async fn commit(&self, request: Request<Incoming>) -> Result<Response<Body>, ErrorReply> {
        let message: CommitRequest = read_signed(request).await?;
        let (commit, expires) = check_commit(&self.config, &self.volumes.cluster, message)?;
        let key = commit.key.clone();
        let outcome = self.commit_value(commit, expires.map(TimeToLive::Until)).await;
        match outcome.map_err(|e| ErrorReply::from(e).for_key(&key))? {
            Outcome::Commit(outcome, replicas) => {
                Ok(body::json(StatusCode::OK, &CommitResponse { outcome, replicas }))
            }
            other => Err(unexpected(&other).for_key(&key)),
        }
    }
}

/// Builds the commit from what the ticket and the receipts prove; and when the value expires.
fn check_commit(
    config: &Config,
    cluster: &Cluster,
    message: CommitRequest,
) -> Result<(Commit, Option<Expires>), ErrorReply> {
    let CommitRequest { key, ticket, receipts, content_type, metadata } = message;
    let ticket = Ticket::verify_started(&ticket, &config.secret, &key).map_err(|e| {
        let why = format!("the ticket is not valid: {e}");
        ErrorReply::new(ErrorCode::BadTicket, why, "send the value again").for_key(&key)
    })?;
    let (proof, grant) = verify_receipts(cluster, config, &key, &ticket, &receipts)?;
    let commit = Commit {
        blob: ticket.blob,
        size: proof.length,
        digest: proof.digest,
        content_type,
        metadata,
        replicas: proof.replicas,
        wanted: grant.wanted,
        min_replicas: grant.min_replicas,
        condition: grant.condition.clone(),
        key,
    };
    Ok((commit, grant.expires))
}
