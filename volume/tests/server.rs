//! Tests of a volume and its store, without the rest of a cluster. One program, to compile and link once.

mod arrival;
mod heartbeat;
mod nofile;
mod store;
