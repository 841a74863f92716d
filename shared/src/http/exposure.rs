//! What a listening address exposes to other machines. Access keys are in the replicated metadata, which a server
//! knows only after its start: so nothing here refuses to start. A master that others can reach refuses requests about
//! keys and values until there is an access key; a volume does nothing without a master's ticket, wherever it listens.

use std::net::SocketAddr;

/// Whether a master with these listening addresses, of all its APIs, may let anyone do anything while there is
/// no access key.
pub fn open_without_keys(listening: impl IntoIterator<Item = SocketAddr>, insecure_no_auth: bool) -> bool {
    insecure_no_auth || listening.into_iter().all(|address| address.ip().is_loopback())
}

/// Logs what follows from a master's listening address.
pub fn log_exposure(listen: SocketAddr, insecure_no_auth: bool) {
    if listen.ip().is_loopback() {
        return;
    }
    if insecure_no_auth {
        tracing::warn!(
            %listen,
            "this address can be reached from other machines: until an access key exists, everyone who reaches it may \
             read and write everything"
        );
    } else {
        tracing::info!(
            %listen,
            "this address can be reached from other machines: until an access key exists (`barge key create`), all requests \
             about keys and values are refused; --insecure-no-auth opens it to everybody instead"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_only_unless_told() {
        for (address, open) in
            [("127.0.0.1:1", true), ("[::1]:1", true), ("0.0.0.0:1", false), ("192.0.2.1:1", false)]
        {
            let (address, local) = (address.parse().unwrap(), "127.0.0.1:2".parse().unwrap());
            assert_eq!(open_without_keys([address], false), open);
            assert_eq!(open_without_keys([local, address], false), open);
            assert!(open_without_keys([address], true));
        }
    }
}
