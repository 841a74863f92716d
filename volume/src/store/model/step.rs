//! The steps of a run, and their frequencies. A step refers to things by random numbers, which are resolved when it
//! is executed, so that every step can be drawn at any time.

use rand::RngExt;

use super::Profile;
use super::world::ModelState;

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// A complete upload; `again` retries a blob that is not there.
    Put {
        size: usize,
        declared: bool,
        again: bool,
    },
    /// Begins an upload, which the steps below continue.
    Begin {
        size: usize,
        declared: bool,
    },
    /// Writes bytes to an upload under way.
    Write {
        upload: usize,
        bytes: usize,
    },
    /// Flushes its buffer to the disk.
    Rest {
        upload: usize,
    },
    Finish {
        upload: usize,
    },
    /// Finishes it with fewer or more bytes than declared.
    FinishWrongly {
        upload: usize,
        short: bool,
    },
    /// Aborts or drops it.
    Abort {
        upload: usize,
        drop: bool,
    },
    /// Deletes that many blobs at once.
    Delete {
        first: usize,
        count: usize,
    },
    /// Opens and holds a reader.
    OpenReader {
        blob: usize,
    },
    /// Continues a reader; drops it at the end.
    ReadOn {
        reader: usize,
        bytes: usize,
    },
    DropReader {
        reader: usize,
    },
    /// Reads a part of a blob.
    ReadRange {
        blob: usize,
        from: usize,
        bytes: usize,
    },
    /// Advances the clock, and seals segments past their age.
    SealAged {
        minutes: u64,
    },
    /// Moves records out of segments that are mostly dead.
    Compact {
        records: usize,
    },
    Scrub {
        records: usize,
    },
    /// Rewrites a blob from good bytes.
    Heal {
        blob: usize,
    },
    /// Runs one background task, or all.
    Background {
        all: bool,
    },
    Check,
    /// Drops all uploads and readers; then no resource may be held.
    Quiet,
    Fault(Fault),
}

/// A planned fault.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    Read {
        after: u32,
    },
    Write {
        after: u32,
    },
    Sync {
        after: u32,
    },
    /// Leaves space for that many pages; `hidden`: `free_bytes` does not show it.
    Full {
        pages: u64,
        hidden: bool,
    },
    Room,
    Slow {
        ms: u64,
    },
    Flip {
        file: usize,
        place: usize,
        bit: u8,
    },
}

/// How a life ends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    /// Closes the store; the machine stays up.
    Close,
    /// Closes the store, then cuts the power.
    CloseAndCut,
    /// Kills the process; the machine stays up.
    Kill,
    PowerCut,
}

impl Step {
    pub(super) fn draw(world: &mut ModelState) -> Self {
        let profile = world.profile();
        let rng = world.rng();
        let dice = rng.random_range(0..100);
        let n = rng.random_range(0..1 << 16);
        let bytes = rng.random_range(1..100_000);
        match dice {
            0..20 => Self::Put { size: size(rng), declared: rng.random(), again: rng.random_bool(0.3) },
            20..27 => Self::Begin { size: size(rng), declared: rng.random() },
            27..36 => Self::Write { upload: n, bytes },
            36..40 => Self::Rest { upload: n },
            40..47 => Self::Finish { upload: n },
            47..49 => Self::FinishWrongly { upload: n, short: rng.random() },
            49..52 => Self::Abort { upload: n, drop: rng.random() },
            52..65 => Self::Delete { first: n, count: rng.random_range(1..5) },
            65..68 => Self::OpenReader { blob: n },
            68..71 => Self::ReadOn { reader: n, bytes },
            71..73 => Self::DropReader { reader: n },
            73..76 => Self::ReadRange { blob: n, from: rng.random_range(0..1 << 20), bytes },
            76..80 => Self::SealAged { minutes: rng.random_range(0..90) },
            80..83 => Self::Compact { records: rng.random_range(1..6) },
            83..84 => Self::Scrub { records: rng.random_range(1..10) },
            84..86 => Self::Heal { blob: n },
            86..90 => Self::Background { all: rng.random_bool(0.3) },
            90..91 => Self::Check,
            91..92 => Self::Quiet,
            _ => match profile {
                Profile::Crashes => Self::Background { all: true },
                Profile::Faults => Self::Fault(Fault::draw_failure(world)),
                Profile::Rot => Self::Fault(Fault::draw_flip(world)),
                Profile::Everything if n % 2 == 0 => Self::Fault(Fault::draw_failure(world)),
                Profile::Everything => Self::Fault(Fault::draw_flip(world)),
            },
        }
    }
}

/// Draws a size, often around page and block sizes, and mostly small, for short runs.
fn size(rng: &mut impl RngExt) -> usize {
    const EDGES: [usize; 12] = [0, 1, 511, 4095, 4096, 4097, 8192, 12_289, 65_535, 65_536, 65_537, 131_073];
    match rng.random_range(0..10) {
        0..7 => EDGES[rng.random_range(0..8)],
        7..9 => EDGES[rng.random_range(0..EDGES.len())],
        _ => rng.random_range(0..300_000),
    }
}

impl Fault {
    fn draw_failure(world: &mut ModelState) -> Self {
        let rng = world.rng();
        let after = rng.random_range(0..8);
        match rng.random_range(0..12) {
            0..2 => Self::Read { after },
            2..4 => Self::Write { after },
            4..6 => Self::Sync { after },
            6..9 => Self::Full { pages: rng.random_range(0..24), hidden: rng.random() },
            9..11 => Self::Room,
            _ => Self::Slow { ms: rng.random_range(0..5000) },
        }
    }

    pub(super) fn draw_flip(world: &mut ModelState) -> Self {
        let rng = world.rng();
        let (file, place) = (rng.random_range(0..1 << 16), rng.random_range(0..1 << 30));
        Self::Flip { file, place, bit: rng.random_range(0..8) }
    }
}

impl Ending {
    pub(super) fn draw(world: &mut ModelState) -> Self {
        let stopped = world.stopped();
        match world.rng().random_range(0..10) {
            0..2 if !stopped => Self::Close,
            2..4 if !stopped => Self::CloseAndCut,
            0..6 => Self::Kill,
            _ => Self::PowerCut,
        }
    }
}
