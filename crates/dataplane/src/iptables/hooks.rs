//! What every packet meets before an endpoint's chain (datapath.md 4.4 to 4.9, 4.14).

use std::collections::BTreeMap;
use std::sync::Arc;

use calc::contract::{Direction, IpVersion};
use calc::program::HostHook;
use ipnet::IpNet;

use super::dispatch::End;
use super::names;
use super::rule::{Rule, allowed, clear_mark, denied, deny, marked};
use super::tables::{Hook, TableName};
use crate::backend::{Features, Stage};
use crate::config::{
    AllowAction, DenyAction, EndpointToHostAction, MarkBits, Parameters, ServiceLoopPrevention,
};
use crate::nft::{NO_SERVICE, SPOOFED, TO_HOST, UNKNOWN_INTERFACE};

/// Where the tree of an end's workloads begins.
pub(super) fn workload_root(direction: Direction) -> &'static str {
    match direction {
        Direction::Egress => "cali-from-wl-dispatch",
        Direction::Ingress => "cali-to-wl-dispatch",
    }
}

/// The end of a packet at which the workloads of a direction are.
pub(super) fn workload_end(direction: Direction) -> End {
    match direction {
        Direction::Egress => End::In,
        Direction::Ingress => End::Out,
    }
}

/// Where the tree of host endpoints of a hook begins, and in which table.
pub(super) fn host_root(hook: HostHook, direction: Direction) -> (TableName, &'static str) {
    let table = TableName::of(Stage::of(hook));
    let name = match (hook, direction) {
        (HostHook::Forward, Direction::Ingress) => "cali-from-hep-forward",
        (HostHook::Forward, Direction::Egress) => "cali-to-hep-forward",
        (_, Direction::Ingress) => "cali-from-host-endpoint",
        (_, Direction::Egress) => "cali-to-host-endpoint",
    };
    (table, name)
}

/// The end of a packet at which the host endpoints of a direction are.
pub(super) fn host_end(direction: Direction) -> End {
    match direction {
        Direction::Ingress => End::In,
        Direction::Egress => End::Out,
    }
}

/// Chains of the tables, and what leads to them from the kernel's.
#[derive(Debug, Default)]
pub(super) struct Layout {
    pub(super) chains: BTreeMap<(TableName, &'static str), Vec<Rule>>,
    pub(super) hooks: BTreeMap<(TableName, &'static str), Hook>,
}

/// The layout of a family, without masquerading.
pub(super) fn layout(version: IpVersion, parameters: &Parameters, features: &Features) -> Layout {
    let builder = Builder { version, parameters, features, marks: parameters.mark_bits() };
    let mut layout = Layout::default();
    let mut add = |table, name, rules: Vec<Rule>| {
        if !rules.is_empty() {
            layout.chains.insert((table, name), rules);
        }
    };
    add(TableName::Raw, "cali-PREROUTING", builder.raw_prerouting());
    add(TableName::Raw, "cali-rpf-skip", builder.reverse_path());
    add(TableName::Raw, "cali-OUTPUT", builder.raw_output());
    add(TableName::Mangle, "cali-PREROUTING", builder.mangle_prerouting());
    add(TableName::Filter, "cali-INPUT", builder.input());
    add(TableName::Filter, "cali-wl-to-host", builder.workload_to_host());
    add(TableName::Filter, "cali-FORWARD", builder.forward());
    add(TableName::Filter, "cali-cidr-block", builder.services());
    add(TableName::Filter, "cali-OUTPUT", builder.output());
    for (table, chain) in layout.chains.keys() {
        if let Some(kernel) = chain.strip_prefix("cali-").filter(|name| KERNEL_CHAINS.contains(name)) {
            layout.hooks.insert((*table, kernel), hook(chain, parameters));
        }
    }
    let accepted = marked(builder.marks.accept);
    if let Some(forward) = layout.hooks.get_mut(&(TableName::Filter, "FORWARD"))
        && parameters.iptables_filter_allow_action == AllowAction::Accept
    {
        let comment = "Policy explicitly accepted packet.";
        forward.last.push(Rule::because(comment, &format!("{accepted} -j ACCEPT")));
    }
    layout
}

const KERNEL_CHAINS: [&str; 5] = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];

/// The jump from one of the kernel's chains.
pub(super) fn hook(chain: &str, parameters: &Parameters) -> Hook {
    Hook { first: vec![Rule::new(format!("-j {chain}"))], append: parameters.chain_append, last: Vec::new() }
}

struct Builder<'a> {
    version: IpVersion,
    parameters: &'a Parameters,
    features: &'a Features,
    marks: MarkBits,
}

impl Builder<'_> {
    fn raw_prerouting(&self) -> Vec<Rule> {
        // A packet that was looped back still has the marks of its first way.
        let mut rules = vec![self.unmark()];
        rules.extend(self.each_prefix(End::In, |matched| Rule::new(format!("{matched} -j cali-rpf-skip"))));
        rules.extend(self.host(HostHook::Untracked, Direction::Ingress, AllowAction::Accept));
        rules
    }

    fn raw_output(&self) -> Vec<Rule> {
        let mut rules = self.host(HostHook::Untracked, Direction::Egress, AllowAction::Accept);
        if self.features.has_early_hook() {
            rules.insert(0, self.unmark());
        }
        rules
    }

    fn unmark(&self) -> Rule {
        let MarkBits { accept, pass, early } = self.marks;
        Rule::new(clear_mark(accept | pass | early.unwrap_or(0)))
    }

    /// Packets from workloads must come from where their source is routed to.
    fn reverse_path(&self) -> Vec<Rule> {
        let mut rules = Vec::new();
        if self.parameters.workload_source_spoofing {
            let spoofing = self.features.spoofing.iter();
            let ours = spoofing.filter(|(name, net)| self.is_ours(net) && super::dispatch::is_plain(name));
            rules.extend(ours.map(|(interface, net)| {
                Rule::because("allowed source prefix", &format!("-i {interface} -s {net} -j RETURN"))
            }));
        }
        let spoofed = "-m rpfilter --validmark --invert ";
        rules.extend(drops(self.parameters, spoofed, SPOOFED, DenyAction::Drop));
        rules
    }

    fn is_ours(&self, net: &IpNet) -> bool {
        IpVersion::of(net.addr()) == self.version
    }

    fn mangle_prerouting(&self) -> Vec<Rule> {
        let allow = self.parameters.iptables_mangle_allow_action;
        self.host(HostHook::PreDnat, Direction::Ingress, allow)
    }

    fn input(&self) -> Vec<Rule> {
        let mut rules =
            self.each_prefix(End::In, |matched| Rule::new(format!("{matched} -g cali-wl-to-host")));
        let allow = self.parameters.iptables_filter_allow_action;
        rules.extend(self.host(HostHook::Normal, Direction::Ingress, allow));
        rules
    }

    /// A workload's egress policy, and then what the host takes from workloads.
    fn workload_to_host(&self) -> Vec<Rule> {
        let allow = target(self.parameters.iptables_filter_allow_action);
        let mut rules = Vec::new();
        if self.version == IpVersion::V6 {
            // IPv6 hosts and their neighbours must find each other: multicast listener and neighbour discovery.
            for kind in [130, 131, 132, 133, 135, 136] {
                let matched = format!("-p 58 -m icmp6 --icmpv6-type {kind} -j {allow}");
                rules.push(Rule::because("neighbour discovery", &matched));
            }
        }
        rules.push(Rule::new(format!("-j {}", workload_root(Direction::Egress))));
        let known = format!("-m conntrack --ctstate ESTABLISHED,RELATED -j {allow}");
        match self.parameters.default_endpoint_to_host_action {
            EndpointToHostAction::Return => rules.extend(self.told_of_allowed("")),
            EndpointToHostAction::Accept => {
                rules.push(Rule::because("established", &known));
                rules.extend(self.told_of_allowed(""));
                rules.push(Rule::because(TO_HOST, "-j ACCEPT"));
            }
            EndpointToHostAction::Drop => {
                rules.push(Rule::because("established", &known));
                rules.extend(drops(self.parameters, "", TO_HOST, DenyAction::Drop));
            }
        }
        rules
    }

    fn forward(&self) -> Vec<Rule> {
        let mut rules = vec![Rule::new(clear_mark(self.marks.accept))];
        for (direction, host) in
            [(Direction::Egress, Direction::Ingress), (Direction::Ingress, Direction::Egress)]
        {
            let root = workload_root(direction);
            rules.extend(
                self.each_prefix(workload_end(direction), |matched| {
                    Rule::new(format!("{matched} -j {root}"))
                }),
            );
            if self.features.host_hooks.contains(&(HostHook::Forward, host)) {
                let unless_final = self.marks.early.filter(|_| self.features.has_early_hook());
                let guard = unless_final.map(|bit| format!("-m mark ! --mark {bit:#x}/{bit:#x} "));
                let (_, root) = host_root(HostHook::Forward, host);
                rules.push(Rule::new(format!("{}-j {root}", guard.unwrap_or_default())));
            }
        }
        if !self.services().is_empty() {
            rules.push(Rule::new("-j cali-cidr-block"));
        }
        rules.extend(self.told_of_allowed(&format!("{} ", marked(self.marks.accept))));
        rules
    }

    /// Behind all judgements: the first packets of what is allowed.
    fn told_of_allowed(&self, matched: &str) -> Option<Rule> {
        let wanted = self.parameters.flow_log.allowed;
        wanted.then(|| Rule::because("allowed", &format!("{matched}{}", allowed())))
    }

    /// What is still addressed to a Service after destination NAT would come back by the default route, again and again.
    fn services(&self) -> Vec<Rule> {
        let action = match self.parameters.service_loop_prevention {
            ServiceLoopPrevention::Disabled => return Vec::new(),
            ServiceLoopPrevention::Drop => DenyAction::Drop,
            ServiceLoopPrevention::Reject => DenyAction::Reject,
        };
        let ours = self.features.service_networks.iter().filter(|net| self.is_ours(net));
        ours.flat_map(|net| drops(self.parameters, &format!("-d {net} "), NO_SERVICE, action)).collect()
    }

    /// The host and its own workloads talk freely.
    fn output(&self) -> Vec<Rule> {
        let allow = self.parameters.iptables_filter_allow_action;
        self.host(HostHook::Normal, Direction::Egress, allow)
    }

    /// Into a host endpoint's chain, and what becomes of what it accepts.
    fn host(&self, hook: HostHook, direction: Direction, allow: AllowAction) -> Vec<Rule> {
        let mut rules = Vec::new();
        if !self.features.host_hooks.contains(&(hook, direction)) {
            return rules;
        }
        let (_, root) = host_root(hook, direction);
        if let Some(bit) = self.marks.early.filter(|_| self.features.has_early_hook())
            && hook == HostHook::Normal
        {
            let accept = format!("{} -j {}", marked(bit), target(allow));
            rules.push(Rule::because("accepted before tracking or NAT", &accept));
        }
        rules.push(Rule::new(format!("-j {root}")));
        if hook == HostHook::Normal {
            rules.extend(self.told_of_allowed(&format!("{} ", marked(self.marks.accept))));
        }
        if allow == AllowAction::Accept {
            let accept = format!("{} -j ACCEPT", marked(self.marks.accept));
            rules.push(Rule::because("Host endpoint policy accepted packet.", &accept));
        }
        rules
    }

    fn each_prefix(&self, end: End, rule: impl Fn(&str) -> Rule) -> Vec<Rule> {
        prefixes(self.parameters).map(|prefix| rule(&format!("{} {prefix}", end.option()))).collect()
    }
}

/// Workloads' interfaces, as iptables names them.
pub(super) fn prefixes(parameters: &Parameters) -> impl Iterator<Item = String> + '_ {
    let longest = 15;
    parameters.interface_prefix.iter().map(move |prefix| match prefix.len() < longest {
        true => format!("{prefix}+"),
        false => prefix.clone(),
    })
}

fn target(action: AllowAction) -> &'static str {
    match action {
        AllowAction::Accept => "ACCEPT",
        AllowAction::Return => "RETURN",
    }
}

/// What ends the nodes of the tree of workloads.
pub(super) fn unknown_interface(parameters: &Parameters) -> Vec<Rule> {
    drops(parameters, "", UNKNOWN_INTERFACE, DenyAction::Drop)
}

/// Denies, and tells whoever listens.
fn drops(parameters: &Parameters, matched: &str, why: &str, action: DenyAction) -> Vec<Rule> {
    let told = parameters.flow_log.denied.then(|| Rule::new(format!("{matched}{}", denied(why))));
    let rule = Rule::because(why, &format!("{matched}{}", deny(action)));
    told.into_iter().chain([rule]).collect()
}

/// What begins a dispatch: a judgement finds no accept mark of another.
pub(super) fn fresh(parameters: &Parameters) -> Vec<Rule> {
    vec![Rule::new(clear_mark(parameters.mark_bits().accept))]
}

/// What ends the dispatch of host endpoints: the endpoint for every interface, if there is one. The host and its own workloads
/// talk freely, and nobody polices the loopback.
pub(super) fn any_host(direction: Direction, chain: &Arc<str>, parameters: &Parameters) -> Vec<Rule> {
    let option = host_end(direction).option();
    let mut rules: Vec<Rule> =
        prefixes(parameters).map(|prefix| Rule::new(format!("{option} {prefix} -j RETURN"))).collect();
    rules.push(Rule::new(format!("{option} lo -j RETURN")));
    rules.push(Rule::because("host endpoint for every interface", &format!("-g {chain}")));
    rules
}

/// The rules of `cali-nat-outgoing`: what a pool with natOutgoing sends to outside all pools leaves with the host's address.
pub(super) fn nat_outgoing(version: IpVersion, parameters: &Parameters) -> Vec<Rule> {
    let set = |id| names::name(id, version);
    let mut matched =
        format!("-m set --match-set {} src -m set ! --match-set {} dst ", set(MASQUERADED), set(POOLS));
    if parameters.nat_outgoing_excludes_hosts {
        matched += &format!("-m set ! --match-set {} dst ", set(HOSTS));
    }
    let address = parameters.nat_outgoing_address.filter(|_| version == IpVersion::V4);
    let translation = |ports: Option<(u16, u16)>| {
        let ports = ports.map(|(min, max)| format!("{min}-{max}"));
        match (address, ports) {
            (Some(address), Some(ports)) => format!("-j SNAT --to-source {address}:{ports} --random-fully"),
            (Some(address), None) => format!("-j SNAT --to-source {address} --random-fully"),
            (None, Some(ports)) => format!("-j MASQUERADE --to-ports {ports} --random-fully"),
            (None, None) => "-j MASQUERADE --random-fully".to_owned(),
        }
    };
    let mut rules = Vec::new();
    if parameters.nat_port_range.is_some() {
        for protocol in [6, 17] {
            let to = translation(parameters.nat_port_range);
            rules.push(Rule::because("natOutgoing", &format!("-p {protocol} {matched}{to}")));
        }
    }
    rules.push(Rule::because("natOutgoing", &format!("{matched}{}", translation(None))));
    rules
}

/// Calico's identities of the sets of masquerading.
pub(super) const MASQUERADED: &str = "masq-ipam-pools";
pub(super) const POOLS: &str = "network-ip-pools";
pub(super) const HOSTS: &str = "all-hosts-net";
