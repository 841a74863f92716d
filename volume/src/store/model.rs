//! Model-based tests of the store: random runs on the simulated disk, each from one seed, with crashes at any change
//! of the disk, also during recovery, and with faults. After every opening, and in between, the store must be in a
//! state that the model allows:
//!
//! - an acknowledged put is there, byte for byte, until it is deleted; an acknowledged delete is permanent;
//! - a put or delete that failed or was interrupted is done entirely or not at all, and an undisturbed opening fixes
//!   which;
//! - no read returns wrong bytes; a read fails only because of a fault; inventory, lookups and reads agree;
//! - without faults the store is never read-only, and when nothing is under way no resource is held.
//!
//! `step` defines the steps, `operations` executes them on a `world`, `check` has the invariants, `bit_rot` the
//! effects of flipped bits. A violation prints its seed and its last steps. To run one seed: `BARGE_SEED=<n> cargo
//! nextest run -p volume --lib model_`; `BARGE_SEEDS=<count>` runs more of them (0: until stopped).

mod bit_rot;
mod check;
mod expected;
mod operations;
mod step;
mod upkeep;
mod world;

use std::collections::BTreeMap;
use std::fmt;

use shared::work::Inline;

use step::{Ending, Step};
use world::ModelState;

/// The faults of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Profile {
    Crashes,
    /// Also failing calls and full disks.
    Faults,
    /// Also flipped bits.
    Rot,
    Everything,
}

/// A state or answer that the model does not allow.
#[derive(Debug)]
struct Violation(String);

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The outcome of a run.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Openings that were checked.
    schedules: u64,
    /// Number of changes of the disk, and a hash of all calls.
    trail: (u64, u64),
    /// Coverage counters, to see that runs reach what they should.
    met: Met,
    violation: Option<String>,
    trace: Vec<String>,
}

/// How often each event occurred.
type Met = BTreeMap<&'static str, u64>;

/// Runs one seed. A trace makes it slower, but does not change it.
pub(super) fn run(seed: u64, profile: Profile, traced: bool) -> Outcome {
    let _inline = Inline::enter();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
    let mut world = ModelState::new(seed, profile, traced);
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

async fn live(world: &mut ModelState) -> Result<(), Violation> {
    for _ in 0..world.draw_lives() {
        world.plan_stop();
        if world.open().await? {
            world.check().await?;
            for _ in 0..world.draw_steps() {
                let step = Step::draw(world);
                world.apply(step).await?;
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
