//! The table of ARP: the host never tells a workload that somebody else has the workload's own address.
//!
//! Proxy ARP answers for every address that the host can reach by another device, so while a workload's own route is not
//! there (yet, or any more) the host would answer for the workload's own address too, and the workload would take that for
//! a duplicate (datapath.md 2.2). Each workload with IPv4 has a chain that drops such answers; a verdict map finds it by the
//! interface that the answer leaves by.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kernel::nft::{
    BaseChain, ChainType, Field, Hook, Match, Member, Policy, Rule, Statement, Verdict, priority,
};

use crate::model::Model;
use crate::nft::{arp_chain_name, map};
use crate::table::DesiredTable;

const OUTPUT: &str = "filter-OUTPUT";

/// `ARPOP_REPLY`.
const REPLY: u16 = 2;

/// The manager of the table.
#[derive(Debug, Default)]
pub(crate) struct ArpRules {
    dirty: BTreeSet<Arc<str>>,
    /// What does not depend on any endpoint is there.
    laid_out: bool,
}

impl ArpRules {
    pub(crate) fn on_interfaces(&mut self, interfaces: &BTreeSet<Arc<str>>) {
        self.dirty.extend(interfaces.iter().cloned());
    }

    /// Brings the desired table up to date with the model.
    pub(crate) fn render(&mut self, model: &Model, table: &mut impl DesiredTable) {
        if !std::mem::replace(&mut self.laid_out, true) {
            table.set_map(map::ARP, BTreeMap::new());
            table.set_chain(OUTPUT, Some(output()), vec![dispatch()]);
        }
        for interface in std::mem::take(&mut self.dirty) {
            let (name, key) = (arp_chain_name(&interface), Member::from(interface.clone()));
            let endpoint = model.on_interface(&interface).map(|(_, endpoint)| endpoint);
            let addresses = endpoint.into_iter().flat_map(|endpoint| &endpoint.ipv4_nets);
            let rules: Vec<Rule> = addresses.map(|net| own(net.addr())).collect();
            if rules.is_empty() {
                table.remove_map_entry(map::ARP, &key);
                table.remove_chain(&name);
            } else {
                table.set_chain(&name, None, rules);
                table.set_map_entry(map::ARP, key, Verdict::goto(name));
            }
        }
    }
}

fn output() -> BaseChain {
    BaseChain {
        kind: ChainType::Filter,
        hook: Hook::Output,
        priority: priority::FILTER,
        policy: Policy::Accept,
    }
}

fn dispatch() -> Rule {
    Rule::new().then(Statement::VerdictMap { fields: vec![Field::Oifname], map: map::ARP.into() })
}

fn own(address: std::net::IpAddr) -> Rule {
    Rule::new()
        .when(Match::is(Field::ArpOperation, REPLY))
        .when(Match::is(Field::ArpSaddrIp, address))
        .counter()
        .verdict(Verdict::Drop)
        .comment("the workload's own address")
}
