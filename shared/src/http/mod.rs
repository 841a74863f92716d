//! The HTTP shells around hyper and reqwest: how every server listens, how servers call each other,
//! and what a body may cost. Nothing in here knows a route.

pub mod body;
pub mod client;
pub mod committed;
pub mod entity;
pub mod exposure;
mod handshaking;
pub mod metadata;
mod parting;
pub mod pipe;
pub mod reach;
pub mod serve;
pub mod signed;
pub mod socket;
pub mod stall;
pub mod tls;
pub mod trust;
pub mod unrouted;
