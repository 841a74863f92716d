//! Background work of a master: each worker carries out a plan, a bounded amount a tick.

pub mod orphans;
pub mod poll;
pub mod reclaim;
pub mod upkeep;
pub mod uploads;
