//! The store against a model: random runs on the lying disk, each from one seed, with crashes at any change of the
//! disk, during recovery too, and with faults. After every opening, and in between, the store must be in a state
//! that the model allows:
//!
//! - an acknowledged put is there, byte for byte, until it is deleted; an acknowledged delete stays for ever;
//! - what failed, or was cut short, is whole or absent, and after an undisturbed opening stays what it was then;
//! - no read returns wrong bytes; one fails only where a fault stands; inventory, lookups and reads agree;
//! - without faults the store is never read-only, and when nothing is under way nothing is held back.
//!
//! `step` is what may happen, `deeds` does it to a `world`, `check` says what must hold, `rot` what a turned bit excuses.
//! A violation prints its seed and its last steps; `BARGE_SEED=<n> cargo nextest run -p volume --lib model_` runs that seed
//! alone, `BARGE_SEEDS=<count>` more of them than usual (0: until stopped).

mod check;
mod deeds;
mod known;
mod rot;
mod step;
mod upkeep;
mod world;

use std::collections::BTreeMap;
use std::fmt;

use shared::work::Inline;

use step::{Ending, Step};
use world::World;

/// What goes wrong in a run, besides crashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Profile {
    /// Nothing: crashes alone.
    Crashes,
    /// Calls that fail, and disks that fill up.
    Faults,
    /// Bits that turn round.
    Rot,
    Everything,
}

/// What the model does not allow.
#[derive(Debug)]
struct Violation(String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a run came to.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Openings that were checked.
    schedules: u64,
    /// Changes of the disk, and a hash of all calls.
    trail: (u64, u64),
    /// What was met on the way, to see that a run goes where it should.
    met: Met,
    violation: Option<String>,
    trace: Vec<String>,
}

/// How often something was met.
type Met = BTreeMap<&'static str, u64>;

/// Runs one seed. With a trace it is slower, and not different.
pub(super) fn run(seed: u64, profile: Profile, traced: bool) -> Outcome {
    let _inline = Inline::enter();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    let mut world = World::new(seed, profile, traced);
    let lived = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        runtime.block_on(live(&mut world)).map_err(|v| v.to_string())
    }));
    let violation = match lived {
        Ok(lived) => lived.err(),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Some(format!("panicked: {}", text.unwrap_or_default()))
        }
    };
    world.outcome(violation)
}

async fn live(world: &mut World) -> Result<(), Violation> {
    for _ in 0..world.draw_lives() {
        world.plan_stop();
        if world.open().await? {
            world.check().await?;
            for _ in 0..world.draw_steps() {
                let step = Step::draw(world);
                world.take(step).await?;
                if world.stopped() {
                    break;
                }
            }
        }
        let ending = Ending::draw(world);
        world.end(ending).await?;
    }
    world.calm();
    if !world.open().await? {
        return Err(Violation("an undisturbed opening failed".into()));
    }
    world.check().await?;
    world.check_rest().await?;
    world.end(Ending::Close).await
}

#[cfg(test)]
mod tests;
