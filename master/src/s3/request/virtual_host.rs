//! Virtual-host addressing: `BUCKET.DOMAIN`, with or without a port. With any other host, the bucket is in the path.
//! The library and our code use this one rule.

use s3s::S3Result;
use s3s::host::{S3Host, VirtualHost};

#[derive(Clone, Debug)]
pub struct Domain(pub String);

/// Strips the port.
fn name(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Returns the bucket before `domain`.
pub fn bucket_before<'h>(domain: &str, host: &'h str) -> Option<&'h str> {
    let name = name(host);
    let cut = name.len().checked_sub(domain.len() + 1)?;
    let (bucket, rest) = name.split_at_checked(cut)?;
    let ours = rest.strip_prefix('.').is_some_and(|rest| rest.eq_ignore_ascii_case(domain));
    (ours && !bucket.is_empty()).then_some(bucket)
}

impl S3Host for Domain {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let found = VirtualHost::new(self.0.as_str());
        Ok(match bucket_before(&self.0, host) {
            Some(bucket) => found.with_bucket(bucket),
            None => found,
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::s3::request::virtual_host::*;

    #[test]
    fn buckets_in_front() {
        for (host, bucket) in [
            ("b.s3.example.org", Some("b")),
            ("b.s3.example.org:9000", Some("b")),
            ("b.c.S3.example.org", Some("b.c")),
            ("s3.example.org:9000", None),
            (".s3.example.org", None),
            ("localhost:9000", None),
            ("[::1]:9000", None),
            ("bs3.example.org", None),
        ] {
            assert_eq!(bucket_before("s3.example.org", host), bucket, "{host}");
        }
    }
}
