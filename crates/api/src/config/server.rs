//! Settings of the server: its addresses, and limits on time and connections.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;

use super::LISTEN;
use crate::values::{HostArg, ListenArg, OverloadArg, at_least_one, yes_or_no};

/// Addresses and time limits of the server.
#[derive(Debug, Args)]
#[command(next_help_heading = "Server")]
pub struct ServerArgs {
    /// Address and port; localhost:PORT, or :PORT for every address of this machine.
    #[arg(long, env = "UNMASK_LISTEN", default_value = LISTEN, value_name = "ADDRESS")]
    pub listen: ListenArg,
    /// The address alone, instead of the one in --listen. (No variable: Kubernetes sets UNMASK_PORT for a service
    /// called unmask.)
    #[arg(long, value_name = "ADDRESS")]
    pub host: Option<HostArg>,
    /// The port alone, instead of the one in --listen.
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,
    /// Seconds between the signal to stop and the refusal of new requests; /ready says no at once, so
    /// that balancers look elsewhere meanwhile.
    #[arg(long, env = "UNMASK_DRAIN_DELAY", default_value_t = 0, value_name = "SECONDS")]
    pub drain_delay: u64,
    /// Seconds that running and waiting requests then have to finish.
    #[arg(long, env = "UNMASK_DRAIN_TIMEOUT", default_value_t = 25, value_name = "SECONDS")]
    pub drain_timeout: u64,
    /// Seconds for which a client may read nothing of an answer. Then its connection is closed (over HTTP/2, its
    /// stream is reset) and its request is cancelled.
    #[arg(long, env = "UNMASK_WRITE_TIMEOUT", default_value_t = 30, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub write_timeout: u64,
    /// Connections at a time; beyond that the one that has been idle for longest makes room for a new one.
    #[arg(long, env = "UNMASK_MAX_CONNECTIONS", default_value_t = 1024, value_name = "N",
          value_parser = at_least_one)]
    pub max_connections: usize,
    /// Seconds that the head of a request may take to arrive; then its connection is closed.
    #[arg(long, env = "UNMASK_HEADER_TIMEOUT", default_value_t = 10, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub header_timeout: u64,
    /// Seconds that a connection may be idle between requests. Set it longer than the idle timeout of a load
    /// balancer in front.
    #[arg(long, env = "UNMASK_IDLE_TIMEOUT", default_value_t = 75, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub idle_timeout: u64,
    /// Seconds that one evaluation may take before /live says 503.
    #[arg(long, env = "UNMASK_WATCHDOG", default_value_t = 120, value_name = "SECONDS",
          value_parser = clap::value_parser!(u64).range(1..))]
    pub watchdog: u64,
    /// The status of a request that finds the queue full or waits in it for too long.
    #[arg(long, env = "UNMASK_OVERLOAD_STATUS", default_value = "503", value_name = "STATUS")]
    pub overload_status: OverloadArg,
    /// Serve no pages at / and /docs.
    #[arg(long, env = "UNMASK_NO_PLAYGROUND", value_parser = yes_or_no())]
    pub no_playground: bool,
}

impl ServerArgs {
    /// The address to listen on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        let ListenArg(listen) = self.listen;
        let host = self.host.map_or(listen.ip(), |HostArg(host)| host);
        SocketAddr::new(host, self.port.unwrap_or(listen.port()))
    }

    /// For the server.
    #[must_use]
    pub fn patience(&self) -> Patience {
        Patience {
            drain_delay: Duration::from_secs(self.drain_delay),
            drain_timeout: Duration::from_secs(self.drain_timeout),
            slow_reader: Duration::from_secs(self.write_timeout),
            header: Duration::from_secs(self.header_timeout),
            idle: Duration::from_secs(self.idle_timeout),
            connections: self.max_connections,
        }
    }
}

/// Limits on shutdown and connections. All zero by default, for servers without sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Patience {
    /// From the signal to stop to the refusal of requests.
    pub drain_delay: Duration,
    /// For requests to finish after that.
    pub drain_timeout: Duration,
    /// For a client to take something of its answer.
    pub slow_reader: Duration,
    /// For the head of a request.
    pub header: Duration,
    /// For the next request on a connection.
    pub idle: Duration,
    /// Not a time: how many connections there may be at once.
    pub connections: usize,
}
