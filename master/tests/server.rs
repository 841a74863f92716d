//! Tests of a master and its metadata, mostly without the rest of a cluster. One binary, compiled and linked once.

mod answers;
mod corruption;
mod healed_metadata;
mod poll;
