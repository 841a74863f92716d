//! Balance, movement, zones, and the golden points.

use super::*;
use proptest::prelude::*;

fn id(seed: u64) -> VolumeId {
    let hash = blake3::hash(&seed.to_le_bytes());
    VolumeId::from_bytes(hash.as_bytes()[..16].try_into().unwrap())
}

fn member(seed: u64, weight: u64) -> Member {
    Member { id: id(seed), weight, zone: None }
}

fn key(n: usize) -> Key {
    Key::new(&format!("bucket/object-{n}")).unwrap()
}

fn first(ring: &Ring, keys: usize) -> Vec<VolumeId> {
    (0..keys).map(|n| ring.walk(&key(n)).next().unwrap()).collect()
}

/// The largest relative deviation of a member's share from its weight.
fn deviation(members: &[Member], owners: &[VolumeId]) -> f64 {
    let total: f64 = members.iter().map(|m| m.weight as f64).sum();
    let mut count: BTreeMap<VolumeId, usize> = BTreeMap::new();
    owners.iter().for_each(|o| *count.entry(*o).or_default() += 1);
    members
        .iter()
        .map(|m| {
            let share = *count.get(&m.id).unwrap_or(&0) as f64 / owners.len() as f64;
            (share / (m.weight as f64 / total) - 1.0).abs()
        })
        .fold(0.0, f64::max)
}

/// Exact shares for equal weights: the chance that the nearest of `PROBES` independent probes ends
/// at a point is the integral over distances d below its gap g of PROBES · (1 - S(d))^(PROBES - 1),
/// S(d) = Σ min(g, d) being the chance that one probe is nearer than d.
fn exact_deviation(ring: &Ring) -> f64 {
    const CIRCLE: f64 = 18_446_744_073_709_551_616.0;
    let n = ring.points.len();
    let mut gaps: Vec<(f64, usize)> = (0..n)
        .map(|i| {
            let before = ring.points[(i + n - 1) % n].at;
            (ring.points[i].at.wrapping_sub(before) as f64 / CIRCLE, ring.points[i].entry)
        })
        .collect();
    gaps.sort_by(|a, b| a.0.total_cmp(&b.0));
    let k = PROBES as f64;
    let (mut share, mut integral, mut reached, mut nearer) = (vec![0.0; ring.len()], 0.0, 0.0, 0.0f64);
    for (i, (gap, entry)) in gaps.iter().enumerate() {
        // Between two gaps S grows with slope n - i, so the integral has a closed form.
        let slope = (n - i) as f64;
        let further = nearer + slope * (gap - reached);
        integral += ((1.0 - nearer).powf(k) - (1.0 - further).max(0.0).powf(k)) / slope;
        (reached, nearer) = (*gap, further);
        share[*entry] += integral;
    }
    let sum: f64 = share.iter().sum();
    assert!((sum - 1.0).abs() < 1e-6, "{sum}");
    share.iter().map(|s| (s * ring.len() as f64 - 1.0).abs()).fold(0.0, f64::max)
}

#[test]
fn points_and_probes_never_change() {
    let v = VolumeId::from_bytes([7; 16]);
    assert_eq!([point_of(v, 0), point_of(v, 1), point_of(v, 127)], GOLDEN_POINTS);
    let probes = probes_of(&Key::new("bucket/key").unwrap());
    assert_eq!([probes[0], probes[20]], GOLDEN_PROBES);
    let ring = Ring::new(&(1..=5).map(|n| member(n, n)).collect::<Vec<_>>());
    let walk: Vec<u64> = ring.walk(&key(1)).map(|v| (1..=5).find(|n| id(*n) == v).unwrap()).collect();
    assert_eq!(walk, GOLDEN_WALK);
}

const GOLDEN_POINTS: [u64; 3] = [14029638099784365762, 4937147118785408710, 2838943753892785016];
const GOLDEN_PROBES: [u64; 2] = [6861261082472658779, 7068092761661586601];
const GOLDEN_WALK: [u64; 5] = [5, 3, 4, 1, 2];

#[test]
fn ten_equal_volumes_are_within_ten_percent() {
    let mut worst = 0.0f64;
    for set in 0..200 {
        let members: Vec<_> = (0..10).map(|n| member(set * 100 + n, 4 << 40)).collect();
        let ring = Ring::new(&members);
        assert_eq!(ring.points.len(), 10 * VIRTUAL_NODES as usize);
        worst = worst.max(exact_deviation(&ring));
    }
    assert!(worst < 0.08, "{worst}");
    let members: Vec<_> = (0..10).map(|n| member(n, 4 << 40)).collect();
    let counted = deviation(&members, &first(&Ring::new(&members), 100_000));
    assert!(counted < 0.10, "{counted}");
}

#[test]
fn unequal_volumes_are_within_ten_percent_of_their_weight() {
    for set in 0..6u64 {
        let members: Vec<_> =
            (0..10).map(|n| member(set * 100 + n, (1 + (n * 7 + set * 3) % 12) << 38)).collect();
        let counted = deviation(&members, &first(&Ring::new(&members), 100_000));
        assert!(counted < 0.10, "set {set}: {counted}");
    }
}

#[test]
fn second_choices_follow_the_weights_as_well() {
    let members: Vec<_> = (0..10).map(|n| member(n, 1 << 40)).collect();
    let ring = Ring::new(&members);
    let owners: Vec<_> = (0..50_000).map(|n| ring.walk(&key(n)).nth(1).unwrap()).collect();
    let counted = deviation(&members, &owners);
    assert!(counted < 0.10, "{counted}");
}

#[test]
fn an_empty_ring_proposes_nothing() {
    let ring = Ring::new(&[]);
    assert_eq!(ring.walk(&key(1)).next(), None);
    assert_eq!(ring.place(&key(1), 3, |_| true), []);
}

#[test]
fn zones_are_names() {
    assert!("rack-1.a_B".parse::<Zone>().is_ok());
    for bad in ["", "a b", "ü", &"z".repeat(65)] {
        assert_eq!(bad.parse::<Zone>(), Err(ZoneError), "{bad}");
    }
}

fn cluster() -> impl Strategy<Value = Vec<Member>> {
    prop::collection::btree_map(any::<u64>(), (1u64..1 << 44, prop::option::of(0u8..4)), 2..24).prop_map(
        |m| {
            let zone = |z: Option<u8>| z.map(|z| format!("z{z}").parse().unwrap());
            m.into_iter().map(|(s, (weight, z))| Member { id: id(s), weight, zone: zone(z) }).collect()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_new_volume_takes_its_share_and_nothing_else_moves(members in cluster(), weight in 1u64..1 << 44) {
        let newcomer = member(u64::MAX, weight);
        let larger: Vec<_> = members.iter().cloned().chain([newcomer.clone()]).collect();
        let (before, after) = (Ring::new(&members), Ring::new(&larger));
        let mut moved = 0usize;
        for (old, new) in first(&before, 2000).into_iter().zip(first(&after, 2000)) {
            moved += usize::from(old != new);
            prop_assert!(old == new || new == newcomer.id);
        }
        let total: u128 = larger.iter().map(|m| u128::from(m.weight)).sum();
        prop_assert!((moved as f64) / 2000.0 <= weight as f64 / total as f64 + 0.05);
        // The order of the others stays the same, so replicas do not move more than that either.
        for n in 0..20 {
            let rest: Vec<_> = after.walk(&key(n)).filter(|v| *v != newcomer.id).collect();
            prop_assert_eq!(before.walk(&key(n)).collect::<Vec<_>>(), rest);
        }
    }

    #[test]
    fn a_changed_weight_moves_keys_to_or_from_that_volume_only(members in cluster(), weight in 1u64..1 << 44) {
        let mut changed = members.clone();
        changed[0].weight = weight;
        let (before, after) = (Ring::new(&members), Ring::new(&changed));
        for (old, new) in first(&before, 500).into_iter().zip(first(&after, 500)) {
            prop_assert!(old == new || old == changed[0].id || new == changed[0].id);
        }
    }

    #[test]
    fn the_order_of_members_does_not_matter(members in cluster(), n in 0usize..1000) {
        let backwards: Vec<_> = members.iter().rev().cloned().collect();
        let walk: Vec<_> = Ring::new(&members).walk(&key(n)).collect();
        prop_assert_eq!(&walk, &Ring::new(&backwards).walk(&key(n)).collect::<Vec<_>>());
        let distinct: std::collections::BTreeSet<_> = walk.iter().collect();
        prop_assert_eq!(distinct.len(), members.len());
        prop_assert_eq!(walk.len(), members.len());
    }

    #[test]
    fn scores_order_the_walk(members in cluster(), n in 0usize..1000) {
        let (ring, probes) = (Ring::new(&members), probes_of(&key(n)));
        let score = |entry: usize| {
            let own = ring.points.iter().filter(|p| p.entry == entry);
            let distances = own.flat_map(|p| probes.iter().map(|at| p.at.wrapping_sub(*at)));
            distances.min().unwrap() as f64 / ring.entries[entry].weight
        };
        let scores: Vec<f64> = Walk::new(&ring, &key(n)).map(score).collect();
        prop_assert!(scores.is_sorted());
    }

    #[test]
    fn zones_are_used_evenly(members in cluster(), n in 0usize..10, down in prop::collection::vec(any::<bool>(), 24)) {
        let up: BTreeMap<VolumeId, bool> = members.iter().zip(&down).map(|(m, d)| (m.id, !*d)).collect();
        let ring = Ring::new(&members);
        let placed = ring.place(&key(n), n, |v| up[&v]);
        let zone_of = |v: &VolumeId| members.iter().find(|m| m.id == *v).unwrap().zone.clone();
        prop_assert_eq!(placed.len(), n.min(up.values().filter(|u| **u).count()));
        prop_assert!(placed.iter().all(|v| up[v]));
        let (mut have, mut used) = (BTreeMap::new(), BTreeMap::new());
        for m in members.iter().filter(|m| up[&m.id]) {
            *have.entry(m.zone.clone()).or_insert(0) += 1;
        }
        placed.iter().for_each(|v| *used.entry(zone_of(v)).or_insert(0) += 1);
        for (zone, times) in &used {
            let passed_over = have.iter().filter(|(z, _)| *z != zone);
            for (z, usable) in passed_over {
                prop_assert!(used.get(z).unwrap_or(&0) >= &(times - 1).min(*usable), "{placed:?}");
            }
        }
        if n > 0 && !placed.is_empty() {
            prop_assert_eq!(Some(placed[0]), ring.walk(&key(n)).find(|v| up[v]));
            prop_assert_eq!(ring.place(&key(n), n - 1, |v| up[&v]), placed[..placed.len().min(n - 1)].to_vec());
        }
    }
}
