//! Hosts, the links between them, and speakers on them.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bgp::config::{ConnectMode, Origination};
use bgp::session::SessionState;
use bgp::{Asn, PeerConfig, PeerId, PeerStatus, RouterId, SpeakerConfig, Start};
use node::speaker::SpeakerHandle;
use testkit::TestNamespace;
pub(crate) use testkit::eventually;

/// Two hosts: 10.0.0.1 and 10.0.0.2, on one link.
pub(crate) fn pair() -> [TestNamespace; 2] {
    let hosts = [TestNamespace::new(), TestNamespace::new()];
    link(&hosts[0], "10.0.0.1/24", &hosts[1], "10.0.0.2/24", "fabric");
    hosts
}

/// Joins two hosts by a link of this name.
pub(crate) fn link(one: &TestNamespace, address: &str, other: &TestNamespace, its: &str, name: &str) {
    let path = other.path();
    one.command(&format!("ip link add {name} type veth peer name {name} netns {}", path.display()));
    for (host, address) in [(one, address), (other, its)] {
        host.command("ip link set lo up");
        host.command(&format!("ip address add {address} dev {name}"));
        host.command(&format!("ip link set {name} up"));
    }
}

/// A speaker in AS 64512 at 10.0.0.`last` with one peer, called `peer`.
pub(crate) fn config(last: u8, peer: PeerConfig) -> SpeakerConfig {
    let own = Ipv4Addr::new(10, 0, 0, last);
    let mut config = SpeakerConfig::new(Asn(64512), RouterId(own));
    config.listen.insert((Ipv4Addr::UNSPECIFIED, 179).into());
    config.addresses.ipv4 = Some(own);
    config.peers.insert(PeerId::from("peer"), peer);
    config
}

/// The peer at an address, in our AS; it is asked often.
pub(crate) fn peer(address: [u8; 4]) -> PeerConfig {
    let mut peer = PeerConfig::new(IpAddr::from(address), Asn(64512));
    peer.timers.connect_retry = Duration::from_secs(1);
    peer
}

pub(crate) fn passive(address: [u8; 4]) -> PeerConfig {
    PeerConfig { connect: ConnectMode::Passive, ..peer(address) }
}

pub(crate) fn start(host: &TestNamespace, config: SpeakerConfig) -> SpeakerHandle {
    let handle = host.run(|| SpeakerHandle::spawn(Start::Fresh, |_| {}).expect("a thread"));
    handle.configure(config);
    handle
}

pub(crate) fn status(speaker: &SpeakerHandle) -> Option<PeerStatus> {
    speaker.status().into_iter().next()
}

pub(crate) fn is_up(speaker: &SpeakerHandle) -> bool {
    status(speaker).is_some_and(|peer| peer.state == SessionState::Established)
}

/// Why the peer is down, in words.
pub(crate) fn reason(speaker: &SpeakerHandle) -> String {
    let reason = status(speaker).and_then(|peer| peer.reason);
    reason.map(|reason| reason.to_string()).unwrap_or_default()
}

pub(crate) fn originate(config: &mut SpeakerConfig, count: u8) {
    for index in 0..count {
        let prefix = format!("10.{index}.0.0/16").parse().expect("a prefix");
        config.originated.insert(prefix, Origination::default());
    }
}
