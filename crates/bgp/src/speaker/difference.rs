//! What a change of configuration means for a session.

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
        next_hop: old.next_hop,
        allow_local_as: old.allow_local_as,
        prefix_limit: old.prefix_limit,
        require_policy: old.require_policy,
        bfd: old.bfd,
        import: old.import.clone(),
        export: old.export.clone(),
        ..new.clone()
    } == *old;
    let speaker_export =
        old_speaker.cluster_id != new_speaker.cluster_id || old_speaker.addresses != new_speaker.addresses;
    PeerDifference {
        reset: speaker_reset || !same_session,
        import: old.import != new.import
            || old.require_policy != new.require_policy
            || old.allow_local_as != new.allow_local_as
            || old_speaker.addresses != new_speaker.addresses
            || old_speaker.cluster_id != new_speaker.cluster_id,
        export: speaker_export
            || old.export != new.export
            || old.require_policy != new.require_policy
            || old.next_hop != new.next_hop,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NextHopMode;
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
        assert!(changed(|_, peer| peer.remote_as = Asn(1)).reset);
        assert!(changed(|_, peer| peer.timers.hold *= 2).reset);
        assert!(changed(|_, peer| peer.graceful_restart = None).reset);
        assert!(changed(|speaker, _| speaker.router_id = RouterId([10, 0, 0, 9].into())).reset);
    }
}
