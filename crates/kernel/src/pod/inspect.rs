use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Error, GATEWAY_V4, PodSpec, find, host_prefix, is_pair};
use crate::interface::Setting;
use crate::link::Link;
use crate::route::KernelRoute;
use crate::sysctl::{ProcSys, Sysctl, Sysctls};
use crate::{MacAddress, Rtnetlink, ownership};

/// Something about a workload's plumbing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Whether it is inside the workload's namespace or on the host.
    pub inside: bool,
    /// What is wrong, with the names of the objects.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.inside { "in the workload's namespace" } else { "on the host" };
        write!(formatter, "{place}: {}", self.text)
    }
}

/// The findings on one side.
struct Findings {
    inside: bool,
    problems: Vec<Problem>,
}

impl Findings {
    fn new(inside: bool) -> Self {
        Self { inside, problems: Vec::new() }
    }

    fn note(&mut self, wrong: bool, text: impl FnOnce() -> String) {
        if wrong {
            self.problems.push(Problem { inside: self.inside, text: text() });
        }
    }
}

impl PodSpec<'_> {
    /// Reads everything back that [`PodSpec::add`] makes and gives what differs: nothing if all is well. For CNI CHECK.
    /// Changes nothing.
    ///
    /// # Errors
    /// [`Error`] when it cannot be read.
    pub fn inspect(&self, host: &mut Rtnetlink) -> Result<Vec<Problem>, Error> {
        let (inside, mut problems) = self.namespace.run(|| self.inspect_inside())??;
        let mut findings = Findings::new(false);
        let outside = find(host, &self.host_interface).map_err(Error::Host)?;
        findings.note(outside.is_none(), || format!("interface {} does not exist", self.host_interface));
        if let Some(outside) = outside {
            self.inspect_link(&outside, Some(MacAddress(ownership::HOST_MAC)), &mut findings);
            if let Some(inside) = &inside {
                let pair = is_pair(host, &outside, inside, self.namespace)?;
                findings.note(!pair, || {
                    format!("interface {} is not the other end of {}", self.host_interface, self.interface)
                });
            }
            inspect_settings(&self.settings_on_host(), &mut findings);
            let routes = host.main_routes().map_err(Error::Host)?;
            self.inspect_host_routes(outside.index, &routes, &mut findings);
        }
        problems.extend(findings.problems);
        Ok(problems)
    }

    fn inspect_inside(&self) -> Result<(Option<Link>, Vec<Problem>), Error> {
        let mut findings = Findings::new(true);
        let mut socket = Rtnetlink::open().map_err(Error::Inside)?;
        let Some(link) = find(&mut socket, &self.interface).map_err(Error::Inside)? else {
            findings.note(true, || format!("interface {} does not exist", self.interface));
            return Ok((None, findings.problems));
        };
        self.inspect_link(&link, self.mac, &mut findings);
        inspect_settings(&self.settings_inside(), &mut findings);
        let addresses = socket.addresses().map_err(Error::Inside)?;
        for address in &self.addresses {
            let found =
                addresses.iter().find(|found| found.index == link.index && found.address.addr() == *address);
            findings.note(found.is_none(), || format!("address {address} is not on {}", self.interface));
            findings.note(found.is_some_and(|found| found.tentative), || {
                format!("address {address} is tentative")
            });
        }
        let routes = socket.main_routes().map_err(Error::Inside)?;
        for (destination, gateway) in self.expected_routes() {
            let found = routes.iter().any(|route| leads(route, destination, gateway, link.index));
            findings.note(!found, || match gateway {
                Some(gateway) => {
                    format!("route {destination} via {gateway} dev {} is missing", self.interface)
                }
                None => format!("route {destination} dev {} is missing", self.interface),
            });
        }
        Ok((Some(link), findings.problems))
    }

    fn expected_routes(&self) -> impl Iterator<Item = (IpNet, Option<IpAddr>)> {
        let gateway = self.has_ipv4().then(|| (host_prefix(GATEWAY_V4.into()), None));
        gateway.into_iter().chain(
            self.usable_routes().map(|destination| (destination, Some(self.gateway(destination.addr())))),
        )
    }

    fn inspect_link(&self, link: &Link, mac: Option<MacAddress>, findings: &mut Findings) {
        let name = &link.name;
        findings.note(!link.up, || format!("interface {name} is down"));
        findings.note(link.kind.as_deref() != Some("veth"), || format!("interface {name} is not a veth"));
        if let Some(mtu) = self.mtu {
            findings
                .note(link.mtu != mtu, || format!("interface {name} has MTU {} instead of {mtu}", link.mtu));
        }
        if let Some(mac) = mac {
            findings.note(link.mac != Some(mac), || match link.mac {
                Some(other) => format!("interface {name} has MAC address {other} instead of {mac}"),
                None => format!("interface {name} has no MAC address instead of {mac}"),
            });
        }
    }

    fn inspect_host_routes(&self, index: u32, routes: &[KernelRoute], findings: &mut Findings) {
        for address in &self.addresses {
            let destination = host_prefix(*address);
            let found = routes.iter().any(|route| leads(route, destination, None, index));
            findings.note(!found, || format!("route {destination} dev {} is missing", self.host_interface));
        }
    }
}

fn inspect_settings(settings: &[Setting], findings: &mut Findings) {
    for Setting { sysctl, value, .. } in settings.iter().filter(|setting| !setting.best_effort) {
        match ProcSys.read(sysctl) {
            Ok(found) => findings.note(found != *value, || difference(sysctl, &found, value)),
            Err(error) => findings.note(true, || error.to_string()),
        }
    }
}

fn difference(sysctl: &Sysctl, found: &str, value: &str) -> String {
    format!("sysctl {sysctl} is {found} instead of {value}")
}

fn leads(route: &KernelRoute, destination: IpNet, gateway: Option<IpAddr>, index: u32) -> bool {
    let hop = |hop: &crate::route::Hop| hop.gateway == gateway && hop.device == Some(index);
    route.destination == destination && route.hops.iter().any(hop)
}
