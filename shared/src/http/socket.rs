//! How sockets are made: with a bound on what the kernel holds of each connection, where the system grants one that
//! does not make distant clients slow.

use std::io;
use std::net::SocketAddr;
use std::sync::OnceLock;

use tokio::net::{TcpListener, TcpSocket};

use crate::limits::{ACCEPT_BACKLOG, SOCKET_WINDOW_BYTES};

/// Binds `address`.
///
/// # Errors
/// Those of the system: the address is not ours, or taken.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(bytes) = receive_bytes() {
        // What is accepted inherits it.
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(ACCEPT_BACKLOG)
}

/// The receive buffer to ask for, in bytes; none where the system would grant less, and a kernel that chooses by itself
/// does better.
pub fn receive_bytes() -> Option<u32> {
    static GRANTED: OnceLock<bool> = OnceLock::new();
    let granted = *GRANTED.get_or_init(|| {
        let granted = probe();
        if !granted {
            tracing::info!(
                wanted = SOCKET_WINDOW_BYTES,
                "the system grants no such receive buffer (net.core.rmem_max): hundreds of uploads at once may run it out of socket memory"
            );
        }
        granted
    });
    granted.then_some(SOCKET_WINDOW_BYTES)
}

fn probe() -> bool {
    let granted = || {
        let socket = TcpSocket::new_v4().or_else(|_| TcpSocket::new_v6())?;
        socket.set_recv_buffer_size(SOCKET_WINDOW_BYTES)?;
        socket.recv_buffer_size()
    };
    // Linux says twice what it granted: it counts its own bookkeeping.
    granted().is_ok_and(|bytes: u32| bytes >= 2 * SOCKET_WINDOW_BYTES)
}
