//! Numbers assigned by IANA, with the registries' names.

/// BGP message types.
pub mod message {
    /// OPEN.
    pub const OPEN: u8 = 1;
    /// UPDATE.
    pub const UPDATE: u8 = 2;
    /// NOTIFICATION.
    pub const NOTIFICATION: u8 = 3;
    /// KEEPALIVE.
    pub const KEEPALIVE: u8 = 4;
    /// ROUTE-REFRESH.
    pub const ROUTE_REFRESH: u8 = 5;
}

/// BGP path attributes.
pub mod attribute {
    /// ORIGIN.
    pub const ORIGIN: u8 = 1;
    /// AS_PATH.
    pub const AS_PATH: u8 = 2;
    /// NEXT_HOP.
    pub const NEXT_HOP: u8 = 3;
    /// MULTI_EXIT_DISC.
    pub const MULTI_EXIT_DISC: u8 = 4;
    /// LOCAL_PREF.
    pub const LOCAL_PREF: u8 = 5;
    /// ATOMIC_AGGREGATE.
    pub const ATOMIC_AGGREGATE: u8 = 6;
    /// AGGREGATOR.
    pub const AGGREGATOR: u8 = 7;
    /// COMMUNITIES.
    pub const COMMUNITIES: u8 = 8;
    /// ORIGINATOR_ID.
    pub const ORIGINATOR_ID: u8 = 9;
    /// CLUSTER_LIST.
    pub const CLUSTER_LIST: u8 = 10;
    /// MP_REACH_NLRI.
    pub const MP_REACH_NLRI: u8 = 14;
    /// MP_UNREACH_NLRI.
    pub const MP_UNREACH_NLRI: u8 = 15;
    /// EXTENDED COMMUNITIES.
    pub const EXTENDED_COMMUNITIES: u8 = 16;
    /// AS4_PATH.
    pub const AS4_PATH: u8 = 17;
    /// AS4_AGGREGATOR.
    pub const AS4_AGGREGATOR: u8 = 18;
    /// IPv6 Address Specific Extended Community.
    pub const IPV6_EXTENDED_COMMUNITIES: u8 = 25;
    /// AIGP.
    pub const AIGP: u8 = 26;
    /// LARGE_COMMUNITY.
    pub const LARGE_COMMUNITIES: u8 = 32;
    /// Only to Customer (OTC).
    pub const OTC: u8 = 35;
}

/// Bits of the path attribute flags octet (RFC 4271, section 4.3).
pub mod flag {
    /// Optional, not well-known.
    pub const OPTIONAL: u8 = 0x80;
    /// Transitive.
    pub const TRANSITIVE: u8 = 0x40;
    /// Somebody on the way did not know it.
    pub const PARTIAL: u8 = 0x20;
    /// The length has two octets.
    pub const EXTENDED_LENGTH: u8 = 0x10;
}

/// Capability codes.
pub mod capability {
    /// Multiprotocol Extensions (RFC 4760).
    pub const MULTIPROTOCOL: u8 = 1;
    /// Route Refresh (RFC 2918).
    pub const ROUTE_REFRESH: u8 = 2;
    /// Extended Next Hop Encoding (RFC 8950).
    pub const EXTENDED_NEXT_HOP: u8 = 5;
    /// BGP Extended Message (RFC 8654).
    pub const EXTENDED_MESSAGE: u8 = 6;
    /// BGP Role (RFC 9234).
    pub const ROLE: u8 = 9;
    /// Graceful Restart (RFC 4724).
    pub const GRACEFUL_RESTART: u8 = 64;
    /// Four-octet AS number (RFC 6793).
    pub const FOUR_OCTET_AS: u8 = 65;
    /// ADD-PATH (RFC 7911).
    pub const ADD_PATH: u8 = 69;
    /// Enhanced Route Refresh (RFC 7313).
    pub const ENHANCED_ROUTE_REFRESH: u8 = 70;
    /// Long-Lived Graceful Restart (RFC 9494).
    pub const LONG_LIVED_GRACEFUL_RESTART: u8 = 71;
    /// FQDN.
    pub const HOSTNAME: u8 = 73;
    /// Software Version.
    pub const SOFTWARE_VERSION: u8 = 75;
}

/// OPEN optional parameter types.
pub mod parameter {
    /// Capabilities (RFC 5492).
    pub const CAPABILITIES: u8 = 2;
    /// Extended Length (RFC 9072).
    pub const EXTENDED_LENGTH: u8 = 255;
}

/// BGP error codes.
pub mod error {
    /// Message Header Error.
    pub const HEADER: u8 = 1;
    /// OPEN Message Error.
    pub const OPEN: u8 = 2;
    /// UPDATE Message Error.
    pub const UPDATE: u8 = 3;
    /// Hold Timer Expired.
    pub const HOLD_TIMER: u8 = 4;
    /// Finite State Machine Error.
    pub const FSM: u8 = 5;
    /// Cease.
    pub const CEASE: u8 = 6;
    /// ROUTE-REFRESH Message Error.
    pub const ROUTE_REFRESH: u8 = 7;
    /// Send Hold Timer Expired (RFC 9687).
    pub const SEND_HOLD_TIMER: u8 = 8;
}

/// Subcodes of Message Header Error.
pub mod header_error {
    /// Connection Not Synchronized.
    pub const NOT_SYNCHRONIZED: u8 = 1;
    /// Bad Message Length.
    pub const BAD_LENGTH: u8 = 2;
    /// Bad Message Type.
    pub const BAD_TYPE: u8 = 3;
}

/// Subcodes of OPEN Message Error.
pub mod open_error {
    /// Unspecific.
    pub const UNSPECIFIC: u8 = 0;
    /// Unsupported Version Number.
    pub const VERSION: u8 = 1;
    /// Bad Peer AS.
    pub const PEER_AS: u8 = 2;
    /// Bad BGP Identifier.
    pub const IDENTIFIER: u8 = 3;
    /// Unsupported Optional Parameter.
    pub const OPTIONAL_PARAMETER: u8 = 4;
    /// Unacceptable Hold Time.
    pub const HOLD_TIME: u8 = 6;
    /// Unsupported Capability.
    pub const CAPABILITY: u8 = 7;
    /// Role Mismatch.
    pub const ROLE: u8 = 11;
}

/// Subcodes of UPDATE Message Error.
pub mod update_error {
    /// Malformed Attribute List.
    pub const ATTRIBUTE_LIST: u8 = 1;
    /// Unrecognized Well-known Attribute.
    pub const UNRECOGNIZED: u8 = 2;
    /// Missing Well-known Attribute.
    pub const MISSING: u8 = 3;
    /// Attribute Flags Error.
    pub const FLAGS: u8 = 4;
    /// Attribute Length Error.
    pub const LENGTH: u8 = 5;
    /// Invalid ORIGIN Attribute.
    pub const ORIGIN: u8 = 6;
    /// Invalid NEXT_HOP Attribute.
    pub const NEXT_HOP: u8 = 8;
    /// Optional Attribute Error.
    pub const OPTIONAL: u8 = 9;
    /// Invalid Network Field.
    pub const NETWORK: u8 = 10;
    /// Malformed AS_PATH.
    pub const AS_PATH: u8 = 11;
}

/// Subcodes of Finite State Machine Error (RFC 6608).
pub mod fsm_error {
    /// Receive Unexpected Message in OpenSent State.
    pub const OPEN_SENT: u8 = 1;
    /// Receive Unexpected Message in OpenConfirm State.
    pub const OPEN_CONFIRM: u8 = 2;
    /// Receive Unexpected Message in Established State.
    pub const ESTABLISHED: u8 = 3;
}

/// Events of the finite state machine (RFC 4271, section 8.1), as BMP says them (RFC 7854, section 4.9).
pub mod fsm_event {
    /// ManualStop.
    pub const MANUAL_STOP: u16 = 2;
    /// OpenCollisionDump.
    pub const OPEN_COLLISION_DUMP: u16 = 23;
}

/// Subcodes of Cease (RFC 4486, RFC 8538).
pub mod cease {
    /// Maximum Number of Prefixes Reached.
    pub const PREFIX_LIMIT: u8 = 1;
    /// Administrative Shutdown.
    pub const SHUTDOWN: u8 = 2;
    /// Peer De-configured.
    pub const DECONFIGURED: u8 = 3;
    /// Administrative Reset.
    pub const RESET: u8 = 4;
    /// Connection Rejected.
    pub const REJECTED: u8 = 5;
    /// Other Configuration Change.
    pub const CONFIGURATION: u8 = 6;
    /// Connection Collision Resolution.
    pub const COLLISION: u8 = 7;
    /// Out of Resources.
    pub const RESOURCES: u8 = 8;
    /// Hard Reset.
    pub const HARD_RESET: u8 = 9;
    /// BFD Down (RFC 9384).
    pub const BFD_DOWN: u8 = 10;
}

/// Subcodes of ROUTE-REFRESH Message Error (RFC 7313).
pub mod refresh_error {
    /// Invalid Message Length.
    pub const LENGTH: u8 = 1;
}

/// Names of a NOTIFICATION's code and subcode, as the registries have them.
pub fn notification_name(code: u8, subcode: u8) -> (&'static str, &'static str) {
    match code {
        1 => (
            "message header error",
            ["", "connection not synchronized", "bad message length", "bad message type"]
                .get(usize::from(subcode))
                .copied()
                .unwrap_or(""),
        ),
        2 => (
            "OPEN message error",
            match subcode {
                1 => "unsupported version number",
                2 => "bad peer AS",
                3 => "bad BGP identifier",
                4 => "unsupported optional parameter",
                5 => "authentication failure",
                6 => "unacceptable hold time",
                7 => "unsupported capability",
                11 => "role mismatch",
                _ => "",
            },
        ),
        3 => (
            "UPDATE message error",
            match subcode {
                1 => "malformed attribute list",
                2 => "unrecognized well-known attribute",
                3 => "missing well-known attribute",
                4 => "attribute flags error",
                5 => "attribute length error",
                6 => "invalid ORIGIN attribute",
                8 => "invalid NEXT_HOP attribute",
                9 => "optional attribute error",
                10 => "invalid network field",
                11 => "malformed AS_PATH",
                _ => "",
            },
        ),
        4 => ("hold timer expired", ""),
        5 => (
            "finite state machine error",
            match subcode {
                1 => "unexpected message in OpenSent",
                2 => "unexpected message in OpenConfirm",
                3 => "unexpected message in Established",
                _ => "",
            },
        ),
        6 => (
            "cease",
            match subcode {
                1 => "maximum number of prefixes reached",
                2 => "administrative shutdown",
                3 => "peer de-configured",
                4 => "administrative reset",
                5 => "connection rejected",
                6 => "other configuration change",
                7 => "connection collision resolution",
                8 => "out of resources",
                9 => "hard reset",
                10 => "BFD down",
                _ => "",
            },
        ),
        7 => ("ROUTE-REFRESH message error", if subcode == 1 { "invalid message length" } else { "" }),
        8 => ("send hold timer expired", ""),
        9 => ("loss of LSDB synchronization", ""),
        _ => ("unknown error", ""),
    }
}
