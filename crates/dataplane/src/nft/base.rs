//! Base chains: what every packet meets before an endpoint's chain (datapath.md 4.4 to 4.9).

use std::net::Ipv6Addr;

use calc::contract::{Direction, IpVersion};
use calc::program::{HostHook, Side};
use ipnet::IpNet;
use kernel::nft::{
    BaseChain, ChainType, Field, Hook, Match, Policy, Reject, Rule, SetMark, Statement, Verdict, priority,
};

use super::chain::{allowed, denied, in_networks};
use super::names::{host_map, map};
use crate::backend::Features;
use crate::config::{EndpointToHostAction, Parameters, ServiceLoopPrevention};

/// Why base chains deny: the comments of their rules, and the prefixes of what they log.
pub const BASE_DENIALS: [&str; 4] = [SPOOFED, UNKNOWN_INTERFACE, TO_HOST, NO_SERVICE];

pub(crate) const SPOOFED: &str = "spoofed source";
pub(crate) const UNKNOWN_INTERFACE: &str = "unknown interface";
pub(crate) const TO_HOST: &str = "workload to host: DefaultEndpointToHostAction";
pub(crate) const NO_SERVICE: &str = "no Service took it: ServiceLoopPrevention";

/// A base chain and its rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseRules {
    /// Its name: `filter-FORWARD`, ….
    pub name: &'static str,
    /// Where the kernel calls it.
    pub base: BaseChain,
    /// In order.
    pub rules: Vec<Rule>,
}

/// The base chains of a family; those without rules are left out.
pub fn base_chains(version: IpVersion, parameters: &Parameters, features: &Features) -> Vec<BaseRules> {
    let builder = Builder { version, parameters, features };
    let filter = |name, hook, priority, rules| BaseRules {
        name,
        base: BaseChain { kind: ChainType::Filter, hook, priority, policy: Policy::Accept },
        rules,
    };
    let chains = [
        filter("raw-PREROUTING", Hook::Prerouting, priority::RAW, builder.raw_prerouting()),
        filter("raw-OUTPUT", Hook::Output, priority::RAW, builder.raw_output()),
        filter(
            "mangle-PREROUTING",
            Hook::Prerouting,
            priority::MANGLE,
            builder.host(HostHook::PreDnat, Direction::Ingress),
        ),
        filter("filter-INPUT", Hook::Input, priority::FILTER, builder.input()),
        filter("filter-INPUT-to-host", Hook::Input, priority::FILTER + 1, builder.input_to_host()),
        filter("filter-FORWARD", Hook::Forward, priority::FILTER, builder.forward()),
        filter("filter-FORWARD-to", Hook::Forward, priority::FILTER + 1, builder.forward_to()),
        filter("filter-FORWARD-services", Hook::Forward, priority::FILTER + 2, builder.forward_to_services()),
        filter(
            "filter-OUTPUT",
            Hook::Output,
            priority::FILTER,
            builder.host(HostHook::Normal, Direction::Egress),
        ),
        filter("filter-INPUT-flows", Hook::Input, priority::FILTER + 2, builder.flows(&[Field::Iifname])),
        filter(
            "filter-FORWARD-flows",
            Hook::Forward,
            priority::FILTER + 2,
            builder.flows(&[Field::Iifname, Field::Oifname]),
        ),
        filter("filter-OUTPUT-flows", Hook::Output, priority::FILTER + 2, builder.flows(&[])),
    ];
    chains.into_iter().filter(|chain| !chain.rules.is_empty()).collect()
}

struct Builder<'a> {
    version: IpVersion,
    parameters: &'a Parameters,
    features: &'a Features,
}

impl Builder<'_> {
    fn raw_output(&self) -> Vec<Rule> {
        let mut rules = self.unmark();
        rules.extend(self.host(HostHook::Untracked, Direction::Egress));
        rules
    }

    /// The mark of packets that an early hook has accepted for good, where there are such hooks.
    fn final_bit(&self) -> Option<u32> {
        self.features.has_early_hook().then(|| self.parameters.mark_bits().accept)
    }

    /// A packet that was looped back still has the mark of its first way.
    fn unmark(&self) -> Vec<Rule> {
        self.final_bit().map(|bit| Rule::new().set_mark(SetMark::clear(bit))).into_iter().collect()
    }

    /// Packets from workloads must come from where their source is routed to.
    fn raw_prerouting(&self) -> Vec<Rule> {
        let mut rules = self.unmark();
        if self.parameters.workload_source_spoofing {
            let source = match self.version {
                IpVersion::V4 => Field::IpSaddr,
                IpVersion::V6 => Field::Ip6Saddr,
            };
            let ours = |net: &IpNet| IpVersion::of(net.addr()) == self.version;
            rules.extend(self.features.spoofing.iter().filter(|(_, net)| ours(net)).map(
                |(interface, net)| {
                    Rule::new()
                        .when(Match::is(Field::Iifname, interface.clone()))
                        .when(Match::net(source, *net))
                        .verdict(Verdict::Accept)
                        .comment("allowed source prefix")
                },
            ));
        }
        rules.extend(self.each_prefix(Field::Iifname, |matched| {
            // The unspecified address has no route; it is never forwarded either.
            let matched = match self.version {
                IpVersion::V4 => matched,
                IpVersion::V6 => matched.when(Match::is(Field::Ip6Saddr, Ipv6Addr::UNSPECIFIED).negate()),
            };
            self.drops(matched.when(Match::no_reverse_path(true)), SPOOFED)
        }));
        rules.extend(self.host(HostHook::Untracked, Direction::Ingress));
        rules
    }

    fn input(&self) -> Vec<Rule> {
        let mut rules = self.neighbour_discovery();
        rules.extend(self.dispatch(Field::Iifname, map::FROM_WORKLOAD));
        rules.extend(self.host(HostHook::Normal, Direction::Ingress));
        rules
    }

    /// What egress policy let through to this host.
    fn input_to_host(&self) -> Vec<Rule> {
        let verdict = match self.parameters.default_endpoint_to_host_action {
            EndpointToHostAction::Return => return Vec::new(),
            EndpointToHostAction::Accept => Verdict::Accept,
            EndpointToHostAction::Drop => Verdict::Drop,
        };
        let known = kernel::nft::ct_state::ESTABLISHED | kernel::nft::ct_state::RELATED;
        let mut rules =
            vec![Rule::new().when(Match::ct_state(known)).verdict(Verdict::Accept).comment("established")];
        rules.extend(self.neighbour_discovery());
        rules.extend(self.each_prefix(Field::Iifname, |matched| match verdict {
            Verdict::Drop => self.drops(matched, TO_HOST),
            _ => matched.counter().verdict(verdict.clone()).comment(TO_HOST),
        }));
        rules
    }

    fn forward(&self) -> Vec<Rule> {
        let mut rules = self.dispatch(Field::Iifname, map::FROM_WORKLOAD);
        rules.extend(self.host(HostHook::Forward, Direction::Ingress));
        rules
    }

    fn forward_to(&self) -> Vec<Rule> {
        let mut rules = self.dispatch(Field::Oifname, map::TO_WORKLOAD);
        rules.extend(self.host(HostHook::Forward, Direction::Egress));
        rules
    }

    /// What is still addressed to a Service after destination NAT would come back by the default route, again and again.
    fn forward_to_services(&self) -> Vec<Rule> {
        let ours = |net: &&IpNet| IpVersion::of(net.addr()) == self.version;
        let networks: Vec<IpNet> = self.features.service_networks.iter().filter(ours).copied().collect();
        let prevention = self.parameters.service_loop_prevention;
        if networks.is_empty() || prevention == ServiceLoopPrevention::Disabled {
            return Vec::new();
        }
        let matched = Rule::new().when(in_networks(self.version, Side::Destination, &networks));
        let logged = self.logged(matched.counter(), NO_SERVICE);
        let rule = match prevention {
            ServiceLoopPrevention::Reject => logged.reject(Reject::PortUnreachable),
            _ => logged.verdict(Verdict::Drop),
        };
        vec![rule.comment(NO_SERVICE)]
    }

    /// Into the endpoint's chain; a workload interface without one drops.
    fn dispatch(&self, field: Field, map: &str) -> Vec<Rule> {
        let mut rules = vec![lookup(field, map)];
        rules.extend(self.each_prefix(field, |matched| self.drops(matched, UNKNOWN_INTERFACE)));
        rules
    }

    fn drops(&self, matched: Rule, why: &'static str) -> Rule {
        self.logged(matched.counter(), why).verdict(Verdict::Drop).comment(why)
    }

    fn logged(&self, rule: Rule, why: &'static str) -> Rule {
        if self.parameters.flow_log.denied { rule.log(denied(why.to_owned())) } else { rule }
    }

    /// Behind all judgements: the first packets of what comes from a workload or goes to one, each once; those of everybody
    /// where there is a host endpoint.
    fn flows(&self, fields: &[Field]) -> Vec<Rule> {
        if !self.parameters.flow_log.allowed {
            return Vec::new();
        }
        let told = |rule: Rule| {
            rule.when(Match::ct_state(kernel::nft::ct_state::NEW)).log(allowed()).comment("allowed")
        };
        if !self.features.host_hooks.is_empty() {
            return vec![told(Rule::new())];
        }
        let mut rules = Vec::new();
        for field in fields {
            let others = match field {
                Field::Oifname => self.but_workloads(Field::Iifname),
                _ => Rule::new(),
            };
            let of_prefix =
                |prefix: &String| told(others.clone().when(Match::is(*field, format!("{prefix}*"))));
            rules.extend(self.parameters.interface_prefix.iter().map(of_prefix));
        }
        rules
    }

    /// Packets whose interface is no workload's.
    fn but_workloads(&self, field: Field) -> Rule {
        self.parameters
            .interface_prefix
            .iter()
            .fold(Rule::new(), |rule, prefix| rule.when(Match::is(field, format!("{prefix}*")).negate()))
    }

    /// Into a host endpoint's chain by interface, else into that of the endpoint for every interface.
    fn host(&self, hook: HostHook, direction: Direction) -> Vec<Rule> {
        let mut rules = Vec::new();
        if !self.features.host_hooks.contains(&(hook, direction)) {
            return rules;
        }
        let field = match direction {
            Direction::Ingress => Field::Iifname,
            Direction::Egress => Field::Oifname,
        };
        if let Some(bit) = self.final_bit().filter(|_| hook != HostHook::Untracked) {
            let marked = Rule::new().when(Match::mark(bit, bit));
            rules.push(marked.verdict(Verdict::Accept).comment("accepted before tracking or NAT"));
        }
        rules.push(lookup(field, host_map(hook, direction)));
        if let Some(chain) = self.features.any_host.get(&(hook, direction)) {
            // The host and its own workloads talk freely, and nobody polices the loopback.
            let rule = self.but_workloads(field).when(Match::is(field, "lo").negate());
            rules.push(
                rule.verdict(Verdict::goto(chain.clone())).comment("host endpoint for every interface"),
            );
        }
        rules
    }

    /// IPv6 hosts and their neighbours must find each other: multicast listener and neighbour discovery.
    fn neighbour_discovery(&self) -> Vec<Rule> {
        if self.version == IpVersion::V4 {
            return Vec::new();
        }
        let types = [130_u8, 131, 132, 133, 135, 136];
        self.each_prefix(Field::Iifname, |matched| {
            matched
                .when(Match::one_of(Field::Icmpv6Type, types))
                .verdict(Verdict::Accept)
                .comment("neighbour discovery")
        })
    }

    fn each_prefix(&self, field: Field, rule: impl Fn(Rule) -> Rule) -> Vec<Rule> {
        let prefixes = self.parameters.interface_prefix.iter();
        prefixes.map(|prefix| rule(Rule::new().when(Match::is(field, format!("{prefix}*"))))).collect()
    }
}

fn lookup(field: Field, map: &str) -> Rule {
    Rule::new().then(Statement::VerdictMap { fields: vec![field], map: map.into() })
}
