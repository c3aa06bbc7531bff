//! What a node reports about itself.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::{
    BGPDaemonState, BGPDaemonStatus, BGPPeerType, BGPSessionState, CalicoNodeAgentStatus,
    CalicoNodeBGPRouteStatus, CalicoNodeBGPStatus, CalicoNodePeer, CalicoNodeRoute, CalicoNodeStatusStatus,
    NodeStatusClass, RouteLearnedFrom, RouteSourceType, RouteType,
};
use bgp::query::{Cursor, RouteFilter, RouteView, View};
use bgp::session::SessionState;
use bgp::{PeerStatus, Speaker};
use calc::bgp_plan::label;
use ipnet::IpNet;
use jiff::Timestamp;
use kernel::Rtnetlink;
use kernel::link::Link;
use kernel::route::KernelRoute;

use crate::bgp::BgpFacts;
use crate::status::seconds_since_epoch;

/// Routes of a family that a report has room for: an object that everybody watches is no place for a full table.
const ROUTES: usize = 1000;
/// Pages of the speaker's table that are looked at for them.
const PAGES: usize = 100;

/// Looks at this node.
pub(crate) struct Reporter {
    bgp: Option<BgpFacts>,
}

impl Reporter {
    /// `bgp` is absent when BGP is off.
    pub(crate) fn new(bgp: Option<BgpFacts>) -> Self {
        Self { bgp }
    }

    /// The classes that are asked for, as they are now; others are empty.
    pub(super) fn status(&self, classes: &[NodeStatusClass]) -> CalicoNodeStatusStatus {
        let mut status = CalicoNodeStatusStatus { last_updated: Some(now()), ..Default::default() };
        if classes.contains(&NodeStatusClass::Agent) {
            status.agent = self.agent();
        }
        let Some(bgp) = &self.bgp else { return status };
        if classes.contains(&NodeStatusClass::Bgp) {
            status.bgp = sessions(&bgp.speaker.ask());
        }
        if classes.contains(&NodeStatusClass::Routes) {
            status.routes = routes(bgp);
        }
        status
    }

    fn agent(&self) -> CalicoNodeAgentStatus {
        let router_id =
            self.bgp.as_ref().and_then(|bgp| bgp.speaker.with(|speaker| speaker.config().router_id));
        let state = if router_id.is_some() { BGPDaemonState::Ready } else { BGPDaemonState::NotReady };
        let mut daemon = BGPDaemonStatus {
            state: Some(state),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            router_id: router_id.map(|id| id.to_string()).unwrap_or_default(),
            ..Default::default()
        };
        if let Some(bgp) = &self.bgp {
            daemon.last_boot_time = time(seconds_since_epoch(bgp.started));
            daemon.last_reconfiguration_time =
                bgp.configured_at().map(|at| time(seconds_since_epoch(at))).unwrap_or_default();
        }
        // One speaker does both families.
        CalicoNodeAgentStatus { bird_v4: daemon.clone(), bird_v6: daemon }
    }
}

/// As resources have it: whole seconds.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// As BIRD writes times, in UTC.
fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds)
        .map(|time| time.strftime("%Y-%m-%d %H:%M:%S").to_string())
        .unwrap_or_default()
}

fn sessions(peers: &[PeerStatus]) -> CalicoNodeBGPStatus {
    let of = |v4: bool| peers.iter().filter(move |peer| peer.address.is_ipv4() == v4);
    let count = |v4: bool, up: bool| {
        let count = of(v4).filter(|peer| (peer.state == SessionState::Established) == up).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    };
    CalicoNodeBGPStatus {
        number_established_v4: count(true, true),
        number_not_established_v4: count(true, false),
        number_established_v6: count(false, true),
        number_not_established_v6: count(false, false),
        peers_v4: of(true).map(peer).collect(),
        peers_v6: of(false).map(peer).collect(),
    }
}

fn peer(peer: &PeerStatus) -> CalicoNodePeer {
    CalicoNodePeer {
        peer_ip: peer.address.to_string(),
        peer_type: Some(match peer.label.as_str() {
            label::MESH => BGPPeerType::NodeMesh,
            label::GLOBAL => BGPPeerType::GlobalPeer,
            _ => BGPPeerType::NodePeer,
        }),
        state: Some(match peer.state {
            SessionState::Idle => BGPSessionState::Idle,
            SessionState::Connect => BGPSessionState::Connect,
            SessionState::Active => BGPSessionState::Active,
            SessionState::OpenSent => BGPSessionState::OpenSent,
            SessionState::OpenConfirm => BGPSessionState::OpenConfirm,
            SessionState::Established => BGPSessionState::Established,
        }),
        since: time(seconds_since_epoch(peer.since)),
    }
}

fn routes(bgp: &BgpFacts) -> CalicoNodeBGPRouteStatus {
    let read = || -> Result<(Vec<KernelRoute>, Vec<Link>), kernel::netlink::Error> {
        let mut rtnetlink = Rtnetlink::open()?;
        Ok((rtnetlink.main_routes()?, rtnetlink.links()?))
    };
    let (kernel, links) = read().unwrap_or_else(|error| {
        tracing::warn!(%error, "the kernel's routes cannot be read for the node's status");
        Default::default()
    });
    let mut by_prefix: BTreeMap<IpNet, KernelRoute> = BTreeMap::new();
    for route in kernel {
        by_prefix.entry(route.destination).or_insert(route);
    }
    let mesh: Vec<IpAddr> = bgp
        .speaker
        .ask()
        .into_iter()
        .filter(|peer| peer.label == label::MESH)
        .map(|peer| peer.address)
        .collect();
    let listing = Listing { kernel: &by_prefix, links: &links, mesh: &mesh };
    let (v4, v6) = (views(bgp, "0.0.0.0/0"), views(bgp, "::/0"));
    CalicoNodeBGPRouteStatus { routes_v4: listing.routes(&v4, true), routes_v6: listing.routes(&v6, false) }
}

/// The speaker's routes in a prefix, as many as there is room for.
fn views(bgp: &BgpFacts, within: &str) -> Vec<RouteView> {
    let prefix: Option<IpNet> = within.parse().ok();
    let (mut views, mut from) = (Vec::new(), Some(Cursor::START));
    for _ in 0..PAGES {
        let Some(cursor) = from.filter(|_| views.len() < ROUTES) else { break };
        let filter = RouteFilter { view: View::All, prefix, longer: true };
        let look = move |speaker: &Speaker| speaker.routes(&filter, cursor);
        let Some(page) = bgp.speaker.with(look) else { break };
        views.extend(page.routes);
        from = page.next;
    }
    views.truncate(ROUTES);
    views
}

/// RTPROT_KERNEL: the kernel's own, for the networks of its interfaces.
fn is_direct(route: &KernelRoute) -> bool {
    route.protocol == 2
}

struct Listing<'a> {
    kernel: &'a BTreeMap<IpNet, KernelRoute>,
    links: &'a [Link],
    mesh: &'a [IpAddr],
}

impl Listing<'_> {
    /// BGP's routes, and those of the kernel that BGP does not have.
    fn routes(&self, views: &[RouteView], v4: bool) -> Vec<CalicoNodeRoute> {
        let mut routes: Vec<CalicoNodeRoute> = views.iter().map(|view| self.of_bgp(view)).collect();
        let room = ROUTES - routes.len();
        let known: std::collections::BTreeSet<IpNet> = views.iter().map(|view| view.prefix).collect();
        let others = self
            .kernel
            .values()
            .filter(|route| route.destination.addr().is_ipv4() == v4 && !known.contains(&route.destination));
        routes.extend(others.take(room).map(|route| self.of_kernel(route)));
        routes
    }

    fn of_bgp(&self, view: &RouteView) -> CalicoNodeRoute {
        let kernel = self.kernel.get(&view.prefix).filter(|_| view.best || view.multipath);
        let next_hop = view.attributes.next_hop;
        CalicoNodeRoute {
            route_type: Some(if kernel.is_some() { RouteType::Fib } else { RouteType::Rib }),
            destination: view.prefix.to_string(),
            gateway: if next_hop.is_unspecified() { "N/A".to_owned() } else { next_hop.to_string() },
            interface: kernel.map(|route| self.interface(route)).unwrap_or_default(),
            learned_from: RouteLearnedFrom {
                source_type: Some(match view.from {
                    None if kernel.is_some_and(is_direct) => RouteSourceType::Direct,
                    None => RouteSourceType::Static,
                    Some(address) if self.mesh.contains(&address) => RouteSourceType::NodeMesh,
                    Some(_) => RouteSourceType::BGPPeer,
                }),
                peer_ip: view.from.map(|address| address.to_string()).unwrap_or_default(),
            },
        }
    }

    fn of_kernel(&self, route: &KernelRoute) -> CalicoNodeRoute {
        let gateway = route.hops.iter().find_map(|hop| hop.gateway);
        CalicoNodeRoute {
            route_type: Some(RouteType::Fib),
            destination: route.destination.to_string(),
            gateway: gateway.map_or_else(|| "N/A".to_owned(), |address| address.to_string()),
            interface: self.interface(route),
            learned_from: RouteLearnedFrom {
                source_type: Some(if is_direct(route) {
                    RouteSourceType::Direct
                } else {
                    RouteSourceType::Kernel
                }),
                peer_ip: String::new(),
            },
        }
    }

    fn interface(&self, route: &KernelRoute) -> String {
        let device = route.hops.iter().find_map(|hop| hop.device);
        let link = device.and_then(|index| self.links.iter().find(|link| link.index == index));
        link.map(|link| link.name.to_string()).unwrap_or_else(|| "blackhole".to_owned())
    }
}
