//! What a peer says when it knows the protocol: short scripts to whole messages.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bgp::packet::attribute::{
    AsPath, Attribute, AttributeValue, Community, LargeCommunity, MpReach, MpUnreach, Origin,
};
use bgp::packet::capability::{AddPathMode, Capability, GracefulRestartCapability};
use bgp::packet::nlri::Nlri;
use bgp::packet::open::Open;
use bgp::packet::update::Update;
use bgp::packet::{Context, PeerKind};
use bgp::{Asn, Family, RouterId};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Script;
use super::configuration::{OUR_AS, asn};

/// The peer's OPEN. Each of the first octet's bits leaves something out, or adds it.
pub(super) fn open(peer: usize, script: &mut Script<'_>) -> Open {
    let bits = script.octet();
    let set = |bit: u8| bits & (1 << bit) != 0;
    let families = Family::ALL.into_iter().filter(|family| !set(0) || *family == Family::Ipv4Unicast);
    let families: Vec<Family> = families.collect();
    let all = |family: &Family| Capability::Multiprotocol((*family).into());
    let mut capabilities: Vec<Capability> = families.iter().map(all).collect();
    if !set(1) {
        let families = families.iter().map(|family| ((*family).into(), !set(7))).collect();
        let restart = GracefulRestartCapability {
            restarting: set(6),
            notification: set(5),
            restart_time_secs: 60,
            families,
        };
        capabilities.push(Capability::GracefulRestart(restart));
        let stale = Family::ALL.map(|family| (family.into(), true, 600));
        capabilities.push(Capability::LongLivedGracefulRestart(stale.into()));
    }
    if !set(2) || asn(peer).0 > 0xffff {
        capabilities.push(Capability::FourOctetAs(asn(peer)));
    }
    if set(3) {
        let modes = Family::ALL.map(|family| (family.into(), AddPathMode::Both));
        capabilities.push(Capability::AddPath(modes.into()));
    }
    if set(4) {
        let next_hop = Capability::ExtendedNextHop(vec![(Family::Ipv4Unicast.into(), 2)]);
        capabilities.extend([Capability::ExtendedMessage, Capability::EnhancedRouteRefresh, next_hop]);
        capabilities.push(Capability::Role(0));
    }
    capabilities.push(Capability::RouteRefresh);
    Open {
        my_as: asn(peer).to_two_octets(),
        hold_time_secs: [90, 0, 3, 9][usize::from(script.octet() % 4)],
        router_id: RouterId([10, 0, 0, 2 + u8::try_from(peer).expect("four peers")].into()),
        capabilities,
        optional_parameters: 1,
        extended_optional_parameters: false,
    }
}

/// One of a few prefixes, so that they meet.
pub(super) fn prefix(octet: u8) -> IpNet {
    let third = octet & 0x07;
    if octet & 0x40 != 0 {
        let address = Ipv6Addr::new(0x2001, 0xdb8, u16::from(third), 0, 0, 0, 0, 0);
        return Ipv6Net::new_assert(address, 48 + (octet >> 3 & 3) * 16).into();
    }
    let length = [24, 26, 32, 16][usize::from(octet >> 3 & 3)];
    let second = if octet & 0x20 == 0 { 0 } else { 1 };
    Ipv4Net::new_assert(Ipv4Addr::new(10, second, third, 0), length).trunc().into()
}

fn list(script: &mut Script<'_>, ids: bool) -> Vec<Nlri> {
    let count = script.octet() % 9;
    let one = |script: &mut Script<'_>| {
        let prefix = prefix(script.octet());
        Nlri { prefix, path_id: ids.then(|| u32::from(script.octet() % 3)) }
    };
    (0..count).map(|_| one(script)).collect()
}

fn parted(list: Vec<Nlri>) -> (Vec<Nlri>, Vec<Nlri>) {
    list.into_iter().partition(|nlri| nlri.prefix.addr().is_ipv4())
}

/// Routes that come, and others that go.
pub(super) fn update(peer: usize, context: &Context, script: &mut Script<'_>) -> Vec<u8> {
    let ids = !context.add_path.is_empty();
    let bits = script.octet();
    let (v4, v6) = parted(list(script, ids));
    let (gone_v4, gone_v6) = parted(list(script, ids));
    let mut values =
        if v4.is_empty() && v6.is_empty() { Vec::new() } else { attributes(peer, context, bits, script) };
    let family = Family::Ipv6Unicast;
    if !v6.is_empty() {
        let next_hops =
            vec![IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2 + u16::from(bits >> 6)))];
        values.push(AttributeValue::MpReach(MpReach::Routes { family, next_hops, nlri: v6 }));
    }
    if !gone_v6.is_empty() {
        values.push(AttributeValue::MpUnreach(MpUnreach::Routes { family, nlri: gone_v6 }));
    }
    let attributes = values.into_iter().map(Attribute::new).collect();
    Update { withdrawn: gone_v4, attributes, nlri: v4 }.encode(context)
}

fn attributes(peer: usize, context: &Context, bits: u8, script: &mut Script<'_>) -> Vec<AttributeValue> {
    let set = |bit: u8| bits & (1 << bit) != 0;
    let mut path: Vec<Asn> = if context.peer == PeerKind::External { vec![asn(peer)] } else { Vec::new() };
    let hops = script.octet();
    path.extend((0..hops % 4).map(|hop| Asn(65100 + u32::from(hops >> 4) + u32::from(hop))));
    path.extend((hops & 0x08 != 0).then_some(OUR_AS));
    let mut values = vec![
        AttributeValue::Origin(if set(0) { Origin::Incomplete } else { Origin::Igp }),
        AttributeValue::AsPath(AsPath::sequence(path.iter().map(|asn| asn.0))),
        AttributeValue::NextHop([10, 0, 0, 2 + (bits >> 6)].into()),
    ];
    if set(1) {
        values.push(AttributeValue::Med(u32::from(script.octet() % 4)));
    }
    if context.peer == PeerKind::Internal {
        values.push(AttributeValue::LocalPref(100 + u32::from(set(2))));
    }
    if set(3) {
        let known =
            [Community::NO_EXPORT, Community::NO_ADVERTISE, Community::LLGR_STALE, Community::NO_LLGR];
        values.push(AttributeValue::Communities(vec![known[usize::from(script.octet() % 4)]]));
    }
    if set(4) && context.peer == PeerKind::Internal {
        values.push(AttributeValue::OriginatorId([10, 0, 0, script.octet() % 8].into()));
        values.push(AttributeValue::ClusterList(vec![[1, 1, 1, script.octet() % 3].into()]));
    }
    if set(5) {
        values.push(AttributeValue::LargeCommunities(vec![LargeCommunity(1, 2, 3)]));
        values.push(AttributeValue::Otc(Asn(65003)));
        let value = script.take(3).to_vec();
        values.push(AttributeValue::Unknown { code: 99, value });
    }
    values
}
