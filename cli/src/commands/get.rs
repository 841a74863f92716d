//! `barge get`: downloads a value into `FILE.<digest>.part` and renames it only when its bytes are verified.
//! Resumes what an interrupted run left behind.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;
use shared::durable::sync_name;
use shared::file_permissions;
use shared::key::Key;
use shared::size::ByteSize;
use shared::work::blocking;

use crate::args::{CatArgs, GetArgs};
use crate::client::{Client, Patience};
use crate::commands::cat;
use crate::download::{self, Attempt, Sink, Target};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::progress::Meter;

/// New versions that may appear during a download before it gives up.
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

/// The output file: as named, in the directory that was named, or named after the key's last path segment.
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

/// Fetches the value of `key` into `path`, and starts over for each new version.
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

/// Fetches this version into `path`; false if the key has another one by now.
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
            // What an earlier run left may be what is corrupt.
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

/// Syncs the file, renames it, and syncs the directory.
fn settle(file: &File, from: &Path, to: &Path) -> io::Result<()> {
    file_permissions::release(file)?;
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
        io::ErrorKind::ResourceBusy => failure.next("another `barge get` is writing it: wait for it to end"),
        io::ErrorKind::AlreadyExists => {
            failure.next("nothing was written; check where it comes from, remove it, and retry")
        }
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use shared::digest::Digest;

    use super::*;
    use crate::commands::tests::Dir;
    use crate::fake::{Fake, Faults};

    /// Also after an interruption by an earlier run and by the server.
    #[tokio::test]
    async fn the_bar_goes_with_the_bytes_to_their_end() {
        let (key, value) = ("a/key".parse().unwrap(), vec![7u8; 1_000_000]);
        let target = Target { blake3: Digest::of(&value), size: 1_000_000 };
        for (left, cuts) in [(0, vec![]), (400_000, vec![]), (0, vec![300_000]), (400_000, vec![300_000])] {
            let fake = Fake::start(Faults { cut_downloads: cuts, ..Faults::default() }).await;
            fake.set(&key, &value);
            let (dir, client) = (Dir::new(), Client::new(fake.url()).unwrap());
            let path = dir.file("f");
            if left > 0 {
                std::fs::write(download::part_of(&path, target), &value[..left]).unwrap();
            }
            let meter = Meter::new("f", Some(target.size), Output::new(false));
            assert!(fetch_version(&client, &key, &path, target, &meter).await.unwrap());
            let (places, length) = meter.places();
            assert_eq!((places.last().copied(), length), (Some(target.size), Some(target.size)));
            assert!(places.is_sorted() && places[0] > left as u64, "from {left}: {places:?}");
        }
    }
}
