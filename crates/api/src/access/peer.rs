//! The address that a request comes from, seen through proxies that are trusted.

use std::net::IpAddr;
use std::str::FromStr;

use axum::http::HeaderMap;
use ipnet::IpNet;

/// A proxy of `--trusted-proxy`: an address or a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proxy(IpNet);

impl FromStr for Proxy {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
        let network = text.parse::<IpNet>().ok().or_else(address);
        network.map(Self).ok_or("it must be an address or a network such as 10.0.0.0/8")
    }
}

/// The client's own address. `X-Forwarded-For` lists the addresses that a request has passed, each proxy
/// appending the one that it saw: from the right, the first that is not a trusted proxy is the client.
/// Anything to the left of it may be forged.
pub(super) fn client(peer: IpAddr, headers: &HeaderMap, trusted: &[Proxy]) -> IpAddr {
    let lines: Vec<&str> =
        headers.get_all("x-forwarded-for").iter().map(|line| line.to_str().unwrap_or("")).collect();
    let passed = lines.iter().flat_map(|line| line.split(',')).rev().map_while(|text| address(text.trim()));
    let mut client = peer.to_canonical();
    for before in passed {
        if !trusted.iter().any(|Proxy(network)| network.contains(&client)) {
            break;
        }
        client = before;
    }
    client
}

/// An address, which some proxies write with its port.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.trim_start_matches('[').trim_end_matches(']').parse().ok();
    let with_port = || text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
    bare.or_else(with_port).map(|address: IpAddr| address.to_canonical())
}

/// The address that counts as one client; of IPv6 the network that a household has.
pub(super) fn household(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(peer: &str, forwarded: &[&'static str], trusted: &[&str]) -> String {
        let name = axum::http::HeaderName::from_static("x-forwarded-for");
        let headers = forwarded.iter().map(|line| (name.clone(), line.parse().unwrap())).collect();
        let trusted: Vec<Proxy> = trusted.iter().map(|proxy| proxy.parse().unwrap()).collect();
        client(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        assert_eq!(seen("9.9.9.9", &["1.2.3.4"], &[]), "9.9.9.9");
        assert_eq!(seen("9.9.9.9", &["1.2.3.4"], &["10.0.0.0/8"]), "9.9.9.9");
        assert_eq!(seen("10.0.0.1", &["1.2.3.4"], &["10.0.0.0/8"]), "1.2.3.4");
        assert_eq!(seen("::ffff:10.0.0.1", &["1.2.3.4:5678"], &["10.0.0.0/8"]), "1.2.3.4");
        // What stands left of the client is the client's own claim.
        assert_eq!(seen("10.0.0.1", &["7.7.7.7, 1.2.3.4", "10.0.0.2"], &["10.0.0.0/8"]), "1.2.3.4");
        assert_eq!(seen("10.0.0.1", &["1.2.3.4, nonsense"], &["10.0.0.0/8"]), "10.0.0.1");
        assert_eq!(seen("10.0.0.1", &[], &["10.0.0.1"]), "10.0.0.1");
        assert_eq!(seen("::1", &["[2001:db8::5]:443"], &["::1"]), "2001:db8::5");
    }

    #[test]
    fn neighbours_in_an_ipv6_network_are_one_client() {
        let of = |text: &str| household(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("1.2.3.4"), "1.2.3.4");
    }
}
