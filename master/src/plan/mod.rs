//! Planners: they compute the work to be done from the tables and the topology. The workers carry it out.

pub mod blob_locator;
pub mod orphans;
pub mod rebalance;
pub mod reclaim;
pub mod repair;
pub mod repair_scan;
