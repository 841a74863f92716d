//! Protection against cross-site requests (CSRF) and DNS rebinding. A master without access keys can also be
//! reached by pages of any site in a browser on the same network (confused deputy). Two things reveal that, and no
//! page can forge them: the `Host` of a request, which is the page's own name under DNS rebinding, and the origin
//! that the browser sends.
//!
//! One rule for the native API and for S3. It uses headers alone.

use std::net::{IpAddr, Ipv6Addr};

use http::header::{HOST, ORIGIN};
use http::uri::{Scheme, Uri};
use http::{HeaderMap, HeaderName, Method};
use shared::wire::error::{ErrorCode, ErrorReply};

/// Fetch metadata: the relation between the page's site and ours.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Fetch metadata: the mode of the request.
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

/// The host names that a master without access keys accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// Any host (`--insecure-no-auth`).
    Any,
    /// Loopback, and these.
    Own {
        /// Names and addresses, in lower case.
        names: Vec<String>,
        /// The S3 domain, in lower case; its subdomains are included.
        domain: Option<String>,
    },
}

impl Hosts {
    /// Accepts loopback, the hosts of these base URLs, and a domain with its subdomains.
    pub fn own(urls: &[&str], domain: Option<&str>) -> Self {
        let host = |url: &&str| Some(url.parse::<Uri>().ok()?.host()?.to_ascii_lowercase());
        Self::Own {
            names: urls.iter().filter_map(host).collect(),
            domain: domain.map(str::to_ascii_lowercase),
        }
    }

    /// Whether a request for `host`, with or without a port, is accepted.
    fn accept(&self, host: &str) -> bool {
        let Self::Own { names, domain } = self else { return true };
        let name = without_port(host).to_ascii_lowercase();
        let below = |domain: &str| {
            name.strip_suffix(domain)
                .is_some_and(|rest| rest.is_empty() || rest.ends_with('.') && rest != ".")
        };
        is_loopback(&name)
            || below("localhost")
            || names.contains(&name)
            || domain.as_deref().is_some_and(below)
    }

    /// Admits a request without an access key: it must be for one of our hosts, and must not be a change by a page of
    /// another site. `permitted`: the CORS rules of the bucket permit that page.
    ///
    /// # Errors
    /// Another host, or a page of another site.
    pub fn admit(&self, method: &Method, headers: &HeaderMap, permitted: bool) -> Result<(), NotForPages> {
        // Browsers always send `Host`; an HTTP/1.0 client without it is no browser.
        if let Some(host) = headers.get(HOST)
            && !host.to_str().is_ok_and(|host| self.accept(host))
        {
            return Err(NotForPages::Host { host: String::from_utf8_lossy(host.as_bytes()).into_owned() });
        }
        if permitted || !is_of_another_site(method, headers) { Ok(()) } else { Err(NotForPages::Site) }
    }
}

/// The host without its port.
fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

fn is_loopback(name: &str) -> bool {
    let inner = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match inner {
        Some(inner) => inner.parse::<Ipv6Addr>().is_ok_and(|ip| ip.to_canonical().is_loopback()),
        None => matches!(name.parse::<IpAddr>(), Ok(IpAddr::V4(ip)) if ip.is_loopback()),
    }
}

/// Whether `Origin` names another site. Browsers send it also for reads whose answer the page wants to see, and over
/// plain HTTP, where they send no Fetch metadata.
pub fn has_foreign_origin(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    headers.get_all(ORIGIN).iter().any(|origin| !origin.to_str().is_ok_and(|o| is_origin_of(o, host)))
}

/// Whether a page of another site made a request that changes something, or whose answer becomes part of that page
/// (one of our values as a script, for example). Following a link is neither.
pub fn is_of_another_site(method: &Method, headers: &HeaderMap) -> bool {
    let of_another =
        |site: &[u8]| [&b"cross-site"[..], b"same-site"].iter().any(|other| site.eq_ignore_ascii_case(other));
    if [Method::GET, Method::HEAD, Method::OPTIONS].contains(method) {
        let part = headers
            .get(SEC_FETCH_MODE)
            .is_some_and(|mode| !mode.as_bytes().eq_ignore_ascii_case(b"navigate"));
        return *method != Method::OPTIONS
            && part
            && headers.get_all(SEC_FETCH_SITE).iter().any(|site| of_another(site.as_bytes()));
    }
    headers.get_all(SEC_FETCH_SITE).iter().any(|site| of_another(site.as_bytes()))
        || has_foreign_origin(headers)
}

/// Whether `origin` belongs to `host`. The origin `null` belongs to no host.
fn is_origin_of(origin: &str, host: &str) -> bool {
    let Some((scheme, from)) = origin.split_once("://") else { return false };
    let usual = match scheme {
        scheme if scheme == Scheme::HTTP.as_str() => ":80",
        scheme if scheme == Scheme::HTTPS.as_str() => ":443",
        _ => return false,
    };
    let bare = |host: &str| host.strip_suffix(usual).unwrap_or(host).to_ascii_lowercase();
    bare(from) == bare(host)
}

/// A refusal, because a page of another site may have caused the request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotForPages {
    /// The host is not ours.
    #[error("this master has no access keys, and {host:?} is not one of its own host names")]
    Host { host: String },
    #[error("a page of another site made this request, and this master has no access keys")]
    Site,
    /// The browser added the access key by itself.
    #[error("a page of another site made this request with the access key that the browser remembers")]
    Remembered,
}

impl NotForPages {
    /// The next step for the user.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Host { .. } => {
                "create an access key with `barge key create`; add that host with --public-url or --s3-domain; or \
                 start the master with --insecure-no-auth, which accepts any host"
            }
            Self::Site => {
                "create an access key with `barge key create`; or permit the page in the CORS rules of the bucket"
            }
            Self::Remembered => "send Authorization: Bearer ID:SECRET, which no browser adds by itself",
        }
    }
}

impl From<NotForPages> for ErrorReply {
    fn from(why: NotForPages) -> Self {
        Self::new(ErrorCode::Forbidden, why.to_string(), why.hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), v.parse().unwrap())).collect()
    }

    #[test]
    fn an_answer_becomes_no_part_of_a_page_of_another_site() {
        let said = |site, mode| headers(&[("sec-fetch-site", site), ("sec-fetch-mode", mode)]);
        for (site, mode, refused) in [
            ("cross-site", "no-cors", true),
            ("same-site", "cors", true),
            ("cross-site", "navigate", false),
            ("same-origin", "no-cors", false),
            ("none", "navigate", false),
        ] {
            assert_eq!(is_of_another_site(&Method::GET, &said(site, mode)), refused, "{site} {mode}");
        }
    }

    #[test]
    fn the_table_of_hosts() {
        let urls = [
            "http://Master:3000",
            "https://files.example.com/",
            "http://[fd00::5]:3000",
            "http://192.0.2.7:3000",
        ];
        let own = Hosts::own(&urls, Some("S3.example.org"));
        let table = [
            ("localhost", true),
            ("LOCALHOST:3000", true),
            ("b.localhost:9000", true),
            ("127.0.0.1", true),
            ("127.9.8.7:1", true),
            ("[::1]:3000", true),
            ("[::1]", true),
            ("[0:0:0:0:0:0:0:1]:3000", true),
            ("[::ffff:127.0.0.1]:3000", true),
            ("master:3000", true),
            ("MASTER", true),
            ("files.example.com", true),
            ("[fd00::5]:3000", true),
            ("192.0.2.7:80", true),
            ("s3.example.org:9000", true),
            ("bucket.s3.example.org", true),
            ("b.c.S3.EXAMPLE.org", true),
            ("evil.example", false),
            ("evil.example:3000", false),
            ("localhost.evil.example", false),
            ("evillocalhost", false),
            (".localhost", false),
            ("127.0.0.1.evil.example", false),
            ("127.0.0.1@evil.example", false),
            ("evil.example@127.0.0.1", false),
            ("127.1", false),
            ("0.0.0.0:3000", false),
            ("128.0.0.1", false),
            ("[::2]:3000", false),
            ("[::1].evil.example", false),
            ("[::1", false),
            ("evils3.example.org", false),
            ("example.org", false),
            ("a.files.example.com", false),
            ("master.evil.example", false),
            ("", false),
            (":3000", false),
        ];
        for (host, ours) in table {
            assert_eq!(own.accept(host), ours, "{host}");
            assert!(Hosts::Any.accept(host));
            let asked = own.admit(&Method::GET, &headers(&[("host", host)]), false);
            assert_eq!(asked, if ours { Ok(()) } else { Err(NotForPages::Host { host: host.to_owned() }) });
        }
        assert_eq!(own.admit(&Method::PUT, &HeaderMap::new(), false), Ok(()), "HTTP/1.0");
        assert!(!Hosts::own(&[], None).accept("s3.example.org"));
    }

    #[test]
    fn pages_of_other_sites_change_nothing() {
        let own = Hosts::own(&[], None);
        let table: [(&[(&'static str, &str)], bool); 16] = [
            (&[], true),
            (&[("origin", "http://localhost:3000")], true),
            (&[("origin", "http://LOCALHOST:3000")], true),
            (&[("origin", "https://localhost:3000"), ("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "none")], true),
            (&[("origin", "http://localhost:3001")], false),
            (&[("origin", "http://localhost")], false),
            (&[("origin", "http://evil.example")], false),
            (&[("origin", "http://evil.example:3000")], false),
            (&[("origin", "null")], false),
            (&[("origin", "")], false),
            (&[("origin", "file://localhost:3000")], false),
            (&[("sec-fetch-site", "cross-site")], false),
            (&[("sec-fetch-site", "Same-Site")], false),
            (&[("sec-fetch-site", "cross-site"), ("origin", "http://localhost:3000")], false),
            (&[("sec-fetch-site", "same-origin"), ("origin", "http://evil.example")], false),
        ];
        for (sent, may) in table {
            let mut sent = headers(sent);
            sent.insert(HOST, "localhost:3000".parse().unwrap());
            for method in [Method::POST, Method::PUT, Method::DELETE, Method::PATCH] {
                let answer = if may { Ok(()) } else { Err(NotForPages::Site) };
                assert_eq!(own.admit(&method, &sent, false), answer, "{sent:?}");
                assert_eq!(Hosts::Any.admit(&method, &sent, false), answer, "{sent:?}");
                assert_eq!(own.admit(&method, &sent, true), Ok(()), "a rule of the bucket permits it");
            }
            for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
                assert_eq!(own.admit(&method, &sent, false), Ok(()), "it changes nothing");
            }
        }
        let usual = headers(&[("host", "localhost"), ("origin", "http://localhost:80")]);
        assert_eq!(own.admit(&Method::PUT, &usual, false), Ok(()));
    }
}
