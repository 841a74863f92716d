//! The wire protocol between clients, masters and volumes: every route, header name and JSON type, defined once.

pub mod access;
pub mod cluster;
pub mod error;
pub mod master;
pub mod replicas;
pub mod routes;
pub mod volume;
