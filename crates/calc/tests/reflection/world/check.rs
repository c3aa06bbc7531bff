//! What is right in such a world, what has been lost, and what it cost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Bits, Host, Process, World, is_cut};

/// So long after a partition, or after a host got power, routes may still be lost across it: the longest wait before a
/// session is tried again, and some.
const MENDING: Duration = Duration::from_secs(60);

/// A moment at which a host lost its route to another one's block although a path was alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) at: Duration,
    pub(crate) host: usize,
    pub(crate) to: usize,
}

/// What has been done so far.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Ends of sessions that came up.
    pub(crate) established: u64,
    /// UPDATEs that were sent.
    pub(crate) updates: u64,
    /// Those of them whose routes have gone through more reflectors than two, as none has to: ways round among reflectors
    /// that have each other as clients.
    pub(crate) detours: u64,
    /// Octets that were sent.
    pub(crate) octets: u64,
    /// Changes that speakers gave their kernels, among them those that only name another reflector.
    pub(crate) best_routes: u64,
}

impl Counts {
    pub(super) fn sent(&mut self, message: &[Arc<[u8]>]) {
        for part in message {
            self.octets += part.len() as u64;
            self.count_updates(part);
        }
    }

    /// Counts the UPDATEs among whole messages (RFC 4271, section 4.1).
    fn count_updates(&mut self, mut bytes: &[u8]) {
        const UPDATE: u8 = 2;
        while !bytes.is_empty() {
            let (message, rest) = bytes.split_at(usize::from(u16::from_be_bytes([bytes[16], bytes[17]])));
            bytes = rest;
            if message[18] == UPDATE {
                self.updates += 1;
                self.detours += u64::from(cluster_list_len(&message[19..]) > 2);
            }
        }
    }

    /// What has been done since.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            established: self.established - before.established,
            updates: self.updates - before.updates,
            detours: self.detours - before.detours,
            octets: self.octets - before.octets,
            best_routes: self.best_routes - before.best_routes,
        }
    }
}

/// How long the CLUSTER_LIST of an UPDATE is (RFC 4271, section 4.3; RFC 4456, section 8).
fn cluster_list_len(body: &[u8]) -> usize {
    const CLUSTER_LIST: u8 = 10;
    const EXTENDED_LENGTH: u8 = 0x10;
    let length = |at: usize| usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
    let begin = 2 + length(0) + 2;
    let (mut at, end) = (begin, begin + length(begin - 2));
    while at < end {
        let (flags, code) = (body[at], body[at + 1]);
        let (header, octets) = match flags & EXTENDED_LENGTH {
            0 => (3, usize::from(body[at + 2])),
            _ => (4, length(at + 2)),
        };
        if code == CLUSTER_LIST {
            return octets / 4;
        }
        at += header + octets;
    }
    0
}

impl World {
    pub(super) fn route(&mut self, host: usize, owner: usize, is_there: bool) {
        let state = &mut self.hosts[host];
        let changed = match is_there {
            true => {
                state.named.insert(owner);
                state.kernel.insert(owner)
            }
            false => state.kernel.remove(owner),
        };
        // Who is on his way out is no longer told everything.
        let counts = self.hosts[host].registered && owner != host;
        if changed && !is_there && counts && self.has_long_had_path(host, owner) {
            self.losses.push(Loss { at: self.elapsed(), host, to: owner });
        }
    }

    /// Whether packets get from one host to a live other.
    fn has_path(&self, from: usize, to: usize) -> bool {
        self.hosts[to].is_there() && !is_cut(&self.cut, self.zone(from), self.zone(to))
    }

    /// A path that has just come back does not count: sessions need their time, too.
    fn has_long_had_path(&self, from: usize, to: usize) -> bool {
        let is_new = self.recut_at.is_some_and(|at| self.now() - at < MENDING);
        let just_up = self.now() - self.hosts[to].powered_since < MENDING;
        self.has_path(from, to) && !just_up && !(is_new && self.zone(from) != self.zone(to))
    }

    /// Whether every live host has a route to every block that it has a path to, and to no other.
    pub(crate) fn is_converged(&self) -> bool {
        let mut wanted: BTreeMap<usize, Bits> = BTreeMap::new();
        let live = self.hosts.iter().enumerate().filter(|(_, host)| host.is_live());
        live.into_iter().all(|(number, host)| {
            let wanted = wanted.entry(host.zone).or_insert_with(|| self.reached_from(host.zone));
            host.kernel.is_same_but_for(wanted, number)
        })
    }

    fn reached_from(&self, zone: usize) -> Bits {
        let reaches = |to: &&usize| self.hosts[**to].is_there() && !is_cut(&self.cut, zone, self.zone(**to));
        let all: Vec<usize> = (0..self.hosts.len()).collect();
        all.iter().filter(reaches).copied().collect()
    }

    /// How many sessions are up, and the most that one host has.
    pub(crate) fn sessions(&self) -> (usize, usize) {
        let up: Vec<usize> = self
            .hosts
            .iter()
            .filter_map(|host| host.process.as_ref())
            .map(|process| match process {
                Process::Whole(whole) => whole.sessions(),
                Process::Light(light) => light.sessions(),
            })
            .collect();
        (up.iter().sum::<usize>() / 2, up.into_iter().max().unwrap_or_default())
    }

    /// Whether no host keeps a session that is not wanted.
    pub(crate) fn is_settled(&self) -> bool {
        self.hosts.iter().filter_map(|host| host.process.as_ref()).all(|process| match process {
            Process::Whole(whole) => whole.is_settled(),
            Process::Light(light) => light.is_settled(),
        })
    }

    /// The hosts that live, and reflect or not.
    pub(crate) fn live(&self, reflects: bool) -> Vec<usize> {
        let live = self.hosts.iter().enumerate().filter(|(_, host)| host.is_live());
        live.filter(|(_, host)| host.reflects() == reflects).map(|(number, _)| number).collect()
    }
}

impl Host {
    /// It forwards, and counts.
    fn is_there(&self) -> bool {
        self.powered && self.registered
    }

    fn is_live(&self) -> bool {
        self.process.is_some() && self.registered
    }

    fn reflects(&self) -> bool {
        matches!(&self.process, Some(Process::Whole(whole)) if whole.reflects())
    }
}
