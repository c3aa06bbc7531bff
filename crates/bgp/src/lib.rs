//! A BGP speaker as a pure state machine: no clock, no socket, no randomness, no threads.
//!
//! [`Speaker`] takes [`Input`]s and the time, and gives [`Output`]s; a shell (in `node`, or a test with a virtual
//! clock) carries bytes and time to it. The parts, from the wire inwards:
//!
//! - [`packet`]: messages to values and back, total decoders, RFC 7606.
//! - [`session`]: the finite state machine of one peer, its two connection slots and timers.
//! - [`rib`]: routes received, the best of them, and who is told of what.
//! - [`policy`]: import and export rules as data.
//! - [`config`]: what a speaker is told to be.
//! - [`observe`]: what observers are told: BMP and MRT.
//! - [`bfd`]: whether the paths to peers carry packets, beside the speaker.
//! - [`handover`]: a speaker's state as a value, for the process that takes its place.
//!
//! # Supported standards
//!
//! - RFC 4271: BGP-4. Equally good routes are used together; next hops are resolved by the shell, where it is asked to;
//!   aggregates are told while there is a route in them, without AS_SETs (RFC 9774).
//! - RFC 1997: communities (well-known ones honoured: NO_EXPORT, NO_ADVERTISE, NO_EXPORT_SUBCONFED).
//! - RFC 2545: IPv6 next hops.
//! - RFC 2385: TCP MD5 signatures (by the shell).
//! - RFC 2918: route refresh.
//! - RFC 4360 and RFC 5701: extended communities (carried, not acted on).
//! - RFC 4456: route reflection.
//! - RFC 4486: cease subcodes; prefix limits.
//! - RFC 4724: graceful restart, both roles.
//! - RFC 4760: multiprotocol extensions, IPv4 and IPv6 unicast.
//! - RFC 5082: TTL security (by the shell; first segments are checked here).
//! - RFC 5492: capabilities.
//! - RFC 5880, RFC 5881, RFC 5883: BFD, asynchronous, single and multihop (no authentication, demand mode or echo).
//! - RFC 5925 and RFC 5926: TCP-AO (by the shell, where the kernel has it).
//! - RFC 6286: AS-wide unique identifiers.
//! - RFC 6396: MRT: tables, and messages and changes of state as a station hears them.
//! - RFC 6608: subcodes for finite state machine errors.
//! - RFC 6793: four-octet AS numbers.
//! - RFC 7313: enhanced route refresh.
//! - RFC 7606: revised error handling.
//! - RFC 7607: AS 0.
//! - RFC 7705: another local AS towards a peer; two numbers of our AS towards internal ones.
//! - RFC 7854: BMP: stations are told Adj-RIB-In before and behind the import policy (not: route mirroring).
//! - RFC 7911: add-path, both directions; all routes, the best ones, or one for each next hop are sent.
//! - RFC 8050: path identifiers in MRT.
//! - RFC 8092: large communities.
//! - RFC 8212: nothing without policy, on request.
//! - RFC 8538: notifications with graceful restart.
//! - RFC 8654: extended messages.
//! - RFC 8950: IPv4 routes with IPv6 next hops, on sessions over IPv6 or of both families.
//! - RFC 9003: shutdown message.
//! - RFC 9069: BMP for the Loc-RIB.
//! - RFC 9072: extended optional parameters.
//! - RFC 9234: roles and Only to Customer.
//! - RFC 9494: long-lived graceful restart.
//! - RFC 9384: cease subcode for BFD.
//! - RFC 9687: send hold timer.

pub mod bfd;
pub mod config;
pub mod handover;
pub mod iana;
mod interfaces;
pub mod observe;
pub mod packet;
pub mod policy;
pub mod rib;
pub mod session;
mod speaker;
mod types;

pub use config::{PeerConfig, SpeakerConfig};
pub use interfaces::Interfaces;
pub use rib::Resolution;
pub use speaker::{
    Arrival, BestRoute, EstablishedStatus, Input, MessageCounts, Output, PathStatus, PeerDifference,
    PeerStatus, SessionStatus, Shutdown, Speaker, Start, StationEvent, StationStatus, Transport,
    TransportFailure, WatchedPath, difference, query, reset_causes,
};
pub use types::{Asn, ConnectionId, Endpoints, Family, FamilySet, PeerId, RouterId};
