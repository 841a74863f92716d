//! The commit of a redirected upload: the first volume of the chain sends the ticket and all receipts.

use super::Writer;
use crate::change::unexpected;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::state::command::{Command, Commit, Outcome};
use crate::write::receipts::verify_receipts;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use shared::http::body::{self, Body};
use shared::http::signed_calls::read_signed;
use shared::ticket::Ticket;
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::master::{CommitRequest, CommitResponse};

impl Writer {
    /// Handles a commit request: verifies the receipts, commits, and answers with the outcome.
    pub async fn commit(&self, request: Request<Incoming>) -> Result<Response<Body>, ErrorReply> {
        let message: CommitRequest = read_signed(request).await?;
        let commit = check_commit(&self.config, &self.volumes.cluster, message)?;
        let key = commit.key.clone();
        let outcome = self.changes.submit(Command::Commit(commit)).await;
        match outcome.map_err(|e| ErrorReply::from(e).for_key(&key))? {
            Outcome::Commit(outcome, replicas) => {
                Ok(body::json(StatusCode::OK, &CommitResponse { outcome, replicas }))
            }
            other => Err(unexpected(&other).for_key(&key)),
        }
    }
}

/// Builds the commit from what the ticket and the receipts prove.
fn check_commit(config: &Config, cluster: &Cluster, message: CommitRequest) -> Result<Commit, ErrorReply> {
    let CommitRequest { key, ticket, receipts, content_type, metadata } = message;
    let ticket = Ticket::verify_started(&ticket, &config.secret, &key).map_err(|e| {
        let why = format!("the ticket is not valid: {e}");
        ErrorReply::new(ErrorCode::BadTicket, why, "send the value again").for_key(&key)
    })?;
    let (proof, grant) = verify_receipts(cluster, config, &key, &ticket, &receipts)?;
    Ok(Commit {
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
    })
}
