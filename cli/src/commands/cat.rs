//! `barge cat`: writes a value, or a range of it, to standard output. A whole value is verified at its end: the
//! bytes are written by then, and the exit code says whether they were correct.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;

use http::header::{HeaderMap, HeaderValue, RANGE};
use http::{Method, StatusCode};
use shared::key::Key;

use crate::args::CatArgs;
use crate::client::{Client, Patience, authority, key_url, patiently, piece};
use crate::download::{self, Attempt, Sink};
use crate::exit::{Exit, Failure};
use crate::progress::Meter;

pub(crate) async fn run(client: &Client, args: CatArgs) -> Result<Exit, Failure> {
    match &args.range {
        None => whole(client, &args.key).await,
        Some(range) => part(client, &args.key, range).await,
    }?;
    Ok(Exit::Ok)
}

async fn whole(client: &Client, key: &Key) -> Result<(), Failure> {
    let target = download::target(client, key).await?;
    let (mut sink, mut patience) = (Sink::new(standard_output()?), Patience::default());
    loop {
        let before = sink.at();
        let (returned, outcome) = download::attempt(client, key, target, sink, &Meter::silent()).await?;
        sink = returned;
        match outcome {
            Attempt::Complete if sink.verified(target) => return Ok(()),
            Attempt::Complete => return Err(download::mismatch(key, &sink, target)),
            Attempt::Changed if sink.at() == 0 => return Box::pin(whole(client, key)).await,
            Attempt::Changed => {
                let what = "the key got a new value while the old one was being written out";
                return Err(Failure::new(Exit::Conflict, what)
                    .for_key(key)
                    .next("discard the output and retry"));
            }
            Attempt::Broken(failure) => {
                if sink.at() > before {
                    patience.renew();
                }
                patience.wait(failure, true).await?;
            }
        }
    }
}

async fn part(client: &Client, key: &Key, range: &str) -> Result<(), Failure> {
    let mut headers = HeaderMap::new();
    let value = HeaderValue::try_from(format!("bytes={range}"));
    headers.insert(RANGE, value.map_err(|e| Failure::new(Exit::Usage, e.to_string()))?);
    let answer = patiently(async || client.ask(Method::GET, key_url(client, key)?, &headers).await);
    let mut answer = answer.await.map_err(|f| f.for_key(key))?;
    if answer.status() != StatusCode::PARTIAL_CONTENT {
        return Err(Failure::strange(&authority(answer.url()), "sent the whole value instead of a range")
            .for_key(key));
    }
    let mut out = standard_output()?;
    while let Some(bytes) = piece(&mut answer).await.map_err(|f| f.for_key(key))? {
        out.write_all(&bytes).or_else(|e| match e.kind() {
            ErrorKind::BrokenPipe => std::process::exit(0),
            _ => Err(Failure::local("cannot write to standard output", &e)),
        })?;
    }
    Ok(())
}

/// Standard output without the buffer of `std`, which is useless for pieces of this size.
fn standard_output() -> Result<File, Failure> {
    let out = std::io::stdout().as_fd().try_clone_to_owned();
    out.map(File::from).map_err(|e| Failure::local("cannot write to standard output", &e))
}
