//! Requests for `/key`: POST, PUT, GET, HEAD, DELETE, and `?list` on a prefix.

use std::net::IpAddr;
use std::sync::Arc;

use http::header::ALLOW;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use shared::condition::WriteCondition;
use shared::http::body::{self, Body};
use shared::key::{Key, decode};
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::master::DeletedObject;
use shared::wire::routes::{HOPS, LIST, STALE, STALE_HEADER, STREAM, query_value};
use shared::work::blocking;

use super::page::Page;
use crate::auth::Sender;
use crate::auth::resource::{asked, split};
use crate::change::{Changes, unexpected};
use crate::db::Database;
use crate::list::{ListQuery, page};
use crate::master::Master;
use crate::read::{self, Reader};
use crate::state::command::{Command, Outcome};
use crate::write::Writer;

/// Answers a request about a key.
pub(super) async fn handle(
    master: &Arc<Master>,
    request: Request<Incoming>,
    peer: IpAddr,
) -> Result<Response<Body>, ErrorReply> {
    let reads = [Method::GET, Method::HEAD].contains(request.method());
    let stale = reads && query_value(request.uri().query(), STALE).is_some();
    let known = present(master, &request, peer, stale).await;
    // After `present`, so by the current CORS rules; if that failed, by those this master knows.
    let page = match Page::of(&master.metadata, &request) {
        Ok(page) => page,
        Err(refusal) => return Err(refused(request, refusal)),
    };
    let mut answered = match known.and_then(|()| admit(master, &request, peer, &page)) {
        Err(refusal) => Err(refused(request, refusal)),
        Ok(()) if page.is_question() => page.answer().map_err(|refusal| refused(request, refusal)),
        Ok(()) => answer(master, request, page.is_permitted()).await,
    };
    page.mark(&mut answered);
    if stale { marked(answered) } else { answered }
}

/// Drains the body of a refused request, unless the client waits for 100.
fn refused(request: Request<Incoming>, refusal: ErrorReply) -> ErrorReply {
    let (head, body) = request.into_parts();
    body::drain_unless_waiting(&head.headers, body);
    refusal
}

/// Waits until this master has all acknowledged changes, unless stale answers are allowed. So a key that was just
/// revoked on another master is refused here too.
async fn present(
    master: &Arc<Master>,
    request: &Request<Incoming>,
    peer: IpAddr,
    stale: bool,
) -> Result<(), ErrorReply> {
    let sender = Sender { method: request.method(), headers: request.headers(), peer };
    master.keys().throttle_sender(sender).await?;
    if !stale {
        master.metadata.ensure_linearizable().await?;
    }
    Ok(())
}

/// Checks whether the caller may do this.
fn admit(
    master: &Arc<Master>,
    request: &Request<Incoming>,
    peer: IpAddr,
    page: &Page,
) -> Result<(), ErrorReply> {
    let sender = Sender { method: request.method(), headers: request.headers(), peer };
    if page.is_question() {
        return master.keys().admit_question(sender);
    }
    let (action, of) = asked(request);
    let (bucket, key) = of.as_deref().map_or((None, None), split);
    master.keys().admit(sender, page.is_permitted(), action, bucket, key)
}

/// Marks an answer as possibly stale; a refusal can be as old as a value.
fn marked(mut answer: Result<Response<Body>, ErrorReply>) -> Result<Response<Body>, ErrorReply> {
    let headers = match &mut answer {
        Ok(answer) => answer.headers_mut(),
        Err(refusal) => &mut refusal.headers,
    };
    headers.insert(STALE_HEADER, HeaderValue::from_static("true"));
    answer
}

/// Answers a permitted request. With `here`, it redirects only an upload that asks for a redirect.
async fn answer(
    master: &Arc<Master>,
    request: Request<Incoming>,
    here: bool,
) -> Result<Response<Body>, ErrorReply> {
    let query = request.uri().query();
    if request.method() == Method::GET && query_value(query, LIST).is_some() {
        return list(&master.metadata.database, &request).await;
    }
    let key = match Key::from_path(request.uri().path()) {
        Ok(key) => key,
        Err(e) => return Err(refused(request, e.into())),
    };
    let here = here || master.streams(request.headers());
    let hops = query_value(query, HOPS).and_then(|h| h.parse().ok()).unwrap_or(0);
    match *request.method() {
        Method::POST | Method::PUT => Writer::new(master).upload(request, key, hops, here).await,
        Method::GET if here || query_value(query, STREAM).is_some() => {
            Reader::new(master).streamed(&key, request.headers()).await
        }
        Method::GET => Reader::new(master).redirected(&key, request.headers(), hops).await,
        Method::HEAD => read::head(&master.metadata.database, &key, request.headers()).await,
        Method::DELETE => delete(&master.changes, &request, key).await,
        _ => {
            let refusal = ErrorReply::new(
                ErrorCode::MethodNotAllowed,
                "a key takes GET, HEAD, PUT, POST and DELETE",
                "use one of those",
            );
            let allowed = HeaderValue::from_static("GET, HEAD, PUT, POST, DELETE");
            Err(refused(request, refusal.with_header(ALLOW, allowed)))
        }
    }
}

async fn delete(
    changes: &Changes,
    request: &Request<Incoming>,
    key: Key,
) -> Result<Response<Body>, ErrorReply> {
    let condition = WriteCondition::from_headers(request.headers())
        .map_err(|e| ErrorReply::new(ErrorCode::BadHeader, e.to_string(), "fix the header").for_key(&key))?;
    let outcome = changes.submit(Command::Delete { key: key.clone(), condition }).await;
    match outcome.map_err(|e| ErrorReply::from(e).for_key(&key))? {
        Outcome::Deleted(object) => {
            let deleted = DeletedObject { key, size: object.size, generation: object.generation };
            Ok(body::json(StatusCode::OK, &deleted))
        }
        Outcome::ConditionFailed => {
            Err(ErrorReply::condition_failed(request.method(), request.headers(), &key))
        }
        Outcome::NotFound => {
            Err(ErrorReply::new(ErrorCode::NotFound, "the key has no value", "nothing is left to do")
                .for_key(&key))
        }
        other => Err(unexpected(&other).for_key(&key)),
    }
}

async fn list(database: &Arc<Database>, request: &Request<Incoming>) -> Result<Response<Body>, ErrorReply> {
    let path = request.uri().path();
    let prefix = decode(path.strip_prefix('/').unwrap_or(path))?;
    let query = ListQuery::parse(prefix, request.uri().query())?;
    let database = Arc::clone(database);
    // A scan reads from disk whatever sled has not cached.
    let page = blocking(move || page(&database.tree(), &query)).await?;
    Ok(body::json(StatusCode::OK, &page))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_no_says_so_too() {
        let said = |answer: Result<Response<Body>, ErrorReply>| match marked(answer) {
            Ok(answer) => answer.headers().contains_key(STALE_HEADER),
            Err(refusal) => refusal.headers.contains_key(STALE_HEADER),
        };
        assert!(said(Ok(body::json(StatusCode::OK, &()))));
        assert!(said(Err(ErrorReply::new(ErrorCode::NotFound, "the key has no value", ""))));
    }
}
