//! The Rust crate `redis`, as it is.

use std::collections::BTreeSet;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncCommands, AsyncConnectionConfig, AsyncIter, Client, ExistenceCheck, RedisResult, SetExpiry,
    SetOptions, Value, cmd, pipe,
};
use shared::digest::Digest;
use tests::value;

use super::site::{ADMIN, Site};

const LARGE: usize = 5_000_000;
const REPLY: Duration = Duration::from_secs(30);
const KEYS: usize = 100;

async fn connect(site: &Site, secret: &str, protocol: &str) -> RedisResult<MultiplexedConnection> {
    let url = format!("redis://{}:{secret}@127.0.0.1:{}/?protocol={protocol}", ADMIN.0, site.port);
    // Its default is half a second.
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(REPLY));
    Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rust_client() {
    let site = Site::start("resp-rust").await;
    site.key(ADMIN, &["--permission", "admin"]).await;
    let mut old = connect(&site, ADMIN.1, "resp2").await.expect("a connection");
    let mut new = connect(&site, ADMIN.1, "resp3").await.expect("a connection");
    many_keys(&mut old).await.expect("what was asked for");
    values(&mut new).await.expect("what was asked for");
    let wrong = "wrong-secret-0123456789";
    for (redis, protocol) in [(&mut old, "resp2"), (&mut new, "resp3")] {
        assert!(connect(&site, wrong, protocol).await.is_err(), "{protocol}");
        let refused = cmd("AUTH").arg(ADMIN.0).arg(wrong).exec_async(redis).await;
        assert_eq!(refused.expect_err("a refusal").code(), Some("WRONGPASS"));
        assert!(
            redis.exists::<_, bool>("many/000").await.expect("the access key shown before is still good")
        );
    }
}

async fn values(redis: &mut MultiplexedConnection) -> RedisResult<()> {
    let (large, lock) = ("large", "lock");
    let bytes = value(1, LARGE);
    let () = redis.set(large, &bytes).await?;
    let got: Vec<u8> = redis.get(large).await?;
    assert_eq!(Digest::of(&got), Digest::of(&bytes));
    assert_eq!(redis.ttl::<_, i64>(large).await?, -1);
    let lease = SetOptions::default().conditional_set(ExistenceCheck::NX).with_expiration(SetExpiry::EX(100));
    assert_eq!(redis.set_options::<_, _, Value>(lock, "mine", lease.clone()).await?, Value::Okay);
    assert_eq!(redis.set_options::<_, _, Value>(lock, "theirs", lease).await?, Value::Nil);
    assert_eq!(redis.get::<_, String>(lock).await?, "mine");
    let left: i64 = redis.ttl(lock).await?;
    assert!((95..=100).contains(&left), "{left}");
    assert!(redis.persist::<_, bool>(lock).await?);
    assert_eq!(redis.ttl::<_, i64>(lock).await?, -1);
    assert_eq!(redis.get_del::<_, Option<String>>(lock).await?.as_deref(), Some("mine"));
    assert_eq!(redis.get::<_, Option<String>>(lock).await?, None);
    Ok(())
}

async fn many_keys(redis: &mut MultiplexedConnection) -> RedisResult<()> {
    let name = |n: usize| format!("many/{n:03}");
    let mut commands = pipe();
    for n in 0..KEYS {
        commands.set(name(n), n);
    }
    let replies: Vec<String> = commands.query_async(redis).await?;
    assert_eq!(replies, vec!["OK"; KEYS]);
    let some: Vec<Option<usize>> = redis.mget(&[name(7), name(KEYS), name(9)]).await?;
    assert_eq!(some, [Some(7), None, Some(9)]);
    let mut found = BTreeSet::new();
    let mut names: AsyncIter<'_, String> = redis.scan_match("many/*").await?;
    while let Some(name) = names.next_item().await {
        found.insert(name?);
    }
    assert_eq!(found, (0..KEYS).map(name).collect());
    Ok(())
}
