//! S3 checksums: of bodies as they arrive, and of multipart objects.

pub(super) mod algorithms;
pub(super) mod body;
pub(super) mod crc_combine;
