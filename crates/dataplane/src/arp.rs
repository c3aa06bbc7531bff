//! The table of ARP: the host never tells a workload that somebody else has the workload's own address.
//!
//! Proxy ARP answers for every address that the host can reach by another device, so while a workload's own route is not
//! there (yet, or any more) the host would answer for the workload's own address too, and the workload would take that for
//! a duplicate (datapath.md 2.2). Answers that leave by a workload's interface with its own address are dropped. Calico has
//! a chain for each interface; here it is an element of one set, which the kernel takes without checking the whole table.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use kernel::nft::{
    BaseChain, ChainType, DataType, Field, Hook, Match, Member, Part, Policy, Rule, SetKind, Verdict,
    priority,
};

use crate::model::Model;
use crate::nft::map;
use crate::table::DesiredTable;

const OUTPUT: &str = "filter-OUTPUT";

/// `ARPOP_REPLY`.
const REPLY: u16 = 2;

/// The manager of the table.
#[derive(Debug, Default)]
pub(crate) struct ArpRules {
    dirty: BTreeSet<Arc<str>>,
    /// What each interface has in the set.
    members: BTreeMap<Arc<str>, Vec<Member>>,
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
            table.set_set(map::ARP, SetKind::hash([DataType::IfName, DataType::Ipv4Addr]), Vec::new());
            table.set_chain(OUTPUT, Some(output()), vec![own()]);
        }
        let (mut removed, mut added) = (Vec::new(), Vec::new());
        for interface in std::mem::take(&mut self.dirty) {
            let endpoint = model.on_interface(&interface).map(|(_, endpoint)| endpoint);
            let addresses = endpoint.into_iter().flat_map(|endpoint| &endpoint.ipv4_nets);
            let members: Vec<Member> = addresses.map(|net| member(&interface, net.addr())).collect();
            added.extend(members.iter().cloned());
            let before = match members.is_empty() {
                true => self.members.remove(&interface),
                false => self.members.insert(interface, members),
            };
            removed.extend(before.unwrap_or_default());
        }
        if !(removed.is_empty() && added.is_empty()) {
            table.change_set(map::ARP, removed, added);
        }
    }
}

fn member(interface: &Arc<str>, address: IpAddr) -> Member {
    [Part::from(interface.clone()), Part::from(address)].into()
}

fn output() -> BaseChain {
    BaseChain {
        kind: ChainType::Filter,
        hook: Hook::Output,
        priority: priority::FILTER,
        policy: Policy::Accept,
    }
}

fn own() -> Rule {
    Rule::new()
        .when(Match::is(Field::ArpOperation, REPLY))
        .when(Match::fields_in_set([Field::Oifname, Field::ArpSaddrIp], map::ARP))
        .counter()
        .verdict(Verdict::Drop)
        .comment("a workload's own address")
}
