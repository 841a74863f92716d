//! `barge volume`: inspects a volume's disk while the volume is stopped. Changes nothing in the directory, however
//! corrupt it is: repairs are left to the volume's next start.

mod check;
mod figures;
mod inspect;

use std::io::ErrorKind;
use std::path::Path;

use shared::work::blocking;
use volume::store::inspect::{Inspection, Inspector, NotInspected};
use volume::store::{FormatError, IndexState, Refusal, SegmentNumber};
use volume::{Glimpse, IdentityError};

use crate::args::VolumeCommand;
use crate::exit::{Exit, Failure};
use crate::output::Output;

pub(crate) async fn run(command: VolumeCommand, output: Output) -> Result<Exit, Failure> {
    blocking(move || match command {
        VolumeCommand::Check(args) => check::run(&args, output),
        VolumeCommand::Inspect(args) => inspect::run(&args, output),
    })
    .await
}

/// A volume's directory, locked so that the volume does not start meanwhile.
struct Volume {
    glimpse: Glimpse,
    inspector: Inspector,
}

impl Volume {
    fn open(directory: &Path, output: Output) -> Result<Self, Failure> {
        let glimpse = Glimpse::of(directory).map_err(|e| match e {
            IdentityError::InUse(_) => {
                let what = format!("the volume in {} is running", directory.display());
                Failure::new(Exit::Failure, what).next("stop it, then retry; nothing was read")
            }
            other => Failure::new(Exit::Failure, other.to_string()),
        })?;
        let inspector = Inspector::open(directory, glimpse.volume).map_err(|e| {
            let what = format!("no segments were found in {}", directory.display());
            let failure = Failure::local(what, &e);
            let elsewhere = "name the directory that holds volume.json and segments/";
            if e.kind() == ErrorKind::NotFound { failure.next(elsewhere) } else { failure }
        })?;
        if glimpse.volume.is_none() {
            let volume = inspector.volume();
            output.note(&format!(
                "volume.json is missing or unreadable: the segments' headers name volume {volume}"
            ));
        }
        for number in inspector.orphans() {
            output.note(&format!(
                "segment {number} is missing but its index exists: a crash interrupted its removal, or its file was lost"
            ));
        }
        if !inspector.foreign().is_empty() {
            output.note(&format!("unknown files, ignored: {}", inspector.foreign().join(", ")));
        }
        Ok(Self { glimpse, inspector })
    }

    /// Segments of which only the index exists.
    fn gone(&self) -> Vec<String> {
        self.inspector.orphans().iter().map(ToString::to_string).collect()
    }

    /// Where the volume's id was read from.
    fn named_by(&self) -> &'static str {
        if self.glimpse.volume.is_some() { "volume.json" } else { "segment headers" }
    }
}

/// A segment, and what was found in it.
type Seen = (SegmentNumber, Result<Inspection, NotInspected>);

fn state(seen: &Result<Inspection, NotInspected>) -> &'static str {
    match seen {
        Ok(inspection) if inspection.sealed => "sealed",
        Ok(_) => "open",
        Err(NotInspected::Uninitialized) => "unborn",
        Err(NotInspected::Refused(_)) => "refused",
    }
}

fn index(state: IndexState) -> &'static str {
    match state {
        IndexState::Good => "good",
        IndexState::Missing => "missing",
        IndexState::Stale => "stale",
        IndexState::Rotten => "rotten",
    }
}

/// Why a segment is not served, and what to do.
fn refusal(why: Refusal) -> (String, &'static str) {
    let next = match why {
        Refusal::Header(FormatError::Version(_)) => "use the version of Barge that wrote it",
        Refusal::Header(FormatError::Volume | FormatError::Number) => {
            "put the file back where it came from: it belongs to another volume or has another name"
        }
        Refusal::Header(_) => "keep the file: other volumes hold replicas of its values",
        Refusal::Unreadable(_) => "see the kernel's log about this disk; copy what can be read",
    };
    (why.to_string(), next)
}

#[cfg(test)]
mod tests;
