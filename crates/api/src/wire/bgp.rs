//! Questions about BGP, and their answers: what `calicoctl bgp` shows as it is with `-o json` and `-o yaml`.
//!
//! Answers come in pages, so that a table of a million routes neither stops the speaker nor fills anybody's memory: each
//! page says where the next one begins, and looks at a bounded part of the table. Between two pages the world goes on: a
//! prefix that comes or goes meanwhile may or may not be seen, everything else is seen once.
//!
//! Times are seconds. Words that are not values (states, reasons) are for people and may change; field names do not.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Question {
    /// How the sessions are.
    Peers(PeersQuestion),
    /// Routes, from one side.
    Routes(RoutesQuestion),
    /// Everything about one prefix.
    Why(WhyQuestion),
    /// Which routes would change, if.
    WhatIf(WhatIfQuestion),
    /// The tables as MRT.
    Dump(DumpQuestion),
    /// How the monitoring stations are.
    Stations,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// To [`Question::Peers`].
    Peers(PeersPage),
    /// To [`Question::Routes`].
    Routes(RoutesPage),
    /// To [`Question::Why`].
    Why(Box<Why>),
    /// To [`Question::WhatIf`].
    WhatIf(Box<WhatIfPage>),
    /// To [`Question::Dump`].
    Dump(DumpPage),
    /// To [`Question::Stations`]: all of them, by name.
    Stations(Vec<Station>),
}

/// Where a page begins. Opaque to clients, but for handing it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(pub String);

/// [`Question::Peers`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PeersQuestion {
    /// Only this peer: its address, or its name.
    pub peer: Option<String>,
    /// Where to begin; at the first without.
    pub from: Option<Cursor>,
}

/// A page of sessions, in the order of their names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeersPage {
    /// The sessions.
    pub peers: Vec<Peer>,
    /// Where the next page begins; none when this is the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<Cursor>,
}

/// A session and its peer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// Its name in the speaker.
    pub name: String,
    /// Its address.
    pub address: IpAddr,
    /// `node-to-node mesh`, `node specific`, `local workload`, `global`.
    #[serde(rename = "type")]
    pub peer_type: String,
    /// The AS that is configured for it.
    pub remote_as: u32,
    /// Our AS.
    pub local_as: u32,
    /// Whether we reflect routes for it (RFC 4456).
    pub reflector_client: bool,
    /// The state (RFC 4271, section 8.2.2): Idle, Connect, Active, OpenSent, OpenConfirm, Established.
    pub state: String,
    /// When the state began: seconds since the epoch.
    pub since: i64,
    /// Seconds that the session has been up; none when it is not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uptime_seconds: Option<u64>,
    /// Why it is down, or went down last, in words.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// What can be done about it, in words; only while it is down.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remedy: Option<String>,
    /// How often it has come up, and how often it has gone down again.
    pub established_count: u64,
    /// How often an established session was lost.
    pub flaps: u64,
    /// What both ends agreed on, while it is up.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub session: Option<PeerSession>,
    /// What BFD says of the path to the peer, if it is to watch it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub bfd: Option<PeerPath>,
    /// What is configured.
    pub configured: PeerTimers,
    /// Prefixes, by family (`ipv4/unicast`).
    pub prefixes: BTreeMap<String, PeerPrefixes>,
    /// Messages.
    pub messages: PeerMessages,
    /// What the ends offered each other in their last OPENs, in words, by name of the capability.
    pub capabilities: Vec<PeerCapability>,
}

/// What an established session runs with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerSession {
    /// The peer's BGP identifier.
    pub router_id: String,
    /// Our end of the connection.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub local_address: Option<IpAddr>,
    /// The hold time in force; 0: none.
    pub hold_seconds: u64,
    /// Between KEEPALIVEs; 0: none are sent.
    pub keepalive_seconds: u64,
    /// Families in use.
    pub families: Vec<String>,
    /// Families of which the peer has said that it has told all (End-of-RIB).
    pub end_of_rib: Vec<String>,
    /// Whether routes are kept when the session is lost for a while (RFC 4724).
    pub graceful_restart: bool,
    /// Octets that the peer has yet to read.
    pub unread_octets: usize,
}

/// The path to a peer, as BFD sees it (RFC 5880).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerPath {
    /// `up`, or why it is not, in words.
    pub state: String,
    /// Milliseconds between packets that we ask for; the slower end decides.
    pub interval_milliseconds: u64,
    /// After how many missed packets the path is down.
    pub multiplier: u8,
    /// Whether the peer may be several hops away (RFC 5883).
    pub multihop: bool,
    /// Whether the BGP session waits for the path.
    pub strict: bool,
}

/// What is configured for a peer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerTimers {
    /// Where the peer listens.
    pub port: u16,
    /// Whether we wait for the peer to dial.
    pub passive: bool,
    /// The hold time that we propose.
    pub hold_seconds: u64,
    /// The keepalive interval that is asked for; a third of the hold time without.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub keepalive_seconds: Option<u64>,
    /// The longest wait between attempts to connect.
    pub connect_retry_seconds: u64,
    /// How long the peer shall keep our routes when we restart; none: graceful restart is off.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub restart_seconds: Option<u64>,
}

/// Prefixes of a peer in one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerPrefixes {
    /// Received and let in by the import filters.
    pub received: u64,
    /// Of these, those kept from before the peer's restart.
    pub stale: u64,
    /// Of these, those that are the best for their prefix.
    pub best: u64,
    /// What the peer has been told.
    pub advertised: u64,
}

/// Messages of a session since it was configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerMessages {
    /// All that came.
    pub received: u64,
    /// All that were sent.
    pub sent: u64,
    /// UPDATEs that came.
    pub updates_received: u64,
    /// UPDATEs that were sent.
    pub updates_sent: u64,
    /// UPDATEs whose routes were treated as withdrawn, or that lost an attribute (RFC 7606).
    pub malformed_updates: u64,
}

/// A capability (RFC 5492).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PeerCapability {
    /// Its name.
    pub name: String,
    /// What we offer; none: nothing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ours: Option<String>,
    /// What the peer offered in the session that is up; none: nothing.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub theirs: Option<String>,
}

/// [`Question::Routes`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RoutesQuestion {
    /// Whose side.
    pub view: View,
    /// Only this prefix.
    pub prefix: Option<IpNet>,
    /// And all within it.
    pub longer: bool,
    /// Where to begin; at the first without.
    pub from: Option<Cursor>,
}

/// [`Question::Dump`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DumpQuestion {
    /// Where to begin; at the first without.
    pub from: Option<Cursor>,
}

/// A page of a dump: whole records (MRT, RFC 6396), to be appended to those before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DumpPage {
    /// The octets, in base64.
    #[serde(with = "octets")]
    pub octets: Vec<u8>,
    /// How many routes there are in them.
    pub routes: u64,
    /// Where the next page begins; none when this is the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<Cursor>,
}

/// Octets as text.
mod octets {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(octets: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(octets))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(D::Error::custom)
    }
}

/// A monitoring station (BMP, RFC 7854).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Station {
    /// Its address and port.
    pub name: String,
    /// What it is told: `PrePolicy`, `PostPolicy`, `LocRIB`.
    pub views: Vec<String>,
    /// For how long it has been connected; none: it is not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub connected_seconds: Option<u64>,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// Octets that it has not taken yet.
    pub unread_octets: u64,
    /// Changes of routes that it is still to be told.
    pub waiting_changes: u64,
}

/// From which side routes are looked at.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum View {
    /// All that there are, and which are best.
    #[default]
    All,
    /// What a peer told us, behind the import filters.
    Received(String),
    /// What we told a peer, as it got it.
    Advertised(String),
}

/// A page of routes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoutesPage {
    /// The routes.
    pub routes: Vec<Route>,
    /// Where the next page begins; none when this is the last. A page may be empty and not be the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<Cursor>,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Where to.
    pub prefix: IpNet,
    /// The next hop; none for routes of our own.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_hop: Option<IpAddr>,
    /// Who told us: the peer's address; none: it is our own.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub from: Option<IpAddr>,
    /// The peer's name; none: it is our own.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub peer: Option<String>,
    /// The path identifier, where several routes for a prefix are exchanged (RFC 7911).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub path_id: Option<u32>,
    /// It is the one that is used and told on.
    pub best: bool,
    /// It is used beside the best one (ECMP).
    pub multipath: bool,
    /// It is kept from before the peer's restart.
    pub stale: bool,
    /// Why it cannot be used; none when it can.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub unusable: Option<String>,
    /// Its attributes.
    pub attributes: RouteAttributes,
}

/// The attributes of a route.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteAttributes {
    /// igp, egp or incomplete.
    pub origin: String,
    /// The AS numbers that it has passed, the nearest first; sets in braces.
    pub as_path: String,
    /// LOCAL_PREF.
    pub local_pref: u32,
    /// MULTI_EXIT_DISC.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub med: Option<u32>,
    /// How it ranks beside routes of our own; only here, never sent.
    pub preference: u32,
    /// Standard communities (RFC 1997).
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub communities: Vec<String>,
    /// Large communities (RFC 8092).
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub large_communities: Vec<String>,
    /// All others, name and value in words.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub others: BTreeMap<String, String>,
}

/// [`Question::Why`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WhyQuestion {
    /// A prefix, or an address for the longest prefix that has it.
    pub destination: String,
    /// To whom it is told: only this peer; otherwise as many as an answer has room for.
    #[serde(default)]
    pub peer: Option<String>,
}

/// Everything about one prefix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Why {
    /// The prefix.
    pub prefix: IpNet,
    /// What it is made of, if an aggregate is configured for it.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub aggregate: Option<WhyAggregate>,
    /// Every route for it, the best one first.
    pub paths: Vec<WhyPath>,
    /// Routes that there are beside `paths`, of which an answer has no room.
    pub more_paths: u64,
    /// Routes that import filters turned away.
    pub rejected: Vec<Rejected>,
    /// What the kernel has.
    pub kernel: KernelView,
    /// To whom the best one is told, and if not, why.
    pub told: Vec<Told>,
    /// Established peers beside those in `told`.
    pub more_peers: u64,
}

/// What an aggregate is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WhyAggregate {
    /// Peers that are told of it are not told of the routes in it.
    pub summary_only: bool,
    /// Peers in our own AS are told of it, too.
    pub internal_peers: bool,
    /// How many routes it is made of; none: it is not there.
    pub count: u64,
    /// The first of them.
    pub first: Vec<IpNet>,
}

/// A route, and how it fared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WhyPath {
    /// The route.
    pub route: Route,
    /// Where selection dropped it; none for the best one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lost: Option<Lost>,
    /// The import filters' steps; none for routes of our own.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub import: Option<PolicyTrace>,
}

/// The step of route selection that dropped a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lost {
    /// The step's name and clause.
    pub step: String,
    /// What this route has.
    pub this: String,
    /// What the route has that beat it.
    pub better: String,
    /// The peer of the route that beat it; none: one of our own.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub beaten_by: Option<String>,
}

/// What filters made of a route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyTrace {
    /// Whether it was let through.
    pub accepted: bool,
    /// The rules that were looked at, in order.
    pub steps: Vec<PolicyStep>,
    /// What decided when no rule did: `accept` or `reject`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub default: Option<String>,
    /// False when the route was changed when it came in, and only its changed form is known: conditions on what the
    /// filters themselves change may have seen other values.
    pub exact: bool,
}

/// A rule of a filter that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyStep {
    /// Where it comes from.
    pub rule: String,
    /// What it asks for.
    pub condition: String,
    /// What came of it.
    pub outcome: String,
}

/// A route that import filters turned away.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rejected {
    /// The route as it came.
    pub route: Route,
    /// The steps.
    pub import: PolicyTrace,
}

/// What the kernel does with packets to a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KernelView {
    /// The routes for exactly this prefix, in the words of `ip route`.
    pub exact: Vec<String>,
    /// The route that packets to its first address take.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lookup: Option<String>,
    /// How the best route's next hop is reached.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next_hop: Option<String>,
    /// Why nothing could be read.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<String>,
}

/// Whether an established peer has been told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// The peer's name.
    pub peer: String,
    /// The peer's address.
    pub address: IpAddr,
    /// The routes as the peer has them: none, one, or with add-path several.
    pub routes: Vec<Route>,
    /// Why it has none, or what is still on its way.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
    /// The export filters' steps, where they were asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub export: Option<PolicyTrace>,
}

/// [`Question::WhatIf`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WhatIfQuestion {
    /// What would happen.
    pub event: Event,
    /// Where to begin; at the first without.
    #[serde(default)]
    pub from: Option<Cursor>,
}

/// What could happen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// These peers' sessions are lost for good.
    Down(Vec<String>),
    /// These resources are applied; each as a file has it.
    Apply(Vec<Value>),
}

/// A page of what would change.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WhatIfPage {
    /// What would happen to sessions; only on the first page.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub sessions: Vec<SessionChange>,
    /// Prefixes whose route would change.
    pub changes: Vec<RouteChange>,
    /// What every peer would be told, as far as this page's prefixes go.
    pub told: Vec<ToldChange>,
    /// Prefixes that were looked at for this page.
    pub examined: u64,
    /// Where the next page begins; none when this is the last.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub next: Option<Cursor>,
}

/// What would happen to a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SessionChange {
    /// The peer's name.
    pub peer: String,
    /// Its address.
    pub address: IpAddr,
    /// What, in words: `lost`, `new`, `removed`, `reset`, `import filters change`, …
    pub change: String,
}

/// What would happen to the route for a prefix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteChange {
    /// The prefix.
    pub prefix: IpNet,
    /// The routes that are used now, the best one first.
    pub before: Vec<Route>,
    /// Those that would be.
    pub after: Vec<Route>,
}

/// What a peer would be told.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ToldChange {
    /// The peer's name.
    pub peer: String,
    /// Prefixes that it would get.
    pub announced: u64,
    /// Prefixes that it would get with other attributes.
    pub changed: u64,
    /// Prefixes that would be withdrawn from it.
    pub withdrawn: u64,
}
