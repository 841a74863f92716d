//! Several masters as one: histories of concurrent clients are linearizable whatever happens to the masters, writes go on
//! when one of them dies, and masters come and go.
//!
//! `BARGE_NEMESIS_SECONDS` says how long the masters are tormented, `BARGE_SEED` repeats the choices of a run.

#[path = "masters/backup.rs"]
mod backup;
#[path = "masters/book.rs"]
mod book;
#[path = "masters/clients.rs"]
mod clients;
#[path = "masters/damaged.rs"]
mod damaged;
#[path = "masters/failover.rs"]
mod failover;
#[path = "masters/histories.rs"]
mod histories;
#[path = "masters/members.rs"]
mod members;
#[path = "masters/nemesis.rs"]
mod nemesis;
#[path = "masters/overtaken.rs"]
mod overtaken;
#[path = "masters/snapshots.rs"]
mod snapshots;
#[path = "masters/static_list.rs"]
mod static_list;
#[path = "masters/writers.rs"]
mod writers;
