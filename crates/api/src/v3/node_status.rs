use jiff::Timestamp;

use super::object;
use crate::rules::{Place, Rules, check_range, check_unique};
use crate::scalars::words;
use crate::{Kind, Object, Spec};

/// Node status as the node reports it.
pub type CalicoNodeStatus = Object<CalicoNodeStatusSpec>;

object! {
    /// `spec` of a [`CalicoNodeStatus`].
    #[derive(Default)]
    pub struct CalicoNodeStatusSpec {
        /// Which node.
        node: String,
        /// What to report.
        classes: Vec<NodeStatusClass>,
        /// How often, in seconds, 0..86400; 0 stops reporting.
        update_period_seconds: Option<u32>,
    }
}

words! {
    /// What a node reports.
    NodeStatusClass {
        /// The state of the BGP speaker.
        Agent = "Agent",
        /// Its sessions.
        Bgp = "BGP",
        /// Its routes.
        Routes = "Routes",
    }
}

object! {
    /// `status` of a [`CalicoNodeStatus`].
    #[derive(Default)]
    pub struct CalicoNodeStatusStatus {
        /// When it was reported.
        last_updated: Option<Timestamp>,
        /// The speaker.
        agent: CalicoNodeAgentStatus,
        /// Its sessions.
        bgp: CalicoNodeBGPStatus,
        /// Its routes.
        routes: CalicoNodeBGPRouteStatus,
    }
}

object! {
    /// The state of the speaker.
    #[derive(Default)]
    pub struct CalicoNodeAgentStatus {
        /// For IPv4.
        #[serde(rename = "birdV4")]
        bird_v4: BGPDaemonStatus,
        /// For IPv6.
        #[serde(rename = "birdV6")]
        bird_v6: BGPDaemonStatus,
    }
}

object! {
    /// The state of the speaker for one IP version.
    #[derive(Default)]
    pub struct BGPDaemonStatus {
        /// Whether it runs.
        state: Option<BGPDaemonState>,
        /// Its version.
        version: String,
        /// Its BGP identifier.
        #[serde(rename = "routerID")]
        router_id: String,
        /// When it started.
        last_boot_time: String,
        /// When its configuration last changed.
        last_reconfiguration_time: String,
    }
}

words! {
    /// Whether the speaker runs.
    BGPDaemonState {
        /// It does.
        Ready = "Ready",
        /// It does not.
        NotReady = "NotReady",
    }
}

object! {
    /// The sessions of a node.
    #[derive(Default)]
    pub struct CalicoNodeBGPStatus {
        /// How many IPv4 sessions are established.
        #[serde(rename = "numberEstablishedV4")]
        number_established_v4: u32,
        /// How many are not.
        #[serde(rename = "numberNotEstablishedV4")]
        number_not_established_v4: u32,
        /// How many IPv6 sessions are established.
        #[serde(rename = "numberEstablishedV6")]
        number_established_v6: u32,
        /// How many are not.
        #[serde(rename = "numberNotEstablishedV6")]
        number_not_established_v6: u32,
        /// The IPv4 sessions.
        #[serde(rename = "peersV4")]
        peers_v4: Vec<CalicoNodePeer>,
        /// The IPv6 sessions.
        #[serde(rename = "peersV6")]
        peers_v6: Vec<CalicoNodePeer>,
    }
}

object! {
    /// A session.
    #[derive(Default)]
    pub struct CalicoNodePeer {
        /// The peer's address.
        #[serde(rename = "peerIP")]
        peer_ip: String,
        /// Why there is a session with it.
        #[serde(rename = "type")]
        peer_type: Option<BGPPeerType>,
        /// How far the session is (RFC 4271 section 8.2.2).
        state: Option<BGPSessionState>,
        /// Since when.
        since: String,
    }
}

words! {
    /// Why there is a session.
    BGPPeerType {
        /// Every node peers with every other.
        NodeMesh = "NodeMesh",
        /// A peer of this node.
        NodePeer = "NodePeer",
        /// A peer of all nodes.
        GlobalPeer = "GlobalPeer",
    }
}

words! {
    /// How far a session is (RFC 4271 section 8.2.2).
    BGPSessionState {
        /// Not started.
        Idle = "Idle",
        /// Waiting for the connection.
        Connect = "Connect",
        /// Listening for one.
        Active = "Active",
        /// OPEN sent.
        OpenSent = "OpenSent",
        /// OPEN received.
        OpenConfirm = "OpenConfirm",
        /// Exchanging routes.
        Established = "Established",
        /// Being closed.
        Close = "Close",
    }
}

object! {
    /// The routes of a node.
    #[derive(Default)]
    pub struct CalicoNodeBGPRouteStatus {
        /// For IPv4.
        #[serde(rename = "routesV4")]
        routes_v4: Vec<CalicoNodeRoute>,
        /// For IPv6.
        #[serde(rename = "routesV6")]
        routes_v6: Vec<CalicoNodeRoute>,
    }
}

object! {
    /// A route.
    #[derive(Default)]
    pub struct CalicoNodeRoute {
        /// Whether it is in use.
        #[serde(rename = "type")]
        route_type: Option<RouteType>,
        /// Where it leads.
        destination: String,
        /// Through which gateway.
        gateway: String,
        /// Through which interface.
        interface: String,
        /// Who told.
        learned_from: RouteLearnedFrom,
    }
}

words! {
    /// Whether a route is in use.
    RouteType {
        /// In the kernel.
        Fib = "FIB",
        /// Only known to the speaker.
        Rib = "RIB",
    }
}

object! {
    /// Who told of a route.
    #[derive(Default)]
    pub struct RouteLearnedFrom {
        /// What sort of source.
        source_type: Option<RouteSourceType>,
        /// The peer, if one did.
        #[serde(rename = "peerIP")]
        peer_ip: String,
    }
}

words! {
    /// What sort of source a route has.
    RouteSourceType {
        /// The kernel.
        Kernel = "Kernel",
        /// The configuration.
        Static = "Static",
        /// An interface.
        Direct = "Direct",
        /// Another node.
        NodeMesh = "NodeMesh",
        /// A peer.
        BGPPeer = "BGPPeer",
    }
}

impl Spec for CalicoNodeStatusSpec {
    const KIND: Kind = Kind::CalicoNodeStatus;
    type Status = CalicoNodeStatusStatus;
}

/// The longest time between reports: a day, in seconds.
const MAX_PERIOD: i64 = 86_400;

impl Rules for CalicoNodeStatusSpec {
    fn check(object: &Object<Self>, at: &Place<'_>) {
        let (spec, at) = (&object.spec, at.field("spec"));
        if spec.node.is_empty() {
            at.field("node").refuse_all("is required");
        }
        check_unique(&spec.classes, &at.field("classes"));
        if let Some(period) = spec.update_period_seconds {
            check_range(period.into(), 0, MAX_PERIOD, &at.field("updatePeriodSeconds"));
        }
    }
}
