//! Creates sockets with a bound on the kernel memory of each connection, if the system grants a bound that does not
//! slow down distant clients.

use std::io;
use std::net::SocketAddr;
use std::sync::OnceLock;

use tokio::net::{TcpListener, TcpSocket};

use crate::limits::{ACCEPT_BACKLOG, SOCKET_WINDOW_BYTES};

/// Binds a listening socket to `address`.
///
/// # Errors
/// Those of the system: the address is not local, or in use.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(bytes) = receive_bytes() {
        // Accepted connections inherit it.
        socket.set_recv_buffer_size(bytes)?;
    }
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(ACCEPT_BACKLOG)
}

/// The receive buffer to request, in bytes; `None` if the system would grant less: then the kernel chooses
/// better by itself.
pub fn receive_bytes() -> Option<u32> {
    static GRANTED: OnceLock<bool> = OnceLock::new();
    let granted = *GRANTED.get_or_init(|| {
        let granted = probe();
        if !granted {
            tracing::info!(
                wanted = SOCKET_WINDOW_BYTES,
                "the system does not grant this receive buffer (raise net.core.rmem_max): hundreds of concurrent uploads may exhaust its socket memory"
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
    // Linux reports twice what it granted: it counts its own bookkeeping.
    granted().is_ok_and(|bytes: u32| bytes >= 2 * SOCKET_WINDOW_BYTES)
}
