use super::{Link, Peer};
use crate::netlink::{Attribute, attributes};
use crate::{InterfaceName, MacAddress};

/// Reads the body of an `RTM_NEWLINK` or `RTM_DELLINK` (`struct ifinfomsg`, then `IFLA_*`).
///
/// ```text
/// | family (1) | 0 (1) | type (2) | index (4) | flags (4) | change (4) | attributes… |
/// ```
///
/// Messages of other families about a link (a bridge's ports, IPv6 settings) tell less than the whole and are skipped.
pub(crate) fn read_link(payload: &[u8]) -> Option<Link> {
    const UP: u32 = libc::IFF_UP as u32;
    const LOOPBACK: u32 = libc::IFF_LOOPBACK as u32;
    const RUNNING: u32 = libc::IFF_RUNNING as u32;
    const LOWER_UP: u32 = 1 << 16;
    let (header, rest) = payload.split_at_checked(16)?;
    if header[0] != 0 {
        return None;
    }
    let flags = u32::from_ne_bytes(header[8..12].try_into().ok()?);
    let mut link = Link {
        index: u32::from_ne_bytes(header[4..8].try_into().ok()?),
        name: InterfaceName::from_kernel(String::new()),
        mac: None,
        mtu: 0,
        up: flags & UP != 0,
        carrier: flags & LOWER_UP != 0,
        running: flags & RUNNING != 0,
        loopback: flags & LOOPBACK != 0,
        kind: None,
        master: None,
        group: 0,
        peer: None,
        queues: (1, 1),
    };
    let (mut below, mut namespace) = (None, None);
    for attribute in attributes(rest) {
        match attribute.kind {
            libc::IFLA_LINK => below = attribute.u32().filter(|index| *index != 0),
            libc::IFLA_LINK_NETNSID => namespace = attribute.i32(),
            _ => set(&mut link, attribute)?,
        }
    }
    link.peer = below.map(|index| Peer { index, namespace });
    (!link.name.as_str().is_empty()).then_some(link)
}

fn set(link: &mut Link, attribute: Attribute<'_>) -> Option<()> {
    match attribute.kind {
        libc::IFLA_IFNAME => link.name = InterfaceName::from_kernel(attribute.string()),
        libc::IFLA_ADDRESS => link.mac = attribute.value.try_into().ok().map(MacAddress),
        libc::IFLA_MTU => link.mtu = attribute.u32()?,
        libc::IFLA_MASTER => link.master = attribute.u32(),
        libc::IFLA_GROUP => link.group = attribute.u32()?,
        libc::IFLA_NUM_TX_QUEUES => link.queues.0 = attribute.u32()?,
        libc::IFLA_NUM_RX_QUEUES => link.queues.1 = attribute.u32()?,
        libc::IFLA_LINKINFO => {
            let kind = attribute.nested().find(|inner| inner.kind == libc::IFLA_INFO_KIND);
            link.kind = kind.map(|inner| inner.string());
        }
        _ => {}
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_foreign_messages_are_skipped() {
        assert_eq!(read_link(&[0; 15]), None);
        assert_eq!(read_link(&[0; 16]), None, "a link without a name");
        let mut bridge_port = [0; 32];
        bridge_port[0] = 7;
        assert_eq!(read_link(&bridge_port), None);
    }
}
