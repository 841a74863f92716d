//! HTTP on top of hyper: how every server listens, how servers call each other, and what a body may cost.
//! Nothing in here knows a route.

pub mod body;
pub mod client;
pub mod committed;
pub mod entity;
pub mod exposure;
pub mod metadata;
pub mod pipe;
pub mod reachability;
pub mod serve;
pub mod signed_calls;
pub mod socket;
pub mod tls;
mod tls_close;
mod tls_connect;
pub mod trust;
pub mod unrouted;
pub mod write_timeout;
