//! Golden bytes, torn and corrupt tails, indexes of other segments.

use super::*;
use proptest::prelude::*;

fn segment() -> SegmentHeader {
    SegmentHeader {
        volume: VolumeId::from_bytes(*b"volume-of-tests!"),
        number: SegmentNumber(7),
        created: Timestamp::from_unix_ms(1_700_000_000_000),
        salt: [0x5a; 32],
    }
}

fn blob(n: u64) -> BlobId {
    BlobId::next(None, Timestamp::from_unix_ms(1_700_000_000_000 + n), [3; 10])
}

fn extent(page: u32) -> Extent {
    let segment = SegmentNumber(7);
    Extent { segment, page, length: 70_000, finished_secs: 1_700_000_000, header_pages: 1 }
}

fn entries() -> Vec<Entry> {
    let finished = Timestamp::from_unix_ms(1_700_000_000_000);
    vec![
        Entry::Put { blob: blob(2), extent: extent(1), finished },
        Entry::Put { blob: blob(1), extent: extent(30), finished },
        Entry::Delete { blob: blob(2), extent: extent(1) },
        Entry::Quarantined { offset: 60 * PAGE, bytes: 3 * PAGE },
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn golden() {
    let bytes = encode(&entries(), &segment());
    assert_eq!(
        hex(&bytes[..64]),
        "42415247454944580100000000000000766f6c756d652d6f662d7465737473210700000000000000\
         bcd4d2bd6fe2961ca63b3597a34022d9000000006a5291a7"
    );
    assert_eq!(
        hex(&bytes[64..128]),
        "01010000157bee250010000000000000018bcfe56802730383030303030303037011010000000000\
         0068e5cf8b01000000000000000000000000000000000000"
    );
    assert_eq!(bytes.len(), 64 + 4 * 64);
}

#[test]
fn a_sealed_index_is_sorted_and_takes_deletes_afterwards() {
    let seal = sealed(&segment(), entries(), 90 * PAGE);
    assert!(matches!(seal[0], Entry::Put { blob: b, .. } if b == blob(1)));
    assert!(matches!(seal[4], Entry::Seal { count: 4, .. }));
    let mut more = seal;
    more.push(Entry::Delete { blob: blob(1), extent: extent(30) });
    let bytes = encode(&more, &segment());
    let contents = decode(&bytes, &segment()).unwrap();
    assert_eq!(contents.entries, more);
    assert!(contents.sealed && !contents.rotten);
    // A seal that covers other entries.
    let mut fewer = more;
    fewer.remove(0);
    assert!(decode(&encode(&fewer, &segment()), &segment()).unwrap().rotten);
}

#[test]
fn another_s_index_is_refused() {
    let bytes = encode(&entries(), &segment());
    let mut others = vec![segment(); 3];
    others[0].number = SegmentNumber(8);
    others[1].volume = VolumeId::random();
    others[2].salt[0] ^= 1;
    for other in others {
        assert!(decode(&bytes, &other).is_err());
    }
    for byte in 0..64 {
        let mut bad = bytes.clone();
        bad[byte] ^= 1 << (byte % 8);
        assert!(decode(&bad, &segment()).is_err(), "{byte}");
    }
}

#[test]
fn any_flipped_bit_of_an_entry_is_seen() {
    let bytes = encode(&entries(), &segment());
    for bit in 64 * 8..bytes.len() * 8 {
        let mut bad = bytes.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let contents = decode(&bad, &segment()).unwrap();
        let entry = bit / 8 / 64 - 1;
        assert_eq!(contents.entries.len(), 3);
        assert_eq!(contents.rotten, entry < 3, "{bit}");
        assert_eq!(contents.torn_bytes, if entry == 3 { 64 } else { 0 });
    }
}

#[test]
fn an_entry_in_another_place_is_refused() {
    let mut bytes = encode(&entries(), &segment());
    bytes.copy_within(64..128, 128);
    let contents = decode(&bytes, &segment()).unwrap();
    assert_eq!(contents.entries.len(), 3);
    assert!(contents.rotten);
}

proptest! {
    #[test]
    fn a_torn_tail_is_cut_to_the_last_good_entry(cut in 64usize..320, garbage in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut bytes = encode(&entries(), &segment());
        let lost = bytes.split_off(cut);
        // Entries end in zeros: garbage that equals the cut bytes is not garbage.
        prop_assume!(garbage.first() != lost.first() || garbage.is_empty());
        bytes.extend(&garbage);
        let contents = decode(&bytes, &segment()).unwrap();
        let whole = cut / 64 - 1;
        prop_assert_eq!(&contents.entries[..], &entries()[..whole]);
        prop_assert!(!contents.rotten);
        prop_assert_eq!(contents.good_bytes, 64 + 64 * whole as u64);
        prop_assert_eq!(contents.torn_bytes, bytes.len() as u64 - contents.good_bytes);
    }
}
