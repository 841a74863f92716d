//! The whole-system tests in one program, compiled and linked once. tests/README.md describes each module.

mod access;
mod bad_input;
mod contract;
mod crash;
mod degraded;
mod fixture;
mod full_disk;
mod healing;
mod keys;
mod maintenance;
mod masters;
mod matrix;
mod object_store;
mod pages;
mod parts;
mod power;
mod rebuild;
mod resp;
mod s3;
mod syscalls;
mod tidy;
mod tls;
