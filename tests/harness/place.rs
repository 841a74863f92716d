//! Where a server runs: on loopback or at a site of a network, on a port that it can have again after a restart.

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use crate::cluster::add;
use crate::network::Network;
use crate::process::{Server, Spec};
use crate::value::Dice;

/// Ports from below the kernel's ephemeral range: a port that is free while its server is
/// down must not become the source port of a connection.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// Where a server runs.
#[derive(Clone, Debug)]
pub struct Place {
    /// The address to listen on.
    pub host: String,
    /// The command that starts the server there; see `Spec`.
    pub through: Vec<OsString>,
}

impl Default for Place {
    fn default() -> Self {
        Self { host: "127.0.0.1".into(), through: Vec::new() }
    }
}

impl Place {
    /// A site of a network; without a site, where the test itself runs; without a network, loopback.
    pub fn at(network: Option<&Arc<Network>>, site: Option<usize>) -> Self {
        match (network, site) {
            (None, _) => Self::default(),
            (Some(network), None) => Self { host: network.host(), through: Vec::new() },
            (Some(network), Some(site)) => {
                Self { host: network.address(site), through: network.through(site) }
            }
        }
    }

    /// Starts a server here, on a port that it can have again after a restart.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start(&self, spec: &Spec, home: &Path) -> Server {
        let mut last = String::new();
        for _ in 0..8 {
            let mut spec = spec.clone();
            spec.through.clone_from(&self.through);
            add(&mut spec, "--listen", format!("{}:{}", self.host, free_port()));
            if self.host != Self::default().host {
                spec.args.push("--insecure-no-auth".into());
            }
            match Server::start(spec, home).await {
                Ok(server) => return server,
                Err(why) if why.contains("cannot listen on") => last = why,
                Err(why) => panic!("{why}"),
            }
        }
        panic!("no port was free: {last}");
    }
}

/// Returns a port that nothing listens on and that the kernel assigns to no connection.
///
/// # Panics
/// If there is none.
pub fn free_port() -> u16 {
    static TURN: std::sync::Mutex<Option<Dice>> = std::sync::Mutex::new(None);
    let mut turn = TURN.lock().expect("no task panics with the lock");
    let seed = shared::clock::Clock::System.now().unix_ms() ^ u64::from(std::process::id()) << 32;
    let dice = turn.get_or_insert_with(|| Dice::new(seed));
    for _ in 0..1000 {
        let offset = dice.below(u64::from(PORTS.end - PORTS.start));
        let port = PORTS.start + u16::try_from(offset).expect("inside the range");
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}
