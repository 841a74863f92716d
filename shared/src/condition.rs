//! Conditional requests (RFC 9110 §13): parses and evaluates the `If-…` headers.
//!
//! Pure. Conditions of a read are evaluated where the read is answered. The condition of a write is only parsed
//! here; it travels in ticket and command and is decided once, at commit, by the state machine.

use std::time::UNIX_EPOCH;

use http::HeaderMap;
use http::header::{HeaderName, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE};

use crate::clock::Timestamp;
use crate::digest::Digest;

/// Most entity tags in one header: a ticket carries those of a write.
const TAGS_MAX: usize = 16;

/// Why the condition of a write is refused, with 400. A condition that is not understood must never count as
/// one that holds.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Clone, Copy)]
pub enum ConditionError {
    /// Not a list of entity tags.
    #[error("{0} holds neither * nor a list of quoted entity tags")]
    Malformed(&'static str),
    /// More tags than a ticket carries.
    #[error("{0} holds more than 16 entity tags")]
    TooMany(&'static str),
    /// `If-Match` and `If-None-Match` together.
    #[error("a write has If-Match or If-None-Match, not both")]
    Both,
    /// `If-None-Match` with tags.
    #[error("a write allows only If-None-Match: *; use If-Match to replace a known value")]
    NoneMatchTags,
    /// A condition on dates, which are too coarse to decide a write by.
    #[error("{0} is too coarse for a write; use If-Match with the ETag")]
    ByDate(&'static str),
}

/// `*`, or some tags.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tags {
    Any,
    Some(Vec<Tag>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Tag {
    weak: bool,
    /// The text between the quotes.
    opaque: String,
}

impl Tag {
    /// Weak comparison (RFC 9110 §8.8.3.2) with a strong, quoted tag.
    fn is_about(&self, etag: &str) -> bool {
        etag.strip_prefix('"').and_then(|e| e.strip_suffix('"')) == Some(self.opaque.as_str())
    }

    /// Strong comparison: a weak tag equals nothing.
    fn is(&self, etag: &str) -> bool {
        !self.weak && self.is_about(etag)
    }
}

/// The conditions of a GET or HEAD.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadConditions {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
    /// Seconds since the epoch, as is the next field.
    if_modified_since: Option<u64>,
    if_unmodified_since: Option<u64>,
}

/// How to answer a conditional read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadVerdict {
    /// As if there had been no condition.
    Proceed,
    /// Answered with 304 Not Modified (RFC 9110, 15.4.5).
    NotModified,
    /// Answered with 412 Precondition Failed (RFC 9110, 15.5.13).
    Failed,
}

impl ReadConditions {
    /// Parses the conditions of a request. Malformed headers are ignored, except `If-Match`: an unreadable list
    /// matches no value.
    pub fn from_headers(headers: &HeaderMap) -> Self {
        Self::from_named(headers, [&IF_MATCH, &IF_NONE_MATCH, &IF_MODIFIED_SINCE, &IF_UNMODIFIED_SINCE])
    }

    /// Like `from_headers`, with these header names: S3 has others for the source of a copy. The order is `If-Match`,
    /// `If-None-Match`, `If-Modified-Since`, `If-Unmodified-Since`.
    pub fn from_named(headers: &HeaderMap, names: [&HeaderName; 4]) -> Self {
        let [matches, none_match, modified, unmodified] = names;
        Self {
            if_match: tags(headers, matches).map(|t| t.unwrap_or(Tags::Some(vec![]))),
            if_none_match: tags(headers, none_match).and_then(Result::ok),
            if_modified_since: date(headers, modified),
            if_unmodified_since: date(headers, unmodified),
        }
    }

    /// Checks that the tags in headers with these names can be read: a copy must not ignore an unreadable condition.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn check_tags(headers: &HeaderMap, names: [&HeaderName; 2]) -> Result<(), ConditionError> {
        names.into_iter().try_for_each(|name| tags(headers, name).transpose().map(drop))
    }

    /// The verdict for a value with this (quoted, strong) entity tag, in the order of RFC 9110 §13.2.2.
    pub fn evaluate(&self, etag: &str, modified: Timestamp) -> ReadVerdict {
        let modified = modified.unix_ms() / 1000;
        let precondition_fails = match &self.if_match {
            Some(Tags::Any) => false,
            Some(Tags::Some(tags)) => !tags.iter().any(|t| t.is(etag)),
            None => self.if_unmodified_since.is_some_and(|date| modified > date),
        };
        if precondition_fails {
            return ReadVerdict::Failed;
        }
        let client_has_it = match &self.if_none_match {
            Some(Tags::Any) => true,
            Some(Tags::Some(tags)) => tags.iter().any(|t| t.is_about(etag)),
            None => self.if_modified_since.is_some_and(|date| modified <= date),
        };
        if client_has_it { ReadVerdict::NotModified } else { ReadVerdict::Proceed }
    }
}

/// Whether `Range` applies: there is no `If-Range`, or it names this very value. Otherwise the whole value is
/// returned. A date matches if it equals the value's `Last-Modified` to the second.
pub fn if_range_holds(headers: &HeaderMap, etag: &str, modified: Timestamp) -> bool {
    let Some(value) = headers.get(IF_RANGE) else { return true };
    let Ok(text) = value.to_str() else { return false };
    match parse_tags([text]) {
        Some(Tags::Some(tags)) if text.contains('"') => tags.len() == 1 && tags[0].is(etag),
        _ => date(headers, &IF_RANGE) == Some(modified.unix_ms() / 1000),
    }
}

/// The condition of a write, evaluated against the key's current value at commit.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum WriteCondition {
    /// The write has no condition.
    #[default]
    None,
    /// `If-None-Match: *`: there is no value yet.
    Absent,
    /// `If-Match: *`: there is any value.
    AnyPresent,
    /// `If-Match: "…"`: the value is one of these. Tags that no value of ours can have are left out, so the list may
    /// be empty, and then never matches.
    Matches(Vec<Digest>),
    /// Like `Matches`, by the entity tags that S3 clients see, without quotes.
    Tagged(Vec<String>),
}

impl WriteCondition {
    /// Parses the condition of a PUT, POST or DELETE.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, ConditionError> {
        for name in [IF_UNMODIFIED_SINCE, IF_MODIFIED_SINCE] {
            if headers.contains_key(&name) {
                return Err(ConditionError::ByDate(shown(&name)));
            }
        }
        // The digits after a dash are the number of parts of a multipart object.
        let digest = |t: &Tag| t.opaque.split('-').next().and_then(|hex| hex.parse().ok());
        Self::decided(headers, |tags| Self::Matches(tags.filter_map(digest).collect()))
    }

    /// Parses the condition of an S3 write, by the entity tags that S3 clients see; ignores dates.
    ///
    /// # Errors
    /// If it cannot be honoured.
    pub fn tagged_from_headers(headers: &HeaderMap) -> Result<Self, ConditionError> {
        Self::decided(headers, |tags| Self::Tagged(tags.map(|t| t.opaque.clone()).collect()))
    }

    /// Builds the condition from the tags; only strong ones can match.
    fn decided(
        headers: &HeaderMap,
        one_of: impl FnOnce(&mut dyn Iterator<Item = &Tag>) -> Self,
    ) -> Result<Self, ConditionError> {
        let wanted = tags(headers, &IF_MATCH).transpose()?;
        let unwanted = tags(headers, &IF_NONE_MATCH).transpose()?;
        match (wanted, unwanted) {
            (None, None) => Ok(Self::None),
            (None, Some(Tags::Any)) => Ok(Self::Absent),
            (None, Some(Tags::Some(_))) => Err(ConditionError::NoneMatchTags),
            (Some(Tags::Any), None) => Ok(Self::AnyPresent),
            (Some(Tags::Some(tags)), None) => Ok(one_of(&mut tags.iter().filter(|t| !t.weak))),
            (Some(_), Some(_)) => Err(ConditionError::Both),
        }
    }

    /// Whether a write may replace this value, or none. `tag` is the value's entity tag as S3 clients see
    /// it, without quotes.
    pub fn holds(&self, current: Option<&Digest>, tag: impl FnOnce() -> String) -> bool {
        match self {
            Self::None => true,
            Self::Absent => current.is_none(),
            Self::AnyPresent => current.is_some(),
            Self::Matches(digests) => current.is_some_and(|c| digests.contains(c)),
            Self::Tagged(tags) => current.is_some() && tags.contains(&tag()),
        }
    }
}

/// The tags of a header, all its lines together; `None` if there is no such header.
fn tags(headers: &HeaderMap, name: &HeaderName) -> Option<Result<Tags, ConditionError>> {
    headers.contains_key(name).then(|| {
        let malformed = ConditionError::Malformed(shown(name));
        let lines: Option<Vec<&str>> = headers.get_all(name).iter().map(|v| v.to_str().ok()).collect();
        match parse_tags(lines.ok_or(malformed)?).ok_or(malformed)? {
            Tags::Some(tags) if tags.len() > TAGS_MAX => Err(ConditionError::TooMany(shown(name))),
            tags => Ok(tags),
        }
    })
}

/// The header's name in its usual spelling; `HeaderName` is in lower case.
fn shown(name: &HeaderName) -> &'static str {
    match *name {
        IF_MATCH => "If-Match",
        IF_NONE_MATCH => "If-None-Match",
        IF_MODIFIED_SINCE => "If-Modified-Since",
        IF_UNMODIFIED_SINCE => "If-Unmodified-Since",
        _ => "a condition on the source",
    }
}

/// Parses `*`, or tags separated by commas. Accepts tags without quotes as well, because S3 clients send them.
fn parse_tags<'a>(lines: impl IntoIterator<Item = &'a str>) -> Option<Tags> {
    let mut tags = Vec::new();
    let mut any = false;
    for line in lines {
        let mut rest = line.trim_matches(BLANK);
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix(',') {
                rest = after.trim_start_matches(BLANK);
                continue;
            }
            if let Some(after) = rest.strip_prefix('*') {
                any = true;
                rest = after;
            } else {
                let (tag, after) = parse_tag(rest)?;
                tags.push(tag);
                rest = after;
            }
            rest = rest.trim_start_matches(BLANK);
            if !rest.is_empty() && !rest.starts_with(',') {
                return None;
            }
        }
    }
    match (any, tags.is_empty()) {
        (true, true) => Some(Tags::Any),
        (false, false) => Some(Tags::Some(tags)),
        _ => None,
    }
}

const BLANK: [char; 2] = [' ', '\t'];

/// Parses the tag at the beginning of the text; returns the rest, too.
fn parse_tag(text: &str) -> Option<(Tag, &str)> {
    let (weak, text) = text.strip_prefix("W/").map_or((false, text), |t| (true, t));
    let (opaque, after) = match text.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"')?,
        None => text.split_at(text.find([',', ' ', '\t', '"']).unwrap_or(text.len())),
    };
    let bare = !text.starts_with('"');
    let legal = opaque.bytes().all(|b| b > b' ' && b != 0x7f) && !(bare && (weak || opaque.is_empty()));
    legal.then(|| (Tag { weak, opaque: opaque.to_owned() }, after))
}

/// A date in seconds since the epoch; `None` if it is missing or malformed.
fn date(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    let time = httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()?;
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOON: Timestamp = Timestamp::from_unix_ms(1_700_000_000_500);
    const EARLIER: &str = "Tue, 14 Nov 2023 22:13:19 GMT";
    const SAME: &str = "Tue, 14 Nov 2023 22:13:20 GMT";
    const LATER: &str = "Tue, 14 Nov 2023 22:13:21 GMT";

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(*name, value.parse().unwrap());
        }
        map
    }

    fn verdict(lines: &[(&'static str, &str)]) -> ReadVerdict {
        ReadConditions::from_headers(&headers(lines)).evaluate("\"a\"", NOON)
    }

    #[test]
    fn reads_follow_the_order_of_the_rfc() {
        use ReadVerdict::{Failed, NotModified, Proceed};
        let table: &[(&[(&'static str, &str)], ReadVerdict)] = &[
            (&[], Proceed),
            (&[("if-match", "\"a\"")], Proceed),
            (&[("if-match", "*")], Proceed),
            (&[("if-match", "\"b\", \"a\"")], Proceed),
            (&[("if-match", "\"b\""), ("if-match", "\"a\"")], Proceed),
            (&[("if-match", "\"b\"")], Failed),
            (&[("if-match", "W/\"a\"")], Failed),
            (&[("if-match", "\"a")], Failed),
            (&[("if-match", "\"a\""), ("if-unmodified-since", EARLIER)], Proceed),
            (&[("if-unmodified-since", EARLIER)], Failed),
            (&[("if-unmodified-since", SAME)], Proceed),
            (&[("if-unmodified-since", "yesterday")], Proceed),
            (&[("if-none-match", "\"a\"")], NotModified),
            (&[("if-none-match", "W/\"a\"")], NotModified),
            (&[("if-none-match", "a")], NotModified),
            (&[("if-none-match", "*")], NotModified),
            (&[("if-none-match", "\"b\"")], Proceed),
            (&[("if-none-match", "\"b\""), ("if-modified-since", LATER)], Proceed),
            (&[("if-modified-since", EARLIER)], Proceed),
            (&[("if-modified-since", SAME)], NotModified),
            (&[("if-modified-since", LATER)], NotModified),
            (&[("if-match", "\"b\""), ("if-none-match", "\"a\"")], Failed),
            (&[("if-match", "\"a\""), ("if-none-match", "\"a\"")], NotModified),
        ];
        for (lines, wanted) in table {
            assert_eq!(verdict(lines), *wanted, "{lines:?}");
        }
    }

    #[test]
    fn if_range_wants_the_very_value() {
        let holds = |value: &str| if_range_holds(&headers(&[("if-range", value)]), "\"a\"", NOON);
        assert!(if_range_holds(&HeaderMap::new(), "\"a\"", NOON));
        assert!(holds("\"a\"") && holds(SAME));
        for other in ["\"b\"", "W/\"a\"", "\"a\", \"b\"", "*", "", EARLIER, LATER] {
            assert!(!holds(other), "{other}");
        }
    }

    #[test]
    fn conditions_of_writes() {
        let (d, e) = (Digest::of(b"d"), Digest::of(b"e"));
        let of = |lines: &[(&'static str, &str)]| WriteCondition::from_headers(&headers(lines));
        assert_eq!(of(&[]), Ok(WriteCondition::None));
        assert_eq!(of(&[("if-none-match", "*")]), Ok(WriteCondition::Absent));
        assert_eq!(of(&[("if-match", "*")]), Ok(WriteCondition::AnyPresent));
        let two = format!("{},\t{}", d.etag(), e.etag());
        assert_eq!(of(&[("if-match", &two)]), Ok(WriteCondition::Matches(vec![d, e])));
        assert_eq!(of(&[("if-match", &d.to_string())]), Ok(WriteCondition::Matches(vec![d])));
        let never = Ok(WriteCondition::Matches(vec![]));
        assert_eq!(of(&[("if-match", &format!("W/{}", d.etag()))]), never);
        assert_eq!(
            of(&[("if-match", "\"of another server, with a comma\"")]),
            Err(ConditionError::Malformed("If-Match"))
        );
        assert_eq!(of(&[("if-match", "\"of-another,server\"")]), never);
    }

    #[test]
    fn conditions_that_are_not_understood_are_refused() {
        let of = |lines: &[(&'static str, &str)]| WriteCondition::from_headers(&headers(lines)).unwrap_err();
        for bad in ["", ",", "\"a", "* *", "*, \"a\"", "\"a\" \"b\"", "W/a", "W/"] {
            assert_eq!(of(&[("if-match", bad)]), ConditionError::Malformed("If-Match"), "{bad}");
        }
        assert_eq!(of(&[("if-none-match", "\"a\"")]), ConditionError::NoneMatchTags);
        assert_eq!(of(&[("if-none-match", "*"), ("if-match", "*")]), ConditionError::Both);
        assert_eq!(of(&[("if-unmodified-since", SAME)]), ConditionError::ByDate("If-Unmodified-Since"));
        assert_eq!(of(&[("if-match", &"\"a\",".repeat(17))]), ConditionError::TooMany("If-Match"));
    }

    #[test]
    fn what_holds() {
        let (d, e) = (Digest::of(b"d"), Digest::of(b"e"));
        let table = [
            (WriteCondition::None, [true, true, true]),
            (WriteCondition::Absent, [true, false, false]),
            (WriteCondition::AnyPresent, [false, true, true]),
            (WriteCondition::Matches(vec![d]), [false, true, false]),
            (WriteCondition::Matches(vec![]), [false, false, false]),
            (WriteCondition::Tagged(vec!["t".into()]), [false, true, true]),
            (WriteCondition::Tagged(vec!["u".into()]), [false, false, false]),
        ];
        for (condition, wanted) in table {
            assert_eq!(
                [None, Some(&d), Some(&e)].map(|c| condition.holds(c, || "t".into())),
                wanted,
                "{condition:?}"
            );
            let bytes = postcard::to_stdvec(&condition).unwrap();
            assert_eq!(postcard::from_bytes(&bytes), Ok(condition));
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[W/\"*, a-c]{0,20}|[ -~]{0,30}") {
            let map = headers(&[("if-match", &text), ("if-range", &text)]);
            let _ = ReadConditions::from_headers(&map).evaluate("\"a\"", NOON);
            let _ = WriteCondition::from_headers(&map);
            let _ = if_range_holds(&map, "\"a\"", NOON);
        }

        #[test]
        fn lists_of_tags_are_read_back(tags in prop::collection::vec(("[!#-~]{0,8}", any::<bool>()), 1..8)) {
            let written: Vec<String> = tags.iter().map(|(t, weak)| format!("{}\"{t}\"", if *weak { "W/" } else { "" })).collect();
            let wanted = tags.into_iter().map(|(opaque, weak)| Tag { weak, opaque }).collect();
            prop_assert_eq!(parse_tags([written.join(" , ").as_str()]), Some(Tags::Some(wanted)));
        }
    }
}
