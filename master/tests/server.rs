//! A master and what it keeps, without the rest of a cluster unless a test says so. One program: it is compiled and linked once.

mod answers;
mod damage;
mod healed_metadata;
mod poll;
