//! The plan as the speaker's configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use bgp::config::{
    AddPath, Authentication, ConnectMode, GracefulRestart, LocalAddresses, LocalAs, NextHopMode, Origination,
    Secret, SendPaths, Timers,
};
use bgp::packet::PeerKind;
use bgp::policy::{Route, RouteAttributes, SourceMatch, mirrored};
use bgp::{Asn, Family, PeerConfig, PeerId, RouterId, SpeakerConfig};
use ipnet::IpNet;

use super::problems::Problem;
use super::types::{BgpPlan, NextHop, Originated, OriginatedKind, PasswordRef, Peer, PeerSource, label};

/// How long a restarted node waits for peers that do not come back before it uses what it has learned (RFC 4724, section
/// 4.1). A mesh often has a node that is down; blocks of new nodes should not wait two minutes for it.
const SELECTION_DEFERRAL: Duration = Duration::from_secs(30);
/// Rank of routes that nothing learned takes the place of.
const UNCONTESTED: u32 = 250;

/// Where passwords are.
pub trait Passwords {
    /// A password; `None` when it does not exist, but may do so.
    ///
    /// # Errors
    /// In words: why there is none, or why it cannot be used.
    fn password(&self, reference: &PasswordRef) -> Result<Option<Secret>, String>;
}

impl BgpPlan {
    /// The speaker's configuration; `None` when the plan has no BGP identifier. With it, the sessions that are left out.
    ///
    /// A session without the password that was asked for would be worse than none: there is none until the password exists.
    pub fn speaker_config(&self, passwords: &dyn Passwords) -> (Option<SpeakerConfig>, Vec<Problem>) {
        let Some(router_id) = self.router_id else { return (None, Vec::new()) };
        let mut config = SpeakerConfig::new(Asn(self.local_as), RouterId(router_id));
        config.cluster_id = self.cluster_id;
        config.selection_deferral = SELECTION_DEFERRAL;
        config.resolve_next_hops = self.forwards;
        config.name = self.name.clone();
        config.stations = self.stations.clone();
        config.aggregates = self.aggregates.clone();
        config.listen = self.listeners();
        config.addresses = self.local_addresses();
        config.kernel = self.kernel.clone();
        config.interfaces = self.interfaces.iter().map(|(net, name)| (*net, name.clone())).collect();
        config.originated = self.originate.iter().map(|(prefix, of)| (*prefix, origination(of))).collect();
        let mut problems = Vec::new();
        let mut peers = BTreeMap::new();
        for peer in &self.peers {
            match peer.config(self.local_as, passwords) {
                Ok(config) => drop(peers.insert(peer.id(), config)),
                Err(reason) => problems.push(peer.without_password(&reason)),
            }
        }
        config.peers = peers;
        (Some(config), problems)
    }

    /// What a peer is told of our own, with the attributes that it gets. What else it is told depends on other peers.
    pub fn announced(&self, peer: &Peer) -> BTreeMap<IpNet, RouteAttributes> {
        let of_family =
            self.originate.iter().filter(|(prefix, _)| peer.families.contains(&Family::of(prefix)));
        let announced = of_family.filter_map(|(prefix, originated)| {
            let local_pref = Some(mirrored(originated.priority));
            let mut attributes = RouteAttributes { local_pref, ..RouteAttributes::default() };
            let changes = peer.export.changes(&peer.export.evaluate(&Route {
                prefix: *prefix,
                source: SourceMatch::Local,
                peer: Some(peer.kind()),
                next_hop: None,
                interface: originated.interface.as_deref(),
                attributes: &attributes,
            })?);
            attributes.apply(&changes);
            Some((*prefix, attributes))
        });
        announced.collect()
    }

    fn listeners(&self) -> BTreeSet<SocketAddr> {
        let port = self.listen.port;
        match self.listen.addresses.is_empty() {
            true => [(Ipv4Addr::UNSPECIFIED, port).into(), (Ipv6Addr::UNSPECIFIED, port).into()].into(),
            false => self.listen.addresses.iter().map(|address| (*address, port).into()).collect(),
        }
    }

    /// Sessions are spoken from the node's addresses, so these are what others reach us by.
    fn local_addresses(&self) -> LocalAddresses {
        let mut addresses = LocalAddresses::default();
        for own in &self.addresses {
            match own {
                IpAddr::V4(address) => addresses.ipv4 = Some(*address),
                IpAddr::V6(address) => addresses.ipv6 = Some(*address),
            }
        }
        addresses
    }
}

impl Peer {
    /// Whether it is in our AS.
    pub fn kind(&self) -> PeerKind {
        if self.local_as == self.remote_as { PeerKind::Internal } else { PeerKind::External }
    }

    /// Whether a node that does not have the session is not ready. A workload that does not dial is no fault of its node.
    pub fn is_missed(&self) -> bool {
        !self.on_demand && !matches!(self.source, PeerSource::LocalWorkload { .. })
    }

    /// The name of its session.
    pub fn id(&self) -> PeerId {
        PeerId(format!("{}:{}", self.address, self.port))
    }

    fn config(&self, own_as: u32, passwords: &dyn Passwords) -> Result<PeerConfig, String> {
        let mut config = PeerConfig::new(self.address, Asn(self.remote_as));
        config.label = self.label().to_owned();
        config.port = self.port;
        config.families = self.families.clone();
        config.source = self.source_address;
        config.connect = if self.passive { ConnectMode::Passive } else { ConnectMode::Active };
        config.reflector_client = self.reflector_client;
        config.on_demand = self.on_demand;
        config.behind_us = matches!(self.source, PeerSource::LocalWorkload { .. });
        config.next_hop = match self.next_hop {
            NextHop::Auto => NextHopMode::Auto,
            NextHop::Own => NextHopMode::OurSelf,
            NextHop::Keep => NextHopMode::Keep,
        };
        config.allow_local_as = self.allow_local_as.map_or(0, |times| u8::try_from(times).unwrap_or(u8::MAX));
        config.timers = Timers { keepalive: self.keepalive_time, ..Timers::default() };
        if let Some(restart_time) = self.restart_time {
            config.graceful_restart = Some(GracefulRestart { restart_time, ..GracefulRestart::default() });
        }
        config.add_path = AddPath { receive: true, send: self.paths() };
        config.ttl_security = self.ttl_security;
        config.bfd = self.bfd;
        config.local_as = (self.local_as != own_as).then(|| LocalAs::instead_of_ours(Asn(self.local_as)));
        config.alias_as = self.alias_as.map(Asn);
        if let Some(reference) = &self.password {
            config.authentication = passwords.password(reference)?.map(Authentication::Md5);
        }
        config.import = self.import.clone();
        config.export = self.export.clone();
        Ok(config)
    }

    /// Nodes of a mesh may reflect for each other.
    fn paths(&self) -> SendPaths {
        match self.source {
            PeerSource::Mesh { .. } => SendPaths::EachNextHop,
            _ => SendPaths::All,
        }
    }

    fn label(&self) -> &'static str {
        match self.source {
            PeerSource::Mesh { .. } => label::MESH,
            PeerSource::Global { .. } => label::GLOBAL,
            PeerSource::Node { .. } => label::NODE,
            PeerSource::LocalWorkload { .. } => label::LOCAL_WORKLOAD,
        }
    }

    /// The resource that it comes from.
    pub fn object(&self) -> String {
        match &self.source {
            PeerSource::Mesh { .. } => "BGPConfiguration default".to_owned(),
            PeerSource::Global { name } | PeerSource::Node { name } | PeerSource::LocalWorkload { name } => {
                format!("BGPPeer {name}")
            }
        }
    }

    fn without_password(&self, reason: &str) -> Problem {
        let is_mesh = matches!(self.source, PeerSource::Mesh { .. });
        let field = if is_mesh { "spec.nodeMeshPassword" } else { "spec.password" };
        let reason = format!("{reason}; there is no session with {}", self.address);
        Problem::new(self.object(), field, reason, "provide the password, or leave the field out")
    }
}

fn origination(originated: &Originated) -> Origination {
    let is_moveable = matches!(originated.kind, OriginatedKind::Workload | OriginatedKind::Connected);
    let mut origination =
        Origination { local_pref: Some(mirrored(originated.priority)), ..Origination::default() };
    origination.interface.clone_from(&originated.interface);
    if !is_moveable {
        origination.preference = UNCONTESTED;
    }
    origination
}
