//! Several masters as one: histories of concurrent clients are linearizable whatever happens to the masters, writes
//! continue after failover, and masters join and leave.
//!
//! `BARGE_NEMESIS_SECONDS` sets how long faults are injected; `BARGE_SEED` repeats the choices of a run.

mod backup;
mod book;
mod clients;
mod expiry;
mod failover;
mod histories;
mod members;
mod nemesis;
mod overtaken;
mod snapshots;
mod static_list;
mod writers;
