//! Where a server may listen: loopback only, unless it is told that its clients are trusted.

use std::net::SocketAddr;

/// Listening there would open the store to strangers.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0} can be reached from other machines, and no access keys are configured: \
     listen on 127.0.0.1, or say --insecure-no-auth when everyone who can reach it may read and write everything"
)]
pub struct Exposed(pub SocketAddr);

/// Checks an address before it is bound.
///
/// # Errors
/// When it is not a loopback address and `insecure_no_auth` is not set.
pub fn check(address: SocketAddr, insecure_no_auth: bool) -> Result<(), Exposed> {
    if address.ip().is_loopback() || insecure_no_auth { Ok(()) } else { Err(Exposed(address)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_only_unless_told() {
        for (address, open) in
            [("127.0.0.1:1", true), ("[::1]:1", true), ("0.0.0.0:1", false), ("192.0.2.1:1", false)]
        {
            let address = address.parse().unwrap();
            assert_eq!(check(address, false).is_ok(), open);
            assert!(check(address, true).is_ok());
        }
    }
}
