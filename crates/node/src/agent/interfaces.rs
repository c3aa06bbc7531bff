//! The host's interfaces and their addresses, as far as BGP wants to know them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use calc::bgp_plan::BgpPlanner;
use ipnet::IpNet;
use kernel::address::InterfaceAddress;
use kernel::monitor::Event;
use kernel::ownership::is_workload_interface;

/// `RT_SCOPE_HOST`: not reachable from outside.
const SCOPE_HOST: u8 = 254;

/// Names and addresses by number of the interface; either may be known first.
#[derive(Debug, Default)]
pub(super) struct Interfaces {
    names: BTreeMap<u32, String>,
    addresses: BTreeMap<u32, BTreeSet<IpNet>>,
}

impl Interfaces {
    /// Takes in an event, and tells the planner what it changes.
    pub(super) fn on_event(&mut self, event: &Event, planner: &mut BgpPlanner) {
        match event {
            Event::Link(link) => {
                let name = link.name.to_string();
                let before = self.names.insert(link.index, name.clone());
                if before.as_ref() != Some(&name) {
                    before.into_iter().for_each(|old| planner.on_interface(&old, BTreeSet::new()));
                    self.tell(link.index, planner);
                }
            }
            Event::LinkGone { index, name } => {
                self.names.remove(index);
                self.addresses.remove(index);
                planner.on_interface(name.as_ref(), BTreeSet::new());
            }
            Event::Address(address) => self.change(address, planner, BTreeSet::insert),
            Event::AddressGone(address) => self.change(address, planner, |all, gone| all.remove(&gone)),
            _ => {}
        }
    }

    /// Addresses that lead nowhere but to the link or the host itself are not told: every pod's link has one.
    fn change(
        &mut self,
        address: &InterfaceAddress,
        planner: &mut BgpPlanner,
        change: impl FnOnce(&mut BTreeSet<IpNet>, IpNet) -> bool,
    ) {
        let is_link_local = match address.address.addr() {
            IpAddr::V4(_) => false,
            IpAddr::V6(address) => address.is_unicast_link_local(),
        };
        if address.scope == SCOPE_HOST || is_link_local {
            return;
        }
        if change(self.addresses.entry(address.index).or_default(), address.address) {
            self.tell(address.index, planner);
        }
    }

    /// What is on workloads' interfaces is for them alone: it is no network of the host.
    fn tell(&self, index: u32, planner: &mut BgpPlanner) {
        let (Some(name), Some(addresses)) = (self.names.get(&index), self.addresses.get(&index)) else {
            return;
        };
        if !is_workload_interface(name) {
            planner.on_interface(name, addresses.clone());
        }
    }
}
