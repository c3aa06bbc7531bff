//! The ports of hosts that stay open whatever host endpoint policy says: their defaults and how they are written.

use std::net::IpAddr;

use ipnet::IpNet;

use super::ProtocolPort;

/// The default of `FailsafeInboundHostPorts`: SSH, DHCP, and what both directions have.
pub fn inbound_ports() -> Vec<ProtocolPort> {
    with_common(&[(6, 22), (17, 68)])
}

/// The default of `FailsafeOutboundHostPorts`: DNS, DHCP, and what both directions have.
pub fn outbound_ports() -> Vec<ProtocolPort> {
    with_common(&[(17, 53), (17, 67)])
}

/// BGP, etcd, Typha and the API server are in both directions.
fn with_common(own: &[(u8, u16)]) -> Vec<ProtocolPort> {
    let common = [179, 2379, 2380, 5473, 6443, 6666, 6667].map(|port| (6, port));
    own.iter()
        .chain(&common)
        .map(|(protocol, port)| ProtocolPort { protocol: *protocol, port: *port, net: None })
        .collect()
}

/// Reads `tcp:22,udp:[10.0.0.0/8]:53`; a bare number is TCP; nothing, `none` and `[]` are the empty list.
///
/// # Errors
/// What it should look like.
pub fn parse_ports(value: &str) -> Result<Vec<ProtocolPort>, &'static str> {
    if value.is_empty() || value == "[]" || value.eq_ignore_ascii_case("none") {
        return Ok(Vec::new());
    }
    let expected = "a list of PROTOCOL:PORT or PROTOCOL:[CIDR]:PORT";
    value.split(',').map(|entry| port(entry.trim()).ok_or(expected)).collect()
}

fn port(entry: &str) -> Option<ProtocolPort> {
    let (protocol, rest) = entry.split_once(':').unwrap_or(("tcp", entry));
    let protocol = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => 6,
        "udp" => 17,
        "sctp" => 132,
        _ => return None,
    };
    let (net, port) = match rest.rsplit_once(':') {
        Some((net, port)) => (Some(network(net.trim_start_matches('[').trim_end_matches(']'))?), port),
        None => (None, rest),
    };
    Some(ProtocolPort { protocol, port: port.parse().ok()?, net })
}

fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}
