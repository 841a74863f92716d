//! `barge cluster masters` and `init`: shows, adds and removes masters.

use std::time::{Duration, Instant};

use master::Envelope;
use shared::http::client::base_url;
use shared::wire::master::{
    AddMaster, MasterIdentity, MasterRole, MasterSummary, Masters, MembershipState, RemoveMaster,
};
use shared::wire::routes::{MASTER_SELF, MASTERS, MASTERS_ADD, MASTERS_INIT, MASTERS_REMOVE};

use super::query::query;
use crate::args::{InitArgs, MastersCommand, SecretArgs};
use crate::client::{Client, patiently};
use crate::exit::{Exit, Failure};
use crate::output::{Output, table};
use crate::signed::Caller;

/// The interval between polls of a new master's progress.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// A new master makes progress within this time, or something is wrong with it.
const SILENT_MAX: Duration = Duration::from_secs(60);

pub(crate) async fn run(
    client: &Client,
    command: Option<MastersCommand>,
    secret: &SecretArgs,
    output: Output,
) -> Result<Exit, Failure> {
    match command {
        None => show(client, secret, output).await,
        Some(MastersCommand::Add { master, secret }) => {
            add_master(client, &Caller::new(&secret, client.trust())?, &master, output).await?;
            show(client, &secret, output).await
        }
        Some(MastersCommand::Remove { master, secret }) => {
            let caller = Caller::new(&secret, client.trust())?;
            let message = RemoveMaster { master };
            patiently(async || {
                let leader = leader(client, &caller).await?;
                let _: serde_json::Value = caller.call(&leader, MASTERS_REMOVE, &message).await?;
                Ok(())
            })
            .await?;
            show(client, &secret, output).await
        }
    }
}

pub(crate) async fn init(client: &Client, args: InitArgs, output: Output) -> Result<Exit, Failure> {
    let caller = Caller::new(&args.secret, client.trust())?;
    let first = base_url(&args.masters[0]);
    let there: MasterIdentity = caller.call(&first, MASTER_SELF, &()).await?;
    let call = Envelope { to: there.master, message: () };
    let founded: MasterIdentity = caller.call(&first, MASTERS_INIT, &call).await?;
    if let Some(cluster) = founded.cluster {
        output.note(&format!("cluster {cluster} is initialized with {first}"));
    }
    let client = Client::trusting(&first, client.trust().clone())?;
    for master in &args.masters[1..] {
        add_master(&client, &caller, master, output).await?;
    }
    show(&client, &args.secret, output).await
}

async fn show(client: &Client, secret: &SecretArgs, output: Output) -> Result<Exit, Failure> {
    let masters: Masters = query(client, secret, MASTERS).await?;
    output.result(&masters, || text(&masters.masters))?;
    Ok(Exit::Ok)
}

/// The masters as a table.
pub(super) fn text(masters: &[MasterSummary]) -> String {
    let mut rows = vec![["master", "role", "address", "url", "behind"].map(String::from).to_vec()];
    rows.extend(masters.iter().map(|m| {
        let role = match m.role {
            MasterRole::Leader => "leader",
            MasterRole::Follower => "follower",
            MasterRole::Learner => "learner",
        };
        let behind = m.behind.map_or_else(|| "-".into(), |n| n.to_string());
        vec![m.master.to_string(), role.into(), m.address.clone(), m.public_url.clone(), behind]
    }));
    table(&rows)
}

/// Returns the leader's address, as reported by the master that answers.
pub(super) async fn leader(client: &Client, caller: &Caller) -> Result<String, Failure> {
    let known: Masters = caller.ask_once(client, MASTERS, &()).await?;
    let leader = known.leader().ok_or_else(|| {
        Failure::new(Exit::Unavailable, "the masters have no leader")
            .retry(crate::exit::Retry::After(None))
            .next("start more masters: a majority is needed")
    })?;
    Ok(leader.address.clone())
}

/// Adds a master step by step, until it has a vote.
async fn add_master(client: &Client, caller: &Caller, master: &str, output: Output) -> Result<(), Failure> {
    let message = AddMaster::At(base_url(master));
    let (mut said, mut since) = (None, Instant::now());
    loop {
        let standing = patiently(async || {
            let leader = leader(client, caller).await?;
            caller.call::<_, MembershipState>(&leader, MASTERS_ADD, &message).await
        });
        let behind = match standing.await? {
            MembershipState::Voter => return Ok(()),
            MembershipState::Learner { behind } => behind,
        };
        if said != Some(behind) {
            (said, since) = (Some(behind), Instant::now());
            let lacks = behind
                .map_or_else(|| "is receiving the metadata".into(), |n| format!("is {n} log entries behind"));
            output.note(&format!("{master} {lacks}"));
        }
        if since.elapsed() > SILENT_MAX {
            return Err(Failure::new(Exit::Unavailable, format!("{master} does not catch up"))
                .next("see its log and the leader's, then run this command again"));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
