//! Options of TCP sockets that no safe wrapper has: signatures (RFC 2385, RFC 5925), the TTL that segments must have
//! (RFC 5082), and what is known about a connection's first segment.
//!
//! The layouts are those of `linux/tcp.h`, `linux/in.h` and `linux/in6.h`.
#![allow(unsafe_code, reason = "setsockopt(2) and getsockopt(2) for options that rustix does not know")]

use std::io;
use std::mem::size_of;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use ipnet::IpNet;

/// `TCP_MD5SIG_EXT`.
const MD5SIG_EXT: libc::c_int = 32;
/// `TCP_MD5SIG_FLAG_PREFIX`.
const MD5SIG_FLAG_PREFIX: u8 = 1;
/// `TCP_SAVE_SYN`.
const SAVE_SYN: libc::c_int = 27;
/// `TCP_SAVED_SYN`.
const SAVED_SYN: libc::c_int = 28;
/// `TCP_AO_ADD_KEY`.
const AO_ADD_KEY: libc::c_int = 38;
/// `TCP_AO_DEL_KEY`.
const AO_DEL_KEY: libc::c_int = 39;
/// `IPV6_MINHOPCOUNT`.
const IPV6_MINHOPCOUNT: libc::c_int = 73;
/// `TCP_MD5SIG_MAXKEYLEN`, `TCP_AO_MAXKEYLEN`.
const KEY_LEN: usize = 80;

/// `struct __kernel_sockaddr_storage` as octets.
type SocketAddress = [u8; 128];

/// `struct tcp_md5sig`.
#[repr(C)]
struct Md5Sig {
    address: SocketAddress,
    flags: u8,
    prefix_len: u8,
    key_len: u16,
    interface: i32,
    key: [u8; KEY_LEN],
}

/// `struct tcp_ao_add`.
#[repr(C, align(8))]
struct AoAdd {
    address: SocketAddress,
    algorithm: [u8; 64],
    interface: i32,
    /// Bit 0: set_current, bit 1: set_rnext.
    flags: u32,
    reserved: u16,
    prefix_len: u8,
    send_id: u8,
    receive_id: u8,
    mac_len: u8,
    key_flags: u8,
    key_len: u8,
    key: [u8; KEY_LEN],
}

/// `struct tcp_ao_del`.
#[repr(C, align(8))]
struct AoDelete {
    address: SocketAddress,
    interface: i32,
    flags: u32,
    reserved: u16,
    prefix_len: u8,
    send_id: u8,
    receive_id: u8,
    current_key: u8,
    next_key: u8,
    key_flags: u8,
}

const _: () = assert!(size_of::<Md5Sig>() == 216);
const _: () = assert!(size_of::<AoAdd>() == 288);
const _: () = assert!(size_of::<AoDelete>() == 144);

/// A key of TCP-AO for the peers in a prefix.
#[derive(Clone, Copy)]
pub struct AoKey<'a> {
    /// The KeyID of what we send.
    pub send_id: u8,
    /// The KeyID of what we receive.
    pub receive_id: u8,
    /// The kernel's name of the algorithm: `hmac(sha1)` or `cmac(aes128)`.
    pub algorithm: &'a str,
    /// The master key, 1 to 80 octets.
    pub key: &'a [u8],
}

/// From now on segments to and from the addresses in a prefix are signed with this password (RFC 2385); none takes the
/// password away, also when there was none. For a listening socket, or before connecting.
///
/// # Errors
/// The kernel has no TCP MD5 signatures (`ENOPROTOOPT`), the password is longer than 80 octets (`EINVAL`), or out of
/// memory for keys.
pub fn set_md5_key(socket: impl AsFd, peers: IpNet, password: Option<&[u8]>) -> io::Result<()> {
    let password = password.unwrap_or_default();
    let mut value = Md5Sig {
        address: socket_address(peers.network()),
        flags: MD5SIG_FLAG_PREFIX,
        prefix_len: peers.prefix_len(),
        key_len: key_len(password)?.into(),
        interface: 0,
        key: [0; KEY_LEN],
    };
    value.key[..password.len()].copy_from_slice(password);
    let outcome = set(&socket, libc::IPPROTO_TCP, MD5SIG_EXT, &value);
    match outcome {
        // Nothing to take away.
        Err(error) if password.is_empty() && error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        outcome => outcome,
    }
}

/// Adds a key of TCP-AO (RFC 5925) for the addresses in a prefix; `first`: the one that we sign with.
///
/// # Errors
/// The kernel has no TCP-AO (`ENOPROTOOPT`: Linux before 6.7, or without `CONFIG_TCP_AO`), does not know the algorithm
/// (`ENOENT`), or has such a key already (`EEXIST`).
pub fn add_ao_key(socket: impl AsFd, peers: IpNet, key: &AoKey<'_>, first: bool) -> io::Result<()> {
    let mut value = AoAdd {
        address: socket_address(peers.network()),
        algorithm: [0; 64],
        interface: 0,
        // Only a socket that is going to connect has a current key; the kernel refuses it on one that listens.
        flags: if first { 3 } else { 0 },
        reserved: 0,
        prefix_len: peers.prefix_len(),
        send_id: key.send_id,
        receive_id: key.receive_id,
        mac_len: 0,
        key_flags: 0,
        key_len: key_len(key.key)?,
        key: [0; KEY_LEN],
    };
    let name = key.algorithm.as_bytes();
    value.algorithm.get_mut(..name.len()).ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(name);
    value.key[..key.key.len()].copy_from_slice(key.key);
    set(&socket, libc::IPPROTO_TCP, AO_ADD_KEY, &value)
}

/// Takes away a key of TCP-AO.
///
/// # Errors
/// There is no such key (`ENOENT`), or it is in use by the connection (`EBUSY`).
pub fn delete_ao_key(socket: impl AsFd, peers: IpNet, key: &AoKey<'_>) -> io::Result<()> {
    let value = AoDelete {
        address: socket_address(peers.network()),
        interface: 0,
        flags: 0,
        reserved: 0,
        prefix_len: peers.prefix_len(),
        send_id: key.send_id,
        receive_id: key.receive_id,
        current_key: 0,
        next_key: 0,
        key_flags: 0,
    };
    set(&socket, libc::IPPROTO_TCP, AO_DEL_KEY, &value)
}

/// Segments with a lower TTL (IPv4) or hop limit (IPv6) are dropped by the kernel (RFC 5082). 0 takes everything.
///
/// # Errors
/// As setsockopt(2).
pub fn set_least_hop_limit(socket: impl AsFd, is_ipv6: bool, least: u8) -> io::Result<()> {
    let value = libc::c_int::from(least);
    match is_ipv6 {
        false => set(&socket, libc::IPPROTO_IP, libc::IP_MINTTL, &value),
        true => set(&socket, libc::IPPROTO_IPV6, IPV6_MINHOPCOUNT, &value),
    }
}

/// Makes a listening socket keep the first segment of its connections, for [`first_hop_limit`].
///
/// # Errors
/// As setsockopt(2).
pub fn keep_first_segments(listener: impl AsFd, keep: bool) -> io::Result<()> {
    set(&listener, libc::IPPROTO_TCP, SAVE_SYN, &libc::c_int::from(keep))
}

/// The TTL or hop limit with which the first segment of an accepted connection arrived. `None`: it was not kept.
pub fn first_hop_limit(socket: impl AsFd) -> Option<u8> {
    let mut header = [0; 512];
    let length = get(&socket, libc::IPPROTO_TCP, SAVED_SYN, &mut header).ok()?;
    match header.get(..length)? {
        header @ [first, ..] if first >> 4 == 4 => header.get(8).copied(),
        header @ [first, ..] if first >> 4 == 6 => header.get(7).copied(),
        _ => None,
    }
}

/// The number of the interface by which the segments of an accepted connection came in.
pub fn arrival_interface(socket: impl AsFd, is_ipv6: bool) -> Option<u32> {
    // A control message: its header, then in_pktinfo (which begins with the interface) or in6_pktinfo (address first).
    let header = size_of::<libc::cmsghdr>();
    let (level, wish, option, at) = match is_ipv6 {
        false => (libc::IPPROTO_IP, libc::IP_PKTINFO, libc::IP_PKTOPTIONS, header),
        true => (libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, libc::IPV6_2292PKTOPTIONS, header + 16),
    };
    set(&socket, level, wish, &1_i32).ok()?;
    let mut control = [0; 256];
    let length = get(&socket, level, option, &mut control);
    set(&socket, level, wish, &0_i32).ok()?;
    let bytes = control.get(..length.ok()?)?.get(at..at + 4)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?)).filter(|index| *index != 0)
}

/// What the kernel has dropped in this network namespace, for reasons that a peer never hears of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped {
    /// Segments with a wrong signature, without one, or with one that nobody asked for (MD5 and TCP-AO).
    pub unsigned: u64,
    /// Segments with a TTL or hop limit below what a socket asks for.
    pub too_far: u64,
}

/// Reads the counters of dropped segments (`/proc/net/netstat`) of the calling thread's network namespace.
///
/// # Errors
/// There is no `/proc`.
pub fn dropped() -> io::Result<Dropped> {
    Ok(read_dropped(&std::fs::read_to_string("/proc/thread-self/net/netstat")?))
}

fn read_dropped(text: &str) -> Dropped {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut dropped = Dropped::default();
    for (name, value) in names.split(' ').zip(values.split(' ')) {
        let value: u64 = value.parse().unwrap_or(0);
        match name {
            "TCPMD5NotFound" | "TCPMD5Unexpected" | "TCPMD5Failure" | "TCPAORequired" | "TCPAOBad"
            | "TCPAOKeyNotFound" => dropped.unsigned += value,
            "TCPMinTTLDrop" => dropped.too_far += value,
            _ => {}
        }
    }
    dropped
}

fn key_len(key: &[u8]) -> io::Result<u8> {
    let length = u8::try_from(key.len()).ok().filter(|length| usize::from(*length) <= KEY_LEN);
    length.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// `struct sockaddr_in` or `struct sockaddr_in6`, with port 0.
fn socket_address(address: IpAddr) -> SocketAddress {
    let mut storage = [0; 128];
    let (family, at, octets): (libc::c_int, usize, &[u8]) = match &address {
        IpAddr::V4(address) => (libc::AF_INET, 4, &address.octets()),
        IpAddr::V6(address) => (libc::AF_INET6, 8, &address.octets()),
    };
    let family = u16::try_from(family).expect("the families of the Internet are small numbers");
    storage[..2].copy_from_slice(&family.to_ne_bytes());
    storage[at..at + octets.len()].copy_from_slice(octets);
    storage
}

fn set<T>(socket: &impl AsFd, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).expect("options are small");
    // SAFETY: the descriptor is open for as long as it is borrowed. `value` points to as many initialised octets as is
    // said (the structures have no padding: see the assertions of their sizes), and the kernel only reads them.
    let outcome = unsafe {
        libc::setsockopt(socket.as_fd().as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), length)
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads an option into a buffer and gives how much of it is filled.
pub(crate) fn get(
    socket: &impl AsFd,
    level: libc::c_int,
    option: libc::c_int,
    buffer: &mut [u8],
) -> io::Result<usize> {
    let mut length = libc::socklen_t::try_from(buffer.len()).expect("buffers here are small");
    // SAFETY: the descriptor is open for as long as it is borrowed. The kernel writes at most `length` octets to the
    // buffer, which has as many, and then says in `length` how many.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            buffer.as_mut_ptr().cast(),
            std::ptr::from_mut(&mut length),
        )
    };
    if outcome == 0 { Ok((length as usize).min(buffer.len())) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_counters_are_found_by_name() {
        let text = "TcpExt: SyncookiesSent TCPMD5NotFound TCPMD5Failure TCPMinTTLDrop\nTcpExt: 9 1 2 4\nIpExt: A\nIpExt: 7\n";
        assert_eq!(read_dropped(text), Dropped { unsigned: 3, too_far: 4 });
        assert_eq!(read_dropped(""), Dropped::default());
        assert!(dropped().is_ok());
    }

    #[test]
    fn an_address_is_laid_out_as_the_kernel_expects_it() {
        assert_eq!(socket_address([10, 0, 0, 1].into())[..8], [2, 0, 0, 0, 10, 0, 0, 1]);
        let v6 = socket_address("2001:db8::1".parse().unwrap());
        assert_eq!((v6[0], v6[8], v6[9], v6[23]), (10, 0x20, 1, 1));
    }

    #[test]
    fn the_first_segment_tells_the_ttl_and_the_interface() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        keep_first_segments(&listener, true).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert_eq!(first_hop_limit(&accepted), Some(64));
        assert_eq!(first_hop_limit(&listener), None);
        // The loopback interface is always the first.
        assert_eq!(arrival_interface(&accepted, false), Some(1));
    }

    #[test]
    fn the_interface_of_an_ipv6_connection_is_known_too() {
        let Ok(listener) = TcpListener::bind("[::1]:0") else { return eprintln!("skipped: no IPv6 here") };
        keep_first_segments(&listener, true).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        assert_eq!(first_hop_limit(&accepted), Some(64));
        assert_eq!(arrival_interface(&accepted, true), Some(1));
        set_least_hop_limit(&accepted, true, 255).unwrap();
    }

    #[test]
    fn passwords_come_and_go() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let range: IpNet = "10.0.0.0/8".parse().unwrap();
        set_md5_key(&listener, range, Some(b"secret")).unwrap();
        set_md5_key(&listener, range, None).unwrap();
        set_md5_key(&listener, range, None).unwrap();
        let too_long = set_md5_key(&listener, range, Some(&[b'x'; 81])).unwrap_err();
        assert_eq!(too_long.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn keys_of_the_authentication_option_are_taken_or_the_kernel_says_that_it_has_none() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let key = AoKey { send_id: 1, receive_id: 2, algorithm: "hmac(sha1)", key: b"secret" };
        let range: IpNet = "10.0.0.0/8".parse().unwrap();
        match add_ao_key(&listener, range, &key, false) {
            Ok(()) => delete_ao_key(&listener, range, &key).unwrap(),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ENOPROTOOPT), "{error}"),
        }
    }
}
