//! A connection from the peer's side: what it has been told, and what has been agreed on.

use std::collections::BTreeSet;

use bgp::packet::attribute::{AttributeValue, MpReach, MpUnreach};
use bgp::packet::capability::{AddPathMode, Capability, FamilyCode};
use bgp::packet::open::Open;
use bgp::packet::update::Update;
use bgp::packet::{Context, Framer, Message, PeerKind};
use bgp::{Asn, Family, FamilySet, PeerId};
use ipnet::IpNet;

/// Octets that a peer may leave unread: the speaker's own limit, and a round more.
const MOST_UNREAD: usize = 512 * 1024;

/// The peer's end of a connection.
pub(super) struct Link {
    /// Which of the peers.
    pub(super) peer: usize,
    pub(super) name: PeerId,
    kind: PeerKind,
    hears: Framer,
    /// Cuts what the peer itself says, as long as its OPEN has not come.
    says: Framer,
    theirs: Option<Open>,
    ours: Option<Open>,
    /// The speaker has agreed to the OPEN.
    agreed: bool,
    /// What it believes.
    pub(super) told: BTreeSet<(IpNet, Option<u32>)>,
    /// It reads at once.
    pub(super) reads: bool,
    pub(super) unread: usize,
}

impl Link {
    pub(super) fn new(peer: usize, name: PeerId, kind: PeerKind) -> Self {
        Self {
            peer,
            name,
            kind,
            hears: Framer::default(),
            says: Framer::default(),
            theirs: None,
            ours: None,
            agreed: false,
            told: BTreeSet::new(),
            reads: true,
            unread: 0,
        }
    }

    /// The peer says something. Its first message may be its OPEN.
    pub(super) fn said(&mut self, bytes: &[u8]) {
        if self.theirs.is_some() {
            return;
        }
        let initial = Context::initial(self.kind);
        let mut rest = bytes;
        if let Ok(Some(message)) = self.says.next(&mut rest, &initial)
            && let Ok(Message::Open(open)) = Message::decode(&message, &initial)
        {
            self.theirs = Some(open);
        }
    }

    /// How the peer writes; as RFC 4271 has it before the OPENs are there.
    pub(super) fn writing(&self) -> Context {
        self.context(AddPathMode::Receive, AddPathMode::Send)
    }

    fn reading(&self) -> Context {
        self.context(AddPathMode::Send, AddPathMode::Receive)
    }

    /// What both OPENs have in common; path identifiers where the speaker does one thing and the peer the other.
    fn context(&self, ours: AddPathMode, theirs: AddPathMode) -> Context {
        let (Some(speaker), Some(peer)) = (&self.ours, &self.theirs) else {
            return Context::initial(self.kind);
        };
        let has =
            |wanted: &Capability| peer.capabilities.contains(wanted) && speaker.capabilities.contains(wanted);
        let families: FamilySet = families(speaker).intersection(families(peer));
        let add_path = families
            .iter()
            .filter(|family| does(speaker, *family, ours) && does(peer, *family, theirs))
            .collect();
        let four = |open: &Open| open.capabilities.iter().any(|c| matches!(c, Capability::FourOctetAs(_)));
        Context {
            as4: four(peer) && four(speaker),
            families,
            add_path,
            extended_next_hop: next_hops_of_ipv6(peer) && next_hops_of_ipv6(speaker),
            extended_message: has(&Capability::ExtendedMessage),
            enhanced_refresh: has(&Capability::EnhancedRouteRefresh),
            ..Context::initial(self.kind)
        }
    }

    /// Whether routes may be exchanged.
    pub(super) fn has_agreed(&self) -> bool {
        self.agreed
    }

    /// The speaker writes.
    pub(super) fn hear(&mut self, bytes: &[u8]) {
        self.unread += bytes.len();
        assert!(self.unread <= MOST_UNREAD, "{} octets wait for {}", self.unread, self.name);
        let mut rest = bytes;
        loop {
            let context = if self.agreed { self.reading() } else { Context::initial(self.kind) };
            let Some(message) = self.hears.next(&mut rest, &context).expect("the speaker writes messages")
            else {
                break;
            };
            match Message::decode(&message, &context).expect("the speaker writes what can be read") {
                Message::Open(open) => {
                    assert!(self.ours.replace(open).is_none(), "a second OPEN");
                }
                Message::Keepalive => self.agreed = true,
                Message::Update(received) => {
                    assert!(self.agreed, "an UPDATE before the session is there");
                    assert_eq!(received.faults, [], "the speaker makes no mistakes");
                    self.learn(received.update);
                }
                Message::Notification(_) => {}
                Message::RouteRefresh(_) => assert!(self.agreed),
            }
        }
    }

    fn learn(&mut self, update: Update) {
        if update.end_of_rib().is_some() {
            return;
        }
        let Update { withdrawn: mut gone, attributes, nlri: mut new } = update;
        for attribute in attributes {
            match attribute.value {
                AttributeValue::MpUnreach(MpUnreach::Routes { nlri, .. }) => gone.extend(nlri),
                AttributeValue::MpReach(MpReach::Routes { nlri, .. }) => new.extend(nlri),
                AttributeValue::MpUnreach(_) | AttributeValue::MpReach(_) => {
                    panic!("a family that we do not do")
                }
                _ => {}
            }
        }
        for nlri in gone {
            let known = self.told.remove(&(nlri.prefix, nlri.path_id));
            assert!(known, "{} was never told of {nlri:?}", self.name);
        }
        self.told.extend(new.into_iter().map(|nlri| (nlri.prefix, nlri.path_id)));
    }
}

/// The peer is internal if both ends have the same AS, as it sees them.
pub(super) fn kind(ours: Asn, theirs: Asn) -> PeerKind {
    if ours == theirs { PeerKind::Internal } else { PeerKind::External }
}

/// Those of the capabilities; IPv4 without any.
fn families(open: &Open) -> FamilySet {
    let offered = open.capabilities.iter().filter_map(|capability| match capability {
        Capability::Multiprotocol(code) => Some(code.known()),
        _ => None,
    });
    let offered: Vec<Option<Family>> = offered.collect();
    if offered.is_empty() {
        return FamilySet::from_iter([Family::Ipv4Unicast]);
    }
    offered.into_iter().flatten().collect()
}

/// Whether an OPEN offers to send or to take path identifiers: the last capability counts, and in it the first entry.
fn does(open: &Open, family: Family, what: AddPathMode) -> bool {
    let entries = open.capabilities.iter().rev().find_map(|capability| match capability {
        Capability::AddPath(entries) => Some(entries),
        _ => None,
    });
    let code = FamilyCode::from(family);
    let mode = entries.into_iter().flatten().find(|(other, _)| *other == code).map(|(_, mode)| *mode);
    mode.is_some_and(|mode| mode == what || mode == AddPathMode::Both)
}

fn next_hops_of_ipv6(open: &Open) -> bool {
    let entry = (FamilyCode::from(Family::Ipv4Unicast), 2);
    open.capabilities
        .iter()
        .any(|capability| matches!(capability, Capability::ExtendedNextHop(list) if list.contains(&entry)))
}
