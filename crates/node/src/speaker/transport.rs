//! What a peer's configuration asks of a socket: signatures, TTL, interface (RFC 2385, RFC 5082, RFC 5925).

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::AsFd;

use bgp::config::{AoAlgorithm, AoKey, Authentication};
use bgp::{Transport, TransportFailure};
use ipnet::IpNet;
use kernel::tcp;
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// The TTL of what is not secured, unless configured: that of Linux, whatever the listening socket has.
const USUAL_TTL: u8 = 64;

/// A socket that is about to connect as the configuration asks.
///
/// # Errors
/// The kernel has no such option, interface or source address.
pub(super) fn dialling_socket(
    remote: SocketAddr,
    source: Option<IpAddr>,
    transport: &Transport,
) -> Result<Socket, TransportFailure> {
    let socket =
        Socket::new(Domain::for_address(remote), Type::STREAM, Some(Protocol::TCP)).map_err(other)?;
    socket.set_nonblocking(true).map_err(other)?;
    if let Some(interface) = &transport.interface {
        let named = |error| TransportFailure::Other(format!("interface {interface}: {error}"));
        socket.bind_device(Some(interface.as_bytes())).map_err(named)?;
    }
    if let Some(authentication) = &transport.authentication {
        add_keys(&socket, remote.ip().into(), authentication, true)?;
    }
    if transport.ttl_security.is_some() || transport.ttl.is_some() {
        set_hop_limits(&socket, remote.is_ipv6(), transport).map_err(other)?;
    }
    if let Some(source) = source {
        let named = |error| TransportFailure::Other(format!("source address {source}: {error}"));
        socket.bind(&with_scope((source, 0).into(), transport)?.into()).map_err(named)?;
    }
    Ok(socket)
}

/// Sets the hop limits of a connection, so that what the listening socket had does not count.
///
/// # Errors
/// As setsockopt(2).
pub(super) fn set_hop_limits(socket: &impl AsFd, is_ipv6: bool, transport: &Transport) -> io::Result<()> {
    let secured = transport.ttl_security.map(|_| u8::MAX);
    set_ttl(socket, is_ipv6, secured.or(transport.ttl).unwrap_or(USUAL_TTL))?;
    tcp::set_least_hop_limit(socket, is_ipv6, transport.least_hop_limit().unwrap_or(0))
}

pub(super) fn set_ttl(socket: &impl AsFd, is_ipv6: bool, ttl: u8) -> io::Result<()> {
    let socket = SockRef::from(socket);
    match is_ipv6 {
        false => socket.set_ttl_v4(ttl.into()),
        true => socket.set_unicast_hops_v6(ttl.into()),
    }
}

/// A link-local address needs to know its link.
pub(super) fn with_scope(address: SocketAddr, transport: &Transport) -> Result<SocketAddr, TransportFailure> {
    match (address, &transport.interface) {
        (SocketAddr::V6(v6), Some(interface)) if v6.ip().is_unicast_link_local() => {
            let index = interface_index(interface)
                .map_err(|error| TransportFailure::Other(format!("interface {interface}: {error}")))?;
            Ok(SocketAddrV6::new(*v6.ip(), v6.port(), 0, index).into())
        }
        _ => Ok(address),
    }
}

/// The number of an interface.
pub(super) fn interface_index(name: &str) -> io::Result<u32> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
    Ok(rustix::net::netdevice::name_to_index(&socket, name)?)
}

/// The name of an interface.
pub(super) fn interface_name(index: u32) -> Option<String> {
    let socket = rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None);
    rustix::net::netdevice::index_to_name(socket.ok()?, index).ok()
}

/// Signs what goes to and comes from some addresses; `current`: with the first key, for a socket that connects.
///
/// # Errors
/// The kernel cannot do it.
pub(super) fn add_keys(
    socket: &impl AsFd,
    peers: IpNet,
    authentication: &Authentication,
    current: bool,
) -> Result<(), TransportFailure> {
    match authentication {
        Authentication::Md5(password) => tcp::set_md5_key(socket, peers, Some(password.expose()))
            .map_err(|error| lacking("TCP MD5", &error)),
        Authentication::Ao(keys) => keys.iter().enumerate().try_for_each(|(index, key)| {
            tcp::add_ao_key(socket, peers, &ao_key(key), current && index == 0)
                .map_err(|error| lacking("TCP-AO", &error))
        }),
    }
}

/// No longer signs. Keys that are not there are no error.
pub(super) fn remove_keys(socket: &impl AsFd, peers: IpNet, authentication: &Authentication) {
    match authentication {
        Authentication::Md5(_) => drop(tcp::set_md5_key(socket, peers, None)),
        Authentication::Ao(keys) => {
            keys.iter().for_each(|key| drop(tcp::delete_ao_key(socket, peers, &ao_key(key))));
        }
    }
}

fn ao_key(key: &AoKey) -> tcp::AoKey<'_> {
    let algorithm = match key.algorithm {
        AoAlgorithm::HmacSha1 => "hmac(sha1)",
        AoAlgorithm::Aes128Cmac => "cmac(aes128)",
    };
    tcp::AoKey { send_id: key.send_id, receive_id: key.receive_id, algorithm, key: key.key.expose() }
}

fn lacking(what: &str, error: &io::Error) -> TransportFailure {
    let missing = [Errno::NOPROTOOPT.raw_os_error(), Errno::OPNOTSUPP.raw_os_error()];
    match error.raw_os_error() {
        Some(code) if missing.contains(&code) => TransportFailure::Unsupported(match what {
            "TCP-AO" => {
                "this kernel has no TCP-AO (Linux 6.7 with CONFIG_TCP_AO); use a password instead".into()
            }
            _ => format!("this kernel has no {what} signatures (CONFIG_TCP_MD5SIG)"),
        }),
        _ => TransportFailure::Other(format!("{what}: {error}")),
    }
}

/// Why a socket could not be had, in the speaker's words.
pub(super) fn failure(error: &io::Error) -> TransportFailure {
    use io::ErrorKind as Kind;
    match error.kind() {
        Kind::ConnectionRefused => TransportFailure::Refused,
        Kind::TimedOut => TransportFailure::TimedOut,
        Kind::HostUnreachable | Kind::NetworkUnreachable => TransportFailure::Unreachable,
        Kind::UnexpectedEof => TransportFailure::ClosedByPeer,
        Kind::ConnectionReset | Kind::BrokenPipe | Kind::ConnectionAborted => TransportFailure::Reset,
        _ => TransportFailure::Other(error.to_string()),
    }
}

fn other(error: io::Error) -> TransportFailure {
    TransportFailure::Other(error.to_string())
}
