//! Messages of nfnetlink_log.
//!
//! ```text
//! nfgenmsg  | family (1) | version (1) | group (2) |                        the group, and all numbers, in network order
//! config    NFULA_CFG_CMD, NFULA_CFG_MODE { copy range (4) | mode (1) | pad (1) }, NFULA_CFG_TIMEOUT, _QTHRESH, _FLAGS
//! packet    NFULA_PACKET_HDR { protocol (2) | hook (1) | pad (1) }, _IFINDEX_*, _PAYLOAD, _PREFIX, _SEQ
//! ```

use super::{BATCH, DELAY_CENTISECONDS, Headers, Logged};
use crate::netlink::{Attribute, Message, attributes};

/// `NFNL_SUBSYS_ULOG` and `NFULNL_MSG_*`.
const SUBSYSTEM: u16 = 4 << 8;
const PACKET: u16 = SUBSYSTEM;
const CONFIG: u16 = SUBSYSTEM | 1;

/// `enum nfulnl_attr_config`.
mod config {
    pub(super) const COMMAND: u16 = 1;
    pub(super) const MODE: u16 = 2;
    pub(super) const TIMEOUT: u16 = 4;
    pub(super) const THRESHOLD: u16 = 5;
    pub(super) const FLAGS: u16 = 6;
}

/// `enum nfulnl_msg_config_cmds`.
mod command {
    pub(super) const BIND: u8 = 1;
    pub(super) const PF_BIND: u8 = 3;
}

/// `enum nfulnl_attr_type`.
mod attribute {
    pub(super) const PACKET_HEADER: u16 = 1;
    pub(super) const INPUT: u16 = 4;
    pub(super) const OUTPUT: u16 = 5;
    pub(super) const PAYLOAD: u16 = 9;
    pub(super) const PREFIX: u16 = 10;
    pub(super) const SEQUENCE: u16 = 12;
}

fn request(group: u16) -> Message {
    let mut message = Message::new(CONFIG, 0);
    let [high, low] = group.to_be_bytes();
    message.push(&[0, 0, high, low]);
    message
}

/// Takes the group for the socket.
pub(super) fn bind(group: u16) -> Message {
    let mut message = request(group);
    message.attribute(config::COMMAND, &[command::BIND]);
    message
}

/// A command that does nothing since Linux 2.6.30, where there is somebody to take it.
pub(super) fn probe() -> Message {
    let mut message = request(0);
    message.attribute(config::COMMAND, &[command::PF_BIND]);
    message
}

/// How much of packets is copied, how many at a time, and that they are numbered.
pub(super) fn settings(group: u16) -> Message {
    const COPY_PACKET: u8 = 2;
    const NUMBERED: u16 = 1;
    let mut message = request(group);
    let [a, b, c, d] = Headers::SNAP_BYTES.to_be_bytes();
    message.attribute(config::MODE, &[a, b, c, d, COPY_PACKET, 0]);
    message.attribute(config::TIMEOUT, &DELAY_CENTISECONDS.to_be_bytes());
    message.attribute(config::THRESHOLD, &BATCH.to_be_bytes());
    message.attribute(config::FLAGS, &NUMBERED.to_be_bytes());
    message
}

/// Reads a message of a group: the packet's number, and the packet, unless it is not one of IP.
pub(super) fn read(kind: u16, group: u16, payload: &[u8]) -> Option<(u32, Option<Logged>)> {
    if kind != PACKET || payload.get(2..4)? != group.to_be_bytes() {
        return None;
    }
    let (mut sequence, mut hook, mut input, mut output) = (None, 0, None, None);
    let (mut headers, mut prefix) = (None, String::new());
    for attribute in attributes(payload.get(4..)?) {
        match attribute.kind {
            attribute::PACKET_HEADER => hook = attribute.value.get(2).copied().unwrap_or_default(),
            attribute::INPUT => input = number(&attribute),
            attribute::OUTPUT => output = number(&attribute),
            attribute::PAYLOAD => headers = Headers::read(attribute.value),
            attribute::PREFIX => prefix = attribute.string(),
            attribute::SEQUENCE => sequence = number(&attribute),
            _ => {}
        }
    }
    Some((sequence?, headers.map(|headers| Logged { prefix, hook, input, output, headers })))
}

fn number(attribute: &Attribute<'_>) -> Option<u32> {
    attribute.value.try_into().ok().map(u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet() -> Message {
        let mut message = Message::new(PACKET, 0);
        message.push(&[2, 0, 0, 7]);
        message.attribute(attribute::PACKET_HEADER, &[8, 0, 2, 0]);
        message.attribute(attribute::OUTPUT, &9_u32.to_be_bytes());
        message.attribute(attribute::PREFIX, b"why\0");
        message.attribute(attribute::SEQUENCE, &3_u32.to_be_bytes());
        let mut ip = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        ip.extend([0, 53, 0, 54]);
        message.attribute(attribute::PAYLOAD, &ip);
        message
    }

    #[test]
    fn a_packet_comes_with_its_number_prefix_hook_and_interfaces() {
        let (sequence, logged) = read(PACKET, 7, packet().body()).unwrap();
        let logged = logged.unwrap();
        assert_eq!((sequence, logged.prefix.as_str(), logged.hook), (3, "why", 2));
        assert_eq!((logged.input, logged.output), (None, Some(9)));
        assert_eq!((logged.headers.source_port, logged.headers.destination_port), (53, 54));
    }

    #[test]
    fn what_is_of_another_group_or_kind_or_cut_off_is_nothing() {
        let whole = packet();
        assert_eq!(read(PACKET, 8, whole.body()), None);
        assert_eq!(read(CONFIG, 7, whole.body()), None);
        for length in 0..whole.body().len() {
            if let Some((sequence, _)) = read(PACKET, 7, &whole.body()[..length]) {
                assert_eq!(sequence, 3);
            }
        }
    }
}
