//! Who reflects routes for whom (RFC 4456), as a function of the nodes that there are.
//!
//! Every node works it out for itself from the same rows, so that nobody has to be told:
//!
//! - Up to a number of nodes all peer with all. Beyond it some nodes reflect: they peer with each other, and every other
//!   node, a client, with a few of them.
//! - Which nodes reflect follows from hashes of their names ([`choose`]), spread over failure domains. A node that comes
//!   or goes changes at most one place in each domain that it belongs to.
//! - With whom a client peers follows from hashes of both names ([`Organisation::ranking`]; rendezvous hashing): first those
//!   that it prefers, in different failure domains where there are such, then those that stand by. Standing by means
//!   that the reflector takes the client's connection if it comes, which it does while a preferred reflector is down
//!   ([`dialled`]). So a client loses touch only when all of them are out of reach at once.
//!
//! What is chosen never depends on what somebody can reach just now; only whom a client dials does. Otherwise two sides
//! of a partition would choose differently, and each change of mind would move sessions of everyone.

mod choose;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Sessions with clients that a reflector is given before there is another one.
const CLIENTS_PER_REFLECTOR: usize = 200;
/// Reflectors of a client beyond those that it prefers, ready to be dialled.
const STANDBY: usize = 2;

/// A node that takes part.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Member {
    /// Its failure domains, the widest first. Nodes that share the first few fail together more likely.
    pub domains: Vec<String>,
    /// Whether it may reflect.
    pub may_reflect: bool,
}

/// What a cluster asks for (`routeReflection` of BGPConfiguration).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Up to so many nodes are a full mesh.
    pub mesh_limit: usize,
    /// How many nodes reflect; `None`: as many as there are clients for.
    pub reflectors: Option<usize>,
    /// How many of them a client prefers; at least 1.
    pub per_client: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { mesh_limit: 100, reflectors: None, per_client: 2 }
    }
}

/// The reflectors of a cluster that is beyond its full mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organisation {
    /// By name.
    reflectors: BTreeMap<String, Reflector>,
    per_client: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Reflector {
    hash: u64,
    domains: Vec<String>,
}

/// What a reflector is to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// The client peers with it.
    Preferred,
    /// The client peers with it while one that it prefers is down.
    Standby,
}

impl Organisation {
    /// Organises the members; `None`: they are to be a full mesh, because they are few, or less than two may reflect.
    pub fn of(members: &BTreeMap<String, Member>, settings: &Settings) -> Option<Self> {
        if members.len() <= settings.mesh_limit {
            return None;
        }
        let per_client = settings.per_client.max(1);
        let wanted = settings.reflectors.unwrap_or_else(|| {
            // One more than a client prefers, so that there is one to go to.
            (members.len() * per_client).div_ceil(CLIENTS_PER_REFLECTOR).max(per_client + 1)
        });
        let chosen = choose::choose(members, wanted.max(2));
        if chosen.len() < 2 {
            return None;
        }
        let reflector = |name: &str| Reflector { hash: hash(name), domains: members[name].domains.clone() };
        let reflectors = chosen.into_iter().map(|name| (name.to_owned(), reflector(name))).collect();
        Some(Self { reflectors, per_client })
    }

    /// The reflectors, by name.
    pub fn reflectors(&self) -> impl Iterator<Item = &str> {
        self.reflectors.keys().map(String::as_str)
    }

    /// Whether a node reflects.
    pub fn is_reflector(&self, node: &str) -> bool {
        self.reflectors.contains_key(node)
    }

    /// The reflectors of a client, those that it prefers first, then those that stand by, both in the order in which it
    /// would go to them.
    pub fn ranking(&self, client: &str) -> Vec<(&str, Standing)> {
        let client = hash(client);
        let mut rest: Vec<(u64, &str, &Reflector)> = self
            .reflectors
            .iter()
            .map(|(name, reflector)| (weight(client, reflector.hash), name.as_str(), reflector))
            .collect();
        rest.sort_unstable_by_key(|(weight, name, _)| (Reverse(*weight), *name));
        let mut ranking: Vec<(&str, &Reflector)> = Vec::new();
        while ranking.len() < self.per_client + STANDBY && !rest.is_empty() {
            let nearness = |candidate: &Reflector| {
                let shared = ranking.iter().map(|(_, other)| shared(&candidate.domains, &other.domains));
                shared.max().unwrap_or(0)
            };
            let next = (0..rest.len()).min_by_key(|index| (nearness(rest[*index].2), *index));
            let (_, name, reflector) = rest.remove(next.expect("there is one"));
            ranking.push((name, reflector));
        }
        let standing =
            |place: usize| if place < self.per_client { Standing::Preferred } else { Standing::Standby };
        ranking.into_iter().enumerate().map(|(place, (name, _))| (name, standing(place))).collect()
    }

    /// What a reflector is to a client, if anything.
    pub fn standing(&self, client: &str, reflector: &str) -> Option<Standing> {
        let ranking = self.ranking(client);
        ranking.into_iter().find(|(name, _)| *name == reflector).map(|(_, standing)| standing)
    }
}

/// Whom a client dials: those that it prefers, and for each of them that is down the next that stands by and is not down
/// either, as far as there are such.
pub fn dialled<'a>(ranking: &[(&'a str, Standing)], down: &BTreeSet<&str>) -> Vec<&'a str> {
    let (preferred, standby): (Vec<_>, Vec<_>) =
        ranking.iter().partition(|(_, standing)| *standing == Standing::Preferred);
    let missing = preferred.iter().filter(|(name, _)| down.contains(name)).count();
    let mut found = 0;
    let next = standby.into_iter().take_while(|(name, _)| {
        let needed = found < missing;
        // One that is down is dialled, too: it may come back before the one that it stands in for.
        found += usize::from(!down.contains(name));
        needed
    });
    let next: Vec<_> = next.collect();
    preferred.into_iter().chain(next).map(|(name, _)| name).collect()
}

/// How many of the widest domains two nodes have in common. A node that does not say shares what is not said.
fn shared(a: &[String], b: &[String]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// A hash of a name that is the same on every host and in every version: FNV-1a, well mixed. Nobody gains from choosing
/// names so that they collide.
fn hash(name: &str) -> u64 {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix(name.bytes().fold(0xcbf2_9ce4_8422_2325, fold))
}

/// How much a client likes a reflector.
fn weight(client: u64, reflector: u64) -> u64 {
    mix(client ^ reflector.rotate_left(32))
}

/// Every bit of the outcome depends on every bit.
fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests;
