//! Calico's shape of a ruleset, as our objects: chains of ten rules, sets, a verdict map that dispatches.

use std::net::Ipv4Addr;

use anyhow::Result;
use kernel::nft::{
    BaseChain, ChainType, DataType, Family, Field, Hook, Match, NftSocket, NftTable, Policy, Rule, SetKind,
    Statement, Verdict, ct_state,
};

pub(super) const MEMBERS: u32 = 100;
pub(super) const SETS: u32 = 100;
pub(super) const RULES_OF_A_POD: u32 = 10;
/// Rules of a pod that look a set up.
const LOOKUPS: u32 = 7;

pub(super) const BASE: BaseChain =
    BaseChain { kind: ChainType::Filter, hook: Hook::Forward, priority: 0, policy: Policy::Accept };

pub(super) fn open(table: &str) -> Result<NftTable<NftSocket>> {
    Ok(NftTable::new(NftSocket::open()?, Family::Ip, table))
}

pub(super) fn chain_name(pod: u32) -> String {
    format!("cali-tw-cali{pod}")
}

/// The sets and ports that a pod's rules look up.
pub(super) fn lookups(pod: u32) -> impl Iterator<Item = (u32, u16)> {
    (0..LOOKUPS).zip(1000..).map(move |(n, port)| ((pod + n) % SETS, port))
}

/// Connection tracking, seven sets with a port each, a drop.
pub(super) fn chain(pod: u32) -> Vec<Rule> {
    let lookup = |(set, port)| {
        Rule::new()
            .when(Match::in_set(Field::IpSaddr, format!("s{set}")))
            .when(Match::is(Field::TcpDport, port))
            .counter()
            .verdict(Verdict::Accept)
    };
    let state = |states, verdict| Rule::new().when(Match::ct_state(states)).verdict(verdict);
    let first = [
        state(ct_state::ESTABLISHED | ct_state::RELATED, Verdict::Accept),
        state(ct_state::INVALID, Verdict::Drop),
    ];
    let last = [Rule::new().counter().verdict(Verdict::Drop)];
    first.into_iter().chain(lookups(pod).map(lookup)).chain(last).collect()
}

pub(super) fn members(set: u32) -> impl Iterator<Item = Ipv4Addr> {
    (0..MEMBERS).map(move |n| Ipv4Addr::from(0x0a00_0000 + set * 0x1_0000 + n))
}

pub(super) fn dispatch() -> Rule {
    Rule::new().then(Statement::VerdictMap { fields: vec![Field::Oifname], map: "dispatch".into() })
}

pub(super) fn fill(table: &mut NftTable<NftSocket>, pods: u32) -> Result<()> {
    for set in 0..SETS {
        table.set_set(format!("s{set}"), SetKind::hash([DataType::Ipv4Addr]), members(set))?;
    }
    for pod in 0..pods {
        table.set_chain(chain_name(pod), chain(pod))?;
    }
    let entries = (0..pods).map(|pod| (format!("cali{pod}"), Verdict::goto(chain_name(pod))));
    table.set_map("dispatch", SetKind::hash([DataType::IfName]), entries)?;
    table.set_base_chain("filter-FORWARD", BASE, vec![dispatch()])?;
    Ok(())
}

/// One more pod.
pub(super) fn add_pod(table: &mut NftTable<NftSocket>, pod: u32) -> Result<()> {
    table.set_chain(chain_name(pod), chain(pod))?;
    table.set_entry("dispatch", format!("cali{pod}"), Verdict::goto(chain_name(pod)))?;
    Ok(())
}
