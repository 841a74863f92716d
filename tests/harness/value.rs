//! Values and choices that look random and are the same for the same seed.

/// Returns `len` bytes determined by `seed`; different seeds share no block.
pub fn value(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// A random number generator: `SplitMix64`. Inlined: this crate is built without optimisation, the simulator is not.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Uses the seed in `BARGE_SEED`, or one that differs from run to run, and prints it.
    pub fn of_run() -> Self {
        let fresh =
            u64::from_le_bytes(blake3::hash(&run_mark()).as_bytes()[..8].try_into().expect("eight bytes"));
        let seed = crate::amount("BARGE_SEED", fresh, fresh);
        crate::say(format_args!("BARGE_SEED={seed}"));
        Self(seed)
    }

    #[inline]
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `n`.
    ///
    /// # Panics
    /// If `n` is 0.
    #[inline]
    pub fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }

    /// Returns an index into a list of `n`.
    ///
    /// # Panics
    /// If `n` is 0.
    #[inline]
    pub fn index(&mut self, n: usize) -> usize {
        usize::try_from(self.below(n as u64)).expect("below a usize")
    }

    /// Returns true once in `n` times.
    #[inline]
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Returns an independent generator.
    #[must_use]
    #[inline]
    pub fn split(&mut self) -> Self {
        Self(self.roll())
    }
}

fn run_mark() -> Vec<u8> {
    let now = shared::clock::Clock::System.now().unix_ms();
    [now.to_le_bytes(), u64::from(std::process::id()).to_le_bytes()].concat()
}
