//! Calls between servers: without a valid, fresh signature nothing is done.

use shared::call::{CallSignature, Recipient};
use shared::clock::Timestamp;
use shared::ids::{BlobId, ClusterId, VolumeId};
use shared::limits::CALL_LIFETIME;
use shared::secret::ClusterSecret;
use shared::wire::error::ErrorCode;
use shared::wire::master::{CommitRequest, Masters};
use shared::wire::routes::{
    COMMIT, DELETE, HEARTBEAT, IDENTIFY, INVENTORY, MASTERS, MASTERS_INIT, PROPOSE, READ_INDEX, RECORDS,
    TABLES_COMPARE, TOMBSTONES,
};
use shared::wire::volume::{
    DeleteRequest, IdentifyRequest, InventoryRequest, RecordsRequest, TombstonesRequest,
};
use tests::forge::Forge;
use tests::raw::{Raw, RawAnswer};

use super::Victim;

pub(super) fn call(address: &str, path: &str, signature: Option<&str>, body: &[u8]) -> RawAnswer {
    let signature = signature.map(|s| format!("Barge-Signature: {s}\r\n")).unwrap_or_default();
    let mut raw = Raw::connect(address);
    raw.send(format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\n{signature}Content-Length: {}\r\n\r\n",
        body.len()
    ));
    raw.send(body);
    raw.answer()
}

fn delete_of(cluster: ClusterId, volume: VolumeId, blobs: Vec<BlobId>) -> DeleteRequest {
    DeleteRequest { cluster, volume, blobs, tombstones: vec![], reclaimed_before: None }
}

/// Every call that changes something or reveals values, addressed and well-formed.
async fn calls(victim: &Victim, forge: &Forge) -> Vec<(String, &'static str, Vec<u8>)> {
    let (cluster, volume) = (forge.cluster, victim.cluster.ids[0]);
    let head = victim
        .cluster
        .client()
        .send(reqwest::Method::HEAD, "kept", &[], None)
        .await
        .expect("the cluster is up and its messages are JSON");
    let blob: BlobId = head
        .header("barge-generation")
        .expect("the cluster is up and its messages are JSON")
        .parse()
        .expect("the cluster is up and its messages are JSON");
    let json = |value: serde_json::Value| value.to_string().into_bytes();
    let delete = json(
        serde_json::to_value(delete_of(cluster, volume, vec![blob]))
            .expect("the cluster is up and its messages are JSON"),
    );
    let inventory = json(
        serde_json::to_value(InventoryRequest { cluster, volume, after: None, until: None, limit: 10 })
            .expect("the cluster is up and its messages are JSON"),
    );
    let records = RecordsRequest { cluster: None, volume: None, after: None, limit: 10 };
    let records = json(serde_json::to_value(records).expect("the cluster is up and its messages are JSON"));
    let tombstones = TombstonesRequest { cluster, volume, after: None };
    let tombstones =
        json(serde_json::to_value(tombstones).expect("the cluster is up and its messages are JSON"));
    let identify = json(
        serde_json::to_value(IdentifyRequest { cluster, masters: vec![], address: None })
            .expect("the cluster is up and its messages are JSON"),
    );
    let mut stranger =
        victim.cluster.volume_status(0).await.expect("the cluster is up and its messages are JSON").report;
    (stranger.volume, stranger.address) = (VolumeId::random(), "http://169.254.169.254".to_owned());
    let heartbeat =
        json(serde_json::to_value(stranger).expect("the cluster is up and its messages are JSON"));
    let commit = CommitRequest {
        key: "kept".parse().expect("the cluster is up and its messages are JSON"),
        ticket: String::new(),
        receipts: vec![],
        content_type: None,
        metadata: vec![],
    };
    let (master, volume) = (victim.cluster.master.address(), victim.cluster.volumes[0].address());
    vec![
        (volume.to_owned(), DELETE, delete),
        (volume.to_owned(), INVENTORY, inventory),
        (volume.to_owned(), RECORDS, records),
        (volume.to_owned(), TOMBSTONES, tombstones),
        (volume.to_owned(), IDENTIFY, identify),
        (master.to_owned(), HEARTBEAT, heartbeat),
        (
            master.to_owned(),
            COMMIT,
            json(serde_json::to_value(commit).expect("the cluster is up and its messages are JSON")),
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_without_a_good_signature() {
    let victim = Victim::new().await;
    let forge = Forge::new(&victim.cluster).await;
    let stranger = ClusterSecret::from_bytes(b"another cluster's secret");
    let now = Forge::now();
    for (address, path, body) in calls(&victim, &forge).await {
        let good = forge.sign(&address, path, &body);
        let recipient = forge.recipient(&address);
        let sign = |secret: &ClusterSecret, method: &str, at| {
            CallSignature::new(secret, recipient, method, path, &body, at).to_string()
        };
        let elsewhere = CallSignature::new(&forge.secret, Recipient::random(), "POST", path, &body, now);
        let answer = call(&address, path, Some(&elsewhere.to_string()), &body);
        assert_eq!((answer.status, answer.code()), (421, Some(ErrorCode::WrongRecipient)), "{path}");
        let old =
            Timestamp::from_unix_ms(now.unix_ms() - 2 * u64::try_from(CALL_LIFETIME.as_millis()).unwrap());
        let (time, mac) = good.split_once('.').unwrap();
        let signatures = [
            ("none", None),
            ("empty", Some(String::new())),
            ("no MAC", Some(format!("{time}."))),
            ("cut", Some(good[..good.len() - 1].to_owned())),
            ("another time", Some(format!("{}.{mac}", now.unix_ms() + 1000))),
            ("another secret", Some(sign(&stranger, "POST", now))),
            ("another path", Some(forge.sign(&address, "/_/other", &body))),
            ("another body", Some(forge.sign(&address, path, b"{}"))),
            ("another method", Some(sign(&forge.secret, "GET", now))),
            ("too old", Some(sign(&forge.secret, "POST", old))),
            ("of the future", Some(sign(&forge.secret, "POST", now.after(CALL_LIFETIME * 2)))),
        ];
        for (what, signature) in signatures {
            let answer = call(&address, path, signature.as_deref(), &body);
            assert_eq!((answer.status, answer.code()), (403, Some(ErrorCode::NotSigned)), "{path}, {what}");
        }
        let query = call(&address, &format!("{path}?x"), Some(&good), &body);
        assert_eq!(query.code(), Some(ErrorCode::NotSigned), "{path} with an unsigned query");
        victim.unharmed(path).await;
    }
    assert_eq!(victim.cluster.status().await.unwrap().volumes.len(), 2, "no other volume has joined");
}

#[tokio::test(flavor = "multi_thread")]
async fn signed_nonsense() {
    let victim = Victim::new().await;
    let forge = Forge::new(&victim.cluster).await;
    for (address, path, body) in calls(&victim, &forge).await {
        for bad in [&b""[..], b"{", b"[]", b"{\"cluster\":1}"] {
            let answer = call(&address, path, Some(&forge.sign(&address, path, bad)), bad);
            assert_eq!((answer.status, answer.code()), (400, Some(ErrorCode::BadBody)), "{path}");
        }
        let large = vec![b' '; shared::limits::MESSAGE_BYTES_MAX + 1];
        let answer = call(&address, path, Some(&forge.sign(&address, path, &large)), &large);
        assert!(answer.status == 413 || answer.status == 0, "{path}: {}", answer.status);
        if path == COMMIT {
            let answer = call(&address, path, Some(&forge.sign(&address, path, &body)), &body);
            assert_eq!(answer.code(), Some(ErrorCode::BadTicket), "a commit without ticket and receipts");
        }
        victim.unharmed(path).await;
    }
    let volume = victim.cluster.volumes[0].address();
    let other = ClusterId::random();
    let ours = victim.cluster.ids[0];
    let delete = serde_json::to_vec(&delete_of(other, ours, vec![])).unwrap();
    let answer = call(volume, DELETE, Some(&forge.sign(volume, DELETE, &delete)), &delete);
    assert_eq!((answer.status, answer.code()), (409, Some(ErrorCode::WrongCluster)));
    let identify =
        serde_json::to_vec(&IdentifyRequest { cluster: other, masters: vec![], address: None }).unwrap();
    let answer = call(volume, IDENTIFY, Some(&forge.sign(volume, IDENTIFY, &identify)), &identify);
    assert_eq!((answer.status, answer.code()), (409, Some(ErrorCode::WrongCluster)));
    victim.unharmed("calls of another cluster").await;
}

/// A call that reaches another volume than intended: the caller learns nothing about its values.
#[tokio::test(flavor = "multi_thread")]
async fn calls_meant_for_another_volume() {
    let victim = Victim::new().await;
    let forge = Forge::new(&victim.cluster).await;
    let (address, other) = (victim.cluster.volumes[0].address(), victim.cluster.ids[1]);
    let kept = victim.cluster.client().send(reqwest::Method::HEAD, "kept", &[], None).await.unwrap();
    let blob: BlobId = kept.header("barge-generation").unwrap().parse().unwrap();
    let (cluster, volume) = (forge.cluster, other);
    let delete = serde_json::to_vec(&delete_of(cluster, volume, vec![blob])).unwrap();
    let inventory = InventoryRequest { cluster, volume, after: None, until: None, limit: 10 };
    let inventory = serde_json::to_vec(&inventory).unwrap();
    let records = RecordsRequest { cluster: None, volume: Some(volume), after: None, limit: 10 };
    let records = serde_json::to_vec(&records).unwrap();
    let tombstones = serde_json::to_vec(&TombstonesRequest { cluster, volume, after: None }).unwrap();
    let calls = [(DELETE, delete), (INVENTORY, inventory), (RECORDS, records), (TOMBSTONES, tombstones)];
    for (path, body) in calls {
        let answer = call(address, path, Some(&forge.sign(address, path, &body)), &body);
        assert_eq!((answer.status, answer.code()), (409, Some(ErrorCode::WrongVolume)), "{path}");
    }
    victim.unharmed("calls for another volume").await;
}

/// The same for masters. Their log traffic is binary; the master's own tests cover it.
#[tokio::test(flavor = "multi_thread")]
async fn calls_meant_for_another_master() {
    let victim = Victim::new().await;
    let forge = Forge::new(&victim.cluster).await;
    let address = victim.cluster.master.address();
    let known: Masters = victim.cluster.shown(victim.cluster.url(), MASTERS).await.unwrap();
    let delete = |key: &str| serde_json::json!({ "Delete": { "key": key, "condition": "None" } });
    let send = |path: &str, to: u64, message: &serde_json::Value| {
        let body = serde_json::json!({ "to": to, "message": message }).to_string().into_bytes();
        call(address, path, Some(&forge.sign(address, path, &body)), &body)
    };
    let nothing = serde_json::Value::Null;
    let (places, kept) = (serde_json::json!([1, 2, 3]), delete("kept"));
    for (path, message) in
        [(READ_INDEX, &nothing), (TABLES_COMPARE, &places), (MASTERS_INIT, &nothing), (PROPOSE, &kept)]
    {
        let answer = send(path, known.me ^ 1, message);
        assert_eq!((answer.status, answer.code()), (409, Some(ErrorCode::WrongMaster)), "{path}");
        victim.unharmed(path).await;
    }
    // The intended servers execute the same calls.
    let nobody = delete("nobody");
    for (path, message) in [(READ_INDEX, &nothing), (TABLES_COMPARE, &places), (PROPOSE, &nobody)] {
        assert_eq!(send(path, known.me, message).status, 200, "{path}");
    }
    victim.unharmed("calls for this master").await;
}
