//! Tickets and signatures made with the cluster secret, valid and invalid.

use http::StatusCode;
use shared::call::{CallSignature, Recipient};
use shared::clock::{Clock, Timestamp};
use shared::condition::WriteCondition;
use shared::ids::{BlobId, ClusterId};
use shared::key::Key;
use shared::limits::TICKET_LIFETIME;
use shared::secret::ClusterSecret;
use shared::ticket::{ChainLink, Operation, Ticket, WriteGrant};
use shared::wire::routes::{ANSWER_HEADER, RECIPIENT, SIGNATURE_HEADER, TICKET};

use crate::cluster::Cluster;
use crate::raw::Raw;
use crate::value::value;

/// Signs what only a master or a volume may sign.
#[derive(Clone, Debug)]
pub struct Forge {
    pub secret: ClusterSecret,
    pub cluster: ClusterId,
    master: String,
    links: Vec<ChainLink>,
    count: u64,
}

impl Forge {
    /// Returns a forge for a running cluster.
    ///
    /// # Panics
    /// If the master does not answer.
    pub async fn new(cluster: &Cluster) -> Self {
        let id = cluster.status().await.expect("the master answers").cluster;
        let links = cluster
            .volumes
            .iter()
            .zip(&cluster.ids)
            .map(|(server, volume)| ChainLink { volume: *volume, address: server.url().to_owned() })
            .collect();
        Self { secret: cluster.secret(), cluster: id, master: cluster.url().to_owned(), links, count: 0 }
    }

    /// Returns the current time as tickets express it.
    pub fn now() -> Timestamp {
        Clock::System.now()
    }

    /// Signs a ticket to write `length` bytes through the volumes at `places`, in that order.
    pub fn write(&mut self, places: &[usize], length: Option<u64>) -> Ticket {
        let grant = WriteGrant {
            chain: places.iter().map(|n| self.links[*n].clone()).collect(),
            length,
            digest: None,
            condition: WriteCondition::None,
            wanted: u8::try_from(places.len()).expect("a few"),
            min_replicas: u8::try_from(places.len()).expect("a few"),
            internal_metadata: false,
            expires: None,
        };
        self.ticket(Operation::Write(grant))
    }

    /// Signs a ticket to read `blob` from the volume at `place`.
    pub fn read(&mut self, place: usize, blob: BlobId) -> Ticket {
        let volume = self.links[place].volume;
        Ticket { blob, ..self.ticket(Operation::Read(volume)) }
    }

    fn ticket(&mut self, operation: Operation) -> Ticket {
        self.count += 1;
        let random: [u8; 10] = value(self.count, 10).try_into().expect("ten bytes");
        Ticket {
            cluster: self.cluster,
            blob: BlobId::next(None, Self::now(), random),
            expires: Self::now().after(TICKET_LIFETIME),
            hops: 0,
            master: self.master.clone(),
            master_public: self.master.clone(),
            operation,
        }
    }

    /// Returns path and query of a volume URL with `ticket` for `key`.
    ///
    /// # Panics
    /// If the key is invalid.
    pub fn target(&self, ticket: &Ticket, key: &str) -> String {
        let key = Key::new(key).expect("a key");
        format!("{}?{TICKET}={}", key.to_path(), ticket.sign(&self.secret, &key))
    }

    /// Returns the ticket in a redirect.
    ///
    /// # Panics
    /// If there is none or it is invalid.
    pub fn read_ticket(&self, location: &str, key: &str) -> Ticket {
        let (_, text) = location.split_once("?ticket=").expect("a ticket in the redirect");
        let key = Key::new(key).expect("a key");
        Ticket::verify(text, &self.secret, &key, Self::now()).expect("a valid ticket")
    }

    /// Returns the name under which the server at `address` (`HOST:PORT`) accepts calls.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn recipient(&self, address: &str) -> Recipient {
        let call = CallSignature::new(&self.secret, Recipient::ANY, "POST", RECIPIENT, b"", Self::now());
        let mut raw = Raw::connect(address);
        raw.send(format!(
            "POST {RECIPIENT} HTTP/1.1\r\nHost: localhost\r\n{SIGNATURE_HEADER}: {call}\r\nContent-Length: 0\r\n\r\n"
        ));
        let answer = raw.answer();
        let (status, body) =
            (StatusCode::from_u16(answer.status).expect("a status"), blake3::hash(&answer.body));
        call.check_answer(&self.secret, answer.header(ANSWER_HEADER), status, &body).expect("a signed answer")
    }

    /// Returns the signature of a call to the server at `address`.
    pub fn sign(&self, address: &str, path: &str, body: &[u8]) -> String {
        let recipient = self.recipient(address);
        CallSignature::new(&self.secret, recipient, "POST", path, body, Self::now()).to_string()
    }
}
