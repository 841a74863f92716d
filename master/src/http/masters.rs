//! Calls between masters, and cluster membership. Every POST is signed, and its signature is verified before the body
//! is parsed. These routes also work before this master has joined a cluster.

use std::net::IpAddr;
use std::sync::Arc;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Serialize;
use serde::de::DeserializeOwned;
use shared::http::body::{self, Body};
use shared::http::client::{PeerClient, base_url};
use shared::http::signed_calls::{read_signed, read_signed_bytes};
use shared::http::unrouted;
use shared::limits::RAFT_MESSAGE_BYTES_MAX;
use shared::wire::error::{ErrorCode, ErrorReply};
use shared::wire::master::{AddMaster, MasterIdentity, Masters, MembershipState, RemoveMaster};
use shared::wire::routes::{
    MASTER_SELF, MASTERS, MASTERS_ADD, MASTERS_INIT, MASTERS_REMOVE, RAFT_APPEND, RAFT_INSTALL, RAFT_OFFER,
    RAFT_PART, RAFT_VOTE, READ_INDEX, TABLES_COMPARE, TABLES_OFFER, TABLES_PART,
};

use crate::auth::{Action, AuthConfig, Keys, Sender};
use crate::join::create_cluster;
use crate::raft::group::Group;
use crate::raft::rpc::Envelope;
use crate::raft::{MasterId, Peer};

/// Hint for callers who may not see the servers of the cluster.
const WHO_MAY_LOOK: &str = "use `barge cluster` with --secret-file, or send Authorization: Bearer ID:SECRET of an access key without a scope";

/// All of these routes except `MASTERS`, which also takes GET.
pub(super) const ROUTES: [&str; 13] = [
    RAFT_APPEND,
    RAFT_VOTE,
    RAFT_OFFER,
    RAFT_PART,
    RAFT_INSTALL,
    TABLES_COMPARE,
    TABLES_OFFER,
    TABLES_PART,
    READ_INDEX,
    MASTER_SELF,
    MASTERS_ADD,
    MASTERS_REMOVE,
    MASTERS_INIT,
];

/// The state behind these routes.
#[derive(Clone, Debug)]
pub struct MastersApi {
    pub group: Arc<Group>,
    pub peers: PeerClient,
    /// Decides what access keys permit.
    pub policy: Arc<AuthConfig>,
}

impl MastersApi {
    /// The access keys in this master's tables, which may be behind.
    pub(super) fn keys(&self) -> Keys {
        Keys::new(self.group.machine().database().tree(), &self.policy)
    }

    /// Answers requests for these routes; returns any other request as `NotOurs`.
    pub(super) async fn handle(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
    ) -> Result<Response<Body>, Unhandled> {
        let path = request.uri().path().to_owned();
        let get = unrouted::method(&request) == http::Method::GET;
        if get && path == MASTERS {
            self.admit(&request, peer).await?;
            return Ok(self.masters());
        }
        if request.method() != http::Method::POST {
            return Err(Unhandled::NotOurs(request));
        }
        let group = &self.group;
        Ok(match path.as_str() {
            RAFT_APPEND => packed(&group.append(self.unpack(request).await?).await?),
            RAFT_VOTE => packed(&group.vote(self.unpack(request).await?).await?),
            RAFT_OFFER => packed(&group.offered(self.unpack(request).await?).await?),
            RAFT_PART => packed(&group.part(self.unpack(request).await?).await?),
            RAFT_INSTALL => packed(&group.install(self.unpack(request).await?).await?),
            TABLES_COMPARE => {
                let places = group
                    .meant(self.read::<Envelope<Vec<u64>>>(request).await?)
                    .map_err(crate::raft::error::AnswerError::from)?;
                body::json(StatusCode::OK, &group.contents(&places))
            }
            TABLES_OFFER => packed(&group.tables_offer(self.unpack(request).await?).await?),
            TABLES_PART => packed(&group.tables_part(&self.unpack(request).await?).await?),
            READ_INDEX => {
                let question: Envelope<()> = self.read(request).await?;
                group.meant(question).map_err(crate::raft::error::AnswerError::from)?;
                let index =
                    group.read_index().await.map_err(|_| crate::raft::error::WriteError::NotLeader)?;
                body::json(StatusCode::OK, &index)
            }
            MASTERS => {
                let () = self.read(request).await?;
                self.masters()
            }
            MASTER_SELF => {
                let () = self.read(request).await?;
                body::json(StatusCode::OK, &self.who()?)
            }
            MASTERS_ADD => {
                let add: AddMaster = self.read(request).await?;
                body::json(StatusCode::OK, &self.add(add).await?)
            }
            MASTERS_REMOVE => {
                let remove: RemoveMaster = self.read(request).await?;
                self.remove(remove).await?;
                body::json(StatusCode::OK, &serde_json::json!({}))
            }
            MASTERS_INIT => {
                let call: Envelope<()> = self.read(request).await?;
                group.meant(call).map_err(crate::raft::error::AnswerError::from)?;
                create_cluster(group).await?;
                body::json(StatusCode::OK, &self.who()?)
            }
            _ => return Err(Unhandled::NotOurs(request)),
        })
    }

    /// Admits callers who may see the servers of the cluster: holders of a key that may read everything, and everyone
    /// if access is open. It must work without a leader, so it decides by this master's own tables.
    pub(super) async fn admit(&self, request: &Request<Incoming>, peer: IpAddr) -> Result<(), ErrorReply> {
        let sender = Sender { method: request.method(), headers: request.headers(), peer };
        let keys = self.keys();
        keys.throttle_sender(sender).await?;
        let admitted = keys.admit(sender, false, Action::Read, None, None);
        admitted.map_err(|refusal| ErrorReply { hint: WHO_MAY_LOOK, ..refusal })
    }

    fn masters(&self) -> Response<Body> {
        let masters = Masters { me: self.group.id(), masters: self.group.masters() };
        body::json(StatusCode::OK, &masters)
    }

    async fn read<T: DeserializeOwned>(&self, request: Request<Incoming>) -> Result<T, ErrorReply> {
        read_signed(request).await
    }

    async fn unpack<T: DeserializeOwned>(&self, request: Request<Incoming>) -> Result<T, ErrorReply> {
        let bytes = read_signed_bytes(request, RAFT_MESSAGE_BYTES_MAX).await?;
        postcard::from_bytes(&bytes).map_err(|e| {
            ErrorReply::new(
                ErrorCode::BadBody,
                format!("the message cannot be parsed: {e}"),
                "run the same version of Barge on all servers",
            )
        })
    }

    fn who(&self) -> Result<MasterIdentity, ErrorReply> {
        let me = self.group.me();
        let identity = self.group.machine().database().identity()?;
        Ok(MasterIdentity {
            master: self.group.id(),
            address: me.address.clone(),
            public_url: me.public_url.clone(),
            cluster: identity.map(|i| i.cluster),
        })
    }

    async fn add(&self, add: AddMaster) -> Result<MembershipState, ErrorReply> {
        let new = match add {
            AddMaster::Known(new) => {
                self.meet(&new).await?;
                new
            }
            AddMaster::At(address) => self.ask(&base_url(&address)).await?,
        };
        let ours = self.group.machine().database().identity()?.map(|i| i.cluster);
        if ours.is_none() {
            return Err(super::not_yet());
        }
        if new.cluster.is_some_and(|c| Some(c) != ours) {
            return Err(ErrorReply::new(
                ErrorCode::WrongCluster,
                "the new master has metadata of another cluster",
                "start the new master with an empty directory and --join or --wait",
            ));
        }
        Ok(self.group.add(new.master, Peer { address: new.address, public_url: new.public_url }).await?)
    }

    /// Checks that the new master is at the address it claims: it must not take another master's place.
    async fn meet(&self, new: &MasterIdentity) -> Result<(), ErrorReply> {
        let known = Peer { address: new.address.clone(), public_url: new.public_url.clone() };
        if self.group.knows(new.master, &known) {
            return Ok(());
        }
        let there = self.ask(&new.address).await?;
        if there.master == new.master {
            return Ok(());
        }
        Err(ErrorReply::new(
            ErrorCode::WrongMaster,
            format!("another master answers at {}", new.address),
            "start the new master with an --advertise address that reaches it",
        ))
    }

    async fn ask(&self, address: &str) -> Result<MasterIdentity, ErrorReply> {
        self.peers.call(address, MASTER_SELF, &()).await.map_err(|e| {
            ErrorReply::new(
                ErrorCode::Unavailable,
                e.to_string(),
                "start the new master with an empty directory and --wait, and with the same --secret-file",
            )
        })
    }

    async fn remove(&self, remove: RemoveMaster) -> Result<(), ErrorReply> {
        let named = base_url(&remove.master);
        let id: Option<MasterId> = remove.master.parse().ok();
        let found = self
            .group
            .masters()
            .into_iter()
            .find(|m| Some(m.master) == id || m.address == named || m.public_url == named);
        let Some(found) = found else {
            return Err(crate::raft::members::MemberError::Unknown { named: remove.master }.into());
        };
        Ok(self.group.remove(found.master).await?)
    }
}

/// Why these routes gave no answer.
#[derive(Debug)]
pub(super) enum Unhandled {
    /// The request is for another route.
    NotOurs(Request<Incoming>),
    Refused(ErrorReply),
}

impl<E: Into<ErrorReply>> From<E> for Unhandled {
    fn from(e: E) -> Self {
        Self::Refused(e.into())
    }
}

fn packed<T: Serialize>(answer: &T) -> Response<Body> {
    Response::new(body::full(postcard::to_stdvec(answer).unwrap_or_default()))
}
