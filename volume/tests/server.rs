//! A volume and its store, without the rest of a cluster. One program: it is compiled and linked once.

mod arrival;
mod heartbeat;
mod nofile;
mod store;
