//! What may happen in a run, and how often. A step names things by dice: which of those that are there is meant is
//! decided when it is done, so that every step can be drawn at any time.

use rand::RngExt;

use super::Profile;
use super::world::World;

/// One thing that happens.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// An upload from beginning to end; `again` tries a blob that is not there for a second time.
    Put {
        size: usize,
        declared: bool,
        again: bool,
    },
    /// An upload begins, for the steps below to go on with.
    Begin {
        size: usize,
        declared: bool,
    },
    /// Bytes for an upload under way.
    Write {
        upload: usize,
        bytes: usize,
    },
    /// It gives its buffer to the disk.
    Rest {
        upload: usize,
    },
    Finish {
        upload: usize,
    },
    /// It ends before all of its bytes came, or with more than were declared.
    FinishWrongly {
        upload: usize,
        short: bool,
    },
    /// It is given up, or just dropped.
    Abort {
        upload: usize,
        drop: bool,
    },
    /// So many blobs at once.
    Delete {
        first: usize,
        count: usize,
    },
    /// A reader is opened and held.
    OpenReader {
        blob: usize,
    },
    /// It reads on; at the end it goes.
    ReadOn {
        reader: usize,
        bytes: usize,
    },
    DropReader {
        reader: usize,
    },
    /// A part of a blob.
    ReadRange {
        blob: usize,
        from: usize,
        bytes: usize,
    },
    /// Time passes, and segments that are old enough are sealed.
    SealAged {
        minutes: u64,
    },
    /// Records are moved out of segments that are mostly dead.
    Compact {
        records: usize,
    },
    /// Records are verified.
    Scrub {
        records: usize,
    },
    /// A blob is written anew, from good bytes.
    Heal {
        blob: usize,
    },
    /// Work in the background gets a turn, or comes to its end.
    Background {
        all: bool,
    },
    Check,
    /// All uploads and readers are given up, and nothing may be held back.
    Quiet,
    /// A fault is set up.
    Fault(Fault),
}

/// A fault to come.
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
    /// No room but for so many pages; `hidden`: and nobody is told.
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
    /// The store is closed; the machine goes on.
    Close,
    /// The store is closed, then the power goes.
    CloseAndCut,
    /// The process is killed; the machine goes on.
    Kill,
    PowerCut,
}

impl Step {
    pub(super) fn draw(world: &mut World) -> Self {
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

/// Around the sizes of pages and blocks, and mostly small: a run is to be short.
fn size(rng: &mut impl RngExt) -> usize {
    const EDGES: [usize; 12] = [0, 1, 511, 4095, 4096, 4097, 8192, 12_289, 65_535, 65_536, 65_537, 131_073];
    match rng.random_range(0..10) {
        0..7 => EDGES[rng.random_range(0..8)],
        7..9 => EDGES[rng.random_range(0..EDGES.len())],
        _ => rng.random_range(0..300_000),
    }
}

impl Fault {
    fn draw_failure(world: &mut World) -> Self {
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

    pub(super) fn draw_flip(world: &mut World) -> Self {
        let rng = world.rng();
        let (file, place) = (rng.random_range(0..1 << 16), rng.random_range(0..1 << 30));
        Self::Flip { file, place, bit: rng.random_range(0..8) }
    }
}

impl Ending {
    pub(super) fn draw(world: &mut World) -> Self {
        let stopped = world.stopped();
        match world.rng().random_range(0..10) {
            0..2 if !stopped => Self::Close,
            2..4 if !stopped => Self::CloseAndCut,
            0..6 => Self::Kill,
            _ => Self::PowerCut,
        }
    }
}
