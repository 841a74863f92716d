//! Golden bytes, round trips, and all kinds of corrupt and displaced pages.

use super::trailer::{FIRST_SUMS, FURTHER_SUMS};
use super::*;
use proptest::prelude::*;
use shared::digest::Digest;

fn segment() -> SegmentHeader {
    SegmentHeader {
        volume: VolumeId::from_bytes(*b"volume-of-tests!"),
        number: SegmentNumber(7),
        created: Timestamp::from_unix_ms(1_700_000_000_000),
        salt: [0x5a; 32],
    }
}

fn blob() -> BlobId {
    BlobId::next(None, Timestamp::from_unix_ms(1_700_000_000_001), [3; 10])
}

fn header() -> RecordHeader {
    RecordHeader {
        blob: blob(),
        key: Key::new("bucket/key").unwrap(),
        content_type: Some("text/plain".into()),
        metadata: vec![("a".into(), "1".into()), ("bb".into(), String::new())],
        declared: Some(70_000),
        created: Timestamp::from_unix_ms(1_700_000_000_002),
    }
}

fn trailer(length: u64) -> (Trailer, Vec<u32>) {
    let sums = (0..blocks_of(length)).map(|n| u32::try_from(n * 3 + 1).unwrap()).collect();
    let (digest, finished) = (Digest::of(b"x"), Timestamp::from_unix_ms(1_700_000_000_003));
    (Trailer { blob: blob(), length, digest, finished }, sums)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

const AT: u64 = 5 * PAGE;

#[test]
fn golden_segment_header() {
    let page = segment().encode();
    assert_eq!(page.len(), PAGE_BYTES);
    assert_eq!(
        hex(&page[..80]),
        "4241524745534547010000000000000076\
         6f6c756d652d6f662d746573747321070000000000000000\
         68e5cf8b010000"
            .to_owned()
            + &"5a".repeat(32)
    );
    assert!(page[80..CRC_AT].iter().all(|b| *b == 0));
    assert_eq!(hex(&page[CRC_AT..]), "94f8ca51");
    assert_eq!(SegmentHeader::decode(&page, segment().volume, SegmentNumber(7)), Ok(segment()));
}

#[test]
fn golden_record_header() {
    let pages = header().encode(&segment(), AT).unwrap();
    assert_eq!(pages.len(), PAGE_BYTES);
    assert_eq!(
        hex(&pages[..64]),
        "1a664aef6a870ee490dc8dede1076a1f018bcfe56801730383030303030303037011010000000000\
         0268e5cf8b010000010000000a000a0002000000d74ba43e"
    );
    assert_eq!(&pages[64..84], b"bucket/keytext/plain");
    assert_eq!(&pages[84..97], b"\x01\0\x01\0a1\x02\0\0\0bb\0");
    assert!(pages[96..].iter().all(|b| *b == 0));
}

#[test]
fn golden_trailer() {
    let (t, sums) = trailer(70_000);
    let pages = t.encode(&segment(), AT, AT + 20 * PAGE, &sums);
    assert_eq!(pages.len(), PAGE_BYTES);
    assert_eq!(
        hex(&pages[..104]),
        "cd34dee9cbf93ab35be080c4738c38b9018bcfe56801730383030303030303037011010000000000\
         3ae7d805f6789a6402acb70ad4096a85a56bf6804eaf25c0493ac697548d30b50000010002000000\
         01000000000000000368e5cf8b0100000100000004000000"
    );
    assert_eq!(hex(&pages[CRC_AT..]), "239c1d62");
}

#[test]
fn the_largest_header_fits_and_one_more_does_not() {
    use shared::limits::{CONTENT_TYPE_BYTES_MAX, KEY_BYTES_MAX, METADATA_BYTES_MAX, METADATA_ENTRIES_MAX};
    let mut large = header();
    large.key = Key::new(&"k".repeat(KEY_BYTES_MAX)).unwrap();
    large.content_type = Some("t".repeat(CONTENT_TYPE_BYTES_MAX));
    let each = METADATA_BYTES_MAX / METADATA_ENTRIES_MAX / 2;
    large.metadata = vec![("n".repeat(each), "v".repeat(each)); METADATA_ENTRIES_MAX];
    let pages = large.encode(&segment(), AT).unwrap();
    assert_eq!(pages.len(), HEADER_PAGES_MAX * PAGE_BYTES);
    assert!(pages[TOMBSTONE_AT..PAGE_BYTES].iter().all(|b| *b == 0));
    assert_eq!(RecordHeader::decode(&segment(), AT, &pages), Ok(large.clone()));
    large.metadata = vec![("n".repeat(65_536), String::new())];
    assert_eq!(large.encode(&segment(), AT), Err(HeaderTooLarge));
    large.metadata = vec![("n".repeat(12_000), String::new())];
    assert_eq!(large.encode(&segment(), AT), Err(HeaderTooLarge));
}

#[test]
fn no_flipped_bit_passes() {
    let (seg, at) = (segment(), AT + 20 * PAGE);
    let page = seg.encode();
    let mut large = header();
    large.metadata = vec![("n".repeat(3000), "v".repeat(3000))];
    let head = large.encode(&seg, AT).unwrap();
    assert_eq!(head.len(), 2 * PAGE_BYTES);
    let (t, sums) = trailer(1500 * BLOCK);
    let tail = t.encode(&seg, AT, at, &sums);
    for (bytes, skip) in [(&page, 0..0), (&head, TOMBSTONE_AT..PAGE_BYTES), (&tail, 0..0)] {
        for byte in (0..bytes.len()).filter(|b| !skip.contains(b)) {
            let mut bad = bytes.clone();
            bad[byte] ^= 1 << (byte % 8);
            let passes = if bytes.len() == page.len() {
                SegmentHeader::decode(&bad, seg.volume, seg.number).is_ok()
            } else if bytes == &head {
                RecordHeader::decode(&seg, AT, &bad).is_ok()
            } else {
                Trailer::decode(&seg, AT, blob(), at, &bad[..PAGE_BYTES]).is_ok()
                    && t.decode_further(&seg, AT, at + PAGE, 1, &bad[PAGE_BYTES..]).is_ok()
            };
            assert!(!passes, "byte {byte}");
        }
    }
}

#[test]
fn a_page_from_elsewhere_is_refused() {
    let seg = segment();
    let head = header().encode(&seg, AT).unwrap();
    let (t, sums) = trailer(1500 * BLOCK);
    let (at, further) = (AT + 9 * PAGE, AT + 10 * PAGE);
    let tail = t.encode(&seg, AT, at, &sums);
    let (first, second) = tail.split_at(PAGE_BYTES);
    assert!(Trailer::decode(&seg, AT, blob(), at, first).is_ok());
    assert!(t.decode_further(&seg, AT, further, 1, second).is_ok());
    // Another offset, another segment, another volume, another salt, another blob, another page.
    let mut others = vec![seg.clone(); 3];
    others[0].number = SegmentNumber(8);
    others[1].volume = VolumeId::random();
    others[2].salt[31] ^= 1;
    for other in others {
        assert!(RecordHeader::decode(&other, AT, &head).is_err());
        assert!(Trailer::decode(&other, AT, blob(), at, first).is_err());
        assert!(t.decode_further(&other, AT, further, 1, second).is_err());
        assert_eq!(other.fingerprint() == seg.fingerprint(), other.salt == seg.salt);
    }
    assert!(RecordHeader::decode(&seg, AT + PAGE, &head).is_err());
    assert!(Trailer::decode(&seg, AT + PAGE, blob(), at, first).is_err());
    assert!(Trailer::decode(&seg, AT, blob(), at + PAGE, first).is_err());
    assert!(t.decode_further(&seg, AT, further + PAGE, 1, second).is_err());
    assert!(t.decode_further(&seg, AT, further, 2, second).is_err());
    let other = BlobId::next(None, Timestamp::from_unix_ms(5), [3; 10]);
    assert!(Trailer::decode(&seg, AT, other, at, first).is_err());
    let page = seg.encode();
    assert_eq!(SegmentHeader::decode(&page, VolumeId::random(), seg.number), Err(FormatError::Volume));
    assert_eq!(SegmentHeader::decode(&page, seg.volume, SegmentNumber(8)), Err(FormatError::Number));
}

#[test]
fn a_later_version_says_so() {
    let mut page = segment().encode();
    page[8] = 2;
    let sum = crc32c(&page[..CRC_AT]);
    page[CRC_AT..].copy_from_slice(&sum.to_le_bytes());
    assert_eq!(
        SegmentHeader::decode(&page, segment().volume, SegmentNumber(7)),
        Err(FormatError::Version(2))
    );
}

#[test]
fn a_tombstone_changes_nothing_else() {
    let seg = segment();
    let mut pages = header().encode(&seg, AT).unwrap();
    assert!(!tombstone::is_set(&seg, AT, blob(), &pages));
    tombstone::set(&seg, AT, blob(), &mut pages);
    assert!(tombstone::is_set(&seg, AT, blob(), &pages));
    assert!(!tombstone::is_set(&seg, AT + PAGE, blob(), &pages));
    assert_eq!(RecordHeader::decode(&seg, AT, &pages), Ok(header()));
}

#[test]
fn checksums_have_their_pages() {
    assert_eq!((FIRST_SUMS, FURTHER_SUMS), (999, 1017));
    assert_eq!([0, 1, 999, 1000, 2016, 2017].map(|n| trailer_pages(n * BLOCK)), [1, 1, 1, 2, 2, 3]);
    assert_eq!(sums_page(998), (0, 0..999));
    assert_eq!(sums_page(999), (1, 999..2016));
    assert_eq!(sums_page(2016).0, 2);
}

#[test]
fn a_bad_block_is_named() {
    let bytes: Vec<u8> = (0..BLOCK_BYTES * 2 + 10).map(|n| n.to_le_bytes()[0]).collect();
    let mut sums: Vec<u32> = bytes.chunks(BLOCK_BYTES).map(crc32c).collect();
    assert_eq!(bad_block(&bytes, &sums), None);
    sums[2] ^= 1;
    assert_eq!(bad_block(&bytes, &sums), Some(2));
    assert_eq!(bad_block(&bytes, &sums[..1]), Some(1));
}

proptest! {
    #[test]
    fn headers_round_trip(
        key in "[a-z/ü]{1,300}",
        content_type in prop::option::of("[a-z/]{0,200}"),
        metadata in prop::collection::vec(("[a-z]{0,60}", "\\PC{0,60}"), 0..40),
        declared in prop::option::of(0u64..1 << 40),
        page in 1u64..1 << 30,
    ) {
        let key = Key::new(&key).unwrap();
        let at = page * PAGE;
        let head = RecordHeader { key, content_type, metadata, declared, ..header() };
        if let Ok(pages) = head.encode(&segment(), at) {
            prop_assert_eq!(RecordHeader::probe(&segment(), at, &pages), Some(pages.len() / PAGE_BYTES));
            prop_assert_eq!(RecordHeader::decode(&segment(), at, &pages), Ok(head));
        }
    }

    #[test]
    fn trailers_round_trip(blocks in 0u64..5000, rest in 0u64..BLOCK, page in 1u64..1 << 30) {
        let (t, sums) = trailer(blocks * BLOCK + rest);
        let (seg, record, at) = (segment(), page * PAGE, page * PAGE + 77 * PAGE);
        let pages = t.encode(&seg, record, at, &sums);
        prop_assert_eq!(pages.len() as u64, trailer_pages(t.length) * PAGE);
        let (back, mut all) = Trailer::decode(&seg, record, t.blob, at, &pages[..PAGE_BYTES]).unwrap();
        prop_assert_eq!(&back, &t);
        for (number, bytes) in (0..).zip(pages.chunks(PAGE_BYTES)).skip(1) {
            all.extend(t.decode_further(&seg, record, at + number * PAGE, number, bytes).unwrap());
        }
        prop_assert_eq!(all, sums);
    }

    #[test]
    fn torn_pages_are_refused(sectors in prop::collection::vec(any::<bool>(), 24)) {
        let seg = segment();
        let mut large = header();
        large.metadata = vec![("n".repeat(3000), "v".repeat(6000))];
        let head = large.encode(&seg, AT).unwrap();
        prop_assert_eq!(head.len(), 3 * PAGE_BYTES);
        let mut torn = head.clone();
        for (sector, lost) in torn.chunks_mut(512).zip(&sectors) {
            if *lost { sector.fill(0); }
        }
        prop_assert_eq!(RecordHeader::decode(&seg, AT, &torn).is_ok(), torn == head);
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), PAGE_BYTES), marked: bool) {
        let seg = segment();
        let mut page = bytes;
        if marked {
            page[..16].copy_from_slice(&seg.header_marker(AT));
            page[48..50].copy_from_slice(&[1, 0]);
            let sum = RecordHeader::crc(&seg, AT, &page);
            page[HEADER_CRC_AT..HEADER_FIXED].copy_from_slice(&sum.to_le_bytes());
        }
        let _ = RecordHeader::decode(&seg, AT, &page);
        prop_assert!(Trailer::decode(&seg, AT, blob(), AT, &page).is_err());
        prop_assert!(SegmentHeader::decode(&page, seg.volume, seg.number).is_err());
    }
}
