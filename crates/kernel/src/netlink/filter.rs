//! Instructions of the programs that tell the kernel which events not to queue (classic BPF, linux/filter.h).
//!
//! A program looks at the first message of a datagram, whose header is `struct nlmsghdr`. It loads a number, compares it, and
//! goes on so many instructions further; it ends with [`TAKE`] or [`LEAVE_OUT`]. Filters load big-endian numbers, while a header
//! is in the machine's order: the comparisons here see to that.

use socket2::SockFilter;

const LOAD_OCTET: u32 = libc::BPF_LD | libc::BPF_B | libc::BPF_ABS;
const LOAD_HALF: u32 = libc::BPF_LD | libc::BPF_H | libc::BPF_ABS;
const LOAD_WORD: u32 = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
const IF_EQUAL: u32 = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
const RETURN: u32 = libc::BPF_RET | libc::BPF_K;

/// The whole datagram is queued.
pub(crate) const TAKE: SockFilter = step(RETURN, u32::MAX, 0, 0);
/// Nothing of it is.
pub(crate) const LEAVE_OUT: SockFilter = step(RETURN, 0, 0, 0);
/// The kind of message.
pub(crate) const LOAD_KIND: SockFilter = step(LOAD_HALF, 4, 0, 0);
/// The port of the socket that asked for the change.
pub(crate) const LOAD_PORT: SockFilter = step(LOAD_WORD, 12, 0, 0);

const fn step(code: u32, number: u32, when: u8, otherwise: u8) -> SockFilter {
    SockFilter::new(code as u16, when, otherwise, number)
}

/// An octet behind the header.
pub(crate) const fn load_octet(behind_header: u32) -> SockFilter {
    step(LOAD_OCTET, 16 + behind_header, 0, 0)
}

/// How many instructions are left out when the loaded kind is this one, and when it is not.
pub(crate) const fn if_kind(kind: u16, when: u8, otherwise: u8) -> SockFilter {
    step(IF_EQUAL, u16::from_be_bytes(kind.to_ne_bytes()) as u32, when, otherwise)
}

/// Likewise for the loaded port.
pub(crate) const fn if_port(port: u32, when: u8, otherwise: u8) -> SockFilter {
    step(IF_EQUAL, u32::from_be_bytes(port.to_ne_bytes()), when, otherwise)
}

/// Likewise for a loaded octet.
pub(crate) const fn if_octet(octet: u8, when: u8, otherwise: u8) -> SockFilter {
    step(IF_EQUAL, octet as u32, when, otherwise)
}
