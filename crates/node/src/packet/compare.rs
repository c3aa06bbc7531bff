//! The table that the kernel has beside the one that it should have.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::wire::packet::{
    PacketQuestion, RuleFacts, SetFacts, StageFacts, StageHook, StagePlace, StageQuestion,
};
use calc::contract::Direction;
use calc::program::{ChainId, HostHook};
use dataplane::nft::{chain_name, map, origin_comment};
use kernel::nft::{
    ChainBase, DataType, Member, RuleCount, RuleState, SetSchema, SetState, TableState, Value, Verdict,
};

/// So many sets are listed.
const SETS: usize = 16;

/// Compares, and remembers the first difference.
pub(super) struct Comparison<'a> {
    wanted: &'a TableState,
    actual: Option<&'a TableState>,
    counters: &'a [RuleCount],
    meanings: &'a BTreeMap<String, String>,
    pub(super) difference: Option<String>,
}

impl<'a> Comparison<'a> {
    pub(super) fn new(
        wanted: &'a TableState,
        actual: Option<&'a TableState>,
        counters: &'a [RuleCount],
        meanings: &'a BTreeMap<String, String>,
    ) -> Self {
        let mut comparison = Self { wanted, actual, counters, meanings, difference: None };
        match actual {
            None if !wanted.chains.is_empty() => {
                comparison.differ("the kernel does not have the table".to_owned())
            }
            Some(table) if table.dormant => {
                comparison.differ("the kernel's table is switched off (dormant)".to_owned())
            }
            _ => {}
        }
        comparison
    }

    /// What every packet meets before an endpoint's chain.
    pub(super) fn base_chains(&mut self) {
        let is_base = |base: ChainBase| !matches!(base, ChainBase::Regular);
        let tables = [Some(self.wanted), self.actual];
        let chains = tables.into_iter().flatten().flat_map(|table| &table.chains);
        let names: BTreeSet<&str> =
            chains.filter(|(_, chain)| is_base(chain.base)).map(|(name, _)| name.as_str()).collect();
        names.into_iter().for_each(|name| self.chain(name));
    }

    /// The chains that a packet can come by at a stage, and their sets.
    pub(super) fn stage(&mut self, question: &StageQuestion, packet: &PacketQuestion) -> StageFacts {
        let start = self.start(question);
        let chains = self.reachable(start.as_deref());
        chains.iter().for_each(|name| self.chain(name));
        let rules =
            |name: &String| self.actual.and_then(|table| table.chains.get(name)).map(|chain| &chain.rules);
        let sets: BTreeSet<Arc<str>> =
            chains.iter().filter_map(rules).flatten().flat_map(|rule| rule.body.sets()).cloned().collect();
        let count = chains.iter().filter_map(rules).map(Vec::len).sum();
        let rule = self.rule(&chains, &question.origin);
        if rule.is_none() && !question.origin.is_empty() {
            self.differ(format!("the kernel has no rule {:?} where it should decide", question.origin));
        }
        sets.iter().for_each(|name| self.set(name));
        StageFacts {
            chain: start,
            chains: chains.len(),
            rules: count,
            rule,
            more_sets: sets.len().saturating_sub(SETS),
            sets: sets.iter().take(SETS).filter_map(|name| self.set_facts(name, packet)).collect(),
        }
    }

    /// The chain that the kernel enters.
    fn start(&mut self, question: &StageQuestion) -> Option<String> {
        let direction = if question.ingress { Direction::Ingress } else { Direction::Egress };
        let name = match &question.at {
            StagePlace::Host { name, hook } => {
                let id = ChainId::Host(name.as_str().into(), host_hook(*hook), direction);
                let name = chain_name(&id).to_string();
                self.actual.is_some_and(|table| table.chains.contains_key(&name)).then_some(name)
            }
            StagePlace::Workload(interface) => {
                let dispatch = if question.ingress { map::TO_WORKLOAD } else { map::FROM_WORKLOAD };
                let wanted = dispatched(self.wanted, dispatch, interface);
                let actual = self.actual.and_then(|table| dispatched(table, dispatch, interface));
                if wanted != actual {
                    let text = |chain: &Option<String>| chain.clone().unwrap_or_else(|| "nothing".to_owned());
                    self.differ(format!(
                        "map {dispatch} should lead {interface} to {}, and leads it to {}",
                        text(&wanted),
                        text(&actual)
                    ));
                }
                actual
            }
        };
        if name.is_none() {
            self.differ("the kernel has no chain for a judgement of the packet".to_owned());
        }
        name
    }

    /// The chain and all that it leads to, in the order in which they are come by.
    fn reachable(&self, start: Option<&str>) -> Vec<String> {
        let mut found: Vec<String> = start.into_iter().map(str::to_owned).collect();
        let mut next = 0;
        while let Some(name) = found.get(next).cloned() {
            next += 1;
            let chain = self.actual.and_then(|table| table.chains.get(&name));
            for target in
                chain.into_iter().flat_map(|chain| &chain.rules).flat_map(|rule| rule.body.targets())
            {
                if !found.iter().any(|known| **known == **target) {
                    found.push(target.to_string());
                }
            }
        }
        found
    }

    fn chain(&mut self, name: &str) {
        let wanted = self.wanted.chains.get(name);
        let actual = self.actual.and_then(|table| table.chains.get(name));
        let (Some(wanted), Some(actual)) = (wanted, actual) else {
            return match (wanted, actual) {
                (Some(_), None) => self.differ(format!("the kernel does not have chain {name}")),
                (None, Some(_)) => self.differ(format!("chain {name} of the kernel should not be there")),
                _ => {}
            };
        };
        if wanted.base != actual.base {
            return self.differ(format!("chain {name} is hooked otherwise than it should be"));
        }
        let longest = wanted.rules.len().max(actual.rules.len());
        for index in 0..longest {
            let (wanted, actual) = (wanted.rules.get(index), actual.rules.get(index));
            if wanted.map(|rule| &rule.body) != actual.map(|rule| &rule.body) {
                let (wanted, actual) = (rule_text(wanted), rule_text(actual));
                let text = if wanted == actual {
                    format!("chain {name}, rule {index} ({wanted}): its conditions or actions differ")
                } else {
                    format!("chain {name}, rule {index}: should be {wanted}, is {actual}")
                };
                return self.differ(text);
            }
        }
    }

    fn set(&mut self, name: &str) {
        let wanted = self.wanted.sets.get(name);
        let actual = self.actual.and_then(|table| table.sets.get(name));
        let (Some(wanted), Some(actual)) = (wanted, actual) else {
            if wanted.is_some() != actual.is_some() {
                self.differ(format!(
                    "set {name} is only in {}",
                    if wanted.is_some() { "the model" } else { "the kernel" }
                ));
            }
            return;
        };
        if wanted.elements == actual.elements {
            return;
        }
        let missing = wanted.elements.keys().find(|element| !actual.elements.contains_key(element));
        let surplus = actual.elements.keys().find(|element| !wanted.elements.contains_key(element));
        let text =
            |element| wanted.schema.as_ref().and_then(|schema: &SetSchema| schema.kind.member(element));
        let what = match (missing.and_then(text), surplus.and_then(text)) {
            (Some(member), _) => format!("lacks {}", member_text(&member)),
            (None, Some(member)) => format!("has {}, which it should not", member_text(&member)),
            (None, None) => "has other members than it should".to_owned(),
        };
        self.differ(format!("set {name} ({}) of the kernel {what}", self.meaning(name)));
    }

    fn meaning(&self, name: &str) -> String {
        self.meanings.get(name).cloned().unwrap_or_else(|| "the node's own".to_owned())
    }

    fn rule(&self, chains: &[String], origin: &str) -> Option<RuleFacts> {
        if origin.is_empty() {
            return None;
        }
        let wanted = origin_comment(origin);
        let is_it = |rule: &RuleState| {
            let comment = rule.body.comment().unwrap_or_default();
            comment == wanted || comment.strip_prefix(&wanted).is_some_and(|rest| rest.starts_with(' '))
        };
        chains.iter().find_map(|name| {
            let chain = self.actual?.chains.get(name)?;
            let index = chain.rules.iter().position(is_it)?;
            let handle = chain.rules[index].handle;
            let counter = self.counters.iter().find(|of| of.chain == *name && of.handle == handle);
            Some(RuleFacts {
                chain: name.clone(),
                index,
                packets: counter.map(|counter| counter.count.packets),
                bytes: counter.map(|counter| counter.count.bytes),
            })
        })
    }

    fn set_facts(&self, name: &str, packet: &PacketQuestion) -> Option<SetFacts> {
        let set = self.actual?.sets.get(name)?;
        Some(SetFacts {
            name: name.to_owned(),
            meaning: self.meaning(name),
            members: set.elements.len(),
            has_source: has(set, packet.source, packet.protocol, packet.source_port),
            has_destination: has(set, packet.destination, packet.protocol, packet.destination_port),
        })
    }

    fn differ(&mut self, text: String) {
        self.difference.get_or_insert(text);
    }
}

/// The chain that a verdict map leads an interface to.
fn dispatched(table: &TableState, map: &str, interface: &str) -> Option<String> {
    let set = table.sets.get(map)?;
    let kind = &set.schema.as_ref()?.kind;
    let key = [Value::Name(interface.into())];
    let found = set.elements.iter().find(|(element, _)| element.covers(kind, &key));
    found.and_then(|(_, verdict)| verdict.as_ref().and_then(Verdict::target)).map(ToString::to_string)
}

/// Whether an address, or an address with protocol and port, is a member.
fn has(set: &SetState, address: std::net::IpAddr, protocol: u8, port: u16) -> bool {
    let Some(schema) = &set.schema else { return false };
    let key: &[Value] = match schema.kind.key.as_slice() {
        [DataType::Ipv4Addr | DataType::Ipv6Addr] => &[address.into()],
        _ => &[address.into(), u32::from(protocol).into(), u32::from(port).into()],
    };
    set.elements.keys().any(|element| element.covers(&schema.kind, key))
}

fn rule_text(rule: Option<&RuleState>) -> String {
    match rule.map(|rule| rule.body.comment()) {
        None => "no rule".to_owned(),
        Some(None) => "a rule without comment".to_owned(),
        Some(Some(comment)) => format!("{comment:?}"),
    }
}

fn member_text(Member(parts): &Member) -> String {
    let text = |part: &kernel::nft::Part| match part {
        kernel::nft::Part::One(value) => value.to_string(),
        kernel::nft::Part::Range(low, high) => format!("{low}-{high}"),
    };
    parts.iter().map(text).collect::<Vec<_>>().join(" . ")
}

fn host_hook(hook: StageHook) -> HostHook {
    match hook {
        StageHook::Normal => HostHook::Normal,
        StageHook::Forward => HostHook::Forward,
        StageHook::Untracked => HostHook::Untracked,
        StageHook::PreDnat => HostHook::PreDnat,
    }
}
