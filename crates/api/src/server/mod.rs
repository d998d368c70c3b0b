//! Connections: accepted up to a number, served over HTTP/1.1 or HTTP/2, closed when their clients are slow,
//! and drained at the end.

mod activity;
mod connection;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use prometheus_client::metrics::counter::Counter;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;

use self::activity::{Activity, Held};
use self::connection::Connection;
use crate::config::Patience;
use crate::routes;
use crate::shutdown;
use crate::state::AppState;

/// Bytes of a request's head; more is 431, without our error object.
pub(crate) const HEAD: usize = 16 * 1024;

/// Headers of a request over HTTP/1.1; more are 431 too. HTTP/2 has no such count: each header takes 32 bytes of
/// [`HEAD`] beside its own there, so that there are fewer than 512.
pub(crate) const HEADERS: usize = 64;

/// Connections that the kernel keeps while nobody accepts them.
const BACKLOG: u32 = 1024;

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct ListenError {
    address: SocketAddr,
    source: io::Error,
}

/// Addresses that are taken and that nobody can connect to yet.
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

    /// Lets them connect. Needs tokio's runtime.
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

/// Where clients connect, and where what watches the server may.
#[derive(Debug)]
pub struct Listeners {
    /// For [`routes::app`].
    pub public: TcpListener,
    /// For [`routes::admin`].
    pub admin: Option<TcpListener>,
}

/// Serves until `stop` completes, then drains: see [`shutdown::drain`]. Returns when every answer has
/// ended, or a few seconds after that when a client does not read its own.
pub async fn serve(listeners: Listeners, state: AppState, stop: impl Future<Output = ()> + Send + 'static) {
    let patience = state.patience;
    let server = |app| Server { app, http: http(), stalled: state.metrics.stalled.clone(), patience };
    let (public, admin) = (server(routes::app(state.clone())), server(routes::admin(state.clone())));
    let drained = tokio::spawn(async move {
        stop.await;
        shutdown::drain(&state, patience.drain_delay, patience.drain_timeout).await;
    });
    let connections = GracefulShutdown::new();
    tokio::select! {
        () = public.accept(Some(listeners.public), &connections) => {}
        () = admin.accept(listeners.admin, &connections) => {}
        // An error means that the task above is gone, which also ends the server.
        _ = drained => {}
    }
    shutdown::bounded(connections.shutdown()).await;
}

/// What all connections share.
struct Server {
    app: Router,
    http: Builder<TokioExecutor>,
    stalled: Counter,
    patience: Patience,
}

fn http() -> Builder<TokioExecutor> {
    let mut http = Builder::new(TokioExecutor::new());
    // Its own timeout counts the idle time before a request; ours does not.
    http.http1().max_buf_size(HEAD).max_headers(HEADERS).header_read_timeout(None);
    http.http2().max_header_list_size(HEAD as u32);
    http
}

impl Server {
    /// Serves whoever connects, for ever.
    async fn accept(&self, listener: Option<TcpListener>, connections: &GracefulShutdown) {
        let Some(mut listener) = listener else { return std::future::pending().await };
        let places = Arc::new(Semaphore::new(self.patience.connections.min(Semaphore::MAX_PERMITS)));
        // The semaphore is never closed.
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let (stream, address) = Listener::accept(&mut listener).await;
            let serving = self.serve(stream, address, connections.watcher());
            tokio::spawn(async move {
                serving.await;
                drop(place);
            });
        }
    }

    /// Serves one connection to its end.
    fn serve(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        watcher: Watcher,
    ) -> impl Future<Output = ()> + Send + 'static {
        // Small events should not wait for their acknowledgements. A socket that refuses is gone anyway.
        let _ = stream.set_nodelay(true);
        let Patience { slow_reader, header, idle, .. } = self.patience;
        let activity = Arc::new(Activity::new(header, idle));
        let connection = Connection::new(stream, slow_reader, self.stalled.clone(), Arc::clone(&activity));
        let service = service(self.app.clone(), address, Arc::clone(&activity));
        let http = self.http.clone();
        async move {
            let served = http.serve_connection(TokioIo::new(connection), service);
            tokio::select! {
                // An error is a client that went away or did not speak HTTP.
                _ = watcher.watch(served) => {}
                () = activity.overdue() => {}
            }
        }
    }
}

/// The application, told who is connected; a request counts as answered when nothing of its answer is left.
fn service(
    app: Router,
    address: SocketAddr,
    activity: Arc<Activity>,
) -> impl Service<
    Request<Incoming>,
    Response = Response<Held>,
    Error = Infallible,
    Future = impl Future<Output = Result<Response<Held>, Infallible>> + Send + 'static,
> + Send {
    let app = TowerToHyperService::new(app);
    service_fn(move |mut request: Request<Incoming>| {
        let answering = activity.begin(request.version());
        request.extensions_mut().insert(ConnectInfo(address));
        let answer = app.call(request);
        async move { Ok(answer.await?.map(|body| Held::new(body, answering))) }
    })
}
