//! Messages of traffic control (`linux/rtnetlink.h` `struct tcmsg`, `linux/pkt_sched.h`, `linux/pkt_cls.h`).
//!
//! ```text
//! | family (1) | 0 (3) | interface (4) | handle (4) | parent (4) | info (4) | attributes… |
//! ```

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};

use super::bucket::TokenBucket;
use crate::InterfaceName;
use crate::netlink::{Attribute, Message, attributes, flags};
use crate::ownership::SHAPER_HANDLE;

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_GETQDISC: u16 = 38;
const RTM_NEWTFILTER: u16 = 44;
const RTM_GETTFILTER: u16 = 46;

/// `NLM_F_ECHO`: an answer comes to who asked, not only to who listens to all news (`nlmsg_notify`).
const ECHO: u16 = 8;

/// `TC_H_ROOT`.
const ROOT: u32 = 0xffff_ffff;
/// `TC_H_INGRESS`.
const INGRESS: u32 = 0xffff_fff1;
/// The handle of every `ingress`.
const ENTRANCE: u32 = 0xffff_0000;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_PRATE64: u16 = 5;
const TCA_U32_SEL: u16 = 5;
const TCA_U32_ACT: u16 = 7;
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_MIRRED_PARMS: u16 = 2;

/// Octets of `struct tcmsg`, and where `tcm_ifindex` and `tcm_handle` are in it.
const HEADER: usize = 20;

fn message(kind: u16, flags: u16, index: u32, handle: u32, parent: u32, info: u32) -> Message {
    let mut message = Message::new(kind, flags);
    message.push(&[0; 4]);
    for word in [index, handle, parent, info] {
        message.push(&word.to_ne_bytes());
    }
    message
}

pub(super) fn list_qdiscs() -> Message {
    message(RTM_GETQDISC, flags::DUMP, 0, 0, 0, 0)
}

/// The link of a queueing discipline that is ours.
pub(super) fn read_owner(payload: &[u8]) -> Option<u32> {
    (word(payload, 8)? == SHAPER_HANDLE).then(|| word(payload, 4)).flatten()
}

pub(super) fn get_bucket(index: u32) -> Message {
    message(RTM_GETQDISC, ECHO, index, SHAPER_HANDLE, 0, 0)
}

pub(super) fn delete_bucket(index: u32) -> Message {
    message(RTM_DELQDISC, 0, index, SHAPER_HANDLE, ROOT, 0)
}

pub(super) fn set_bucket(index: u32, bucket: &TokenBucket) -> Message {
    let mut message = message(RTM_NEWQDISC, flags::CREATE | flags::REPLACE, index, SHAPER_HANDLE, ROOT, 0);
    message.attribute(TCA_KIND, b"tbf\0").nested(TCA_OPTIONS, |options| {
        let mut parameters = Vec::with_capacity(36);
        parameters.extend(rate(bucket.rate));
        parameters.extend(rate(bucket.peak));
        for number in [bucket.limit, bucket.buffer, bucket.peak_buffer] {
            parameters.extend(number.to_ne_bytes());
        }
        options.attribute(TCA_TBF_PARMS, &parameters);
        for (kind, rate) in [(TCA_TBF_RATE64, bucket.rate), (TCA_TBF_PRATE64, bucket.peak)] {
            if u32::try_from(rate).is_err() {
                options.attribute(kind, &rate.to_ne_bytes());
            }
        }
    });
    message
}

/// `struct tc_ratespec`. With the link layer said (Ethernet), the kernel needs no table of times.
fn rate(rate: u64) -> [u8; 12] {
    const ETHERNET: u8 = 1;
    let mut spec = [0; 12];
    if rate > 0 {
        spec[1] = ETHERNET;
        spec[8..].copy_from_slice(&u32::try_from(rate).unwrap_or(u32::MAX).to_ne_bytes());
    }
    spec
}

/// The bucket; none inside if what has our handle is none.
pub(super) fn read_bucket(payload: &[u8]) -> Option<Option<TokenBucket>> {
    let rest = payload.get(HEADER..)?;
    Some(read_token_bucket(rest))
}

fn read_token_bucket(rest: &[u8]) -> Option<TokenBucket> {
    let kind = find(attributes(rest), TCA_KIND)?.string();
    if kind != "tbf" {
        return None;
    }
    let options = find(attributes(rest), TCA_OPTIONS)?;
    let parameters = find(options.nested(), TCA_TBF_PARMS)?.value;
    let large = |kind| {
        let bytes = find(options.nested(), kind)?.value.get(..8)?;
        Some(u64::from_ne_bytes(bytes.try_into().ok()?))
    };
    Some(TokenBucket {
        rate: large(TCA_TBF_RATE64).or(word(parameters, 8).map(u64::from))?,
        peak: large(TCA_TBF_PRATE64).or(word(parameters, 20).map(u64::from))?,
        limit: word(parameters, 24)?,
        buffer: word(parameters, 28)?,
        peak_buffer: word(parameters, 32)?,
    })
}

pub(super) fn get_entrance(index: u32) -> Message {
    message(RTM_GETQDISC, ECHO, index, ENTRANCE, INGRESS, 0)
}

pub(super) fn create_entrance(index: u32) -> Message {
    let mut message = message(RTM_NEWQDISC, flags::CREATE | flags::EXCLUSIVE, index, ENTRANCE, INGRESS, 0);
    message.attribute(TCA_KIND, b"ingress\0");
    message
}

pub(super) fn delete_entrance(index: u32) -> Message {
    message(RTM_DELQDISC, 0, index, ENTRANCE, INGRESS, 0)
}

pub(super) fn list_filters(index: u32) -> Message {
    message(RTM_GETTFILTER, flags::DUMP, index, 0, ENTRANCE, 0)
}

/// Sends all that comes in by an interface out by a device: a `u32` filter that matches everything, with `mirred`. (There is
/// `matchall`, but not in every kernel.)
pub(super) fn redirect(index: u32, device: u32) -> Message {
    const PRIORITY: u32 = 1;
    const ALL_PROTOCOLS: u16 = 3;
    let info = PRIORITY << 16 | u32::from(ALL_PROTOCOLS.to_be());
    let mut message = message(RTM_NEWTFILTER, flags::CREATE | flags::EXCLUSIVE, index, 0, ENTRANCE, info);
    message.attribute(TCA_KIND, b"u32\0").nested(TCA_OPTIONS, |options| {
        // `struct tc_u32_sel`: terminal, one key that compares nothing.
        let mut selector = [0; 32];
        selector[0] = 1;
        selector[2] = 1;
        options.attribute(TCA_U32_SEL, &selector).nested(TCA_U32_ACT, |actions| {
            actions.nested(1, |action| {
                action.attribute(TCA_ACT_KIND, b"mirred\0").nested(TCA_ACT_OPTIONS, |options| {
                    options.attribute(TCA_MIRRED_PARMS, &mirred(device));
                });
            });
        });
    });
    message
}

/// `struct tc_mirred`.
fn mirred(device: u32) -> [u8; 28] {
    const STOLEN: u32 = 4;
    const EGRESS_REDIRECT: u32 = 1;
    let mut parameters = [0; 28];
    for (place, number) in [(8, STOLEN), (20, EGRESS_REDIRECT), (24, device)] {
        parameters[place..place + 4].copy_from_slice(&number.to_ne_bytes());
    }
    parameters
}

/// Where a filter sends packets to; none if it is not the part of a filter that says so.
pub(super) fn read_redirection(payload: &[u8]) -> Option<u32> {
    let options = find(attributes(payload.get(HEADER..)?), TCA_OPTIONS)?;
    let actions = find(options.nested(), TCA_U32_ACT)?;
    let action = actions.nested().next()?;
    let parameters = find(find(action.nested(), TCA_ACT_OPTIONS)?.nested(), TCA_MIRRED_PARMS)?;
    word(parameters.value, 24)
}

/// An `ifb`, which is up at once.
pub(super) fn create_device(name: &InterfaceName, mtu: u32) -> Message {
    let mut body = LinkMessage::default();
    body.header.flags = LinkFlags::Up;
    body.header.change_mask = LinkFlags::Up;
    body.attributes = vec![
        LinkAttribute::IfName(name.to_string()),
        LinkAttribute::Mtu(mtu),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Ifb)]),
    ];
    Message::route(&RouteNetlinkMessage::NewLink(body), flags::CREATE | flags::EXCLUSIVE)
}

fn find<'a>(mut attributes: impl Iterator<Item = Attribute<'a>>, kind: u16) -> Option<Attribute<'a>> {
    attributes.find(|attribute| attribute.kind == kind)
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
