//! Tests of authorization: a table of permissions, and properties over all inputs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::{HeaderMap, Request};
use proptest::prelude::*;
use shared::clock::Timestamp;
use shared::wire::error::ErrorCode;

use super::resource::{asked, split};
use super::*;
use crate::tables::Tables;

fn caller(permission: Permission, scope: Option<&str>) -> Caller {
    Caller::Key { id: AccessKeyId::random(), permission, scope: scope.map(|s| s.parse().unwrap()) }
}

#[test]
fn the_table() {
    use Action::{Admin, List, Read, Write};
    // Scope, action, bucket, key, and whether an access key with enough permission may do it.
    let table = [
        (None, List, None, None, true),
        (None, Write, None, Some("plain"), true),
        (None, Admin, Some("b"), None, true),
        (Some("b"), Read, Some("b"), Some("k"), true),
        (Some("b"), Read, Some("b"), None, true),
        (Some("b"), List, Some("b"), None, true),
        (Some("b"), List, Some("b"), Some("x/"), true),
        (Some("b"), Write, Some("b"), None, true),
        (Some("b"), Read, Some("b2"), Some("k"), false),
        (Some("b"), Read, Some("a"), None, false),
        (Some("b"), List, None, None, false),
        // A key outside buckets, and a list with the prefix "b", which is more than the bucket.
        (Some("b"), Read, None, Some("b"), false),
        (Some("b"), List, None, Some("b"), false),
        (Some("b/p/"), Read, Some("b"), Some("p/k"), true),
        (Some("b/p/"), Write, Some("b"), Some("p/"), true),
        (Some("b/p/"), Write, Some("b"), Some("p"), false),
        (Some("b/p/"), Write, Some("b"), Some("q/k"), false),
        (Some("b/p/"), Read, Some("b"), None, true),
        (Some("b/p/"), Write, Some("b"), None, false),
        (Some("b/p/"), Admin, Some("b"), None, false),
        (Some("b/p/"), List, Some("b"), None, false),
        (Some("b/p/"), List, Some("b"), Some(""), false),
        (Some("b/p/"), List, Some("b"), Some("p/"), true),
        (Some("b/p/"), List, Some("b"), Some("p/deep"), true),
        (Some("b/p"), Read, Some("b"), Some("pq"), true),
    ];
    for (scope, action, bucket, key, may) in table {
        let admin = caller(Permission::Admin, scope);
        assert_eq!(admin.may(action, bucket, key), may, "{scope:?} {action:?} {bucket:?} {key:?}");
        assert_eq!(caller(action.needs(), scope).may(action, bucket, key), may, "with just enough");
        assert!(!Caller::Anonymous.may(action, bucket, key) && Caller::Open.may(action, bucket, key));
    }
    assert!(!caller(Permission::Read, None).may(Write, Some("b"), Some("k")));
    assert!(!caller(Permission::Write, None).may(Admin, Some("b"), None));
}

fn action() -> impl Strategy<Value = Action> {
    prop::sample::select(vec![Action::Read, Action::Write, Action::List, Action::Admin])
}

proptest! {
    #[test]
    fn a_scope_is_never_left(action in action(), scope in "[ab]{1,2}(/[ab/]{0,3})?", key in "[ab/]{1,6}") {
        let scoped = caller(Permission::Admin, Some(&scope));
        let (bucket, rest) = split(&key);
        let begins = if scope.contains('/') { scope.clone() } else { format!("{scope}/") };
        prop_assert_eq!(scoped.may(action, bucket, rest), key.starts_with(&begins), "{} {}", scope, key);
    }

    #[test]
    fn more_permission_permits_no_less(action in action(), scope in prop::option::of("[ab](/[ab])?"), bucket in prop::option::of("[ab]"), key in prop::option::of("[ab]{1,2}")) {
        let may = |p| caller(p, scope.as_deref()).may(action, bucket.as_deref(), key.as_deref());
        prop_assert!(may(Permission::Read) <= may(Permission::Write));
        prop_assert!(may(Permission::Write) <= may(Permission::Admin));
    }
}

#[test]
fn what_is_asked() {
    let of = |method: &str, target: &str| {
        let request = Request::builder().method(method).uri(target).body(()).unwrap();
        let (action, key) = asked(&request);
        (action, key.unwrap_or_else(|| "-".into()))
    };
    assert_eq!(of("GET", "/a/b%20c?stream"), (Action::Read, "a/b c".into()));
    assert_eq!(of("HEAD", "/a"), (Action::Read, "a".into()));
    assert_eq!(of("GET", "/a%2Fb?list&limit=3"), (Action::List, "a/b".into()));
    assert_eq!(of("GET", "/?list"), (Action::List, String::new()));
    for method in ["PUT", "POST", "DELETE", "PATCH"] {
        assert_eq!(of(method, "/a/b?list"), (Action::Write, "a/b".into()));
    }
    assert_eq!(of("GET", "/a/../b"), (Action::Read, "-".into()));
    assert_eq!(split("a/b/c"), (Some("a"), Some("b/c")));
    assert_eq!(split("a/"), (Some("a"), Some("")));
    assert_eq!(split("/a"), (None, Some("/a")));
}

fn headers(value: &str) -> HeaderMap {
    HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())])
}

fn sender(headers: &HeaderMap) -> Sender<'_> {
    Sender { method: &http::Method::PUT, headers, peer: IpAddr::from([192, 0, 2, 1]) }
}

fn policy(secret: &ClusterSecret, open: bool) -> Arc<AuthConfig> {
    let guesses = BruteForceGuard::new(&shared::telemetry::Metrics::default());
    Arc::new(AuthConfig { secret: secret.clone(), open: open.then_some(Hosts::Any), guesses })
}

#[test]
fn a_native_request_shows_its_key() {
    let db = sled::Config::new().temporary(true).open().unwrap();
    let cluster = ClusterSecret::from_bytes(b"0123456789abcdef");
    let keys = |open: bool| Keys::new((*db).clone(), &policy(&cluster, open));
    let answer = |open: bool, headers: &HeaderMap, action, key| {
        let (bucket, key) = split(key);
        keys(open).admit(sender(headers), false, action, bucket, key).map_err(|e| e.code)
    };
    let none = HeaderMap::new();
    assert_eq!(answer(true, &none, Action::Write, "b/k"), Ok(()));
    assert_eq!(answer(true, &headers("Bearer a:b"), Action::Write, "b/k"), Ok(()), "no key is no check");
    assert_eq!(answer(false, &none, Action::Read, "b/k"), Err(ErrorCode::Forbidden));
    assert_eq!(keys(true).nobody().unwrap(), Caller::Open);
    assert_eq!(keys(false).nobody().unwrap(), Caller::Anonymous);

    let (id, secret) = (AccessKeyId::random(), "colons:are/fine".parse::<AccessSecret>().unwrap());
    let key = AccessKey {
        secret: secret.encrypt(&cluster, &id),
        permission: Permission::Write,
        scope: Some("b".parse().unwrap()),
        note: String::new(),
        created: Timestamp::from_unix_ms(1),
    };
    let mut tables = Tables::new(&db);
    tables.put_access_key(&id, &key);
    db.apply_batch(tables.into_batch().unwrap()).unwrap();
    assert_eq!(keys(true).nobody().unwrap(), Caller::Anonymous);
    let pair = format!("{id}:{}", secret.expose());
    let good = [format!("Bearer {pair}"), format!("basic {}", STANDARD.encode(&pair))];
    for open in [true, false] {
        for good in &good {
            assert_eq!(answer(open, &headers(good), Action::Write, "b/k"), Ok(()));
            assert_eq!(answer(open, &headers(good), Action::Write, "c/k"), Err(ErrorCode::Forbidden));
            assert_eq!(answer(open, &headers(good), Action::Admin, "b/k"), Err(ErrorCode::Forbidden));
        }
        assert_eq!(answer(open, &none, Action::Read, "b/k"), Err(ErrorCode::Unauthorized));
    }
    // A key that a browser adds by itself is not accepted from a page of another site.
    for (shown, outcome) in good.iter().zip([Ok(()), Err(ErrorCode::Forbidden)]) {
        let mut of_a_page = headers(shown);
        of_a_page.extend([(HOST, "m:1".parse().unwrap()), (ORIGIN, "http://evil.example".parse().unwrap())]);
        assert_eq!(answer(true, &of_a_page, Action::Write, "b/k"), outcome);
    }
    let bad = [
        "Bearer",
        "Bearer x",
        &format!("Bearer {id}:"),
        &format!("Bearer {id}:colons:are/fin"),
        &format!("Bearer {id} :colons:are/fine"),
        &format!("Bearer {}:colons:are/fine", AccessKeyId::random()),
        "Basic ????",
        &format!("Digest {pair}"),
        &format!("AWS4-HMAC-SHA256 Credential={id}/20260101/us-east-1/s3/aws4_request"),
    ];
    for bad in bad {
        let refusal =
            keys(true).admit(sender(&headers(bad)), false, Action::Read, Some("b"), Some("k")).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::Unauthorized, "{bad}");
        assert_eq!(refusal.headers["www-authenticate"], "Basic realm=\"barge\"");
    }
    let mut twice = headers(&good[0]);
    twice.append(AUTHORIZATION, good[0].parse().unwrap());
    assert_eq!(answer(true, &twice, Action::Read, "b/k"), Err(ErrorCode::Unauthorized));
    // Keys of another cluster are refused.
    let stranger = Keys::new((*db).clone(), &policy(&ClusterSecret::from_bytes(b"another cluster!"), false));
    assert!(stranger.admit(sender(&headers(&good[0])), false, Action::Read, Some("b"), Some("k")).is_err());
}
