//! Plans: what is to be done, as a function of the tables and the volumes that are up. Workers do it.

pub mod drain;
pub mod orphans;
pub mod rebalance;
pub mod reclaim;
pub mod repair;
pub mod survey;
