//! Access: the clients that may call, from where, and how much.
//!
//! Routes stand behind [`admit`](crate::telemetry::admit) or before it, and that is decided in the route table: a path that is not
//! there, however it is written, stands behind it like all the others.

mod args;
mod cors;
mod host;
mod keys;
mod peer;
mod quota;

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, Method};
use tower_http::cors::CorsLayer;
use unmask_scheduler::ClientId;

pub use self::args::AccessArgs;
pub use self::cors::Origin;
pub use self::host::HostName;
pub use self::keys::KeyError;
use self::keys::Keys;
pub use self::peer::Proxy;
pub use self::quota::Allowance;
use self::quota::Quotas;
use crate::clock::now;
use crate::error::ApiError;

/// The rules of access, and the state that they keep.
///
/// A client is a key, or an address where there are no keys. [`admit`](crate::telemetry::admit) finds the client of a request and takes one request
/// from its quota before the handler runs; the handler's [`Observation`](crate::observation::Observation) takes tokens once they are known. `check_host`
/// refuses names that are not the server's, and [`Self::cors`] lets pages of named origins call.
#[derive(Debug, Default)]
pub struct Access {
    /// `None` lets every client call.
    keys: Option<Keys>,
    /// The quotas of clients whose key names none.
    allowance: Allowance,
    quotas: Quotas,
    proxies: Vec<Proxy>,
    /// The names that the server answers to beside this machine's own; `None` is any.
    hosts: Option<Vec<HostName>>,
    origins: Vec<Origin>,
    metrics: MetricsDoor,
    /// Numbers clients for the scheduler.
    hasher: RandomState,
}

/// Why the rules cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// `--require-api-key` without one.
    #[error("--require-api-key is given, but there is no --api-key-file and no UNMASK_API_KEY")]
    NoKeys,
}

/// The place of `/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MetricsDoor {
    /// Beside the probes, for everybody.
    #[default]
    Open,
    /// Behind [`admit`](crate::telemetry::admit).
    Keyed,
    /// At an address of its own.
    Admin,
}

/// The identity that counts as one client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Identity {
    /// The name of a key.
    Key(Arc<str>),
    /// The address, in a server without keys.
    Address(IpAddr),
}

/// The client of a request.
#[derive(Clone, Debug)]
pub struct Client {
    identity: Identity,
    allowance: Allowance,
    id: ClientId,
}

impl Client {
    /// The name of its key.
    #[must_use]
    pub fn key_name(&self) -> Option<&str> {
        match &self.identity {
            Identity::Key(name) => Some(name),
            Identity::Address(_) => None,
        }
    }

    /// Its number for the scheduler, which treats clients alike however much each of them asks.
    #[must_use]
    pub fn id(&self) -> ClientId {
        self.id
    }
}

impl Access {
    /// From flags, for a server that listens on `listen`.
    ///
    /// # Errors
    /// Keys that cannot be read, or none where some are required.
    pub fn open(args: &AccessArgs, listen: SocketAddr) -> Result<Self, AccessError> {
        let keys = Keys::open(args.api_key_file.clone(), args.api_key.clone())?;
        let public = !listen.ip().to_canonical().is_loopback();
        match &keys {
            None if args.require_api_key => return Err(AccessError::NoKeys),
            None if public => {
                tracing::warn!(
                    "every client that reaches {listen} can use this server; set --api-key-file to require keys"
                );
            }
            _ => {}
        }
        let metrics = match (args.metrics_listen, args.metrics_auth) {
            (Some(_), _) => MetricsDoor::Admin,
            (None, true) => MetricsDoor::Keyed,
            (None, false) => MetricsDoor::Open,
        };
        let local = !public && keys.is_none();
        let names = || args.allowed_host.iter().cloned().chain(host::machine()).collect();
        let hosts = (local || !args.allowed_host.is_empty()).then(names);
        Ok(Self {
            keys,
            allowance: Allowance { requests: args.requests_per_minute, tokens: args.tokens_per_minute },
            quotas: Quotas::default(),
            proxies: args.trusted_proxy.clone(),
            hosts,
            origins: args.cors_origin.clone(),
            metrics,
            hasher: RandomState::new(),
        })
    }

    /// The place of `/metrics`.
    #[must_use]
    pub fn metrics(&self) -> MetricsDoor {
        self.metrics
    }

    /// The layer that lets pages of other sites call, if any may.
    #[must_use]
    pub fn cors(&self) -> Option<CorsLayer> {
        (!self.origins.is_empty()).then(|| cors::layer(&self.origins))
    }

    /// Reads the keys again. Bad ones change nothing.
    fn reload(&self) {
        let Some(keys) = &self.keys else { return };
        match keys.reload() {
            Ok(count) => tracing::info!(count, "keys read again"),
            Err(error) => {
                let error = anyhow::Error::new(error);
                tracing::error!("the old keys stay in use: {error:#}");
            }
        }
    }

    /// Refuses a request that calls the server by another name than its own.
    pub(crate) fn check_host(&self, request: &Request) -> Result<(), ApiError> {
        match &self.hosts {
            None => Ok(()),
            Some(names) => host::check(names, request.uri(), request.headers()),
        }
    }

    /// Finds the client of a request, if it may call.
    pub(crate) fn identify(&self, request: &Request) -> Result<Client, ApiError> {
        let headers = request.headers();
        let (identity, own) = match &self.keys {
            None => (Identity::Address(self.address(request)), Allowance::default()),
            Some(keys) => {
                let given = keys::given(headers).iter().any(Option::is_some);
                let key = keys.of(headers).ok_or(ApiError::InvalidKey { given })?;
                (Identity::Key(key.name), key.allowance)
            }
        };
        let id = ClientId(self.hasher.hash_one(&identity));
        Ok(Client { identity, allowance: own.or(self.allowance), id })
    }

    fn address(&self, request: &Request) -> IpAddr {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |ConnectInfo(address)| address.ip());
        peer::household(peer::client(peer, request.headers(), &self.proxies))
    }

    /// `client` is about to have `tokens` computed: those given and those to be generated.
    ///
    /// # Errors
    /// It has used up its allowance, or would never have enough.
    pub fn charge(&self, client: &Client, tokens: u64) -> Result<(), ApiError> {
        self.quotas.count_tokens(client, tokens, now())
    }

    /// `client` has cost what `tokens` cost.
    pub fn spend(&self, client: &Client, tokens: u64) {
        self.quotas.spend(client, tokens, now());
    }

    /// They were not computed after all.
    pub fn give_back(&self, client: &Client, tokens: u64) {
        self.quotas.give_back(client, tokens, now());
    }

    /// Takes one request from the client's quota.
    pub(crate) fn count(&self, client: &Client, method: &Method) -> Result<(), ApiError> {
        // What has no body is cheap, and clients ask it often.
        if method == Method::POST { self.quotas.count_request(client, now()) } else { Ok(()) }
    }

    /// Says in the headers of an answer how much more the client may ask.
    pub(crate) fn describe(&self, client: &Client, headers: &mut HeaderMap) {
        self.quotas.describe(client, headers, now());
    }
}

/// Reads the key file again at every SIGHUP. Without one there is nothing to read: the signal would otherwise end the
/// process, and every request with it.
///
/// # Errors
/// The handler cannot be installed.
#[cfg(unix)]
pub fn reload_on_hangup(access: Arc<Access>) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut hangups = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            if access.keys.as_ref().and_then(Keys::file).is_none() {
                tracing::info!("SIGHUP: there is no key file to read again");
                continue;
            }
            let access = Arc::clone(&access);
            // Reading a file blocks.
            let _ = tokio::task::spawn_blocking(move || access.reload()).await;
        }
    });
    Ok(())
}

/// There is no SIGHUP here.
///
/// # Errors
/// Never; the type is that of the other systems.
#[cfg(not(unix))]
pub fn reload_on_hangup(_: Arc<Access>) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;
    use crate::values::Secret;

    fn asked_from(address: &str, key: Option<&str>) -> Request {
        let mut request = Request::get("/").header("x-api-key", key.unwrap_or(""));
        let address = SocketAddr::new(address.parse().unwrap(), 1234);
        request.extensions_mut().unwrap().insert(ConnectInfo(address));
        request.body(Body::empty()).unwrap()
    }

    #[test]
    fn a_client_is_an_address_where_there_are_no_keys() {
        let access = Access::default();
        let id = |address| access.identify(&asked_from(address, None)).unwrap().id();
        assert_eq!(id("10.0.0.1"), id("::ffff:10.0.0.1"));
        assert_eq!(id("2001:db8::1"), id("2001:db8::2"));
        assert_ne!(id("10.0.0.1"), id("10.0.0.2"));
    }

    #[test]
    fn a_client_is_a_key_where_there_are_some_wherever_it_comes_from() {
        let keys = Keys::open(None, Some(Secret("secret".to_owned()))).unwrap();
        let access = Access { keys, ..Access::default() };
        let ask = |address, key| access.identify(&asked_from(address, key));
        let [one, other] = ["10.0.0.1", "10.0.0.2"].map(|address| ask(address, Some("secret")).unwrap());
        assert_eq!((one.id(), one.key_name()), (other.id(), Some("default")));
        assert!(matches!(ask("10.0.0.1", Some("wrong")), Err(ApiError::InvalidKey { given: true })));
    }
}
