//! Sessions of a cluster whose nodes choose their own route reflectors ([`crate::reflection`]), and how a change comes about
//! without a gap.
//!
//! Make before break: a session that is no longer wanted stays until the plan has *settled*, which the shell says when
//! everything that is wanted instead has been up for a while ([`SessionFeedback`]). A reflector never ends a session with a
//! client; it goes when the client ends it. Who was a client stays one as long. All of it follows from the last
//! plan and the feedback; there is no other memory.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use api::selector::Selector;
use api::{BGPPeerSpec, RouteReflection};

use super::peers::{Remote, Sessions, add, duration, password};
use super::planner::{BgpPlanner, NodeRow};
use super::types::{Peer, PeerSource, ReflectionPlan, ReflectionRole, SessionFeedback};
use crate::reflection::{Member, Organisation, Settings, Standing, dialled};

/// What is to be had with another node.
struct Wanted {
    /// It connects to us.
    passive: Option<bool>,
    /// We reflect for it.
    client: bool,
    /// It may connect or not.
    on_demand: bool,
}

impl Wanted {
    const MESH: Self = Self { passive: None, client: false, on_demand: false };
    const OUR_REFLECTOR: Self = Self { passive: Some(false), client: false, on_demand: false };

    fn client(standing: Standing) -> Self {
        Self { passive: Some(true), client: true, on_demand: standing == Standing::Standby }
    }
}

impl BgpPlanner {
    /// How the sessions are. The plan depends on it only where nodes choose their own route reflectors.
    pub fn on_sessions(&mut self, feedback: SessionFeedback) {
        if self.reflection_settings().is_some() && self.feedback != feedback {
            self.feedback = feedback;
            self.mark_stale();
        }
    }

    fn reflection_settings(&self) -> Option<&RouteReflection> {
        self.global().filter(|_| self.is_mesh_on())?.route_reflection.as_ref()
    }

    /// The nodes that choose reflectors among them: those of our AS that are not reflectors by themselves.
    fn members(&self, asked: &RouteReflection) -> BTreeMap<String, Member> {
        let labels = asked.topology_labels();
        // A selector that cannot be read selects nobody, so that the mesh stays.
        let selector = (!asked.node_selector.is_empty()).then(|| Selector::parse(&asked.node_selector));
        let nodes: Vec<_> = self.nodes.iter().filter(|(_, node)| self.takes_part(node)).collect();
        let families: BTreeSet<bool> =
            nodes.iter().flat_map(|(_, node)| &node.addresses).map(IpAddr::is_ipv6).collect();
        let member = |node: &NodeRow| Member {
            domains: labels
                .iter()
                .map(|label| node.labels.get(*label).cloned().unwrap_or_default())
                .collect(),
            may_reflect: families.iter().all(|v6| node.address(*v6).is_some())
                && selector.as_ref().is_none_or(|selector| {
                    selector.as_ref().is_ok_and(|selector| selector.matches(&node.labels))
                }),
        };
        nodes.into_iter().map(|(name, node)| (name.clone(), member(node))).collect()
    }

    fn takes_part(&self, node: &NodeRow) -> bool {
        node.cluster_id.is_none() && !node.addresses.is_empty() && self.as_of(node) == self.local_as()
    }

    /// What is to be had with each of the other members, and what we are; `None` when nodes do not choose, or we are none of
    /// them: then the mesh is as Calico makes it.
    fn wanted(&self, us: &NodeRow) -> Option<(ReflectionRole, BTreeMap<&str, Wanted>)> {
        let asked = self.reflection_settings().filter(|_| self.takes_part(us))?;
        let members = self.members(asked);
        let others: Vec<&str> =
            self.nodes.keys().map(String::as_str).filter(|name| *name != self.node_name).collect();
        let others: Vec<&str> = others.into_iter().filter(|name| members.contains_key(*name)).collect();
        let settings = Settings {
            mesh_limit: asked.mesh_limit() as usize,
            reflectors: asked.reflectors.map(|number| number as usize),
            per_client: asked.reflectors_per_client() as usize,
        };
        let Some(organisation) = Organisation::of(&members, &settings) else {
            return Some((
                ReflectionRole::Mesh,
                others.into_iter().map(|name| (name, Wanted::MESH)).collect(),
            ));
        };
        if organisation.is_reflector(&self.node_name) {
            let wanted = others.into_iter().filter_map(|name| match organisation.is_reflector(name) {
                true => Some((name, Wanted::MESH)),
                false => organisation.standing(name, &self.node_name).map(|is| (name, Wanted::client(is))),
            });
            return Some((ReflectionRole::Reflector, wanted.collect()));
        }
        let ranking = organisation.ranking(&self.node_name);
        let down: BTreeSet<&str> =
            ranking.iter().map(|(name, _)| *name).filter(|name| self.is_down(name)).collect();
        let dialled: BTreeSet<&str> = dialled(&ranking, &down).into_iter().collect();
        let wanted = others.into_iter().filter(|name| dialled.contains(name));
        Some((ReflectionRole::Client, wanted.map(|name| (name, Wanted::OUR_REFLECTOR)).collect()))
    }

    fn is_down(&self, name: &str) -> bool {
        self.nodes[name].addresses.iter().any(|address| self.feedback.down.contains(address))
    }

    /// Adds the sessions among the members; `None` when nodes do not choose reflectors.
    pub(super) fn add_reflection(&self, us: &NodeRow, sessions: &mut Sessions) -> Option<ReflectionPlan> {
        let (role, wanted) = self.wanted(us)?;
        let mut made: BTreeMap<IpAddr, Peer> = BTreeMap::new();
        for (name, wanted) in &wanted {
            made.extend(self.member_sessions(us, name, wanted).map(|peer| (peer.address, peer)));
        }
        let wanted = made.values().map(|peer| (peer.address, peer.reflector_client)).collect();
        let last = self.last.as_ref().and_then(|last| last.reflection.as_ref());
        let generation = match last {
            Some(last) if last.wanted == wanted => last.generation,
            Some(last) => last.generation + 1,
            None => 0,
        };
        self.keep(&mut made, role, self.feedback.settled == Some(generation));
        let reflects = role == ReflectionRole::Reflector || made.values().any(|peer| peer.reflector_client);
        made.into_values().for_each(|peer| add(sessions, peer));
        let settle_time = self.reflection_settings()?.settle_time();
        Some(ReflectionPlan { role, reflects, generation, wanted, settle_time })
    }

    fn member_sessions(&self, us: &NodeRow, name: &str, wanted: &Wanted) -> impl Iterator<Item = Peer> {
        let node = &self.nodes[name];
        let peers: Vec<Peer> = node
            .addresses
            .iter()
            .filter_map(|address| {
                let remote = Remote {
                    address: *address,
                    port: self.port_of(name),
                    as_number: self.as_of(node),
                    node: Some(node),
                };
                let source = PeerSource::Mesh { node: name.to_owned() };
                let peer = self.session(us, source, remote, &BGPPeerSpec::default())?;
                let global = self.global();
                Some(Peer {
                    passive: wanted.passive.unwrap_or(peer.passive),
                    reflector_client: wanted.client,
                    on_demand: wanted.on_demand,
                    password: global.and_then(|spec| password(spec.node_mesh_password.as_ref())),
                    restart_time: global.and_then(|spec| duration(spec.node_mesh_max_restart_time)),
                    ..peer
                })
            })
            .collect();
        peers.into_iter()
    }

    /// Keeps what may be up and is no longer wanted, until it is not needed.
    fn keep(&self, made: &mut BTreeMap<IpAddr, Peer>, role: ReflectionRole, is_settled: bool) {
        let last = self.last.iter().flat_map(|last| &last.peers);
        let of_members = last.filter_map(|peer| match &peer.source {
            PeerSource::Mesh { node } => Some((peer, self.nodes.get(node))),
            _ => None,
        });
        for (old, node) in of_members {
            let is_idle = self.feedback.idle.contains(&old.address);
            // One that has been deleted may reflect for us until it is stopped.
            if is_idle || node.is_some_and(|node| !self.takes_part(node)) {
                continue;
            }
            match made.get_mut(&old.address) {
                Some(wanted) => wanted.reflector_client |= old.reflector_client && !is_settled,
                // It is the client that goes.
                None if old.reflector_client && role != ReflectionRole::Mesh => {
                    made.insert(old.address, Peer { on_demand: true, ..old.clone() });
                }
                None if !is_settled => {
                    drop(made.insert(old.address, Peer { on_demand: true, ..old.clone() }))
                }
                None => {}
            }
        }
    }
}
