//! Connections: accepted, served over HTTP/1.1 or HTTP/2, closed when their clients are slow or their place is
//! needed, and drained at the end.
//!
//! One thread does all of this, and it answers probes and takes signals too. Everything else that a request asks for
//! happens on the workers' runtime (`handoff`), so nothing that a client sends can hold up a probe or a signal.

mod activity;
mod answer;
mod connection;
mod handoff;
mod listen;
mod places;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use prometheus_client::metrics::counter::Counter;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use self::activity::Activity;
use self::answer::{Held, Watch};
use self::connection::Connection;
use self::handoff::Handoff;
pub use self::listen::{Bound, ListenError, Listeners};
pub(crate) use self::places::KEPT;
use self::places::{Place, Places};
use crate::config::Patience;
use crate::limits::{HEAD, HEADERS};
use crate::routes;
use crate::shutdown;
use crate::state::AppState;

/// Requests side by side on a connection over HTTP/2.
const STREAMS: u32 = 64;

/// Serves until `stop` completes, then drains: see [`shutdown::drain`]. Returns when every answer has
/// ended, or a few seconds after that when a client does not read its own. Needs a tokio runtime, which answers the
/// requests.
///
/// # Errors
/// The operating system refuses the thread of the connections, or what it waits with.
pub async fn serve(
    listeners: Listeners,
    state: AppState,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let workers = Handle::current();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (ended, end) = oneshot::channel();
    thread::Builder::new().name("unmask-connections".into()).spawn(move || {
        let served = runtime.block_on(accept_all(listeners, state, stop, workers));
        // Connections whose clients do not read are left behind.
        runtime.shutdown_background();
        let _ = ended.send(served);
    })?;
    end.await.unwrap_or_else(|_| Err(io::Error::other("the thread of the connections panicked")))
}

async fn accept_all(
    listeners: Listeners,
    state: AppState,
    stop: impl Future<Output = ()> + Send + 'static,
    workers: Handle,
) -> io::Result<()> {
    let Listeners { public, admin } = listeners;
    let public = here(public)?;
    let admin = admin.map(here).transpose()?;
    let patience = state.patience;
    let server = |app: Router| Server {
        front: routes::probes(state.clone()).fallback_service(Handoff::new(app, workers.clone())),
        crowded: routes::crowded(state.clone()),
        http: http(&patience, &state.metrics.stalled),
        stalled: state.metrics.stalled.clone(),
        patience,
        places: Places::new(patience.connections),
    };
    let (public_server, admin_server) =
        (server(routes::app(state.clone())), server(routes::admin(state.clone())));
    let drained = tokio::spawn(async move {
        stop.await;
        shutdown::drain(&state, patience.drain_delay, patience.drain_timeout).await;
    });
    let connections = GracefulShutdown::new();
    tokio::select! {
        () = public_server.accept(Some(public), &connections) => {}
        () = admin_server.accept(admin, &connections) => {}
        // An error means that the task above is gone, which also ends the server.
        _ = drained => {}
    }
    shutdown::bounded(connections.shutdown()).await;
    Ok(())
}

/// The same listener, on the runtime that calls this.
fn here(listener: TcpListener) -> io::Result<TcpListener> {
    TcpListener::from_std(listener.into_std()?)
}

/// State shared by all connections of a listener.
struct Server {
    /// Answers probes, and passes everything else on.
    front: Router,
    /// Answers probes, and refuses everything else.
    crowded: Router,
    http: Builder<Streams>,
    stalled: Counter,
    patience: Patience,
    places: Arc<Places>,
}

fn http(patience: &Patience, stalled: &Counter) -> Builder<Streams> {
    let mut http = Builder::new(Streams { patience: patience.slow_reader, stalled: stalled.clone() });
    // Its own timeout counts the idle time before a request; ours does not.
    http.http1().max_buf_size(HEAD).max_headers(HEADERS).header_read_timeout(None);
    http.http2().max_header_list_size(HEAD as u32).max_concurrent_streams(STREAMS);
    http
}

/// Runs the streams of HTTP/2, and resets those whose client does not read.
#[derive(Clone)]
struct Streams {
    patience: Duration,
    stalled: Counter,
}

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let Self { patience, stalled } = self.clone();
        tokio::spawn(async move {
            // A stream whose task is gone is reset.
            if Watch::over(stream, patience).await {
                stalled.inc();
            }
        });
    }
}

impl Server {
    /// Serves all clients, for ever.
    async fn accept(&self, listener: Option<TcpListener>, connections: &GracefulShutdown) {
        let Some(mut listener) = listener else { return std::future::pending().await };
        loop {
            let (stream, address) = Listener::accept(&mut listener).await;
            tokio::spawn(self.serve(stream, address, connections.watcher()));
            // A connection that makes room is closed before the next one is accepted: it has a descriptor.
            tokio::task::yield_now().await;
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
        let place = Arc::new(self.places.take(address.ip(), &activity));
        let connection = Connection::new(stream, slow_reader, self.stalled.clone(), Arc::clone(&activity));
        let service = self.service(address, Arc::clone(&activity), Arc::clone(&place));
        let http = self.http.clone();
        async move {
            let served = http.serve_connection(TokioIo::new(connection), service);
            tokio::select! {
                // An error is a client that went away or did not speak HTTP.
                _ = watcher.watch(served) => {}
                () = activity.overdue() => {}
            }
            drop(place);
        }
    }

    /// The application, told who is connected; a request counts as answered when nothing of its answer is left.
    fn service(
        &self,
        address: SocketAddr,
        activity: Arc<Activity>,
        place: Arc<Place>,
    ) -> impl Service<
        Request<Incoming>,
        Response = Response<Held>,
        Error = Infallible,
        Future = impl Future<Output = Result<Response<Held>, Infallible>> + Send + 'static,
    > + Send
    + 'static {
        let front = TowerToHyperService::new(self.front.clone());
        let crowded = TowerToHyperService::new(self.crowded.clone());
        let places = Arc::clone(&self.places);
        service_fn(move |mut request: Request<Incoming>| {
            let answering = activity.begin(request.version());
            request.extensions_mut().insert(ConnectInfo(address));
            let app = if place.for_probes() { &crowded } else { &front };
            let answer = app.call(request);
            let places = Arc::clone(&places);
            async move { Ok(answer.await?.map(|body| Held::new(body, answering, &places))) }
        })
    }
}
