//! How the values of the rest of the crate are written.

use super::wire::{Octets, Reader, Wire, choices, fields, newtype, put_octets};
use super::{
    HandedAttributes, HandedListening, HandedMember, HandedPeer, HandedRoute, HandedSession, Handover,
    HandoverError, Terms, Told, ToldExport, ToldRoute,
};
use crate::bfd::Path;
use crate::bfd::packet::Diagnostic;
use crate::config::{
    AddPath, AoAlgorithm, AoKey, Authentication, GracefulRestart, LocalAs, LongLived, Role, RoleConfig,
    Secret, SendPaths, Timers,
};
use crate::packet::capability::Capability;
use crate::packet::{Context, PeerKind};
use crate::rib::Resolution;
use crate::session::{Direction, Negotiated, Opens, PeerLongLived, PeerRestart};
use crate::speaker::MessageCounts;
use crate::types::{Asn, ConnectionId, Endpoints, Family, FamilySet, PeerId, RouterId};

newtype!(Asn);
newtype!(RouterId);
newtype!(PeerId);
newtype!(ConnectionId);
newtype!(Diagnostic);

choices!(Family { Ipv4Unicast = 4, Ipv6Unicast = 6 });
choices!(PeerKind { Internal = 0, External = 1 });
choices!(Direction { Outgoing = 0, Incoming = 1 });
choices!(AoAlgorithm { HmacSha1 = 0, Aes128Cmac = 1 });

fields!(Endpoints { local, remote });
fields!(Timers { hold, keepalive, connect_retry, idle_hold_max });
fields!(GracefulRestart { restart_time, stale_time });
fields!(LongLived { stale_time });
fields!(AddPath { receive, send });
fields!(RoleConfig { role, strict });
fields!(LocalAs { asn, no_prepend, replace_as });
fields!(AoKey { send_id, receive_id, algorithm, key });
fields!(Context {
    as4,
    families,
    add_path,
    add_path_send,
    extended_next_hop,
    extended_message,
    enhanced_refresh,
    peer,
    peer_as,
});
fields!(PeerRestart { restarting, notification, restart_time, families, forwarding });
fields!(Negotiated {
    context,
    router_id,
    hold_time,
    keepalive,
    route_refresh,
    graceful_restart,
    long_lived,
    peer_role,
    capabilities,
    opens,
});
fields!(Opens { sent, received });
fields!(MessageCounts { received, sent, updates_received, updates_sent, malformed_updates });
fields!(Resolution { cost, gateways });

fields!(Handover {
    local_as,
    router_id,
    restarting,
    complete,
    deferred,
    deferral,
    peers,
    next_hops,
    originated,
    attributes,
    routes,
    told,
    listening,
});
fields!(HandedListening { keys, is_secured });
fields!(HandedPeer {
    id,
    range,
    terms,
    import,
    path,
    counts,
    established_count,
    agreed,
    session,
    end_of_rib,
    warned,
    stale_left,
    long_lived_left,
    members,
});
fields!(Terms {
    address,
    interface,
    port,
    source,
    remote_as,
    families,
    timers,
    graceful_restart,
    add_path,
    authentication,
    ttl_security,
    ttl,
    role,
    local_as,
    alias_as,
    long_lived,
});
fields!(HandedSession {
    connection,
    direction,
    endpoints,
    age,
    hold_left,
    keepalive_left,
    send_hold_left,
    messages_received,
    input,
    unsent,
});
fields!(HandedMember { family, end_of_rib_due, refreshing, marked });
fields!(HandedAttributes { next_hop, link_local, preference, octets });
fields!(HandedRoute { peer, prefix, path_id, ours, attributes, ineligible, stale });
fields!(Told { family, members, exports, routes });
fields!(ToldExport { before, after, next_hop, link_local });
fields!(ToldRoute { prefix, path_id, export, source, only });

impl Wire for FamilySet {
    fn put(&self, out: &mut Vec<u8>) {
        self.iter().collect::<Vec<Family>>().put(out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, HandoverError> {
        Ok(Vec::<Family>::take(from)?.into_iter().collect())
    }
}

impl Wire for SendPaths {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::None => out.extend([0, 0]),
            Self::All => out.extend([1, 0]),
            Self::Best(count) => out.extend([2, *count]),
            Self::EachNextHop => out.extend([3, 0]),
        }
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, HandoverError> {
        match (u8::take(from)?, u8::take(from)?) {
            (0, _) => Ok(Self::None),
            (1, _) => Ok(Self::All),
            (2, count) => Ok(Self::Best(count)),
            (3, _) => Ok(Self::EachNextHop),
            _ => Err(HandoverError::Invalid("add-path")),
        }
    }
}

impl Wire for Role {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, HandoverError> {
        Self::from_code(u8::take(from)?).ok_or(HandoverError::Invalid("role"))
    }
}

impl Wire for Secret {
    fn put(&self, out: &mut Vec<u8>) {
        put_octets(self.expose(), out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, HandoverError> {
        Self::new(Octets::take(from)?.0).map_err(|_| HandoverError::Invalid("password"))
    }
}

impl Wire for Authentication {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Md5(password) => {
                out.push(0);
                password.put(out);
            }
            Self::Ao(keys) => {
                out.push(1);
                keys.put(out);
            }
        }
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, HandoverError> {
        match u8::take(from)? {
            0 => Secret::take(from).map(Self::Md5),
            1 => Vec::take(from).map(Self::Ao),
            _ => Err(HandoverError::Invalid("authentication")),
        }
    }
}

impl Wire for Capability {
    fn put(&self, out: &mut Vec<u8>) {
        self.code().put(out);
        put_octets(&self.value(), out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, HandoverError> {
        let code = u8::take(from)?;
        Ok(Self::decode(code, &Octets::take(from)?.0))
    }
}

impl Wire for PeerLongLived {
    fn put(&self, out: &mut Vec<u8>) {
        let Self { stale_times, forwarding } = self;
        stale_times.iter().map(|(family, time)| (*family, *time)).collect::<Vec<_>>().put(out);
        forwarding.put(out);
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, HandoverError> {
        let stale_times = Vec::take(from)?.into_iter().collect();
        Ok(Self { stale_times, forwarding: Wire::take(from)? })
    }
}

impl Wire for Path {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Up => out.push(0),
            Self::Down { diagnostic, independent } => {
                out.push(1);
                diagnostic.put(out);
                independent.put(out);
            }
            Self::AdminDown => out.push(2),
        }
    }

    fn take(from: &mut Reader<'_>) -> Result<Self, HandoverError> {
        match u8::take(from)? {
            0 => Ok(Self::Up),
            1 => Ok(Self::Down { diagnostic: Wire::take(from)?, independent: Wire::take(from)? }),
            2 => Ok(Self::AdminDown),
            _ => Err(HandoverError::Invalid("path")),
        }
    }
}
