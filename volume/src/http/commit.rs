//! The commit of a durable value: receipts go to a master, and to another one if it does not answer (failover).
//!
//! Commits are idempotent. A client must never be told "nothing was stored" if an earlier call may have been executed.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use shared::http::client::CallError;
use shared::limits::{COMMIT_PATIENCE, COMMIT_TIMEOUT, LEADER_TIMEOUT, PROPOSE_TIMEOUT};
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::master::{CommitOutcome, CommitResponse};
use tokio::time::{Instant, sleep_until};

/// Interval between attempts to send a commit to a master.
const RETRY: Duration = Duration::from_millis(250);

/// Calls one master after the other until an answer is final; at most one call to each at a time. `ask` calls a
/// master and gives up after the duration.
///
/// # Errors
/// When the commit is refused, or its outcome is unknown.
pub(super) async fn commit<F>(
    masters: &[String],
    ask: impl Fn(String, Duration) -> F,
) -> Result<CommitResponse, ErrorReply>
where
    F: Future<Output = Result<CommitResponse, CallError>>,
{
    let deadline = Instant::now() + COMMIT_TIMEOUT;
    let mut calls = FuturesUnordered::new();
    let mut open = vec![false; masters.len()];
    // `lost`: a call that failed may have been executed all the same.
    let (mut lost, mut turn, mut due) = (false, 0, Instant::now());
    loop {
        let next = (turn..turn + masters.len()).map(|n| n % masters.len()).find(|n| !open[*n]);
        let (place, answer) = tokio::select! {
            biased;
            Some(ended) = calls.next() => ended,
            () = sleep_until(due), if next.is_some() && due < deadline => {
                let place = next.unwrap_or_default();
                let left = deadline.saturating_duration_since(Instant::now());
                let call = ask(masters[place].clone(), left.min(PROPOSE_TIMEOUT + LEADER_TIMEOUT));
                calls.push(async move { (place, call.await) });
                (open[place], turn, due) = (true, place + 1, Instant::now() + COMMIT_PATIENCE);
                continue;
            }
            else => return Err(unknown("no master answered")),
        };
        open[place] = false;
        let error = match classify_answer(answer, lost || !calls.is_empty()) {
            Ok(told) => {
                if let Err(refusal) = &told {
                    tracing::warn!(master = masters[place], why = refusal.message, "commit failed");
                }
                return told;
            }
            Err(error) => error,
        };
        lost |= !matches!(error, CallError::Unreachable { .. });
        due = due.min(Instant::now() + RETRY);
        if calls.is_empty() && due + RETRY >= deadline {
            tracing::warn!(%error, "commit failed");
            return Err(unknown(error));
        }
    }
}

/// Returns the client's answer if it is final, or the error if another master may say more. `doubt`: another call may
/// have been executed.
fn classify_answer(
    answer: Result<CommitResponse, CallError>,
    doubt: bool,
) -> Result<Result<CommitResponse, ErrorReply>, CallError> {
    match answer {
        // An earlier call may have committed the value, and another write replaced it since: then its replicas no
        // longer count.
        Ok(CommitResponse {
            outcome: CommitOutcome::NotEnoughReceipts | CommitOutcome::Overtaken, ..
        }) if doubt => Ok(Err(unknown("the first answer of the masters was lost"))),
        Ok(response) => Ok(Ok(response)),
        Err(CallError::Refused { detail, .. }) if !doubt && detail.code.status().is_client_error() => {
            Ok(Err(ErrorReply::new(
                detail.code,
                format!("the master refused the value after it was written: {}", detail.message),
                "nothing was stored; send the value again",
            )))
        }
        // Another master would say the same, and the outcome of the other call is unknown.
        Err(CallError::Refused { detail, .. }) if detail.code.status().is_client_error() => {
            Ok(Err(unknown(&detail.message)))
        }
        Err(error @ CallError::Strange { .. }) => Ok(Err(unknown(error))),
        Err(error) => Err(error),
    }
}

fn unknown(why: impl std::fmt::Display) -> ErrorReply {
    ErrorReply::new(
        ErrorCode::OutcomeUnknown,
        format!("the value is on disk, but it is unknown whether it was committed: {why}"),
        "send the value again: a repeated PUT is harmless",
    )
}

#[cfg(test)]
mod tests {
    use shared::wire::error::ErrorDetail;

    use super::*;

    /// The answer of a master; `None` never answers.
    type Says = Option<Result<CommitOutcome, ErrorCode>>;

    fn refused(code: ErrorCode) -> CallError {
        let detail =
            ErrorDetail { code, message: "no".into(), key: None, hint: String::new(), request_id: None };
        CallError::Refused { address: "there".into(), status: code.status(), detail: Box::new(detail) }
    }

    /// Commits with masters that give these answers, every time they are asked.
    async fn ask(masters: &[Says]) -> Result<CommitOutcome, ErrorCode> {
        let names: Vec<String> = (0..masters.len()).map(|n| n.to_string()).collect();
        let started = Instant::now();
        let told = commit(&names, |name: String, _within: Duration| {
            let says = masters[name.parse::<usize>().unwrap()];
            async move {
                match says {
                    None => std::future::pending().await,
                    Some(Ok(outcome)) => Ok(CommitResponse { outcome, replicas: 2 }),
                    Some(Err(code)) => Err(refused(code)),
                }
            }
        });
        let told = told.await;
        assert!(started.elapsed() < COMMIT_PATIENCE * 2, "waits for the one that hangs: {told:?}");
        told.map(|response| response.outcome).map_err(|reply| reply.code)
    }

    #[tokio::test]
    async fn one_master_that_hangs_costs_little() {
        let (created, replaced) = (Some(Ok(CommitOutcome::Created)), Some(Ok(CommitOutcome::Replaced)));
        assert_eq!(ask(&[created, None]).await, Ok(CommitOutcome::Created));
        assert_eq!(ask(&[None, replaced, None]).await, Ok(CommitOutcome::Replaced));
        // A master that has not joined is skipped at once.
        assert_eq!(ask(&[Some(Err(ErrorCode::NotJoined)), created]).await, Ok(CommitOutcome::Created));
    }

    #[tokio::test]
    async fn a_refusal_is_final_unless_another_call_may_have_been_carried_out() {
        let refusals = [
            (Some(Ok(CommitOutcome::NotEnoughReceipts)), Ok(CommitOutcome::NotEnoughReceipts)),
            (Some(Ok(CommitOutcome::Overtaken)), Ok(CommitOutcome::Overtaken)),
            (Some(Err(ErrorCode::BadTicket)), Err(ErrorCode::BadTicket)),
        ];
        for (says, told) in refusals {
            assert_eq!(ask(&[says, None]).await, told);
            assert_eq!(ask(&[None, says]).await, Err(ErrorCode::OutcomeUnknown), "{says:?}");
            let lost = Some(Err(ErrorCode::OutcomeUnknown));
            assert_eq!(ask(&[lost, says]).await, Err(ErrorCode::OutcomeUnknown), "{says:?}");
        }
        // Final: had an earlier call been executed and the value replaced since, its replicas would not count.
        let failed = Some(Ok(CommitOutcome::ConditionFailed));
        assert_eq!(ask(&[None, failed]).await, Ok(CommitOutcome::ConditionFailed));
    }
}
