//! When a value expires, as a client states it (`Barge-Expires`, `barge put --expires`).

use std::str::FromStr;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::clock::{Timestamp, millis};

/// The last time that can be stated: the end of the year 9999, as in HTTP dates and RFC 3339.
pub const LAST_TIME: Timestamp = Timestamp::from_unix_ms(253_402_300_799_999);

/// The time to live of a value, or the time of its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expires {
    /// So many milliseconds after the commit.
    After(u64),
    /// At this time.
    At(Timestamp),
}

/// The text is neither a duration nor a date.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "an expiry is a duration above 0 (3600, 90s, 12h, 7d) or a date in UTC (RFC 3339, or an HTTP date) before the year 10000"
)]
pub struct ExpiresError;

impl Expires {
    /// Returns the time of the end, for a commit at `now`.
    pub fn resolve(self, now: Timestamp) -> Timestamp {
        let at = match self {
            Self::After(ms) => now.after(Duration::from_millis(ms)),
            Self::At(at) => at,
        };
        at.min(LAST_TIME)
    }
}

impl FromStr for Expires {
    type Err = ExpiresError;

    /// Parses seconds without a unit, a duration with units, an RFC 3339 date or an HTTP date (RFC 9110 §5.6.7).
    fn from_str(text: &str) -> Result<Self, ExpiresError> {
        let text = text.trim();
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            let seconds = text.parse().map_err(|_| ExpiresError)?;
            return after(Duration::from_secs(seconds));
        }
        if let Ok(duration) = humantime::parse_duration(text) {
            return after(duration);
        }
        let date = humantime::parse_rfc3339(text).ok().or_else(|| httpdate::parse_http_date(text).ok());
        let since = date.and_then(|date| date.duration_since(UNIX_EPOCH).ok()).ok_or(ExpiresError)?;
        let at = Timestamp::from_unix_ms(millis(since));
        if at <= LAST_TIME { Ok(Self::At(at)) } else { Err(ExpiresError) }
    }
}

/// The text that `from_str` reads: a duration in milliseconds, or a date of RFC 3339.
impl std::fmt::Display for Expires {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::After(ms) => write!(f, "{ms}ms"),
            Self::At(at) => {
                let time = UNIX_EPOCH + Duration::from_millis(at.unix_ms());
                humantime::format_rfc3339_millis(time).fmt(f)
            }
        }
    }
}

fn after(duration: Duration) -> Result<Expires, ExpiresError> {
    let ms = millis(duration);
    if (1..=LAST_TIME.unix_ms()).contains(&ms) { Ok(Expires::After(ms)) } else { Err(ExpiresError) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_dates() {
        for (text, ms) in
            [("3600", 3_600_000), ("90s", 90_000), ("1h 30m", 5_400_000), ("7d", 604_800_000), (" 1 ", 1000)]
        {
            assert_eq!(text.parse(), Ok(Expires::After(ms)), "{text}");
        }
        for expires in [Expires::After(1), Expires::At(Timestamp::from_unix_ms((1 << 40) + 1))] {
            assert_eq!(expires.to_string().parse(), Ok(expires), "{expires}");
        }
        let at = Expires::At(Timestamp::from_unix_ms(784_111_777_000));
        assert_eq!("Sun, 06 Nov 1994 08:49:37 GMT".parse(), Ok(at));
        assert_eq!("1994-11-06T08:49:37Z".parse(), Ok(at));
        for wrong in
            ["", "0", "0s", "-1", "soon", "1.5", "99999999999999999999", "1960-01-01T00:00:00Z", "10000y"]
        {
            assert_eq!(wrong.parse::<Expires>(), Err(ExpiresError), "{wrong}");
        }
    }

    #[test]
    fn the_end_is_counted_from_the_commit_and_can_be_shown() {
        let now = Timestamp::from_unix_ms(1 << 40);
        assert_eq!(Expires::After(5).resolve(now), Timestamp::from_unix_ms((1 << 40) + 5));
        assert_eq!(Expires::At(Timestamp::from_unix_ms(7)).resolve(now), Timestamp::from_unix_ms(7));
        assert_eq!(Expires::After(u64::MAX).resolve(now).http_date(), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
