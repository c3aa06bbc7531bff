//! The sets of a family: what is wanted, what is there, and the `ipset restore` input that leads from one to the other.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use calc::contract::IpVersion;
use ipnet::IpNet;

use super::names;
use crate::ip_sets::{Delta, Member, Shape};

/// A set as it is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    shape: Shape,
    members: BTreeSet<Member>,
}

/// A set as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Actual {
    kind: String,
    maxelem: usize,
    members: BTreeSet<Member>,
}

/// The sets of a family.
#[derive(Debug)]
pub(super) struct Sets {
    version: IpVersion,
    wanted: BTreeMap<String, Wanted>,
}

impl Sets {
    pub(super) fn new(version: IpVersion) -> Self {
        Self { version, wanted: BTreeMap::new() }
    }

    /// The set has exactly these members.
    pub(super) fn set(&mut self, name: String, shape: Shape, members: &BTreeSet<Member>) {
        let members = members.iter().flat_map(|member| storable(*member)).collect();
        self.wanted.insert(name, Wanted { shape, members });
    }

    /// The set, which is there, loses and gains these members.
    pub(super) fn change(&mut self, name: &str, delta: &Delta) {
        let Some(set) = self.wanted.get_mut(name) else { return };
        for member in delta.removed.iter().flat_map(|member| storable(*member)) {
            set.members.remove(&member);
        }
        set.members.extend(delta.added.iter().flat_map(|member| storable(*member)));
    }

    /// There is no such set.
    pub(super) fn remove(&mut self, name: &str) {
        self.wanted.remove(name);
    }

    /// What is to be done before rules name the sets; empty when nothing differs. Then `actual` is what will be there.
    pub(super) fn plan(&self, actual: &mut BTreeMap<String, Actual>, size: u32) -> String {
        let mut input = String::new();
        let mut temporary = 0;
        for (name, wanted) in &self.wanted {
            let maxelem = wanted.members.len().max(size as usize).next_power_of_two();
            let kind = type_name(wanted.shape);
            match actual.get(name) {
                Some(known) if known.kind == kind && known.maxelem >= wanted.members.len() => {
                    if known.members == wanted.members {
                        continue;
                    }
                    let differences = known.members.symmetric_difference(&wanted.members).count();
                    if differences > wanted.members.len() / 2 && differences > FEW {
                        self.swap(name, wanted, maxelem, &mut temporary, &mut input);
                    } else {
                        change(name, wanted, known, &mut input);
                    }
                }
                Some(known) if known.kind == kind => {
                    self.swap(name, wanted, maxelem, &mut temporary, &mut input);
                }
                // Of another type it cannot be swapped, and no rule of ours names it.
                Some(_) => {
                    let _ = writeln!(input, "destroy {name}");
                    self.create(name, wanted, maxelem, &mut input);
                }
                None => self.create(name, wanted, maxelem, &mut input),
            }
            let members = wanted.members.clone();
            actual.insert(name.clone(), Actual { kind: kind.to_owned(), maxelem, members });
        }
        input
    }

    /// Sets of ours that nothing names any more.
    pub(super) fn unwanted(&self, actual: &BTreeMap<String, Actual>) -> Vec<String> {
        actual.keys().filter(|name| !self.wanted.contains_key(*name)).cloned().collect()
    }

    fn create(&self, name: &str, wanted: &Wanted, maxelem: usize, input: &mut String) {
        let family = match self.version {
            IpVersion::V4 => "inet",
            IpVersion::V6 => "inet6",
        };
        let kind = type_name(wanted.shape);
        let _ = writeln!(input, "create {name} {kind} family {family} maxelem {maxelem}");
        for member in &wanted.members {
            let _ = writeln!(input, "add {name} {}", text(*member));
        }
    }

    /// All members at once: a packet sees the set before or the one after.
    fn swap(&self, name: &str, wanted: &Wanted, maxelem: usize, temporary: &mut usize, input: &mut String) {
        let other = names::temporary(*temporary, self.version);
        *temporary += 1;
        self.create(&other, wanted, maxelem, input);
        let _ = writeln!(input, "swap {other} {name}\ndestroy {other}");
    }
}

/// So many changes are made one by one, whatever the size of the set.
const FEW: usize = 16;

fn change(name: &str, wanted: &Wanted, known: &Actual, input: &mut String) {
    for member in wanted.members.difference(&known.members) {
        let _ = writeln!(input, "add {name} {}", text(*member));
    }
    for member in known.members.difference(&wanted.members) {
        let _ = writeln!(input, "del {name} {}", text(*member));
    }
}

fn type_name(shape: Shape) -> &'static str {
    match shape {
        Shape::Addresses => "hash:ip",
        Shape::Networks => "hash:net",
        Shape::Ports => "hash:ip,port",
        Shape::NetworkPorts => "hash:net,port",
    }
}

/// ipset knows no network of length 0: it is two halves.
fn storable(member: Member) -> Vec<Member> {
    if member.net.prefix_len() > 0 {
        return vec![member];
    }
    // A length of 1 is one of every family.
    let halves = member.net.subnets(1).map_or_else(|_| vec![member.net], Iterator::collect);
    halves.into_iter().map(|net| Member { net, ..member }).collect()
}

fn text(member: Member) -> String {
    let net = match member.net.prefix_len() == member.net.max_prefix_len() {
        true => member.net.addr().to_string(),
        false => member.net.to_string(),
    };
    match member.port {
        None => net,
        Some((protocol, port)) => format!("{net},{}:{port}", protocol_name(protocol)),
    }
}

const PROTOCOLS: [(u8, &str); 4] = [(6, "tcp"), (17, "udp"), (132, "sctp"), (136, "udplite")];

fn protocol_name(protocol: u8) -> String {
    let known = PROTOCOLS.iter().find(|(number, _)| *number == protocol);
    known.map_or_else(|| protocol.to_string(), |(_, name)| (*name).to_owned())
}

/// Our sets of a family in what `ipset save` says.
pub(super) fn parse(saved: &str, version: IpVersion) -> BTreeMap<String, Actual> {
    let mut actual: BTreeMap<String, Actual> = BTreeMap::new();
    for line in saved.lines() {
        let mut words = line.split(' ');
        let (Some(verb), Some(name)) = (words.next(), words.next()) else { continue };
        if !name.starts_with(names::set_prefix(version)) {
            continue;
        }
        match (verb, words.next()) {
            ("create", Some(kind)) => {
                let mut rest = words.skip_while(|word| *word != "maxelem").skip(1);
                let maxelem = rest.next().and_then(|number| number.parse().ok()).unwrap_or(0);
                let kind = kind.to_owned();
                actual.insert(name.to_owned(), Actual { kind, maxelem, members: BTreeSet::new() });
            }
            ("add", Some(member)) => {
                if let (Some(set), Some(member)) = (actual.get_mut(name), parse_member(member)) {
                    set.members.insert(member);
                }
            }
            _ => {}
        }
    }
    actual
}

fn parse_member(text: &str) -> Option<Member> {
    let (net, port) = match text.split_once(',') {
        None => (text, None),
        Some((net, port)) => {
            let (protocol, port) = port.split_once(':')?;
            let known = PROTOCOLS.iter().find(|(_, name)| *name == protocol).map(|(number, _)| *number);
            (net, Some((known.or_else(|| protocol.parse().ok())?, port.parse().ok()?)))
        }
    };
    let net = net.parse().ok().or_else(|| net.parse::<IpAddr>().ok().map(IpNet::from))?;
    Some(Member { net, port })
}
