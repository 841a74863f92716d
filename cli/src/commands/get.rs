//! `barge get`: a value into a file, by way of `FILE.<digest>.part`, which is renamed only when its
//! bytes are verified. What an interrupted run left behind is taken up again.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;
use shared::durable::sync_name;
use shared::key::Key;
use shared::private;
use shared::size::ByteSize;
use shared::work::blocking;

use crate::args::{CatArgs, GetArgs};
use crate::client::{Client, Patience};
use crate::commands::cat;
use crate::download::{self, Attempt, Sink, Target};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::progress::Meter;

/// New values that may appear while we fetch, before we give up.
const CHANGES_MAX: u32 = 5;

pub(crate) async fn run(client: &Client, args: GetArgs, output: Output) -> Result<Exit, Failure> {
    if args.file.as_deref() == Some(Path::new("-")) {
        return cat::run(client, CatArgs { key: args.key, range: None }).await;
    }
    let path = file_of(&args.key, args.file)?;
    let target = fetch(client, &args.key, &path, output).await?;
    let shown = path.display().to_string();
    output.result(
        &json!({"key": args.key, "file": shown, "size": target.size, "blake3": target.blake3.to_string()}),
        || format!("{shown}  {}  {}", ByteSize(target.size), target.blake3),
    )?;
    Ok(Exit::Ok)
}

/// The file to make: as named, inside the directory that was named, or named for the key's last segment.
fn file_of(key: &Key, file: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let last = || {
        let name = key.as_str().rsplit('/').next().filter(|n| !n.is_empty());
        name.ok_or_else(|| Failure::new(Exit::Usage, "the key ends with a slash: name the file").for_key(key))
    };
    match file {
        Some(path) if path.is_dir() => Ok(path.join(last()?)),
        Some(path) => Ok(path),
        None => last().map(PathBuf::from),
    }
}

/// Makes `path` the value of `key`, however often it takes.
pub(crate) async fn fetch(
    client: &Client,
    key: &Key,
    path: &Path,
    output: Output,
) -> Result<Target, Failure> {
    for _ in 0..CHANGES_MAX {
        let target = download::target(client, key).await?;
        let meter = Meter::new(key.as_str(), Some(target.size), output);
        let fetched = fetch_version(client, key, path, target, &meter).await;
        meter.done();
        if fetched? {
            return Ok(target);
        }
    }
    Err(download::restless(key))
}

/// Makes `path` this version; false when the key has another one by now.
async fn fetch_version(
    client: &Client,
    key: &Key,
    path: &Path,
    target: Target,
    meter: &Meter,
) -> Result<bool, Failure> {
    let part = download::part_of(path, target);
    let opened = {
        let part = part.clone();
        blocking(move || Sink::part(&part, target)).await
    };
    let mut sink = opened.map_err(|e| cannot_write(&part, &e))?;
    let mut leftover = sink.at() > 0;
    let mut patience = Patience::default();
    loop {
        let before = sink.at();
        let (returned, outcome) = download::attempt(client, key, target, sink, meter).await?;
        sink = returned;
        match outcome {
            Attempt::Complete if sink.verified(target) => break,
            // What lay on the disk may be what is wrong.
            Attempt::Complete if leftover => {
                leftover = false;
                sink.restart().map_err(|e| cannot_write(&part, &e))?;
            }
            Attempt::Complete => {
                let failure = download::mismatch(key, &sink, target);
                remove(&part)?;
                return Err(failure);
            }
            Attempt::Changed => {
                remove(&part)?;
                return Ok(false);
            }
            Attempt::Broken(failure) => {
                if sink.at() > before {
                    patience.renew();
                }
                patience.wait(failure, true).await?;
            }
        }
    }
    let (file, from, to) = (sink.into_file(), part.clone(), path.to_owned());
    blocking(move || settle(&file, &from, &to)).await.map_err(|e| cannot_write(path, &e))?;
    Ok(true)
}

/// On the disk first, then under its name, then the name on the disk.
fn settle(file: &File, from: &Path, to: &Path) -> io::Result<()> {
    private::release(file)?;
    file.sync_all()?;
    std::fs::rename(from, to)?;
    sync_name(to)
}

fn remove(part: &Path) -> Result<(), Failure> {
    std::fs::remove_file(part).map_err(|e| cannot_write(part, &e))
}

fn cannot_write(path: &Path, e: &io::Error) -> Failure {
    let failure = Failure::local(format!("cannot write {}", path.display()), e);
    match e.kind() {
        io::ErrorKind::ResourceBusy => failure.next("another barge get is at work on it"),
        io::ErrorKind::AlreadyExists => {
            failure.next("nothing was written; see who put it there, remove it, and try again")
        }
        _ => failure,
    }
}
