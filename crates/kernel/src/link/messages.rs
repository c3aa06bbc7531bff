use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
};

use super::settings::append_ipv4;
use super::{LinkChange, LinkId, NewVeth, VethEnd, list};
use crate::InterfaceName;
use crate::netlink::{Message, attributes, flags};

pub(crate) fn list_links() -> Message {
    let mut body = LinkMessage::default();
    body.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    list(&RouteNetlinkMessage::GetLink(body))
}

pub(crate) fn get_link(id: &LinkId) -> Message {
    let mut body = identified(id);
    body.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    Message::route(&RouteNetlinkMessage::GetLink(body), 0)
}

pub(crate) fn create_veth(veth: &NewVeth<'_>) -> Message {
    let far = end(&veth.far, veth);
    let mut near = end(&veth.near, veth);
    near.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far))),
    ]));
    create(near)
}

fn end(end: &VethEnd<'_>, veth: &NewVeth<'_>) -> LinkMessage {
    let mut body = LinkMessage::default();
    body.attributes.push(LinkAttribute::IfName(end.name.to_string()));
    body.attributes.extend(veth.mtu.map(LinkAttribute::Mtu));
    body.attributes.extend(end.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())));
    if let Some(queues) = veth.queues {
        body.attributes.extend([LinkAttribute::NumTxQueues(queues), LinkAttribute::NumRxQueues(queues)]);
    }
    body.attributes
        .extend(end.namespace.map(|namespace| LinkAttribute::NetNsFd(namespace.as_fd().as_raw_fd())));
    body
}

pub(crate) fn create_bridge(name: &InterfaceName) -> Message {
    let mut body = LinkMessage::default();
    body.attributes.push(LinkAttribute::IfName(name.to_string()));
    let info =
        vec![LinkInfo::Kind(InfoKind::Bridge), LinkInfo::Data(InfoData::Bridge(Vec::<InfoBridge>::new()))];
    body.attributes.push(LinkAttribute::LinkInfo(info));
    create(body)
}

fn create(body: LinkMessage) -> Message {
    Message::route(&RouteNetlinkMessage::NewLink(body), flags::CREATE | flags::EXCLUSIVE)
}

pub(crate) fn change_link(id: &LinkId, change: &LinkChange<'_>) -> Message {
    let mut body = match (id, &change.name) {
        // A name in the message is the new name, when the link is found by its number.
        (LinkId::Index(_), Some(name)) => {
            let mut body = identified(id);
            body.attributes.push(LinkAttribute::IfName(name.to_string()));
            body
        }
        _ => identified(id),
    };
    if let Some(up) = change.up {
        body.header.change_mask = LinkFlags::Up;
        body.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
    }
    let attributes = [
        change.mtu.map(LinkAttribute::Mtu),
        change.mac.map(|mac| LinkAttribute::Address(mac.0.to_vec())),
        change.master.map(LinkAttribute::Controller),
        change.group.map(LinkAttribute::Group),
        change.namespace.map(|namespace| LinkAttribute::NetNsFd(namespace.as_fd().as_raw_fd())),
    ];
    body.attributes.extend(attributes.into_iter().flatten());
    let mut message = Message::route(&RouteNetlinkMessage::SetLink(body), 0);
    if !change.ipv4.is_empty() {
        append_ipv4(&mut message, &change.ipv4);
    }
    message
}

pub(crate) fn delete_link(id: &LinkId) -> Message {
    Message::route(&RouteNetlinkMessage::DelLink(identified(id)), 0)
}

pub(crate) fn delete_group(group: u32) -> Message {
    let mut body = LinkMessage::default();
    body.attributes.push(LinkAttribute::Group(group));
    Message::route(&RouteNetlinkMessage::DelLink(body), 0)
}

fn identified(id: &LinkId) -> LinkMessage {
    let mut body = LinkMessage::default();
    match id {
        LinkId::Index(index) => body.header.index = *index,
        LinkId::Name(name) => body.attributes.push(LinkAttribute::IfName(name.to_string())),
    }
    body
}

const RTM_GETNSID: u16 = 90;
const NETNSA_NSID: u16 = 1;
const NETNSA_FD: u16 = 3;

/// `struct rtgenmsg` (one byte, padded), then `NETNSA_FD`.
pub(crate) fn get_namespace_id(namespace: &crate::netns::Netns) -> Message {
    let mut message = Message::new(RTM_GETNSID, 0);
    message.push(&[0]).attribute(NETNSA_FD, &namespace.as_fd().as_raw_fd().to_ne_bytes());
    message
}

pub(crate) fn read_namespace_id(payload: &[u8]) -> Option<i32> {
    attributes(payload.get(4..)?).find(|attribute| attribute.kind == NETNSA_NSID)?.i32()
}
