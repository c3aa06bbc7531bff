//! What an operator can do about a session that is not up.

use std::time::Duration;

use super::Reason;
use crate::config::{ConnectMode, PeerConfig};
use crate::iana::{cease, error, open_error};
use crate::packet::notification::Notification;
use crate::speaker::TransportFailure;

impl Reason {
    /// What to look at, in words; `None` where there is nothing to be done but wait.
    pub fn remedy(&self, peer: &PeerConfig) -> Option<String> {
        let text = match self {
            Self::ConnectFailed(failure) => return Some(connect_remedy(failure, peer)),
            Self::ConnectionLost(failure) => return lost_remedy(failure),
            Self::WrongAs { offered, .. } => {
                format!("set asNumber {offered} in the BGPPeer or Node of the peer, or mend the peer")
            }
            Self::RoleMismatch { ours, .. } => {
                format!("give the peer the role {}, or ours another one", ours.counterpart())
            }
            Self::Malformed(_) => {
                "the peer sent what BGP does not allow: note its software and version, and report it".to_owned()
            }
            Self::Received(notification) => return received_remedy(notification),
            Self::HoldTimerExpired(hold) => silence_remedy(*hold),
            Self::NoOpen(_) => {
                "something listens there that does not speak BGP, or does not expect us: see the peer's own log".to_owned()
            }
            Self::SendHoldTimerExpired(_) => "the peer is overloaded or hangs: see its processor time and log".to_owned(),
            Self::PrefixLimit { .. } => {
                "find out why the peer tells so much (a missing filter?), or raise the limit".to_owned()
            }
            Self::PathDown(_) => {
                "packets are lost on the way, or the peer's BFD has stopped: compare the settings of BFD at both ends".to_owned()
            }
            Self::WaitsForPath => "is BFD configured at the peer, for this address and the same number of hops (one or several)? \
                                   Or leave out `strict`"
                .to_owned(),
            Self::TooFarAway { least, .. } => format!(
                "the peer must send with TTL 255 and be at most {} hops away: set its TTL security, or ours to the true \
                 number of hops",
                256 - u16::from(*least)
            ),
            Self::Unsigned => "compare the password at both ends".to_owned(),
            // What we sent says what was wrong.
            Self::Sent(_) | Self::PeerRestarted | Self::Reconfigured | Self::Stopped => return None,
        };
        Some(text)
    }
}

fn connect_remedy(failure: &TransportFailure, peer: &PeerConfig) -> String {
    let (address, port) = (peer.address, peer.port);
    match failure {
        TransportFailure::Refused => format!(
            "nothing listens on {address} port {port}: is the peer's BGP running, on this port and this address?"
        ),
        TransportFailure::TimedOut => format!(
            "{address} does not answer on port {port}: is it up (ping {address}), does a firewall drop TCP {port}, does the \
             peer ask for a password?"
        ),
        TransportFailure::Unreachable => format!("no route leads to {address}: see `ip route get {address}`"),
        TransportFailure::Unsigned => "compare the password at both ends".to_owned(),
        TransportFailure::TooFarAway => format!(
            "is the peer's BGP running ({address} port {port}; a refusal comes without TTL security)? If so, compare ttlSecurity at \
             both ends with the true number of hops"
        ),
        TransportFailure::ClosedByPeer | TransportFailure::Reset => {
            format!(
                "the peer closes our connections unread: is this node's address configured there as a neighbour{}?",
                source(peer)
            )
        }
        TransportFailure::Unsupported(_) => {
            "configure the peer without it, or use a kernel that has it".to_owned()
        }
        TransportFailure::Other(_) => {
            "see the node's log, and `ip route get` for the peer's address".to_owned()
        }
    }
}

fn source(peer: &PeerConfig) -> String {
    peer.source.map(|address| format!(" ({address})")).unwrap_or_default()
}

fn lost_remedy(failure: &TransportFailure) -> Option<String> {
    match failure {
        TransportFailure::ClosedByPeer | TransportFailure::Reset => Some(
            "the peer's process or host went away, or does not know us: see its log; routes are kept if it restarts \
             gracefully"
                .to_owned(),
        ),
        TransportFailure::TimedOut | TransportFailure::Unreachable => {
            Some("the way to the peer is broken: see links and routes between the two".to_owned())
        }
        TransportFailure::Unsigned => Some("the password was changed at one end: compare".to_owned()),
        TransportFailure::TooFarAway => Some("the way to the peer has become longer than ttlSecurity allows".to_owned()),
        TransportFailure::Refused | TransportFailure::Unsupported(_) | TransportFailure::Other(_) => None,
    }
}

fn silence_remedy(hold: Duration) -> String {
    format!(
        "nothing came from the peer for {} s though the connection stayed: a broken path, an MTU that only small packets \
         fit through, or a peer that hangs",
        hold.as_secs()
    )
}

/// The peer found fault with us.
fn received_remedy(notification: &Notification) -> Option<String> {
    let text = match (notification.code, notification.subcode) {
        (error::OPEN, open_error::PEER_AS) => {
            "the peer expects another AS of us: compare our asNumber with what the peer has configured for us"
        }
        (error::OPEN, open_error::IDENTIFIER) => {
            "the peer has our BGP identifier, or does not like it: set CALICO_ROUTER_ID on one of the two"
        }
        (error::OPEN, open_error::CAPABILITY) => {
            "the two ends have no address family in common: compare families"
        }
        (error::OPEN, open_error::ROLE) => "compare the roles of the two ends (RFC 9234)",
        (error::HOLD_TIMER, _) => {
            "the peer did not hear from us in time: a broken path, an MTU that only small packets fit through, or a host \
             that is overloaded"
        }
        (error::CEASE, cease::SHUTDOWN) => "the peer's operator has shut it down: wait, or ask",
        (error::CEASE, cease::PREFIX_LIMIT) => {
            "we tell the peer more prefixes than it takes: filter, or raise its limit"
        }
        (error::CEASE, cease::DECONFIGURED | cease::REJECTED) => {
            "the peer has no neighbour of our address (any more): is this node configured there?"
        }
        (error::CEASE, cease::RESOURCES) => "the peer is out of resources: see its memory and log",
        (error::HEADER | error::OPEN | error::UPDATE | error::FSM | error::ROUTE_REFRESH, _) => {
            "the peer cannot take what we sent: note its software and version, and report it"
        }
        _ => return None,
    };
    Some(text.to_owned())
}

/// Whether we wait for the peer to dial.
pub(crate) fn waiting(peer: &PeerConfig) -> Option<String> {
    (peer.connect == ConnectMode::Passive).then(|| {
        format!(
            "we wait for {} to dial: is its BGP running, and is this node's address configured there{}?",
            peer.address,
            source(peer)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Asn;

    fn peer() -> PeerConfig {
        PeerConfig::new([10, 0, 0, 2].into(), Asn(64512))
    }

    #[test]
    fn a_remedy_names_what_is_to_be_looked_at() {
        let refused = Reason::ConnectFailed(TransportFailure::Refused).remedy(&peer()).unwrap();
        assert!(refused.contains("10.0.0.2 port 179"), "{refused}");
        let wrong = Reason::WrongAs { configured: Asn(1), offered: Asn(65_001) }.remedy(&peer()).unwrap();
        assert!(wrong.contains("65001"), "{wrong}");
        let far = Reason::TooFarAway { hop_limit: 64, least: 254 }.remedy(&peer()).unwrap();
        assert!(far.contains("at most 2 hops"), "{far}");
        assert_eq!(Reason::Stopped.remedy(&peer()), None);
    }

    #[test]
    fn every_error_that_a_peer_may_report_says_what_to_do() {
        for code in [error::HEADER, error::OPEN, error::UPDATE, error::HOLD_TIMER, error::FSM] {
            assert!(Reason::Received(Notification::new(code, 1)).remedy(&peer()).is_some(), "{code}");
        }
        let shutdown = Reason::Received(Notification::shutdown("noon")).remedy(&peer()).unwrap();
        assert!(shutdown.contains("operator"), "{shutdown}");
    }

    #[test]
    fn a_passive_peer_is_waited_for() {
        assert_eq!(waiting(&peer()), None);
        let passive = PeerConfig { connect: ConnectMode::Passive, ..peer() };
        assert!(waiting(&passive).unwrap().contains("10.0.0.2 to dial"));
    }
}
