//! UDP sockets that know how many hops a packet has behind it, which BFD wants (RFC 5881, section 5).
#![allow(unsafe_code, reason = "recvmsg(2) with IP_TTL and IPV6_HOPLIMIT has no safe wrapper")]

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

/// Octets of control messages that are asked for: one integer, with much to spare.
const CONTROL: usize = 64;

/// A packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Datagram {
    /// Octets in the buffer; a longer packet is cut.
    pub length: usize,
    /// Where it came from.
    pub from: SocketAddr,
    /// The TTL or hop limit that it arrived with.
    pub hop_limit: u8,
}

/// Control messages are aligned like their header.
#[repr(C)]
union Control {
    header: libc::cmsghdr,
    octets: [u8; CONTROL],
}

/// Asks that packets come with their TTL or hop limit.
///
/// # Errors
/// The kernel refuses: the socket is of another family.
pub fn tell_hop_limit(socket: &UdpSocket, ipv6: bool) -> io::Result<()> {
    let (level, option) = match ipv6 {
        true => (libc::IPPROTO_IPV6, libc::IPV6_RECVHOPLIMIT),
        false => (libc::IPPROTO_IP, libc::IP_RECVTTL),
    };
    let on: libc::c_int = 1;
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option is an int, which lives until the call returns.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The next packet. A packet without hop limit, or from no address, is an error of kind `InvalidData`.
///
/// # Errors
/// `WouldBlock` when the socket does not block and there is none; else what the kernel says.
pub fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Datagram> {
    let mut from = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut control = Control { octets: [0; CONTROL] };
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all zeros are a message header without anything.
    let mut message: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    message.msg_name = from.as_mut_ptr().cast();
    message.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = CONTROL as _;
    // SAFETY: the header refers to an address, a buffer and a control buffer of the lengths it says, which live here.
    let length = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, 0) };
    let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: it was zeroed, and zeros are an address too.
    let from = address(unsafe { from.assume_init_ref() });
    match (from, hop_limit(&message)) {
        (Some(from), Some(hop_limit)) => Ok(Datagram { length, from, hop_limit }),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a packet without address or hop limit")),
    }
}

fn hop_limit(message: &libc::msghdr) -> Option<u8> {
    // SAFETY: the kernel has written the control buffer and its length into this header.
    let mut header = unsafe { libc::CMSG_FIRSTHDR(message) };
    // As many as fit; there is no more than one.
    for _ in 0..CONTROL / size_of::<libc::cmsghdr>() {
        // SAFETY: CMSG_FIRSTHDR and CMSG_NXTHDR give null or a whole header in the buffer.
        let found = unsafe { header.as_ref() }?;
        if matches!(
            (found.cmsg_level, found.cmsg_type),
            (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT)
        ) {
            // SAFETY: both are followed by an int.
            let value = unsafe { libc::CMSG_DATA(header).cast::<libc::c_int>().read_unaligned() };
            return u8::try_from(value).ok();
        }
        // SAFETY: the header came from this message.
        header = unsafe { libc::CMSG_NXTHDR(message, header) };
    }
    None
}

fn address(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says what it is, and the storage is large enough for every kind.
            let v4 = unsafe { &*std::ptr::from_ref(storage).cast::<libc::sockaddr_in>() };
            let address = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Some((IpAddr::V4(address), u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { &*std::ptr::from_ref(storage).cast::<libc::sockaddr_in6>() };
            let address = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            Some((IpAddr::V6(address), u16::from_be(v6.sin6_port)).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_comes_with_its_sender_and_its_hop_limit() {
        for (local, ipv6) in [("127.0.0.1:0", false), ("[::1]:0", true)] {
            let Ok(receiver) = UdpSocket::bind(local) else {
                assert!(ipv6, "IPv4 is always there");
                continue;
            };
            tell_hop_limit(&receiver, ipv6).expect("the family fits");
            let sender = UdpSocket::bind(local).expect("another port");
            match ipv6 {
                true => socket2::SockRef::from(&sender).set_unicast_hops_v6(77).expect("a hop limit"),
                false => sender.set_ttl(77).expect("a TTL"),
            }
            let to = receiver.local_addr().expect("it is bound");
            sender.send_to(b"twelve bytes", to).expect("loopback");
            let mut buffer = [0; 6];
            let datagram = receive(&receiver, &mut buffer).expect("a packet");
            let from = sender.local_addr().expect("it is bound");
            assert_eq!(datagram, Datagram { length: 6, from, hop_limit: 77 });
            assert_eq!(&buffer, b"twelve");
        }
    }
}
