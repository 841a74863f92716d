//! Places: how many long documents are read at once, from everybody and from one peer.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use s3s::{S3ErrorCode, S3Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Long documents that are read at once: 64 MiB.
const DOCUMENTS_AT_ONCE: usize = 16;
/// Of one peer: a quarter, so that one alone never has all of them. A proxy in front of many clients feels it only when
/// five of them send long documents in the same moment.
const DOCUMENTS_OF_A_PEER: usize = 4;
/// For so long a document waits for a place; then its client is told to come again. Less than clients wait for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

const _: () = assert!(DOCUMENTS_OF_A_PEER * 2 < DOCUMENTS_AT_ONCE);

/// The places of a face.
#[derive(Debug)]
pub struct Places {
    all: Arc<Semaphore>,
    /// Of peers that have one or wait for one.
    peers: Mutex<HashMap<IpAddr, Weak<Semaphore>>>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub struct Place {
    _of_all: OwnedSemaphorePermit,
    _of_peer: OwnedSemaphorePermit,
}

impl Default for Places {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(DOCUMENTS_AT_ONCE)), peers: Mutex::default() }
    }
}

impl Places {
    /// A place for a document from this peer.
    ///
    /// # Errors
    /// When none became free in time.
    pub async fn take(&self, peer: IpAddr) -> S3Result<Place> {
        let peer = self.peer(peer);
        let both = async {
            // What waits for its peer's own others holds nothing of everybody's.
            let of_peer = peer.acquire_owned().await.ok()?;
            let of_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
            Some(Place { _of_all: of_all, _of_peer: of_peer })
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

/// What one peer has: an address, and of version 6 a network of 64 bits.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn one_peer_never_has_all_and_gives_back_what_it_had() {
        let places = Places::default();
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
