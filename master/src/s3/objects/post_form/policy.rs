//! The policy of an HTML form (S3 API reference, "Creating a POST policy"): its expiry, and the permitted values of
//! each field. Pure.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use s3s::{S3Error, S3Result, s3_error};
use serde_json::Value;
use shared::clock::Timestamp;

#[derive(Debug)]
pub struct Policy {
    expires: Timestamp,
    conditions: Vec<Condition>,
    /// Permitted sizes of the file, in bytes; all apply.
    lengths: Vec<(u64, u64)>,
}

#[derive(Debug)]
enum Condition {
    Is(String, String),
    Begins(String, String),
}

/// Fields that need no condition.
const FREE: [&str; 5] = ["x-amz-signature", "policy", "file", "awsaccesskeyid", "signature"];

fn invalid() -> S3Error {
    s3_error!(
        InvalidPolicyDocument,
        "Invalid Policy: Invalid JSON, a missing element, or an invalid condition."
    )
}

impl Policy {
    /// Parses a policy in base64.
    pub fn read(text: &str) -> S3Result<Self> {
        let bytes = BASE64.decode(text.trim()).map_err(|_| invalid())?;
        let document: Value = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
        let expires = document.get("expiration").and_then(Value::as_str).ok_or_else(invalid)?;
        let expires = humantime::parse_rfc3339(expires).map_err(|_| invalid())?;
        let expires = expires.duration_since(std::time::UNIX_EPOCH).map_err(|_| invalid())?;
        let listed = document.get("conditions").and_then(Value::as_array).ok_or_else(invalid)?;
        let mut policy = Self {
            expires: Timestamp::from_unix_ms(u64::try_from(expires.as_millis()).map_err(|_| invalid())?),
            conditions: Vec::with_capacity(listed.len()),
            lengths: Vec::new(),
        };
        listed.iter().try_for_each(|condition| policy.take(condition))?;
        Ok(policy)
    }

    fn take(&mut self, condition: &Value) -> S3Result<()> {
        let text = |value: &Value| value.as_str().map(str::to_owned).ok_or_else(invalid);
        if let Some(exact) = condition.as_object() {
            for (name, value) in exact {
                self.conditions.push(Condition::Is(name.to_ascii_lowercase(), text(value)?));
            }
            return Ok(());
        }
        let [how, field, value] = condition.as_array().map(Vec::as_slice).unwrap_or_default() else {
            return Err(invalid());
        };
        if how.as_str().is_some_and(|h| h.eq_ignore_ascii_case("content-length-range")) {
            let number = |v: &Value| {
                let text = || v.as_str().and_then(|t| t.parse().ok());
                v.as_u64().or_else(text).ok_or_else(invalid)
            };
            self.lengths.push((number(field)?, number(value)?));
            return Ok(());
        }
        let name = field.as_str().and_then(|f| f.strip_prefix('$')).ok_or_else(invalid)?.to_ascii_lowercase();
        self.conditions.push(match how.as_str().map(str::to_ascii_lowercase).as_deref() {
            Some("eq") => Condition::Is(name, text(value)?),
            Some("starts-with") => Condition::Begins(name, text(value)?),
            _ => return Err(invalid()),
        });
        Ok(())
    }

    /// Narrows `any`, the permitted sizes of any file, to those of the policy.
    pub fn within(&self, any: (u64, u64)) -> (u64, u64) {
        self.lengths.iter().fold(any, |(least, most), range| (least.max(range.0), most.min(range.1)))
    }

    /// Checks the fields of the form, which have lower-case names, against the policy.
    pub fn check(&self, fields: &BTreeMap<String, String>, now: Timestamp) -> S3Result<()> {
        if now > self.expires {
            return Err(s3_error!(AccessDenied, "Invalid according to Policy: Policy expired."));
        }
        let value = |name: &String| fields.get(name).map(String::as_str);
        for condition in &self.conditions {
            let (name, holds) = match condition {
                Condition::Is(name, wanted) => (name, value(name) == Some(wanted)),
                Condition::Begins(name, wanted) => {
                    (name, value(name).unwrap_or_default().starts_with(wanted.as_str()))
                }
            };
            if !holds {
                return Err(s3_error!(
                    AccessDenied,
                    "Invalid according to Policy: Policy Condition failed: {}",
                    name
                ));
            }
        }
        let named = |field: &str| {
            self.conditions
                .iter()
                .any(|c| matches!(c, Condition::Is(n, _) | Condition::Begins(n, _) if n == field))
        };
        let free = |field: &str| FREE.contains(&field) || field.starts_with("x-ignore-");
        if let Some(extra) = fields.keys().find(|f| !free(f) && !named(f)) {
            return Err(s3_error!(
                AccessDenied,
                "Invalid according to Policy: Extra input fields: {}",
                extra
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::s3::objects::post_form::policy::*;

    #[test]
    fn conditions() {
        let policy = |conditions: &str| {
            let text = format!(r#"{{"expiration":"2030-01-01T00:00:00.000Z","conditions":{conditions}}}"#);
            Policy::read(&BASE64.encode(text))
        };
        let fields: BTreeMap<_, _> =
            [("bucket", "b"), ("key", "a/k")].map(|(n, v)| (n.to_owned(), v.to_owned())).into();
        let now = Timestamp::from_unix_ms(1_800_000_000_000);
        let verdict = |conditions| policy(conditions).unwrap().check(&fields, now).is_ok();
        assert!(verdict(r#"[{"bucket":"b"},["starts-with","$key","a/"],["content-length-range",1,2]]"#));
        assert!(!verdict(r#"[{"bucket":"c"},["starts-with","$key",""]]"#));
        assert!(!verdict(r#"[{"bucket":"b"}]"#), "the key is not named");
        assert!(!verdict(r#"[["eq","$key","A/k"]]"#));
        assert!(!verdict(r#"[["starts-with","$key",""]]"#), "the bucket is not named");
        let within = |conditions| policy(conditions).unwrap().within((0, 9));
        assert_eq!(within(r#"[["content-length-range","1",2]]"#), (1, 2));
        assert_eq!(within(r#"[["content-length-range",1,2],["content-length-range",0,100]]"#), (1, 2));
        assert_eq!(within(r#"[["content-length-range",0,100],["content-length-range",3,4]]"#), (3, 4));
        let later = Timestamp::from_unix_ms(1_900_000_000_000);
        assert!(policy(r#"[{"key":"a/k"}]"#).unwrap().check(&fields, later).is_err());
        for bad in [r#"[["contains","$key","a"]]"#, r#"[["eq","key","a"]]"#, r#"[1]"#, r#"{}"#] {
            assert!(policy(bad).is_err(), "{bad}");
        }
    }
}
