//! The names that a server answers to.
//!
//! A page from anywhere can have its name point to 127.0.0.1 and then read, as its own, what a server there
//! says. Its requests still carry the page's name in `Host`, and are refused by it. Names that no page can have pass:
//! those of this machine, addresses, and none: browsers always send one, and the checks of balancers do not.

use std::net::IpAddr;
use std::str::FromStr;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri, header};

use crate::error::ApiError;

/// Docker's name for the machine inside its containers. The domain is reserved for such names, so that no
/// page of another site has one.
const DOCKER_HOST: &str = "host.docker.internal";

/// The machine's own name, which its user may write. A page with this name is one of this machine's network.
#[must_use]
pub(super) fn machine() -> Option<HostName> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    name.trim().parse().ok()
}

/// A name of `--allowed-host`: without a port, which may be any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(String);

impl FromStr for HostName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let authority =
            text.parse::<Authority>().ok().filter(|authority| authority.as_str() == authority.host());
        let authority = authority.ok_or("it must be a host name or address without a port")?;
        let host = authority.host().to_ascii_lowercase();
        // As the name of a request.
        Ok(Self(host.strip_suffix('.').unwrap_or(&host).to_owned()))
    }
}

/// Refuses a request whose `Host`, or whose target's host, is neither of this machine nor in `allowed`.
pub(super) fn check(allowed: &[HostName], uri: &Uri, headers: &HeaderMap) -> Result<(), ApiError> {
    let named: Vec<&[u8]> = headers.get_all(header::HOST).iter().map(|value| value.as_bytes()).collect();
    let target = uri.authority().map(|authority| authority.as_str().as_bytes());
    let mut given = named.into_iter().chain(target);
    if given.all(|authority| is_allowed(allowed, authority)) {
        return Ok(());
    }
    Err(ApiError::HostNotAllowed)
}

fn is_allowed(allowed: &[HostName], authority: &[u8]) -> bool {
    let Ok(authority) = Authority::try_from(authority) else { return false };
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host().to_ascii_lowercase();
    // A name may end with the dot of the root.
    let host = host.strip_suffix('.').unwrap_or(&host);
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_local = |address: IpAddr| address.is_loopback() || address.is_unspecified();
    let of_this_machine = bare == "localhost"
        || bare.ends_with(".localhost")
        || bare == DOCKER_HOST
        || bare.parse::<IpAddr>().is_ok_and(|address| is_local(address.to_canonical()));
    of_this_machine || allowed.iter().any(|name| name.0 == host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_this_machine_and_given_ones_pass() {
        let allowed: Vec<HostName> = ["Models.example.", "10.0.0.7"].map(|name| name.parse().unwrap()).into();
        for good in [
            "localhost",
            "LOCALHOST:8080",
            "a.localhost",
            "127.0.0.1",
            "127.8.9.10:1",
            "[::1]:80",
            "[::ffff:127.0.0.1]",
            "models.example:443",
            "10.0.0.7",
            "localhost.",
            "localhost.:8080",
            "models.example.",
            "0.0.0.0:8080",
            "[::]:8080",
            "host.docker.internal:8080",
        ] {
            assert!(is_allowed(&allowed, good.as_bytes()), "{good}");
        }
        for bad in [
            "",
            "evil.example",
            "localhost.evil.example",
            "evil-localhost",
            "127.0.0.1.evil.example",
            "10.0.0.8",
            "a.models.example",
            "localhost@evil.example",
            "user@localhost",
            "localhost..",
            "host.docker.internal.evil.example",
            "localhost/evil",
            "evil.example#localhost",
            "local host",
            "127.1",
            "[::2]",
        ] {
            assert!(!is_allowed(&allowed, bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn every_name_in_a_request_must_pass() {
        let check = |target: &str, hosts: &[&'static str]| {
            let headers = hosts.iter().map(|host| (header::HOST, host.parse().unwrap())).collect();
            check(&[], &target.parse().unwrap(), &headers).is_ok()
        };
        assert!(check("/fill", &["localhost"]) && check("http://localhost/fill", &[]));
        // Of no browser, and so of no page: the check of a balancer.
        assert!(check("/fill", &[]));
        assert!(!check("/fill", &["localhost", "evil.example"]));
        assert!(!check("http://evil.example/fill", &["localhost"]));
        assert!(!check("http://localhost/fill", &["evil.example"]));
    }

    #[test]
    fn a_flag_takes_names_without_ports() {
        for bad in ["", "a b", "example:80", "http://example", "user@example", "example/x"] {
            assert!(bad.parse::<HostName>().is_err(), "{bad}");
        }
        assert!("[2001:db8::1]".parse::<HostName>().is_ok());
    }
}
