//! What a change of configuration means for a session.
//!
//! A session is reset only when the two ends would not understand each other otherwise: what the OPENs say, or who speaks to
//! whom, has changed. Import policy works when routes come in, and what it rejects is not kept (a table of rejected routes
//! could be larger than the one in use): after a change the peer is asked for its routes again (RFC 2918), and only a peer
//! that cannot do that is reset. Export policy is a function of what is selected: the peer moves to another update group and
//! is told the difference.

use crate::config::{PeerConfig, SpeakerConfig};

/// What has to be done about a peer whose configuration has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct PeerDifference {
    /// The session must be reset: what the OPENs agreed on, or whom we talk to, has changed.
    pub reset: bool,
    /// The peer is asked for its routes again, because import has changed.
    pub import: bool,
    /// The peer is told the difference, because export has changed.
    pub export: bool,
}

/// Compares two configurations of a peer. Both belong to the given configurations of the speaker.
pub fn difference(
    (old_speaker, old): (&SpeakerConfig, &PeerConfig),
    (new_speaker, new): (&SpeakerConfig, &PeerConfig),
) -> PeerDifference {
    let speaker_reset =
        old_speaker.local_as != new_speaker.local_as || old_speaker.router_id != new_speaker.router_id;
    let same_session = PeerConfig {
        label: old.label.clone(),
        connect: old.connect,
        reflector_client: old.reflector_client,
        on_demand: old.on_demand,
        next_hop: old.next_hop,
        allow_local_as: old.allow_local_as,
        prefix_limit: old.prefix_limit,
        require_policy: old.require_policy,
        bfd: old.bfd,
        import: old.import.clone(),
        export: old.export.clone(),
        ..new.clone()
    } == *old;
    let interfaces = |policy: fn(&PeerConfig) -> &crate::policy::Policy| {
        old_speaker.interfaces.relevant_to(policy(old)) != new_speaker.interfaces.relevant_to(policy(new))
    };
    let speaker_export =
        old_speaker.cluster_id != new_speaker.cluster_id || old_speaker.addresses != new_speaker.addresses;
    let summaries = old_speaker.aggregates != new_speaker.aggregates;
    PeerDifference {
        reset: speaker_reset || !same_session,
        import: old.import != new.import
            || interfaces(|peer| &peer.import)
            || old.require_policy != new.require_policy
            || old.allow_local_as != new.allow_local_as
            || old_speaker.addresses != new_speaker.addresses
            || old_speaker.cluster_id != new_speaker.cluster_id,
        export: speaker_export
            || summaries
            || old.export != new.export
            || interfaces(|peer| &peer.export)
            || old.require_policy != new.require_policy
            || old.reflector_client != new.reflector_client
            || old.next_hop != new.next_hop,
    }
}

/// Why a session must be reset, in words; empty when it stays up. Agrees with [`difference`].
pub fn reset_causes(
    (old_speaker, old): (&SpeakerConfig, &PeerConfig),
    (new_speaker, new): (&SpeakerConfig, &PeerConfig),
) -> Vec<&'static str> {
    let differs = [
        ("our AS", old_speaker.local_as != new_speaker.local_as),
        ("our BGP identifier", old_speaker.router_id != new_speaker.router_id),
        ("the peer's address", old.address != new.address),
        ("the interface", old.interface != new.interface),
        ("the peer's port", old.port != new.port),
        ("the source address", old.source != new.source),
        ("the peer's AS", old.remote_as != new.remote_as),
        ("our AS towards the peer", old.local_as != new.local_as),
        ("the other number of our AS", old.alias_as != new.alias_as),
        ("the address families", old.families != new.families),
        ("the timers", old.timers != new.timers),
        ("graceful restart", old.graceful_restart != new.graceful_restart),
        ("long-lived graceful restart", old.long_lived != new.long_lived),
        ("add-path", old.add_path != new.add_path),
        ("the password", old.authentication != new.authentication),
        ("TTL security", old.ttl_security != new.ttl_security || old.ttl != new.ttl),
        ("the role", old.role != new.role),
        ("whether only we can reach it", old.behind_us != new.behind_us),
    ];
    let mut causes: Vec<_> =
        differs.iter().filter(|(_, differs)| *differs).map(|(cause, _)| *cause).collect();
    let is_reset = difference((old_speaker, old), (new_speaker, new)).reset;
    if is_reset && causes.is_empty() {
        causes.push("another setting of the session");
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{AddPath, Authentication, ConnectMode, LocalAs, NextHopMode, Secret};
    use crate::policy::Policy;
    use crate::types::{Asn, RouterId};

    fn changed(change: impl Fn(&mut SpeakerConfig, &mut PeerConfig)) -> PeerDifference {
        let old = SpeakerConfig::new(Asn(64512), RouterId([10, 0, 0, 1].into()));
        let peer = PeerConfig::new([10, 0, 0, 2].into(), Asn(64512));
        let (mut new, mut new_peer) = (old.clone(), peer.clone());
        change(&mut new, &mut new_peer);
        difference((&old, &peer), (&new, &new_peer))
    }

    #[test]
    fn only_what_an_open_says_resets_a_session() {
        let nothing = PeerDifference::default();
        assert_eq!(changed(|_, _| {}), nothing);
        assert_eq!(changed(|_, peer| peer.label = "global".into()), nothing);
        assert_eq!(
            changed(|_, peer| peer.import = Policy::reject_all()),
            PeerDifference { import: true, ..nothing }
        );
        assert_eq!(
            changed(|_, peer| peer.export = Policy::reject_all()),
            PeerDifference { export: true, ..nothing }
        );
        let next_hop = changed(|_, peer| peer.next_hop = NextHopMode::OurSelf);
        assert_eq!(next_hop, PeerDifference { export: true, ..nothing });
        let client = changed(|_, peer| peer.reflector_client = true);
        assert_eq!(client, PeerDifference { export: true, ..nothing });
        assert_eq!(changed(|_, peer| peer.connect = ConnectMode::Passive), nothing);
        assert_eq!(changed(|_, peer| peer.on_demand = true), nothing);
        assert!(changed(|_, peer| peer.remote_as = Asn(1)).reset);
        assert!(changed(|_, peer| peer.timers.hold *= 2).reset);
        assert!(changed(|_, peer| peer.graceful_restart = None).reset);
        assert!(changed(|speaker, _| speaker.router_id = RouterId([10, 0, 0, 9].into())).reset);
    }
    #[test]
    fn every_reset_has_its_cause_and_nothing_else_has_one() {
        type Change = (fn(&mut SpeakerConfig, &mut PeerConfig), &'static [&'static str]);
        let cases: [Change; 12] = [
            (|_, _| {}, &[]),
            (|_, peer| peer.import = Policy::reject_all(), &[]),
            (|_, peer| peer.export = Policy::reject_all(), &[]),
            (|speaker, _| speaker.cluster_id = Some([1, 1, 1, 1].into()), &[]),
            (|_, peer| peer.port = 180, &["the peer's port"]),
            (|_, peer| peer.connect = ConnectMode::Passive, &[]),
            (
                |_, peer| peer.authentication = Secret::new("x").ok().map(Authentication::Md5),
                &["the password"],
            ),
            (|_, peer| peer.ttl_security = Some(1), &["TTL security"]),
            (|_, peer| peer.local_as = Some(LocalAs::instead_of_ours(Asn(7))), &["our AS towards the peer"]),
            (|_, peer| peer.alias_as = Some(Asn(7)), &["the other number of our AS"]),
            (|_, peer| peer.add_path = AddPath::default(), &[]),
            (
                |speaker, peer| {
                    speaker.local_as = Asn(1);
                    peer.remote_as = Asn(2);
                },
                &["our AS", "the peer's AS"],
            ),
        ];
        for (change, expected) in cases {
            let old = SpeakerConfig::new(Asn(64512), RouterId([10, 0, 0, 1].into()));
            let peer = PeerConfig::new([10, 0, 0, 2].into(), Asn(64512));
            let (mut new, mut new_peer) = (old.clone(), peer.clone());
            change(&mut new, &mut new_peer);
            assert_eq!(reset_causes((&old, &peer), (&new, &new_peer)), expected);
            assert_eq!(difference((&old, &peer), (&new, &new_peer)).reset, !expected.is_empty());
        }
    }
}
