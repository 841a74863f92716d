//! Time to live: the options of SET and GETEX, the EXPIRE family, TTL and PERSIST.

use bytes::Bytes;
use shared::clock::Timestamp;
use shared::expiry::{Expires, LAST_TIME};
use shared::ids::BlobId;
use shared::key::Key;

use super::keyspace::may;
use super::reply::Reply;
use super::values::integer;
use super::{Operations, refusal};
use crate::auth::{Action, Caller};
use crate::change::unexpected;
use crate::state::command::{Command, Outcome};
use crate::state::expiry::{ExpiryCondition, ExpiryOrder};
use crate::tables::object::Object;

/// Whether a number is a time to live or a time, in seconds or milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unit {
    absolute: bool,
    seconds: bool,
}

/// Returns the unit of an option of SET or GETEX.
pub fn unit(option: &[u8]) -> Option<Unit> {
    Some(match option {
        b"EX" => Unit { absolute: false, seconds: true },
        b"PX" => Unit { absolute: false, seconds: false },
        b"EXAT" => Unit { absolute: true, seconds: true },
        b"PXAT" => Unit { absolute: true, seconds: false },
        _ => return None,
    })
}

fn unit_of_command(name: &str) -> Unit {
    Unit { absolute: name.ends_with("at"), seconds: !name.starts_with('p') }
}

/// Reads the time that an option or a command states. A negative one is the Unix epoch: it has passed.
///
/// # Errors
/// The reply, when it is no number, or too large.
fn stated(argument: &[u8], unit: Unit, command: &str) -> Result<Expires, Reply> {
    let invalid = || Reply::error(format!("invalid expire time in '{command}' command"));
    let number = integer(argument).ok_or_else(refusal::not_an_integer)?;
    let ms = if unit.seconds { number.checked_mul(1000).ok_or_else(invalid)? } else { number };
    let ms = u64::try_from(ms).unwrap_or(0);
    // As in Redis, the sum with the time of day must be a signed number of 64 bits.
    if !unit.absolute && ms > i64::MAX.unsigned_abs() - LAST_TIME.unix_ms() {
        return Err(invalid());
    }
    Ok(if unit.absolute || ms == 0 { Expires::At(Timestamp::from_unix_ms(ms)) } else { Expires::After(ms) })
}

/// Like `stated`, for a new value: it must be above 0.
///
/// # Errors
/// The reply, when it is not.
pub fn of_new(argument: &[u8], unit: Unit, command: &str) -> Result<Expires, Reply> {
    match stated(argument, unit, command)? {
        Expires::At(at) if at.unix_ms() == 0 => {
            Err(Reply::error(format!("invalid expire time in '{command}' command")))
        }
        expires => Ok(expires),
    }
}

/// Returns the group's time.
///
/// # Errors
/// The reply, when no majority of the masters tells its clock.
pub async fn now(ops: &Operations) -> Result<Timestamp, Reply> {
    ops.metadata.now().await.map_err(|e| refusal::of(&e.into()))
}

/// Sets the expiry of a key, or removes it; of this generation, if one is given. Returns whether the key has a value that
/// met the condition. A time that has passed ends the value at once.
///
/// # Errors
/// The reply, when that is unknown or could not be done.
pub async fn set(
    ops: &Operations,
    key: &Key,
    expires: Option<Expires>,
    (generation, condition): (Option<BlobId>, ExpiryCondition),
) -> Result<bool, Reply> {
    let now = now(ops).await?;
    let at = expires.map(|expires| expires.resolve(now));
    let command = Command::SetExpiry { key: key.clone(), at, condition, generation };
    match ops.changes.submit(command).await {
        Ok(Outcome::Done) => {}
        Ok(Outcome::NotFound | Outcome::ConditionFailed) => return Ok(false),
        Ok(other) => return Err(refusal::of(&unexpected(&other))),
        Err(e) => return Err(refusal::of(&e.into())),
    }
    if at.is_some_and(|at| at <= now) {
        // It must not be seen until the leader notices.
        let advanced = ops.changes.propose(Command::AdvanceTime { to: now }).await;
        advanced.map_err(|e| refusal::of(&e.into()))?;
    }
    Ok(true)
}

/// Answers `EXPIRE key seconds [NX | XX | GT | LT]`, PEXPIRE, EXPIREAT and PEXPIREAT.
pub async fn expire(ops: &Operations, caller: &Caller, name: &str, arguments: &[Bytes]) -> Reply {
    let checked = refusal::key(&arguments[0]).and_then(|key| {
        may(ops, caller, Action::Write, &key)?;
        let expires = stated(&arguments[1], unit_of_command(name), name)?;
        Ok((key, expires, condition(&arguments[2..])?))
    });
    match checked {
        Ok((key, expires, condition)) => done(set(ops, &key, Some(expires), (None, condition)).await),
        Err(refused) => refused,
    }
}

/// Answers `PERSIST key`.
pub async fn persist(ops: &Operations, caller: &Caller, argument: &Bytes) -> Reply {
    let key = refusal::key(argument).and_then(|key| may(ops, caller, Action::Write, &key).map(|()| key));
    let condition = ExpiryCondition { present: Some(true), order: None };
    match key {
        Ok(key) => done(set(ops, &key, None, (None, condition)).await),
        Err(refused) => refused,
    }
}

/// Answers TIME: the group's time in seconds, and microseconds of the second.
pub async fn time(ops: &Operations) -> Reply {
    let ms = match now(ops).await {
        Ok(now) => now.unix_ms(),
        Err(refused) => return refused,
    };
    Reply::Array(vec![Reply::text((ms / 1000).to_string()), Reply::text((ms % 1000 * 1000).to_string())])
}

fn done(done: Result<bool, Reply>) -> Reply {
    done.map_or_else(|refused| refused, |done| Reply::count(usize::from(done)))
}

fn condition(options: &[Bytes]) -> Result<ExpiryCondition, Reply> {
    let mut condition = ExpiryCondition::default();
    for option in options {
        let order = match option.to_ascii_uppercase().as_slice() {
            stated @ (b"NX" | b"XX") => {
                if condition.present.replace(stated == b"XX") == Some(stated != b"XX") {
                    return Err(not_together());
                }
                continue;
            }
            b"GT" => ExpiryOrder::Greater,
            b"LT" => ExpiryOrder::Less,
            _ => return Err(Reply::error(format!("Unsupported option {}", option.escape_ascii()))),
        };
        if condition.order.replace(order).is_some_and(|before| before != order) {
            return Err(Reply::error("GT and LT options at the same time are not compatible"));
        }
    }
    if condition.present == Some(false) && condition.order.is_some() {
        return Err(not_together());
    }
    Ok(condition)
}

fn not_together() -> Reply {
    Reply::error("NX and XX, GT or LT options at the same time are not compatible")
}

/// Answers TTL, PTTL, EXPIRETIME and PEXPIRETIME about an object: -2 if there is none, -1 if it does not expire.
pub fn left(name: &str, object: Option<Object>, now: Timestamp) -> Reply {
    let Some(object) = object else { return Reply::Integer(-2) };
    let Some(at) = object.expiry.at else { return Reply::Integer(-1) };
    let ms = if name.ends_with("time") { at.unix_ms() } else { at.unix_ms().saturating_sub(now.unix_ms()) };
    let shown = if name.starts_with('p') { ms } else { (ms + 500) / 1000 };
    Reply::Integer(i64::try_from(shown).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<Bytes> {
        words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
    }

    #[test]
    fn times_are_stated_in_four_ways() {
        let of = |command: &str, number: &str| stated(number.as_bytes(), unit_of_command(command), command);
        let at = |ms| Ok(Expires::At(Timestamp::from_unix_ms(ms)));
        assert_eq!(of("expire", "10"), Ok(Expires::After(10_000)));
        assert_eq!(of("pexpire", "10"), Ok(Expires::After(10)));
        assert_eq!(of("expireat", "10"), at(10_000));
        assert_eq!(of("pexpireat", "10"), at(10));
        assert_eq!(of("expire", "-5"), at(0), "a time that has passed");
        assert_eq!(of("expire", "x"), Err(refusal::not_an_integer()));
        for far in ["9223372036854775807", "9223370399119966", "-9223372036854776"] {
            assert_eq!(of("expire", far), Err(Reply::error("invalid expire time in 'expire' command")));
        }
        assert!(of("pexpire", "9223372036854770000").is_err());
        assert_eq!(
            of("pexpireat", "9223372036854770000").unwrap().resolve(Timestamp::from_unix_ms(0)),
            LAST_TIME
        );
        assert!(of_new(b"0", unit(b"EX").unwrap(), "set").is_err());
        assert!(of_new(b"-1", unit(b"PXAT").unwrap(), "set").is_err());
        assert_eq!(of_new(b"1", unit(b"PX").unwrap(), "set"), Ok(Expires::After(1)));
    }

    #[test]
    fn conditions_of_expire() {
        let of = |options: &[&str]| condition(&words(options));
        assert_eq!(of(&[]), Ok(ExpiryCondition::default()));
        let of_nx = ExpiryCondition { present: Some(false), order: None };
        assert_eq!(of(&["nx"]), Ok(of_nx));
        let greater = ExpiryCondition { present: Some(true), order: Some(ExpiryOrder::Greater) };
        assert_eq!(of(&["XX", "GT"]), Ok(greater));
        for wrong in [&["NX", "XX"][..], &["XX", "NX"], &["NX", "GT"], &["LT", "NX"], &["GT", "LT"], &["AB"]]
        {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
    }
}
