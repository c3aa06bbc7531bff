//! The speaker's configuration as a function of 36 bits, so that a script can change any of it.

use std::net::IpAddr;
use std::time::Duration;

use bgp::config::{
    AddPath, Aggregate, ConnectMode, GracefulRestart, LocalAs, LongLived, Multipath, NextHopMode, PeerRange,
    PrefixLimit, Role, RoleConfig, SendPaths, StationConfig, StationView,
};
use bgp::packet::attribute::Community;
use bgp::policy::{Actions, Match, Policy, PrefixMatch, Rule, Verdict};
use bgp::{Asn, Family, PeerConfig, PeerId, RouterId, SpeakerConfig};

/// Our AS.
pub(super) const OUR_AS: Asn = Asn(64512);
/// The AS that `e4` knows us by when it is told so.
const OTHER_AS: Asn = Asn(64999);
/// What `e3` may have in each family at most.
pub(super) const LIMIT: u32 = 6;

/// An internal peer, two external ones of which the second is dialled, and members of a range.
pub(super) const PEERS: [&str; 4] = ["i2", "e3", "e4", "range"];

/// The address that a peer of [`PEERS`] comes from.
pub(super) fn address(peer: usize) -> IpAddr {
    match peer {
        3 => [10, 1, 0, 7].into(),
        peer => [10, 0, 0, 2 + u8::try_from(peer).expect("four peers")].into(),
    }
}

/// The AS of a peer of [`PEERS`].
pub(super) fn asn(peer: usize) -> Asn {
    [OUR_AS, Asn(65003), Asn(4_200_000_004), OUR_AS][peer]
}

/// What a bit changes.
#[derive(Clone, Copy)]
pub(super) struct Bits(pub(super) u64);

impl Bits {
    fn set(self, bit: u32) -> bool {
        self.0 & (1 << bit) != 0
    }

    /// Whether kernel and selection are as simple as they get, so that they can be compared.
    pub(super) fn takes_everything_into_the_kernel(self) -> bool {
        !self.set(20)
    }
}

/// The configuration for these bits; all clear is the usual one.
pub(super) fn speaker(bits: Bits) -> SpeakerConfig {
    let id = if bits.set(17) { [10, 0, 0, 9] } else { [10, 0, 0, 1] };
    let mut config = SpeakerConfig::new(OUR_AS, RouterId(id.into()));
    config.addresses.ipv4 = Some([10, 0, 0, 1].into());
    config.addresses.ipv6 = (!bits.set(27)).then(|| "2001:db8::1".parse().expect("an address"));
    config.cluster_id = bits.set(23).then(|| [1, 1, 1, 1].into());
    config.multipath = if bits.set(10) { Multipath::OFF } else { Multipath::default() };
    config.always_compare_med = bits.set(15);
    config.resolve_next_hops = bits.set(11);
    config.kernel = if bits.set(20) { marking("10.1.0.0/16", Verdict::Reject) } else { Policy::accept_all() };
    let named = [(0, internal(bits)), (1, limited(bits)), (2, dialled(bits))];
    let present = named.into_iter().filter(|(peer, _)| !bits.set(*peer));
    config.peers = present.map(|(peer, config)| (PeerId::from(PEERS[peer as usize]), config)).collect();
    for (bit, prefix) in [(32, "10.0.0.0/15"), (34, "10.0.0.0/24"), (35, "2001:db8::/32")] {
        let aggregate = Aggregate { summary_only: bits.set(33), internal: bits.set(10), local_pref: None };
        let prefix = prefix.parse().expect("a prefix");
        config.aggregates.extend(bits.set(bit).then_some((prefix, aggregate)));
    }
    if bits.set(31) {
        let mut station = StationConfig::new((IpAddr::from([10, 2, 0, 1]), 5000).into());
        station.views = [StationView::PrePolicy, StationView::PostPolicy, StationView::LocRib].into();
        station.statistics = Some(Duration::from_secs(60));
        config.stations.insert("station".to_owned(), station);
    }
    if !bits.set(3) {
        let mut template = peer(3);
        template.reflector_client = true;
        let prefix = "10.1.0.0/24".parse().expect("a prefix");
        config.ranges.insert(PeerId::from(PEERS[3]), PeerRange { prefix, max_peers: 2, template });
    }
    config
}

fn peer(index: usize) -> PeerConfig {
    let mut peer = PeerConfig::new(address(index), asn(index));
    peer.connect = ConnectMode::Passive;
    peer.families = Family::ALL.into();
    peer
}

fn internal(bits: Bits) -> PeerConfig {
    let mut peer = peer(0);
    peer.reflector_client = bits.set(4);
    peer.add_path.receive = !bits.set(5);
    peer.add_path.send = match (bits.set(6), bits.set(28)) {
        (false, _) => SendPaths::All,
        (true, false) => SendPaths::Best(2),
        (true, true) => SendPaths::None,
    };
    peer.long_lived = bits.set(12).then_some(LongLived { stale_time: Duration::from_secs(600) });
    peer.graceful_restart = (!bits.set(19)).then(GracefulRestart::default);
    peer.next_hop = if bits.set(22) { NextHopMode::OurSelf } else { NextHopMode::Auto };
    peer
}

fn limited(bits: Bits) -> PeerConfig {
    let mut peer = peer(1);
    let restart = bits.set(24).then(|| Duration::from_secs(60));
    peer.prefix_limit = (!bits.set(9)).then_some(PrefixLimit { restart, ..PrefixLimit::new(LIMIT) });
    peer.role = bits.set(13).then_some(RoleConfig { role: Role::Customer, strict: bits.set(25) });
    if bits.set(7) {
        peer.export = marking("10.0.0.0/8", Verdict::Accept);
    }
    if bits.set(8) {
        peer.import = marking("10.1.0.0/16", Verdict::Reject);
    }
    peer.graceful_restart = None;
    peer
}

fn dialled(bits: Bits) -> PeerConfig {
    let mut peer = peer(2);
    peer.connect = if bits.set(16) { ConnectMode::Passive } else { ConnectMode::Active };
    peer.local_as =
        bits.set(14).then(|| LocalAs { no_prepend: bits.set(26), ..LocalAs::instead_of_ours(OTHER_AS) });
    peer.require_policy = bits.set(18);
    peer.allow_local_as = if bits.set(21) { 1 } else { 0 };
    peer.next_hop = if bits.set(29) { NextHopMode::Keep } else { NextHopMode::Auto };
    peer.add_path = AddPath { receive: bits.set(30), send: SendPaths::None };
    peer
}

/// Marks what lies in a prefix, or turns it away; what has the mark already is not looked at.
fn marking(prefix: &str, verdict: Verdict) -> Policy {
    let prefix = prefix.parse().expect("a prefix");
    let rule = Rule {
        name: "marks".into(),
        when: Match::prefix(PrefixMatch::within(prefix)),
        set: Actions {
            add_communities: [Community(64512 << 16 | 7)].into(),
            med: Some(7),
            ..Actions::default()
        },
        verdict: Some(verdict),
    };
    Policy::new(vec![rule], Verdict::Accept)
}
