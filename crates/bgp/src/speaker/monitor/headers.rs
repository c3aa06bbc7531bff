//! Who speaks, of whom: the per-peer header and what a session that is up says about itself.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use crate::config::SpeakerConfig;
use crate::observe::Timestamp;
use crate::observe::bmp::{DownReason, Information, Instance, Message, PeerHeader, PeerUp, View};
use crate::packet::capability::Capability;
use crate::packet::notification::Notification;
use crate::packet::open::Open;
use crate::rib::{Interner, PeerNumber};
use crate::session::Ending;
use crate::speaker::peer::Peer;
use crate::types::{Endpoints, Family};

/// The name of the only table that we have.
const TABLE: &str = "global";

/// What messages are made from.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) peers: &'a BTreeMap<PeerNumber, Peer>,
    pub(super) interner: &'a Interner,
    pub(super) config: &'a SpeakerConfig,
    pub(super) time: Timestamp,
}

impl<'a> Scene<'a> {
    pub(super) fn new(
        peers: &'a BTreeMap<PeerNumber, Peer>,
        interner: &'a Interner,
        config: &'a SpeakerConfig,
        time: Timestamp,
    ) -> Self {
        Self { peers, interner, config, time }
    }

    /// Who we are.
    pub(super) fn introduction(&self) -> Vec<Information> {
        let software = concat!("Tortie ", env!("CARGO_PKG_VERSION")).to_owned();
        vec![Information::Description(software), Information::Name(self.config.name.clone())]
    }

    /// The header of what is said about a peer that was up at some time.
    pub(super) fn header(&self, number: PeerNumber, post_policy: bool) -> Option<PeerHeader> {
        let peer = self.peers.get(&number)?;
        Some(PeerHeader {
            view: View::AdjRibIn { post_policy },
            legacy_as_path: false,
            instance: Instance::Global,
            address: peer.known_address(),
            asn: peer.config.remote_as,
            router_id: peer.agreed.as_ref()?.router_id,
            timestamp: self.time,
        })
    }

    /// The header of what is said about the Loc-RIB (RFC 9069, section 4.1).
    pub(super) fn loc_rib(&self) -> PeerHeader {
        PeerHeader {
            view: View::LocRib { filtered: false },
            legacy_as_path: false,
            instance: Instance::Global,
            address: Ipv6Addr::UNSPECIFIED.into(),
            asn: self.config.local_as,
            router_id: self.config.router_id,
            timestamp: self.time,
        }
    }

    /// The Loc-RIB as if it were a peer (RFC 9069, section 5.1).
    pub(super) fn loc_rib_up(&self) -> Message {
        let mut capabilities: Vec<Capability> =
            Family::ALL.into_iter().map(|family| Capability::Multiprotocol(family.into())).collect();
        capabilities.push(Capability::FourOctetAs(self.config.local_as));
        let open = Open {
            my_as: self.config.local_as.to_two_octets(),
            hold_time_secs: 0,
            router_id: self.config.router_id,
            capabilities,
            optional_parameters: 1,
            extended_optional_parameters: false,
        };
        let up = PeerUp {
            local_address: Ipv6Addr::UNSPECIFIED.into(),
            local_port: 0,
            remote_port: 0,
            sent_open: open.encode(),
            received_open: open.encode(),
            information: vec![Information::TableName(TABLE.to_owned())],
        };
        Message::PeerUp(self.loc_rib(), up)
    }

    /// A session that is up.
    pub(super) fn peer_up(&self, number: PeerNumber) -> Option<Message> {
        let (header, peer) = (self.header(number, false)?, self.peers.get(&number)?);
        let opens = &peer.agreed.as_ref()?.opens;
        let ends = ends(peer);
        let unknown = || match header.address {
            IpAddr::V4(_) => IpAddr::from([0; 4]),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let up = PeerUp {
            local_address: ends.map_or_else(unknown, |ends| ends.local.ip()),
            local_port: ends.map_or(0, |ends| ends.local.port()),
            remote_port: ends.map_or(0, |ends| ends.remote.port()),
            sent_open: opens.sent.clone(),
            received_open: opens.received.clone(),
            information: Vec::new(),
        };
        Some(Message::PeerUp(header, up))
    }

    /// A session that is over.
    pub(super) fn peer_down(&self, number: PeerNumber, ending: &Ending) -> Option<Message> {
        let reason = match ending {
            Ending::WeSaid(notification) => DownReason::LocalNotification(Notification::encode(notification)),
            Ending::WeClosed(event) => DownReason::LocalEvent(*event),
            Ending::PeerSaid(notification) => {
                DownReason::RemoteNotification(Notification::encode(notification))
            }
            Ending::PeerClosed => DownReason::RemoteClosed,
        };
        self.header(number, false).map(|header| Message::PeerDown(header, reason))
    }
}

fn ends(peer: &Peer) -> Option<&Endpoints> {
    peer.session.established_connection().and_then(|connection| peer.endpoints.get(&connection))
}
