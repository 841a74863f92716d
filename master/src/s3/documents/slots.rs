//! Slots: limit how many long documents are read at once, in total and per peer.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use s3s::{S3ErrorCode, S3Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Long documents read at once: 64 MiB in total.
const DOCUMENTS_AT_ONCE: usize = 16;
/// Limit per peer: a quarter, so that one peer never holds all slots. Clients behind one proxy notice only when five
/// of them send long documents at the same moment.
const DOCUMENTS_OF_A_PEER: usize = 4;
/// How long a document waits for a slot before its client gets `SlowDown`: shorter than client timeouts.
const PATIENCE: Duration = Duration::from_secs(20);

const _: () = assert!(DOCUMENTS_OF_A_PEER * 2 < DOCUMENTS_AT_ONCE);

#[derive(Debug)]
pub struct DocumentSlots {
    all: Arc<Semaphore>,
    /// The slots of peers that hold or await one.
    peers: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
}

/// A slot, held until it is dropped.
#[derive(Debug)]
pub struct DocumentSlot {
    _of_all: OwnedSemaphorePermit,
    _of_peer: OwnedSemaphorePermit,
}

impl Default for DocumentSlots {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(DOCUMENTS_AT_ONCE)), peers: Mutex::default() }
    }
}

impl DocumentSlots {
    /// Waits for a slot for a document from this peer.
    ///
    /// # Errors
    /// `SlowDown` when no slot becomes free in time.
    pub async fn take(&self, peer: IpAddr) -> S3Result<DocumentSlot> {
        let peer = self.peer(peer);
        let both = async {
            // A document that waits for others of its peer holds no shared slot.
            let of_peer = peer.acquire_owned().await.ok()?;
            let of_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
            Some(DocumentSlot { _of_all: of_all, _of_peer: of_peer })
        };
        tokio::time::timeout(PATIENCE, both).await.ok().flatten().ok_or_else(|| S3ErrorCode::SlowDown.into())
    }

    fn peer(&self, address: IpAddr) -> Arc<Semaphore> {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        peers.retain(|_, known| known.strong_count() > 0);
        let known = peers.entry(network(address)).or_default();
        known.upgrade().unwrap_or_else(|| {
            let new = Arc::new(Semaphore::new(DOCUMENTS_OF_A_PEER));
            *known = Arc::downgrade(&new);
            new
        })
    }
}

/// Returns what counts as one peer: an IPv4 address, or a /64 network of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use crate::s3::documents::slots::*;

    #[test]
    fn one_peer_never_has_all_and_gives_back_what_it_had() {
        let places = DocumentSlots::default();
        let at_once = |peer: &str| places.take(peer.parse().unwrap()).now_or_never().and_then(Result::ok);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _inside = runtime.enter();
        let mut held: Vec<_> = (0..DOCUMENTS_OF_A_PEER).map_while(|_| at_once("10.0.0.1")).collect();
        assert_eq!(held.len(), DOCUMENTS_OF_A_PEER);
        assert!(at_once("10.0.0.1").is_none() && at_once("::ffff:10.0.0.1").is_none());
        for n in 0..DOCUMENTS_OF_A_PEER {
            held.extend(at_once(&format!("2001:db8::{n}")));
        }
        assert_eq!(held.len(), 2 * DOCUMENTS_OF_A_PEER);
        assert!(at_once("2001:db8::ffff").is_none(), "another address of the same network");
        held.extend(at_once("2001:db8:0:1::1"));
        assert_eq!(held.len(), 2 * DOCUMENTS_OF_A_PEER + 1);
        held.clear();
        assert_eq!(places.all.available_permits(), DOCUMENTS_AT_ONCE);
        assert!(at_once("10.0.0.1").is_some());
        assert_eq!(places.peers.lock().unwrap().len(), 1, "peers that have gone are forgotten");
    }
}
