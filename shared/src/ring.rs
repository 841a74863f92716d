//! Which volumes should hold a key (placement, as by CRUSH or a token ring): consistent hashing with
//! weighted virtual nodes, and zones for racks and other failure domains. Which of them can:
//! `choose_volumes` in `master/src/cluster.rs`.
//!
//! Every volume has `VIRTUAL_NODES` points on a circle of 2^64. A key is hashed `PROBES` times (multi-probe
//! consistent hashing, Appleton and O'Reilly 2015), and a volume's score for it is the smallest distance from any
//! probe to the volume's next point, divided by the volume's weight; the smallest score comes first. A score depends
//! only on key, volume and weight, so a volume that is added, removed or grows moves keys onto or off itself and
//! never between others. With one probe the shares would scatter by 9 %, with these by 1.4 %.
//!
//! Pure: only proposes. Where a value was stored is recorded in the object, and reads follow the record.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt;
use std::str::FromStr;

use crate::ids::VolumeId;
use crate::key::Key;
use crate::limits::VIRTUAL_NODES;

/// Hashes of a key that look for the nearest point: the paper's number.
const PROBES: usize = 21;
/// Longest zone name in bytes.
const ZONE_BYTES_MAX: usize = 64;

/// What fails together (a failure domain): a rack, a room, a machine with several disks. 1..=64 letters, digits,
/// `-`, `_`, `.`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Zone(String);

/// The text is not a valid zone name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a zone is 1 to 64 letters, digits, '-', '_' or '.'")]
pub struct ZoneError;

impl Zone {
    /// Returns the name as it was configured.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Zone {
    type Err = ZoneError;
    fn from_str(s: &str) -> Result<Self, ZoneError> {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let fits = (1..=ZONE_BYTES_MAX).contains(&s.len());
        if fits && s.bytes().all(good) { Ok(Self(s.to_owned())) } else { Err(ZoneError) }
    }
}

impl TryFrom<String> for Zone {
    type Error = ZoneError;
    fn try_from(s: String) -> Result<Self, ZoneError> {
        s.parse()
    }
}

impl From<Zone> for String {
    fn from(z: Zone) -> Self {
        z.0
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Zone({})", self.0)
    }
}

/// A volume as the ring sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The id of the volume.
    pub id: VolumeId,
    /// Its capacity in bytes, which sets its share of the keys. 0 counts as 1.
    pub weight: u64,
    /// Its zone. Volumes without one share a zone that has no name.
    pub zone: Option<Zone>,
}

/// The circle: the points of all members in order.
#[derive(Clone, Debug, Default)]
pub struct Ring {
    /// Ordered by id, each id once.
    entries: Vec<RingVolume>,
    /// Ordered by position.
    points: Vec<Point>,
    weight_max: f64,
    zones: usize,
}

#[derive(Clone, Copy, Debug)]
struct RingVolume {
    id: VolumeId,
    weight: f64,
    zone: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    at: u64,
    /// Index into `entries`.
    entry: usize,
}

impl Ring {
    /// The ring of these members, in any order. A duplicate id counts once.
    pub fn new(members: &[Member]) -> Self {
        let mut members: Vec<&Member> = members.iter().collect();
        members.sort_by(|a, b| (a.id, a.weight, &a.zone).cmp(&(b.id, b.weight, &b.zone)));
        members.dedup_by_key(|m| m.id);
        let mut zones: BTreeMap<Option<&Zone>, usize> = BTreeMap::new();
        let mut entries = Vec::with_capacity(members.len());
        for m in members {
            let next = zones.len();
            let zone = *zones.entry(m.zone.as_ref()).or_insert(next);
            entries.push(RingVolume { id: m.id, weight: m.weight.max(1) as f64, zone });
        }
        let point = |entry: usize, n: u32| Point { at: point_of(entries[entry].id, n), entry };
        let mut points: Vec<Point> = (0..entries.len())
            .flat_map(|s| (0..VIRTUAL_NODES).map(move |n| (s, n)))
            .map(|(s, n)| point(s, n))
            .collect();
        points.sort_unstable();
        let weight_max = entries.iter().map(|s| s.weight).fold(1.0, f64::max);
        Self { weight_max, zones: zones.len(), entries, points }
    }

    /// Number of volumes on the ring.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no volumes.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All volumes, each once, the best for this key first.
    pub fn walk(&self, key: &Key) -> impl Iterator<Item = VolumeId> {
        Walk::new(self, key).map(|entry| self.entries[entry].id)
    }

    /// Up to `n` usable volumes for this key, in the order of `walk`, except that no zone is used again before every
    /// zone with usable volumes left has been used as often. A smaller `n` gives a prefix of a larger one's answer.
    pub fn place(&self, key: &Key, n: usize, usable: impl Fn(VolumeId) -> bool) -> Vec<VolumeId> {
        let usable: Vec<bool> = self.entries.iter().map(|s| usable(s.id)).collect();
        let mut in_zone = vec![0usize; self.zones];
        for (entry, _) in self.entries.iter().zip(&usable).filter(|(_, u)| **u) {
            in_zone[entry.zone] += 1;
        }
        let (full, mut rest) = rounds(&in_zone, n);
        let mut wanted: usize = in_zone.iter().map(|have| full.min(*have)).sum::<usize>() + rest;
        let mut used = vec![0usize; self.zones];
        let mut chosen: Vec<(usize, VolumeId)> = Vec::with_capacity(wanted);
        let mut walk = Walk::new(self, key).filter(|entry| usable[*entry]);
        while wanted > 0 {
            let Some(entry) = walk.next() else { break };
            let RingVolume { id, zone, .. } = self.entries[entry];
            let round = used[zone];
            used[zone] += 1;
            if round > full || (round == full && rest == 0) {
                continue;
            }
            rest -= usize::from(round == full);
            wanted -= 1;
            chosen.push((round, id));
        }
        chosen.sort_by_key(|(round, _)| *round);
        chosen.into_iter().map(|(_, id)| id).collect()
    }
}

/// How often every zone is used (as far as it has volumes), and how many zones are used once more.
fn rounds(in_zone: &[usize], n: usize) -> (usize, usize) {
    let mut left = n;
    for round in 0.. {
        let zones = in_zone.iter().filter(|have| **have > round).count();
        if zones == 0 || zones > left {
            return (round, left.min(zones));
        }
        left -= zones;
    }
    unreachable!("a zone has finitely many volumes")
}

/// The position of the `n`th virtual node of a volume. Part of a cluster's format: never changes.
fn point_of(id: VolumeId, n: u32) -> u64 {
    let mut hash = blake3::Hasher::new();
    hash.update(id.as_bytes()).update(&n.to_le_bytes());
    let mut at = [0; 8];
    hash.finalize_xof().fill(&mut at);
    u64::from_le_bytes(at)
}

/// The positions from which a key searches. Never change either.
fn probes_of(key: &Key) -> [u64; PROBES] {
    let mut bytes = [0; PROBES * 8];
    blake3::Hasher::new().update(key.as_str().as_bytes()).finalize_xof().fill(&mut bytes);
    let (eights, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|i| u64::from_le_bytes(eights[i]))
}

/// A score: distance over weight. Ordered numerically; never NaN.
#[derive(Clone, Copy, PartialEq)]
struct Score(f64);

impl Eq for Score {}
impl Ord for Score {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}
impl PartialOrd for Score {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Volumes in the order of their scores. Each probe moves up the circle from its start; a volume is returned once no
/// point that is still ahead of any probe could score better, whatever its weight.
struct Walk<'a> {
    ring: &'a Ring,
    probes: [u64; PROBES],
    /// Per probe: the lowest score that its next point can have, the index of that point, and how many were passed.
    ahead: BinaryHeap<Reverse<(Score, usize, usize, usize)>>,
    /// Volumes met, with their scores.
    met: BinaryHeap<Reverse<(Score, usize)>>,
    given: Vec<bool>,
    left: usize,
}

impl<'a> Walk<'a> {
    fn new(ring: &'a Ring, key: &Key) -> Self {
        let probes = probes_of(key);
        let mut walk = Self {
            ring,
            probes,
            ahead: BinaryHeap::new(),
            met: BinaryHeap::new(),
            given: vec![false; ring.len()],
            left: ring.len(),
        };
        if !ring.is_empty() {
            let first = |(p, at): (usize, &u64)| {
                let index = ring.points.partition_point(|point| point.at < *at) % ring.points.len();
                Reverse((walk.least(p, index), p, index, 0))
            };
            walk.ahead = probes.iter().enumerate().map(first).collect::<Vec<_>>().into();
        }
        walk
    }

    /// The score that a point at this position would have if it belonged to the heaviest member.
    fn least(&self, probe: usize, index: usize) -> Score {
        Score(self.distance(probe, index) / self.ring.weight_max)
    }

    fn distance(&self, probe: usize, index: usize) -> f64 {
        self.ring.points[index].at.wrapping_sub(self.probes[probe]) as f64
    }

    /// Takes the nearest point ahead, and replaces it by that probe's next one.
    fn advance(&mut self) {
        let Some(mut top) = self.ahead.peek_mut() else { return };
        let Reverse((_, probe, index, passed)) = *top;
        let points = &self.ring.points;
        let next = (index + 1) % points.len();
        if passed + 1 == points.len() {
            std::collections::binary_heap::PeekMut::pop(top);
        } else {
            let distance = points[next].at.wrapping_sub(self.probes[probe]) as f64;
            *top = Reverse((Score(distance / self.ring.weight_max), probe, next, passed + 1));
            drop(top);
        }
        let entry = points[index].entry;
        if !self.given[entry] {
            let score = Score(self.distance(probe, index) / self.ring.entries[entry].weight);
            self.met.push(Reverse((score, entry)));
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        while self.left > 0 {
            let least = self.ahead.peek().map(|Reverse((score, ..))| *score);
            match self.met.peek() {
                Some(Reverse((score, entry))) if least.is_none_or(|l| *score < l) => {
                    let entry = *entry;
                    self.met.pop();
                    if !std::mem::replace(&mut self.given[entry], true) {
                        self.left -= 1;
                        return Some(entry);
                    }
                }
                _ => self.advance(),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
