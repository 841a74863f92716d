//! What masters, volumes and clients have in common: the words of the glossary as types,
//! the ring, tickets and receipts, wire types and routes, the HTTP shells, telemetry.
//!
//! Nothing in here has an opinion on how bytes are stored.

#![warn(missing_docs)]

pub mod access;
pub mod attributes;
pub mod call;
pub mod clock;
pub mod condition;
pub mod crc32c;
pub mod descriptors;
pub mod digest;
pub mod durable;
pub mod http;
pub mod ids;
pub mod inventory;
pub mod key;
pub mod limits;
pub mod manifest;
pub mod md5;
pub mod private;
pub mod range;
pub mod ring;
pub mod secret;
pub mod size;
pub mod telemetry;
pub mod ticket;
pub mod tombstone;
pub mod wire;
pub mod work;
