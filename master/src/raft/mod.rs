//! The master's part in a group: what openraft needs from us.
//!
//! `log` is where entries and votes are kept. Nothing here knows what an entry means.

pub mod log;
