//! Several masters as one: histories of concurrent clients are linearizable whatever happens to the masters, writes go on
//! when one of them dies, and masters come and go.
//!
//! `BARGE_NEMESIS_SECONDS` says how long the masters are tormented, `BARGE_SEED` repeats the choices of a run.

mod backup;
mod book;
mod clients;
mod failover;
mod histories;
mod members;
mod nemesis;
mod overtaken;
mod snapshots;
mod static_list;
mod writers;
