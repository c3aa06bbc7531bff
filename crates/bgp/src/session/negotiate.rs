//! What two OPENs agree on.

use std::time::Duration;

use super::Settings;
use crate::iana::{error, open_error};
use crate::packet::capability::{Capability, FamilyCode, GracefulRestartCapability};
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
    if settings.families == FamilySet::ALL {
        capabilities.push(Capability::ExtendedNextHop(vec![(Family::Ipv4Unicast.into(), 2)]));
    }
    capabilities.push(Capability::ExtendedMessage);
    if let Some(restart) = settings.graceful_restart {
        let secs = restart.restart_time.as_secs().min(4095);
        capabilities.push(Capability::GracefulRestart(GracefulRestartCapability {
            restarting,
            notification: true,
            restart_time_secs: u16::try_from(secs).expect("at most 4095"),
            families: settings.families.iter().map(|family| (family.into(), forwarding)).collect(),
        }));
    }
    capabilities.push(Capability::FourOctetAs(settings.local_as));
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
    let has = |wanted: &Capability| open.capabilities.contains(wanted);
    let as4 = open.capabilities.iter().any(|capability| matches!(capability, Capability::FourOctetAs(_)));
    let v4_over_v6 = open.capabilities.iter().any(|capability| {
        matches!(capability, Capability::ExtendedNextHop(list) if list.contains(&(Family::Ipv4Unicast.into(), 2)))
    });
    let enhanced_refresh = has(&Capability::EnhancedRouteRefresh);
    let context = Context {
        as4,
        families,
        extended_next_hop: v4_over_v6 && settings.families == FamilySet::ALL,
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
    })
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

    /// The peer's AS.
    pub fn peer_as(&self) -> Asn {
        self.context.peer_as.expect("set by negotiation")
    }
}
