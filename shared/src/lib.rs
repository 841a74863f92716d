//! What masters, volumes and clients share: the glossary's terms as types, the ring, tickets and receipts, wire types
//! and routes, HTTP, telemetry.
//!
//! Nothing in here knows how bytes are stored.

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
pub mod expiry;
pub mod file_permissions;
pub mod http;
pub mod ids;
pub mod inventory;
pub mod key;
pub mod limits;
pub mod manifest;
pub mod md5;
pub mod range;
pub mod ring;
pub mod secret;
pub mod size;
pub mod telemetry;
pub mod ticket;
pub mod tombstone;
pub mod watchdog;
pub mod wire;
pub mod work;
