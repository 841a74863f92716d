//! Input that no correct client sends. After each of them: an error with its code, nothing stored, no append lane
//! in use, the server alive, and no secret in any log.

mod calls;
mod digests;
mod framing;
mod keys;
mod rogue;
mod space;
mod tickets;

use tests::{Cluster, Footprint, Options};

/// A cluster under attack, and what it held before.
struct Victim {
    cluster: Cluster,
    before: Footprint,
}

impl Victim {
    async fn new() -> Self {
        let options = Options { volumes: 2, ..Options::default() };
        let cluster = Cluster::start("bad-input", options).await;
        assert_eq!(cluster.client().put("kept", b"as it was".to_vec()).await.expect("an answer").status, 201);
        let before = cluster.footprint().await;
        Self { cluster, before }
    }

    /// Checks that nothing was added or removed, that the servers are alive, and that no log holds a secret.
    async fn unharmed(&self, after_what: &str) {
        self.cluster.back_to(&self.before, after_what).await;
        let kept = self.cluster.client().get("kept").await.expect("the server is alive");
        assert_eq!((kept.status, kept.body.as_slice()), (200, &b"as it was"[..]), "after {after_what}");
        self.cluster.assert_no_secrets_in_logs();
    }
}
