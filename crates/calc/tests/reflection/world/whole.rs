//! A host's process as it is: a planner and a speaker.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use api::{Key, Row};
use bgp::config::Secret;
use bgp::session::SessionState;
use bgp::{ConnectionId, Endpoints, Family, Input, Output, Resolution, Speaker, SpeakerConfig, Start};
use calc::bgp_plan::{
    BgpPlan, BgpPlanner, PasswordRef, Passwords, ReflectionRole, RouterIdSource, SessionWatch,
};

use super::{Act, Message, name, owner_of};

struct NoPasswords;

impl Passwords for NoPasswords {
    fn password(&self, _: &PasswordRef) -> Result<Option<Secret>, String> {
        Ok(None)
    }
}

pub(super) struct Whole {
    planner: BgpPlanner,
    watch: SessionWatch,
    plan: Option<BgpPlan>,
    config: Option<SpeakerConfig>,
    speaker: Option<Speaker>,
    start: Start,
    seed: u64,
}

impl Whole {
    /// Reads all rows, and plans.
    pub(super) fn new(
        host: usize,
        rows: &BTreeMap<Key, Arc<Row>>,
        start: Start,
        seed: u64,
        now: Instant,
    ) -> Self {
        let mut planner = BgpPlanner::new(name(host), RouterIdSource::NodeAddress);
        rows.iter().for_each(|(key, row)| planner.on_update(key, Some(row.clone())));
        let watch = SessionWatch::default();
        let mut whole = Self { planner, watch, plan: None, config: None, speaker: None, start, seed };
        whole.plan(now);
        whole
    }

    pub(super) fn row(&mut self, key: &Key, row: Option<Arc<Row>>, now: Instant) {
        self.planner.on_update(key, row);
        self.plan(now);
    }

    /// What the shell does with a plan.
    fn plan(&mut self, now: Instant) {
        let Some(plan) = self.planner.flush() else { return };
        let (config, _) = plan.speaker_config(&NoPasswords);
        self.plan = Some(plan);
        let Some(config) = config.filter(|config| self.config.as_ref() != Some(config)) else { return };
        self.config = Some(config.clone());
        match &mut self.speaker {
            Some(speaker) => speaker.handle_input(Input::Configure(config), now),
            None => self.speaker = Some(Speaker::new(config, self.start, self.seed, now)),
        }
    }

    /// Looks at the sessions.
    pub(super) fn look(&mut self, now: Instant) {
        let (Some(plan), Some(speaker)) = (&self.plan, &self.speaker) else { return };
        if let Some(news) = self.watch.look(plan, speaker.sessions(), now) {
            self.planner.on_sessions(news);
            self.plan(now);
        }
    }

    pub(super) fn input(&mut self, input: Input<'_>, now: Instant) {
        if let Some(speaker) = &mut self.speaker {
            speaker.handle_input(input, now);
        }
    }

    pub(super) fn timeout(&mut self, now: Instant) {
        if let Some(speaker) = &mut self.speaker {
            speaker.handle_timeout(now);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.speaker.as_ref()?.poll_timeout()
    }

    pub(super) fn accept(&mut self, endpoints: Endpoints, now: Instant) -> Option<ConnectionId> {
        self.speaker.as_mut()?.accept(endpoints, now)
    }

    /// What the speaker wants done. All hosts are on one wire, so next hops are reached by themselves, and what is sent
    /// has left at once.
    pub(super) fn poll(&mut self, now: Instant) -> Vec<Act> {
        let mut acts = Vec::new();
        let Some(speaker) = &mut self.speaker else { return acts };
        loop {
            let mut messages: BTreeMap<ConnectionId, Message> = BTreeMap::new();
            let mut next_hops = Vec::new();
            while let Some(output) = speaker.poll_output() {
                match output {
                    Output::Send { connection, bytes } => {
                        messages.entry(connection).or_default().push(bytes);
                    }
                    Output::Close { connection } => {
                        if let Some(message) = messages.remove(&connection) {
                            acts.push(Act::Send { connection, message });
                        }
                        acts.push(Act::Close { connection });
                    }
                    Output::WatchNextHop { address } => next_hops.push(address),
                    other => acts.extend(act(other)),
                }
            }
            if messages.is_empty() && next_hops.is_empty() {
                return acts;
            }
            for (connection, message) in messages {
                let bytes = message.iter().map(|part| part.len()).sum();
                acts.push(Act::Send { connection, message });
                speaker.handle_input(Input::Written { connection, bytes }, now);
            }
            for address in next_hops {
                let resolution = Some(Resolution { cost: 0, gateways: vec![address] });
                speaker.handle_input(Input::NextHop { address, resolution }, now);
            }
        }
    }

    /// How many sessions are up.
    pub(super) fn sessions(&self) -> usize {
        let sessions = self.speaker.iter().flat_map(Speaker::sessions);
        sessions.filter(|session| session.state == SessionState::Established).count()
    }

    /// Whether it keeps no session that is not wanted.
    pub(super) fn is_settled(&self) -> bool {
        let Some(plan) = &self.plan else { return true };
        let Some(reflection) = &plan.reflection else { return false };
        plan.peers.iter().all(|peer| reflection.wanted.get(&peer.address) == Some(&peer.reflector_client))
    }

    pub(super) fn reflects(&self) -> bool {
        let plan = self.plan.as_ref().and_then(|plan| plan.reflection.as_ref());
        plan.is_some_and(|plan| plan.role == ReflectionRole::Reflector)
    }
}

fn act(output: Output) -> Option<Act> {
    Some(match output {
        Output::Connect { connection, remote, .. } => {
            let IpAddr::V4(remote) = remote.ip() else { unreachable!("IPv4 only") };
            Act::Dial { connection, remote }
        }
        Output::BestRoute { prefix, route } => {
            Act::Route { owner: owner_of(&prefix), is_there: route.is_some() }
        }
        Output::RibComplete { family: Family::Ipv4Unicast } => Act::Sweep,
        Output::Session { state, .. } => Act::Session(state),
        _ => return None,
    })
}
