//! Signatures of version 4 as the library computes them: over the headers that it finds by the names that the request
//! claims are signed. The names may be right or wrong.

use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::percent_decode_str;
use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus as Chance;
use sha2::{Digest, Sha256};
use shared::attributes::hex;
use shared::clock::Clock;

use crate::s3::request::guard::fuzz::draft::{RequestDraft, one};

/// The access key of the comparison.
pub const KEY: &str = "BK";
pub const SECRET: &str = "of-the-comparison";
const REGION: &str = "us-east-1";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Not at all.
    No,
    /// In a header.
    Header,
    /// In the query.
    Link,
}

/// Now, as `YYYYMMDDTHHMMSSZ`.
fn stamp() -> String {
    let since = std::time::Duration::from_millis(Clock::System.now().unix_ms());
    let text = humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since).to_string();
    text.replace(['-', ':'], "")
}

/// Signs a request; the names of signed headers are wrong with the given probability.
pub fn sign(draft: &mut RequestDraft, shown: Shown, wrong: f64, chance: &mut Chance) {
    let date = stamp();
    let scope = format!("{}/{REGION}/s3/aws4_request", &date[..8]);
    if shown == Shown::Header {
        draft.add("x-amz-date", date.as_bytes());
        draft.add("x-amz-content-sha256", b"UNSIGNED-PAYLOAD");
    }
    let mut names: Vec<String> =
        draft.headers.iter().map(|(n, _)| n.clone()).filter(|n| n.starts_with("x-amz-")).collect();
    names.push("host".into());
    names.sort();
    names.dedup();
    if chance.random_bool(wrong) {
        spoil(&mut names, chance);
    }
    let text = names.join(";");
    match shown {
        Shown::No => {}
        Shown::Header => {
            let signature = signature(draft, &names, &date, &scope);
            let value = format!(
                "AWS4-HMAC-SHA256 Credential={KEY}/{scope}, SignedHeaders={text}, Signature={signature}"
            );
            draft.add("authorization", value.as_bytes());
        }
        Shown::Link => {
            draft.query.extend([
                "X-Amz-Algorithm=AWS4-HMAC-SHA256".to_owned(),
                format!("X-Amz-Credential={}", encoded(&format!("{KEY}/{scope}"))),
                format!("X-Amz-Date={date}"),
                "X-Amz-Expires=600".to_owned(),
                format!("X-Amz-SignedHeaders={}", encoded(&text)),
            ]);
            let signature = signature(draft, &names, &date, &scope);
            draft.query.push(format!("X-Amz-Signature={signature}"));
        }
    }
}

fn spoil(names: &mut Vec<String>, chance: &mut Chance) {
    let at = chance.random_range(0..names.len());
    match chance.random_range(0..7) {
        0 => drop(names.remove(at)),
        1 => names[at] = names[at].to_ascii_uppercase(),
        2 => names[at] = titled(&names[at]),
        3 => names.insert(at, names[at].clone()),
        4 => names.reverse(),
        5 => names
            .insert(at, (*one(chance, &["x-amz-not-there", "", "authorization", "content-length"])).into()),
        _ => names[at] = format!("{} ", names[at]),
    }
}
pub fn titled(name: &str) -> String {
    let words = name.split('-').map(|w| w[..1.min(w.len())].to_uppercase() + &w[1.min(w.len())..]);
    words.collect::<Vec<_>>().join("-")
}

fn signature(draft: &RequestDraft, names: &[String], date: &str, scope: &str) -> String {
    let canonical = canonical(draft, names);
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
    let mut key = format!("AWS4{SECRET}").into_bytes();
    for part in scope.split('/') {
        key = mac(&key, part.as_bytes());
    }
    hex(&mac(&key, to_sign.as_bytes()))
}

fn mac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn canonical(draft: &RequestDraft, names: &[String]) -> Vec<u8> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let path = decoded(&draft.path).split('/').map(encoded).collect::<Vec<_>>().join("/");
    let mut pairs: Vec<_> = draft
        .query
        .iter()
        .filter(|p| !p.is_empty())
        .map(|pair| {
            let pair = pair.replace('+', " ");
            let (name, value) = pair.split_once('=').unwrap_or((&pair, ""));
            (encoded(&decoded(name)), encoded(&decoded(value)))
        })
        .collect();
    pairs.sort_by(|a, b| a.0.cmp(&b.0));
    let query = pairs.iter().map(|(n, v)| format!("{n}={v}")).collect::<Vec<_>>().join("&");
    let mut sorted = names.to_vec();
    sorted.sort();
    sorted.dedup();
    let (mut lines, mut found) = (Vec::new(), Vec::new());
    for name in &sorted {
        let host = (name == "host").then_some(&draft.host);
        let values: Vec<_> =
            host.into_iter().chain(draft.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v)).collect();
        if values.is_empty() || name == "authorization" {
            continue;
        }
        let values: Vec<_> = values.iter().map(|v| v.trim_ascii().to_vec()).collect();
        lines.extend([name.as_bytes(), b":", &values.join(&b","[..]), b"\n"].concat());
        found.push(name.as_str());
    }
    let head = format!("{}\n{path}\n{query}\n", draft.method);
    [head.as_bytes(), &lines, b"\n", found.join(";").as_bytes(), b"\nUNSIGNED-PAYLOAD"].concat()
}

/// Percent-encodes all but the unreserved characters of RFC 3986.
pub fn encoded(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    text.bytes().map(|b| if plain(b) { (b as char).to_string() } else { format!("%{b:02X}") }).collect()
}
