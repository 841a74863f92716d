//! Faults of the simulated disk: planned, occurred, and the random survival of what is not durable.

use std::io;

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;
use rustix::io::Errno;

use super::image::Survival;

/// Planned faults; a count is the number of calls that still succeed.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::store) struct Faults {
    pub(in crate::store) read: Option<u32>,
    pub(in crate::store) write: Option<u32>,
    pub(in crate::store) sync: Option<u32>,
    /// After that many writes one writes a flipped bit and reports success.
    pub(in crate::store) lie: Option<u32>,
    /// While set, no call is counted or fails.
    pub(in crate::store) paused: bool,
    pub(in crate::store) hides_full: bool,
    pub(in crate::store) no_holes: bool,
    /// Milliseconds that a change advances the clock.
    pub(in crate::store) slow_ms: u64,
}

/// Faults that have occurred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Fired {
    pub(in crate::store) reads: u32,
    pub(in crate::store) writes: u32,
    pub(in crate::store) syncs: u32,
    pub(in crate::store) full: u32,
    pub(in crate::store) lies: u32,
}

/// Counts a call; fails if a fault is due.
pub(super) fn due(count: &mut Option<u32>, paused: bool, fired: &mut u32) -> io::Result<()> {
    match count {
        _ if paused => Ok(()),
        Some(0) => {
            *count = None;
            *fired += 1;
            Err(Errno::IO.into())
        }
        Some(n) => {
            *n -= 1;
            Ok(())
        }
        None => Ok(()),
    }
}

/// Survival probabilities of one power cut or failed sync, in 256ths.
pub(super) struct Chance<'a> {
    rng: &'a mut Xoshiro256PlusPlus,
    sectors: u16,
    metadata: u16,
    /// Changes of length and space survive.
    pub(super) spares_metadata: bool,
}

impl<'a> Chance<'a> {
    pub(super) fn draw(rng: &'a mut Xoshiro256PlusPlus) -> Self {
        const MOODS: [u16; 6] = [0, 16, 128, 128, 240, 256];
        let (sectors, metadata) = (MOODS[rng.random_range(0..6)], MOODS[rng.random_range(0..6)]);
        Self { rng, sectors, metadata, spares_metadata: false }
    }
}

impl Survival for Chance<'_> {
    fn sectors(&mut self, written: u8) -> u8 {
        let dice = self.rng.random::<u64>().to_le_bytes();
        (0..8).fold(0, |kept, n| kept | u8::from(u16::from(dice[n]) < self.sectors) << n) & written
    }
    fn metadata(&mut self) -> bool {
        let dice: u8 = self.rng.random();
        self.spares_metadata || u16::from(dice) < self.metadata
    }
}
