//! The verbs, one file each.

pub(crate) mod bench;
pub(crate) mod cat;
pub(crate) mod cluster;
pub(crate) mod explain;
pub(crate) mod get;
pub(crate) mod key;
pub(crate) mod ls;
pub(crate) mod put;
pub(crate) mod rm;
pub(crate) mod server;
pub(crate) mod stat;
pub(crate) mod volume;

#[cfg(test)]
mod tests;
