//! Work with replicas on other volumes: finding them, read repair, healing a record from them, and receiving a
//! replica that is added here (re-replication).

pub mod heal;
pub mod incoming;
pub mod read_repair;
pub mod sources;
