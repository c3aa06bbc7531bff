//! How sessions are, as the plan has to know it: what is down for a while, and when a change has settled.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bgp::PeerStatus;
use bgp::session::SessionState;

use super::types::{BgpPlan, SessionFeedback};

/// A session that has not been Established for so long was not about to be when it was last looked at.
const IDLE: Duration = Duration::from_secs(5);
/// A session that has not been Established for so long counts as down: longer than a restart of the peer takes.
const DOWN: Duration = Duration::from_secs(10);
/// A plan has settled when what it wants has been up for so long: others may be later than we in learning of a change.
const SETTLE: Duration = Duration::from_secs(30);

/// Makes [`SessionFeedback`] of what the speaker says about its peers. Time is handed in and must not go backwards.
#[derive(Debug, Default)]
pub struct SessionWatch {
    /// Since when each peer has been up, or not.
    since: BTreeMap<IpAddr, (bool, Instant)>,
    /// The generation of the plan, and since when it has been that.
    generation: Option<(u64, Instant)>,
    told: Option<SessionFeedback>,
}

impl SessionWatch {
    /// Looks at the sessions of a plan; gives what is new. Nothing where nodes do not choose route reflectors.
    pub fn look(&mut self, plan: &BgpPlan, peers: &[PeerStatus], now: Instant) -> Option<SessionFeedback> {
        let Some(reflection) = &plan.reflection else {
            *self = Self::default();
            return None;
        };
        self.since = peers
            .iter()
            .map(|peer| {
                let is_up = peer.state == SessionState::Established;
                let seen = self.since.get(&peer.address).filter(|(was_up, _)| *was_up == is_up).copied();
                (peer.address, seen.unwrap_or((is_up, now)))
            })
            .collect();
        let begun = self.generation.filter(|(generation, _)| *generation == reflection.generation);
        let (generation, begun) = *self.generation.insert(begun.unwrap_or((reflection.generation, now)));
        let idle = self.not_up(now, IDLE).collect();
        let is_wanted = |address: &IpAddr| reflection.wanted.contains_key(address);
        let down: BTreeSet<IpAddr> = self.not_up(now, DOWN).filter(is_wanted).collect();
        let on_demand: BTreeSet<IpAddr> =
            plan.peers.iter().filter(|peer| peer.on_demand).map(|peer| peer.address).collect();
        let is_there = |address: &IpAddr| {
            let whole = peers.iter().find(|peer| peer.address == *address).is_some_and(is_whole);
            whole && self.since.get(address).is_some_and(|(_, since)| now - *since >= SETTLE)
        };
        let mut awaited = reflection.wanted.keys().filter(|address| !on_demand.contains(*address));
        let is_settled =
            now - begun >= SETTLE && awaited.all(|address| down.contains(address) || is_there(address));
        let news = SessionFeedback { idle, down, settled: is_settled.then_some(generation) };
        (self.told.as_ref() != Some(&news)).then(|| self.told.insert(news).clone())
    }

    /// The peers that have not been up for so long.
    fn not_up(&self, now: Instant, time: Duration) -> impl Iterator<Item = IpAddr> {
        let not_up = self.since.iter().filter(move |(_, (up, since))| !up && now - *since >= time);
        not_up.map(|(address, _)| *address)
    }
}

/// Whether a peer is up, and has told all that it has.
fn is_whole(peer: &PeerStatus) -> bool {
    let established = peer.established.as_ref().filter(|_| peer.state == SessionState::Established);
    established.is_some_and(|established| established.end_of_rib.len() == established.families.len())
}
