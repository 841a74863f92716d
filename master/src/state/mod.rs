//! The replicated state machine. It uses no clock, no randomness, and no IO beyond the tables, so that the same
//! commands in the same order give the same state on every master.

pub mod apply;
pub mod command;
pub mod expiry;
