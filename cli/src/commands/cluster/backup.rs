//! `barge cluster backup` and `restore`: the metadata's snapshot in a file, and a metadata directory created from it.

use std::io::{Seek, Write};
use std::time::Duration;

use serde::Serialize;
use shared::durable::sync_name;
use shared::limits::CALL_TIMEOUT;
use shared::size::ByteSize;
use shared::wire::routes::BACKUP;
use shared::work::blocking;

use crate::args::{BackupArgs, RestoreArgs};
use crate::client::Client;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::signed::{Caller, failure};

/// A master writes the whole snapshot before it answers, and its disk may be slow.
const FIRST_ANSWER: Duration = Duration::from_secs(600);

#[derive(Serialize)]
struct Written {
    bytes: u64,
}

pub(crate) async fn run(client: &Client, args: BackupArgs, output: Output) -> Result<Exit, Failure> {
    let caller = Caller::new(&args.secret, client.trust())?;
    let name = args.file.display().to_string();
    let local = |e: &std::io::Error| Failure::local(format!("cannot write {name}"), e);
    let mut file =
        std::fs::File::options().write(true).create_new(true).open(&args.file).map_err(|e| local(&e))?;
    let fetched = fetch(client, &caller, &mut file).await;
    let checked = match fetched {
        Ok(bytes) => {
            let synced = file.sync_all().and_then(|()| sync_name(&args.file));
            synced.map_err(|e| local(&e)).map(|()| bytes)
        }
        Err(failure) => Err(failure),
    };
    let path = args.file.clone();
    // An incomplete file is not a backup: read it back before anyone relies on it.
    let checked = match checked {
        Ok(bytes) => blocking(move || master::offline::check(&path))
            .await
            .map(|()| bytes)
            .map_err(|e| Failure::new(Exit::Failure, e.to_string())),
        Err(failure) => Err(failure),
    };
    match checked {
        Ok(bytes) => {
            output.result(&Written { bytes }, || format!("{name}: {}", ByteSize(bytes)))?;
            Ok(Exit::Ok)
        }
        Err(failure) => {
            let _ = std::fs::remove_file(&args.file);
            Err(failure)
        }
    }
}

/// Fetches the snapshot from the first master that sends all of it.
async fn fetch(client: &Client, caller: &Caller, file: &mut std::fs::File) -> Result<u64, Failure> {
    let mut last = None;
    for base in client.bases() {
        let empty = file.set_len(0).and_then(|()| file.rewind());
        empty.map_err(|e| Failure::local("cannot write the backup", &e))?;
        match fetch_from(base, caller, file).await {
            Ok(bytes) => return Ok(bytes),
            Err(failure) => last = Some(failure),
        }
    }
    Err(last.unwrap_or_else(|| Failure::new(Exit::Usage, "no master was named")))
}

async fn fetch_from(base: &str, caller: &Caller, file: &mut std::fs::File) -> Result<u64, Failure> {
    let opened =
        tokio::time::timeout(FIRST_ANSWER, caller.peers().call_for_stream(base, BACKUP, b"null".to_vec()))
            .await;
    let opened = opened.map_err(|_| Failure::broken(base, "no answer came in time"))?;
    let mut answer = opened.map_err(|error| failure(base, error))?;
    let mut bytes = 0;
    loop {
        let next = tokio::time::timeout(CALL_TIMEOUT, answer.next()).await;
        let next = next.map_err(|_| Failure::broken(base, "no data came in time"))?;
        let Some(data) = next.map_err(|error| failure(base, error))? else { return Ok(bytes) };
        bytes += data.len() as u64;
        file.write_all(&data).map_err(|e| Failure::local("cannot write the backup", &e))?;
    }
}

#[derive(Serialize)]
struct Restored {
    objects: u64,
    bytes: u64,
}

pub(crate) async fn restore(args: RestoreArgs, output: Output) -> Result<Exit, Failure> {
    let (file, directory) = (args.file.clone(), args.directory.clone());
    let restored = blocking(move || master::offline::restore(&file, &directory)).await;
    let progress = restored.map_err(|e| Failure::new(Exit::Failure, e.to_string()))?;
    let restored = Restored { objects: progress.objects, bytes: progress.bytes };
    output.result(&restored, || {
        format!("{}: {} values, {}", args.directory.display(), restored.objects, ByteSize(restored.bytes))
    })?;
    output.note(
        "start a master on it; others join it. Values written after the backup was made are not in it: they stay on \
         their volumes, and `barge cluster rebuild` finds them",
    );
    Ok(Exit::Ok)
}
