//! What an apply did and what is wrong.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use calc::contract::WorkloadEndpointId;
use kernel::nft::Family;

/// What one [`apply`](crate::Dataplane::apply) did.
#[derive(Debug, Default)]
pub struct ApplyReport {
    /// Nothing was done because the datastore is not in sync yet.
    pub waiting_for_sync: bool,
    /// Endpoints that were not programmed (or not like this) before and are now.
    pub programmed: Vec<WorkloadEndpointId>,
    /// Endpoints that were programmed and are not any more. One that is gone is told only when its rules, its routes and
    /// the tracked connections of its addresses are gone too.
    pub withdrawn: Vec<WorkloadEndpointId>,
    /// What is wrong now. All of it is tried again.
    pub errors: Vec<ApplyError>,
    /// How many applies in a row could not commit a ruleset; the kernel then keeps the last one that it took, and new
    /// endpoints carry no traffic. A node that sees this grow should give up loudly.
    pub ruleset_failures: u32,
    /// When to apply again though nothing changes; never when absent.
    pub next_apply: Option<Instant>,
}

/// Something that the kernel did not take, or that cannot be programmed.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The transaction of one family failed as a whole; nothing of it was done. That of ARP holds nobody up.
    #[error("{} rules: {source}", family_name(*family))]
    Ruleset {
        /// Which family.
        family: Family,
        /// Why.
        source: crate::backend::BackendError,
    },
    /// One chain or set cannot be programmed; what it was to decide is dropped, the others are in force.
    #[error("{} rules: {what}", family_name(*family))]
    Refused {
        /// Which family.
        family: Family,
        /// Which object, and why.
        what: String,
    },
    /// What another backend has left could not be taken away. It judges packets too.
    #[error("{} rules: {what}", family_name(*family))]
    Leftovers {
        /// Which family.
        family: Family,
        /// What, and why.
        what: String,
    },
    /// The routes could not be read, or it is not known what was written.
    #[error("routes: {0}")]
    Routes(#[from] kernel::netlink::Error),
    /// One route was refused.
    #[error(transparent)]
    Route(kernel::route::Failure),
    /// A route of someone else is in the place of one of ours.
    #[error(transparent)]
    Conflict(kernel::route::Conflict),
    /// Settings of the host or of an interface could not be made.
    #[error("settings of the {what}: {why}")]
    Settings {
        /// `host`, or which interface.
        what: String,
        /// All that went wrong.
        why: String,
    },
    /// It is not known which addresses have connections of an earlier owner.
    #[error("tracked connections: {0}")]
    Connections(kernel::netlink::Error),
    /// The connections of an address whose owner has lost it could not be deleted; nobody gets the address before.
    #[error("tracked connections of {address}: {why}")]
    StaleConnections {
        /// Which address.
        address: IpAddr,
        /// The kernel's reason.
        why: String,
    },
    /// Two endpoints claim one address.
    #[error("endpoint {endpoint}: {address} is routed to interface {owner} already: delete one of them")]
    AddressTaken {
        /// The endpoint that does not have it.
        endpoint: WorkloadEndpointId,
        /// The address.
        address: IpAddr,
        /// The interface that has it.
        owner: Arc<str>,
    },
    /// The links could not be listed.
    #[error("links: {0}")]
    Links(kernel::netlink::Error),
    /// No interface can have that name.
    #[error(
        "endpoint {endpoint}: {interface:?} cannot be the name of an interface: correct spec.interfaceName"
    )]
    InterfaceName {
        /// The endpoint.
        endpoint: WorkloadEndpointId,
        /// Its interface.
        interface: Arc<str>,
    },
    /// Two endpoints claim one interface.
    #[error("endpoint {endpoint}: interface {interface} belongs to {owner} already: delete one of them")]
    InterfaceTaken {
        /// The endpoint that is not programmed.
        endpoint: WorkloadEndpointId,
        /// The interface.
        interface: Arc<str>,
        /// The endpoint that has it.
        owner: WorkloadEndpointId,
    },
}

fn family_name(family: Family) -> &'static str {
    match family {
        Family::Ip => "IPv4",
        Family::Ip6 => "IPv6",
        Family::Inet => "IP",
        Family::Arp => "ARP",
    }
}
