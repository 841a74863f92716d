//! Background work of a master: each worker carries out a plan, a bounded amount a tick.

mod carry;
pub mod compare;
pub mod leave;
mod listing;
pub mod orphans;
pub mod poll;
pub mod rebalance;
pub mod reclaim;
pub mod repair;
pub mod strays;
pub mod upkeep;
pub mod uploads;
