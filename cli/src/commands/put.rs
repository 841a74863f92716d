//! `barge put`: asks the master for a ticket, sends the bytes to the volume in the ticket's URL, and compares
//! what was stored with what was sent.
//!
//! A body is sent only to a URL with a ticket, so no server in between can lose it.

use std::io::ErrorKind;
use std::time::Duration;

use http::Method;
use http::header::{
    CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH,
};
use reqwest::Url;
use shared::limits::HOPS_MAX;
use shared::size::ByteSize;
use shared::wire::master::StoredObject;
use shared::wire::routes::{EXPIRES_HEADER, LENGTH, METADATA_PREFIXES, REDIRECT, TICKET, query_value};

use crate::args::PutArgs;
use crate::client::{self, Client, Patience, authority, redirect};
use crate::exit::{Exit, Failure, Retry};
use crate::output::Output;
use crate::progress::Meter;
use crate::upload::{Sent, Source, stalled};

/// How long the reader of the input gets to end after the answer.
const READER_GRACE: Duration = Duration::from_secs(1);

/// Where the upload goes.
enum Way {
    /// To a volume; the URL includes the ticket.
    Volume(Url),
    /// Nowhere: the master has stored it already, as it can an empty value.
    Stored(StoredObject),
}

pub(crate) async fn run(client: &Client, args: PutArgs, output: Output) -> Result<Exit, Failure> {
    let headers = headers(&args)?;
    let source = Source::new(&args.file)?;
    let meter = Meter::new(args.key.as_str(), source.length(), output);
    let stored = Put { client, args: &args, headers, meter: &meter }.patiently(source).await;
    meter.done();
    let stored = stored.map_err(|f| f.for_key(&args.key))?;
    output.result(&stored, || format!("{}  {}  {}", stored.key, ByteSize(stored.size), stored.blake3))?;
    if stored.replicas < stored.wanted {
        let (have, want) = (stored.replicas, stored.wanted);
        output.note(&format!("stored with {have} of {want} replicas; the cluster adds the others"));
    }
    Ok(Exit::Ok)
}

struct Put<'a> {
    client: &'a Client,
    args: &'a PutArgs,
    headers: HeaderMap,
    meter: &'a Meter,
}

impl Put<'_> {
    /// Retries until it is stored, as long as the input can be read again and a second attempt does no harm: a
    /// condition that held once fails against our own first attempt.
    async fn patiently(&self, mut source: Source) -> Result<StoredObject, Failure> {
        let mut patience = Patience::default();
        let conditional = self.args.if_absent || self.args.if_match.is_some();
        loop {
            let failure = match self.once(&mut source).await {
                Ok(stored) => return Ok(stored),
                Err(failure) if !source.is_whole() => return Err(once_only(failure)),
                Err(failure) => failure,
            };
            patience.wait(failure, !conditional).await?;
        }
    }

    async fn once(&self, source: &mut Source) -> Result<StoredObject, Failure> {
        let volume = match self.ask(source.length()).await? {
            Way::Stored(stored) if source.length() == Some(stored.size) => return Ok(stored),
            Way::Stored(_) => return Err(not_a_master(self.client)),
            Way::Volume(url) => url,
        };
        let upload = source.upload()?;
        let mut headers = self.headers.clone();
        if let Some(length) = source.length() {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        let answer = tokio::select! {
            answer = self.client.send_body(&volume, headers, upload.body) => answer,
            () = stalled(&upload.gauge, |at| self.meter.at(at)) => {
                Err(Failure::broken(&authority(&volume), "it stopped taking data"))
            }
        };
        // The reader ends when the body is dropped, but a pipe may be waiting for its next byte.
        let sent = tokio::time::timeout(READER_GRACE, upload.sent).await.ok().and_then(Result::ok);
        if let Some(Err(e)) = &sent
            && e.kind() != ErrorKind::BrokenPipe
        {
            return Err(Failure::local(format!("cannot read {}", self.args.file.display()), e));
        }
        let answer = answer?;
        if redirect(&volume, &answer)?.is_some() {
            return Err(
                Failure::broken(&authority(&volume), "it redirected the upload").retry(Retry::After(None))
            );
        }
        let stored: StoredObject = client::json(answer).await?;
        match sent {
            Some(Ok(sent)) => compare(stored, sent),
            // A success before all bytes were sent is not credible.
            _ => Err(Failure::strange(&authority(&volume), "reported success before it had all bytes")),
        }
    }

    /// Asks for a ticket, without a body.
    async fn ask(&self, length: Option<u64>) -> Result<Way, Failure> {
        let length = length.map_or(String::new(), |l| format!("&{LENGTH}={l}"));
        let mut url = self.client.url(&format!("{}?{REDIRECT}{length}", self.args.key.to_path()))?;
        for _ in 0..=HOPS_MAX {
            let answer = self.client.once(&Method::PUT, &url, &self.headers).await?;
            match redirect(&url, &answer)? {
                None => return client::json(answer).await.map(Way::Stored),
                Some(next) if query_value(next.query(), TICKET).is_some() => return Ok(Way::Volume(next)),
                // To the leader.
                Some(next) => url = next,
            }
        }
        Err(Failure::new(Exit::Unavailable, "too many redirects between masters").next("try again"))
    }
}

fn compare(stored: StoredObject, sent: Sent) -> Result<StoredObject, Failure> {
    if stored.size == sent.size && stored.blake3 == sent.blake3 {
        return Ok(stored);
    }
    let what = format!(
        "{} bytes with BLAKE3 {} were sent, {} bytes with {} were stored",
        sent.size, sent.blake3, stored.size, stored.blake3
    );
    Err(Failure::unverified(what).next("put the value again"))
}

fn once_only(failure: Failure) -> Failure {
    match failure.retry {
        Retry::Never => failure,
        _ => failure.next("standard input can be read only once: run the command again, or put a file"),
    }
}

fn not_a_master(client: &Client) -> Failure {
    let address = client.url("/").map_or(String::new(), |u| authority(&u));
    Failure::strange(&address, "did not name a volume for the upload")
}

fn headers(args: &PutArgs) -> Result<HeaderMap, Failure> {
    let mut headers = HeaderMap::new();
    let value = |text: &str| {
        HeaderValue::from_bytes(text.as_bytes())
            .map_err(|_| Failure::new(Exit::Usage, format!("{text:?} cannot be sent in a header")))
    };
    if let Some(content_type) = &args.content_type {
        headers.insert(CONTENT_TYPE, value(content_type)?);
    }
    for (name, text) in &args.meta {
        let name = HeaderName::try_from(format!("{}{name}", METADATA_PREFIXES[0]))
            .map_err(|_| Failure::new(Exit::Usage, format!("{name:?} cannot be the name of a header")))?;
        headers.append(name, value(text)?);
    }
    if let Some(expires) = &args.expires {
        headers.insert(HeaderName::from_static(EXPIRES_HEADER), value(&expires.to_string())?);
    }
    if args.if_absent {
        headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
    }
    if let Some(etag) = &args.if_match {
        let bare = etag.trim_matches('"');
        headers.insert(IF_MATCH, value(&if bare == "*" { "*".into() } else { format!("\"{bare}\"") })?);
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::tests::Dir;
    use crate::fake::{Fake, Faults};

    #[tokio::test]
    async fn the_bar_goes_with_the_bytes_to_their_end() {
        let fake = Fake::start(Faults { late: Duration::from_millis(500), ..Faults::default() }).await;
        let (dir, value) = (Dir::new(), vec![7u8; 3_000_000]);
        std::fs::write(dir.file("f"), &value).unwrap();
        let args = PutArgs {
            file: dir.file("f"),
            key: "a/key".parse().unwrap(),
            content_type: None,
            meta: Vec::new(),
            expires: None,
            if_absent: false,
            if_match: None,
        };
        let (client, source) = (Client::new(fake.url()).unwrap(), Source::new(&args.file).unwrap());
        let meter = Meter::new("f", source.length(), Output::new(false));
        let put = Put { client: &client, args: &args, headers: headers(&args).unwrap(), meter: &meter };
        assert_eq!(put.patiently(source).await.unwrap().size, 3_000_000);
        let (places, length) = meter.places();
        assert_eq!((places.last().copied(), length), (Some(3_000_000), Some(3_000_000)));
        assert!(places.is_sorted(), "it goes back: {places:?}");
    }
}
