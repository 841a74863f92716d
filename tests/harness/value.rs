//! Values and choices that look random and are the same for the same seed.

/// `len` bytes that `seed` determines; different seeds share no block.
pub fn value(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

/// Choices: `SplitMix64`. Inlined where it is used: this crate is built without optimisation, the simulator is not.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// The choices of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The seed named by `BARGE_SEED`, or one that differs from run to run; said aloud.
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

    /// A number below `n`.
    ///
    /// # Panics
    /// When `n` is 0.
    #[inline]
    pub fn below(&mut self, n: u64) -> u64 {
        self.roll() % n
    }

    /// A place in a list of `n`.
    ///
    /// # Panics
    /// When `n` is 0.
    #[inline]
    pub fn index(&mut self, n: usize) -> usize {
        usize::try_from(self.below(n as u64)).expect("below a usize")
    }

    /// True once in `n` times.
    #[inline]
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// A die of its own for somebody else.
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
