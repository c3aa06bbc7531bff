//! What two OPENs agree on.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Settings;
use crate::config::{AddPath, SendPaths};
use crate::iana::{error, open_error};
use crate::packet::capability::{AddPathMode, Capability, FamilyCode, GracefulRestartCapability};
use crate::packet::notification::Notification;
use crate::packet::open::Open;
use crate::packet::{Context, DecodeError};
use crate::types::{Asn, Family, FamilySet, RouterId};

/// What a session runs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// For the codecs.
    pub context: Context,
    /// The peer's identifier.
    pub router_id: RouterId,
    /// The smaller of both hold times; zero: no hold timer, no KEEPALIVEs.
    pub hold_time: Duration,
    /// Between KEEPALIVEs.
    pub keepalive: Duration,
    /// The peer answers ROUTE-REFRESH.
    pub route_refresh: bool,
    /// What the peer said about graceful restart, when we offer it, too.
    pub graceful_restart: Option<PeerRestart>,
    /// What the peer said about long-lived graceful restart, when we offer it, too.
    pub long_lived: Option<PeerLongLived>,
    /// The role that the peer has said it has: the value of its capability (RFC 9234).
    pub peer_role: Option<u8>,
    /// What the peer said it can do, for operators.
    pub capabilities: Vec<Capability>,
    /// What was said, octet by octet.
    pub opens: Opens,
}

/// The OPENs of a session as whole messages, for observers (RFC 7854, section 4.10).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Opens {
    /// Ours.
    pub sent: Vec<u8>,
    /// The peer's.
    pub received: Vec<u8>,
}

/// The peer's long-lived graceful restart capability (RFC 9494), as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerLongLived {
    /// How long the peer wants the routes of a family to be kept; families of the session only, none with zero.
    pub stale_times: BTreeMap<Family, Duration>,
    /// Families that the peer has kept forwarding over its last restart.
    pub forwarding: FamilySet,
}

/// The peer's graceful restart capability, as far as it matters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerRestart {
    /// R: the peer has just restarted; it does not wait for our End-of-RIB, we need not wait for its.
    pub restarting: bool,
    /// N at both ends: NOTIFICATIONs keep routes, too (RFC 8538).
    pub notification: bool,
    /// How long the peer needs to come back.
    pub restart_time: Duration,
    /// Families whose routes are kept over a restart.
    pub families: FamilySet,
    /// Families that the peer has kept forwarding over its last restart.
    pub forwarding: FamilySet,
}

/// Our OPEN.
pub(super) fn our_open(settings: &Settings, restarting: bool, forwarding: bool) -> Open {
    let mut capabilities: Vec<Capability> =
        settings.families.iter().map(|family| Capability::Multiprotocol(family.into())).collect();
    capabilities.push(Capability::RouteRefresh);
    if offers_extended_next_hop(settings) {
        capabilities.push(Capability::ExtendedNextHop(vec![(Family::Ipv4Unicast.into(), 2)]));
    }
    capabilities.push(Capability::ExtendedMessage);
    capabilities.extend(settings.external_role().map(|role| Capability::Role(role.role as u8)));
    if let Some(restart) = settings.graceful_restart {
        let secs = restart.restart_time.as_secs().min(4095);
        capabilities.push(Capability::GracefulRestart(GracefulRestartCapability {
            restarting,
            notification: true,
            restart_time_secs: u16::try_from(secs).expect("at most 4095"),
            families: settings.families.iter().map(|family| (family.into(), forwarding)).collect(),
        }));
        capabilities.extend(settings.long_lived.map(|long_lived| {
            let secs = long_lived.stale_time.as_secs().min(LONGEST_STALE_TIME);
            let secs = u32::try_from(secs).expect("24 bits");
            let families = settings.families.iter().map(|family| (family.into(), forwarding, secs));
            Capability::LongLivedGracefulRestart(families.collect())
        }));
    }
    capabilities.push(Capability::FourOctetAs(settings.local_as));
    capabilities.extend(add_path_offer(settings));
    capabilities.push(Capability::EnhancedRouteRefresh);
    Open {
        my_as: settings.local_as.to_two_octets(),
        hold_time_secs: u16::try_from(settings.timers.hold.as_secs()).unwrap_or(u16::MAX),
        router_id: settings.router_id,
        capabilities,
        optional_parameters: 1,
        extended_optional_parameters: false,
    }
}

/// RFC 7911, section 4.
fn add_path_offer(settings: &Settings) -> Option<Capability> {
    let mode = match (settings.add_path.receive, settings.add_path.send != SendPaths::None) {
        (false, false) => return None,
        (true, false) => AddPathMode::Receive,
        (false, true) => AddPathMode::Send,
        (true, true) => AddPathMode::Both,
    };
    Some(Capability::AddPath(settings.families.iter().map(|family| (family.into(), mode)).collect()))
}

/// Families in which we receive and in which we send path identifiers: one end must offer what the other takes. Of
/// several entries for a family the first counts, and of several capabilities the last (RFC 7911, section 4).
fn add_path_agreed(settings: &Settings, open: &Open, families: FamilySet) -> (FamilySet, FamilySet) {
    let AddPath { receive, send } = settings.add_path;
    let entries = open.capabilities.iter().rev().find_map(|capability| match capability {
        Capability::AddPath(entries) => Some(entries.as_slice()),
        _ => None,
    });
    let peer = |family: Family| {
        entries.unwrap_or_default().iter().find(|(code, _)| *code == family.into()).map(|(_, mode)| *mode)
    };
    let sends = |family: &Family| matches!(peer(*family), Some(AddPathMode::Send | AddPathMode::Both));
    let takes = |family: &Family| matches!(peer(*family), Some(AddPathMode::Receive | AddPathMode::Both));
    (
        families.iter().filter(|family| receive && sends(family)).collect(),
        families.iter().filter(|family| send != SendPaths::None && takes(family)).collect(),
    )
}

/// The stale time has 24 bits (RFC 9494, section 3.1).
const LONGEST_STALE_TIME: u64 = (1 << 24) - 1;

/// Whether IPv4 routes may come with IPv6 next hops: on sessions of both families, and where the transport is IPv6.
fn offers_extended_next_hop(settings: &Settings) -> bool {
    settings.families.contains(Family::Ipv4Unicast)
        && (settings.over_ipv6 || settings.families == FamilySet::ALL)
}

/// What the peer's OPEN and our settings have in common.
pub(super) fn negotiate(settings: &Settings, open: &Open) -> Result<Negotiated, DecodeError> {
    let families = peer_families(open).intersection(settings.families);
    if families.is_empty() {
        let ours = settings.families.iter().map(|family| Capability::Multiprotocol(family.into()));
        let data: Vec<u8> =
            ours.flat_map(|capability| [vec![capability.code(), 4], capability.value()].concat()).collect();
        let notification = Notification::with_data(error::OPEN, open_error::CAPABILITY, data);
        return Err(DecodeError::new(10, "Capabilities", "no address family in common", notification));
    }
    check_role(settings, open)?;
    let has = |wanted: &Capability| open.capabilities.contains(wanted);
    let as4 = open.capabilities.iter().any(|capability| matches!(capability, Capability::FourOctetAs(_)));
    let v4_over_v6 = open.capabilities.iter().any(|capability| {
        matches!(capability, Capability::ExtendedNextHop(list) if list.contains(&(Family::Ipv4Unicast.into(), 2)))
    });
    let enhanced_refresh = has(&Capability::EnhancedRouteRefresh);
    let (add_path, add_path_send) = add_path_agreed(settings, open, families);
    let context = Context {
        as4,
        families,
        add_path,
        add_path_send,
        extended_next_hop: v4_over_v6 && offers_extended_next_hop(settings),
        extended_message: has(&Capability::ExtendedMessage),
        enhanced_refresh,
        peer_as: Some(settings.remote_as),
        ..Context::initial(settings.peer_kind())
    };
    let hold_time = settings.timers.hold.min(Duration::from_secs(u64::from(open.hold_time_secs)));
    let keepalive = match settings.timers.keepalive {
        Some(interval) => interval.min(hold_time / 3),
        None => hold_time / 3,
    };
    Ok(Negotiated {
        context,
        router_id: open.router_id,
        hold_time,
        keepalive,
        route_refresh: has(&Capability::RouteRefresh),
        graceful_restart: settings.graceful_restart.and_then(|_| peer_restart(open, families)),
        // RFC 9494, section 4.1: without graceful restart the capability is ignored.
        long_lived: settings
            .long_lived
            .filter(|_| settings.graceful_restart.is_some() && peer_restart(open, families).is_some())
            .and_then(|_| peer_long_lived(open, families)),
        peer_role: peer_role(open),
        capabilities: open.capabilities.clone(),
        opens: Opens::default(),
    })
}

/// The role that an OPEN has.
pub(super) fn peer_role(open: &Open) -> Option<u8> {
    open.capabilities.iter().find_map(|capability| match capability {
        Capability::Role(role) => Some(*role),
        _ => None,
    })
}

/// RFC 9234, section 4.2: the roles must be a pair; in strict mode the peer must say its.
fn check_role(settings: &Settings, open: &Open) -> Result<(), DecodeError> {
    let Some(ours) = settings.external_role() else { return Ok(()) };
    let reason = match peer_role(open) {
        None if !ours.strict => return Ok(()),
        Some(theirs) if theirs == ours.role.counterpart() as u8 => return Ok(()),
        None => "strict mode, and the peer says none".to_owned(),
        Some(theirs) => format!("{theirs} does not fit ours, {}", ours.role),
    };
    Err(DecodeError::new(10, "BGP Role", reason, Notification::new(error::OPEN, open_error::ROLE)))
}

fn peer_long_lived(open: &Open, families: FamilySet) -> Option<PeerLongLived> {
    let list = open.capabilities.iter().rev().find_map(|capability| match capability {
        Capability::LongLivedGracefulRestart(list) => Some(list),
        _ => None,
    })?;
    let mut found = PeerLongLived::default();
    for (code, forwarding, secs) in list {
        let Some(family) = code.known().filter(|family| families.contains(*family)) else { continue };
        if *secs > 0 {
            found.stale_times.insert(family, Duration::from_secs(u64::from(*secs)));
        }
        if *forwarding {
            found.forwarding.insert(family);
        }
    }
    Some(found)
}

/// The families of the peer; IPv4 unicast when it does not say (RFC 4760, section 8).
fn peer_families(open: &Open) -> FamilySet {
    let mut codes = open.capabilities.iter().filter_map(|capability| match capability {
        Capability::Multiprotocol(family) => Some(*family),
        _ => None,
    });
    let Some(first) = codes.next() else { return FamilySet::from_iter([Family::Ipv4Unicast]) };
    std::iter::once(first).chain(codes).filter_map(FamilyCode::known).collect()
}

fn peer_restart(open: &Open, families: FamilySet) -> Option<PeerRestart> {
    // Of several, the last counts (RFC 4724, section 3).
    let capability = open.capabilities.iter().rev().find_map(|capability| match capability {
        Capability::GracefulRestart(value) => Some(value),
        _ => None,
    })?;
    let listed = |forwarding: bool| -> FamilySet {
        let wanted = capability.families.iter().filter(|(_, preserved)| *preserved || !forwarding);
        wanted.filter_map(|(family, _)| family.known()).collect()
    };
    Some(PeerRestart {
        restarting: capability.restarting,
        notification: capability.notification,
        restart_time: Duration::from_secs(u64::from(capability.restart_time_secs)),
        families: listed(false).intersection(families),
        forwarding: listed(true).intersection(families),
    })
}

impl Negotiated {
    /// Whether both ends do graceful restart for at least one family.
    pub fn does_graceful_restart(&self) -> bool {
        self.graceful_restart.as_ref().is_some_and(|restart| !restart.families.is_empty())
    }

    /// Families in which the peer says to have forwarded on over its last restart: their routes may be kept on
    /// (RFC 4724, section 4.2; RFC 9494, section 4.2).
    pub fn kept_forwarding(&self) -> FamilySet {
        let short = self.graceful_restart.as_ref().map(|restart| restart.forwarding).unwrap_or_default();
        let long = self.long_lived.as_ref().map(|long_lived| long_lived.forwarding).unwrap_or_default();
        short.iter().chain(long.iter()).collect()
    }

    /// The peer's AS.
    pub fn peer_as(&self) -> Asn {
        self.context.peer_as.expect("set by negotiation")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{GracefulRestart, Timers};

    const BOTH: [Family; 2] = Family::ALL;

    fn settings(add_path: AddPath) -> Settings {
        Settings {
            local_as: Asn(64512),
            router_id: RouterId([10, 0, 0, 1].into()),
            remote_as: Asn(64512),
            alias: None,
            passive: true,
            families: FamilySet::ALL,
            timers: Timers::default(),
            graceful_restart: Some(GracefulRestart::default()),
            add_path,
            long_lived: None,
            role: None,
            over_ipv6: false,
        }
    }

    /// What we agree on with a peer that says this about add-path.
    fn agreed(ours: AddPath, theirs: &[Vec<(Family, AddPathMode)>]) -> (FamilySet, FamilySet) {
        let families = BOTH.map(|family| Capability::Multiprotocol(family.into()));
        let add_paths = theirs.iter().map(|entries| {
            Capability::AddPath(entries.iter().map(|(family, mode)| ((*family).into(), *mode)).collect())
        });
        let open = Open {
            capabilities: families.into_iter().chain(add_paths).collect(),
            ..our_open(&settings(AddPath::default()), false, false)
        };
        let context = negotiate(&settings(ours), &open).expect("families in common").context;
        (context.add_path, context.add_path_send)
    }

    #[test]
    fn path_identifiers_are_used_where_one_end_offers_what_the_other_takes() {
        use AddPathMode as Mode;
        let [v4, v6] = BOTH;
        let of = |families: &[Family]| families.iter().collect::<FamilySet>();
        let all = AddPath { receive: true, send: SendPaths::All };
        let none = (FamilySet::EMPTY, FamilySet::EMPTY);
        assert_eq!(agreed(all, &[]), none);
        assert_eq!(agreed(AddPath::default(), &[vec![(v4, Mode::Both)]]), none);
        assert_eq!(agreed(all, &[vec![(v4, Mode::Both)]]), (of(&[v4]), of(&[v4])));
        assert_eq!(agreed(all, &[vec![(v4, Mode::Send), (v6, Mode::Receive)]]), (of(&[v4]), of(&[v6])));
        assert_eq!(agreed(all, &[vec![(v4, Mode::Ignored(7)), (v6, Mode::Both)]]), (of(&[v6]), of(&[v6])));
        let receive = AddPath { receive: true, send: SendPaths::None };
        assert_eq!(agreed(receive, &[vec![(v4, Mode::Both)]]), (of(&[v4]), FamilySet::EMPTY));
        let first_entry = vec![(v4, Mode::Send), (v4, Mode::Receive)];
        assert_eq!(agreed(all, std::slice::from_ref(&first_entry)), (of(&[v4]), FamilySet::EMPTY));
        assert_eq!(agreed(all, &[first_entry, vec![(v6, Mode::Send)]]), (of(&[v6]), FamilySet::EMPTY));
    }

    #[test]
    fn add_path_is_offered_for_every_family_as_configured() {
        let offered = |add_path| {
            let open = our_open(&settings(add_path), false, false);
            open.capabilities.into_iter().find_map(|capability| match capability {
                Capability::AddPath(entries) => Some(entries),
                _ => None,
            })
        };
        assert_eq!(offered(AddPath::default()), None);
        let best = AddPath { receive: true, send: SendPaths::Best(2) };
        let both = BOTH.map(|family| (family.into(), AddPathMode::Both));
        assert_eq!(offered(best), Some(both.to_vec()));
        let send = AddPath { receive: false, send: SendPaths::All };
        assert_eq!(offered(send).map(|entries| entries[1].1), Some(AddPathMode::Send));
    }
}
