//! How sessions are, as the plan has to know it: what is down for a while, and when a change has settled.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bgp::SessionStatus;
use bgp::session::SessionState;

use super::types::{BgpPlan, SessionFeedback};

/// A session that has not been Established for so long was not about to be when it was last looked at.
const IDLE: Duration = Duration::from_secs(5);
/// A session that has not been Established for so long counts as down: longer than a restart of the peer takes.
const DOWN: Duration = Duration::from_secs(10);

/// Makes [`SessionFeedback`] of what the speaker says about its sessions. Time is handed in and must not go backwards.
#[derive(Debug, Default)]
pub struct SessionWatch {
    sessions: BTreeMap<IpAddr, Seen>,
    /// The generation of the plan, and since when it has been that.
    generation: Option<(u64, Instant)>,
    told: Option<SessionFeedback>,
}

/// A session as it was last seen.
#[derive(Debug, Clone, Copy)]
struct Seen {
    is_up: bool,
    /// It is up, and the peer has told all that it has.
    is_whole: bool,
    /// Since when it has been up, or not.
    since: Instant,
}

impl Seen {
    fn has_been_down(&self, time: Duration, now: Instant) -> bool {
        !self.is_up && now - self.since >= time
    }

    fn has_been_up(&self, time: Duration, now: Instant) -> bool {
        self.is_up && now - self.since >= time
    }
}

impl SessionWatch {
    /// Looks at the sessions of a plan; gives what is new. Nothing where nodes do not choose route reflectors.
    pub fn look(
        &mut self,
        plan: &BgpPlan,
        sessions: impl IntoIterator<Item = SessionStatus>,
        now: Instant,
    ) -> Option<SessionFeedback> {
        let Some(reflection) = &plan.reflection else {
            *self = Self::default();
            return None;
        };
        self.see(sessions, now);
        let begun = self.generation.filter(|(generation, _)| *generation == reflection.generation);
        let (generation, begun) = *self.generation.insert(begun.unwrap_or((reflection.generation, now)));
        let idle = self.down(IDLE, now).collect();
        let is_wanted = |address: &IpAddr| reflection.wanted.contains_key(address);
        let down: BTreeSet<IpAddr> = self.down(DOWN, now).filter(is_wanted).collect();
        let on_demand: BTreeSet<IpAddr> =
            plan.peers.iter().filter(|peer| peer.on_demand).map(|peer| peer.address).collect();
        // Others may be later than we in learning of a change.
        let settle = reflection.settle_time;
        let is_there = |address: &IpAddr| {
            self.sessions.get(address).is_some_and(|seen| seen.is_whole && seen.has_been_up(settle, now))
        };
        let mut awaited = reflection.wanted.keys().filter(|address| !on_demand.contains(*address));
        let is_settled =
            now - begun >= settle && awaited.all(|address| down.contains(address) || is_there(address));
        let news = SessionFeedback { idle, down, settled: is_settled.then_some(generation) };
        (self.told.as_ref() != Some(&news)).then(|| self.told.insert(news).clone())
    }

    fn see(&mut self, sessions: impl IntoIterator<Item = SessionStatus>, now: Instant) {
        let before = std::mem::take(&mut self.sessions);
        let seen = |session: SessionStatus| {
            let (is_up, is_whole) = (session.state == SessionState::Established, session.is_whole);
            let same = before.get(&session.address).filter(|seen| seen.is_up == is_up);
            (session.address, Seen { is_up, is_whole, since: same.map_or(now, |seen| seen.since) })
        };
        self.sessions = sessions.into_iter().map(seen).collect();
    }

    /// The peers whose sessions have not been up for so long.
    fn down(&self, time: Duration, now: Instant) -> impl Iterator<Item = IpAddr> {
        let down = self.sessions.iter().filter(move |(_, seen)| seen.has_been_down(time, now));
        down.map(|(address, _)| *address)
    }
}
