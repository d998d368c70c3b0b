//! Addresses: taken before anything slow happens, listened on when the server is ready.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: u32 = 1024;

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

/// Addresses that are taken and that do not accept connections yet.
#[derive(Debug)]
pub struct Bound {
    public: TcpSocket,
    admin: Option<TcpSocket>,
}

impl Bound {
    /// Takes the address for clients, and that for what watches the server if it has one of its own.
    ///
    /// # Errors
    /// An address is in use, or not of this machine.
    pub fn bind(public: SocketAddr, admin: Option<SocketAddr>) -> Result<Self, ListenError> {
        let take = |address| bind(address).map_err(|source| ListenError { address, source });
        Ok(Self { public: take(public)?, admin: admin.map(take).transpose()? })
    }

    /// Accepts connections from now on. Needs tokio's runtime.
    ///
    /// # Errors
    /// Another process has done the same since [`Self::bind`].
    pub fn listen(self) -> Result<Listeners, ListenError> {
        let listen = |socket: TcpSocket| {
            let address = socket.local_addr().unwrap_or_else(|_| SocketAddr::from(([0; 4], 0)));
            socket.listen(BACKLOG).map_err(|source| ListenError { address, source })
        };
        Ok(Listeners { public: listen(self.public)?, admin: self.admin.map(listen).transpose()? })
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // On other systems this would let two servers share a port.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

/// Addresses for clients and for monitoring.
#[derive(Debug)]
pub struct Listeners {
    /// For [`routes::app`](crate::routes::app).
    pub public: TcpListener,
    /// For [`routes::admin`](crate::routes::admin).
    pub admin: Option<TcpListener>,
}
