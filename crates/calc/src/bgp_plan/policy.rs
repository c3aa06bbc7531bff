//! The policies of sessions and of the kernel (control-plane.md 3.3, 3.4, 3.6).

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use api::{EncapsulationMode, ProgramClusterRoutes};
use bgp::Family;
use bgp::packet::PeerKind;
use bgp::policy::{
    Actions, AnyCommunity, InterfacePattern, Match, Policy, PrefixCondition, PrefixMatch, PrefixSet,
    PriorityMatch, Rule, SourceMatch, Verdict,
};
use ipnet::IpNet;

use super::filters::{self, Direction};
use super::originate::{PoolRow, is_v6};
use super::planner::BgpPlanner;
use super::problems::Problem;
use super::types::{Originated, OriginatedKind};

/// Interfaces whose networks are never BGP's business.
const NOT_DIRECT: [&str; 2] = ["cali*", "kube-ipvs*"];
/// Devices of tunnels that the dataplane makes routes through.
const TUNNELS: [&str; 2] = ["*.cali", "*.calico"];
/// The device of IP-in-IP.
const IPIP: &str = "tunl0";
/// Rank of a learned route that shall be taken in place of a workload of this node: more than that of workloads, less than
/// that of blocks.
const PREFERRED: u32 = 200;

/// Policies that sessions have in common, made once: by families and filters, import and export.
pub(super) type Policies = BTreeMap<(BTreeSet<Family>, Vec<String>), (Policy, Policy)>;

impl BgpPlanner {
    /// The policies of a session with some families and filters. Where there are several families, each has its own rules.
    pub(super) fn policies(
        &self,
        (families, names): (&BTreeSet<Family>, &[String]),
        common: &BTreeMap<bool, Vec<Rule>>,
        made: &mut Policies,
        problems: &mut BTreeSet<Problem>,
    ) -> (Policy, Policy) {
        let make = || {
            let (mut import, mut export) = (Vec::new(), Vec::new());
            for family in families {
                let v6 = *family == Family::Ipv6Unicast;
                let only = (families.len() > 1).then_some(*family);
                let of_family = |rule: Rule| Rule { when: Match { family: only, ..rule.when }, ..rule };
                let prefer = std::iter::once(self.prefer_better(v6));
                let filters = self.filter_rules(names, Direction::Import, v6, problems);
                import.extend(prefer.chain(filters).map(of_family));
                let filters = self.filter_rules(names, Direction::Export, v6, problems);
                export.extend(filters.into_iter().chain(common[&v6].iter().cloned()).map(of_family));
            }
            (Policy::new(import, Verdict::Accept), Policy::new(export, Verdict::Reject))
        };
        made.entry((families.clone(), names.to_vec())).or_insert_with(make).clone()
    }

    /// A filter that does not exist is passed over, as in Calico.
    fn filter_rules(
        &self,
        names: &[String],
        direction: Direction,
        v6: bool,
        problems: &mut BTreeSet<Problem>,
    ) -> Vec<Rule> {
        let known = names.iter().filter_map(|name| Some((name, self.filters.get(name)?)));
        let mut all = Vec::new();
        for (name, filter) in known {
            let (rules, wrong) = filters::rules(name, &filter.spec, direction, v6);
            all.extend(rules);
            problems.extend(wrong);
        }
        all
    }

    /// A route with a better priority than normal is taken even in place of a workload here: it is moving away.
    fn prefer_better(&self, v6: bool) -> Rule {
        let normal = self.normal_priority(v6);
        Rule {
            name: "better than the normal route priority".into(),
            when: Match { priority: Some(PriorityMatch::BetterThan(normal)), ..Match::default() },
            set: Actions { preference: Some(PREFERRED), ..Actions::default() },
            verdict: None,
        }
    }

    /// What is done to every route of a family on its way to a peer, after the peer's filters.
    pub(super) fn common_export(
        &self,
        v6: bool,
        reflects: bool,
        originate: &BTreeMap<IpNet, Originated>,
        problems: &mut BTreeSet<Problem>,
    ) -> Vec<Rule> {
        let mut rules = Vec::new();
        let pools = || self.pools.iter().filter(move |(_, pool)| is_v6(&pool.cidr) == v6);
        let withheld = pools().filter(|(_, pool)| !pool.is_exported);
        rules.extend(withheld.map(|(name, pool)| {
            let label = format!("IPPool {name} disableBGPExport");
            Rule::deciding(label, Match::prefix(PrefixMatch::within(pool.cidr)), Verdict::Reject)
        }));
        rules.push(self.no_tunnels());
        let bpf = Match { interfaces: vec!["bpf*.cali".into()], ..Match::default() };
        rules.push(Rule::deciding("interfaces of the eBPF dataplane", bpf, Verdict::Reject));
        rules.extend(self.advertised_communities(v6, problems));
        rules.extend(self.aggregates_are_told(v6));
        rules.extend(self.aggregation(v6));
        let services =
            originate.iter().filter(|(net, of)| of.kind == OriginatedKind::Service && is_v6(net) == v6);
        let services: PrefixSet = services.map(|(net, _)| PrefixMatch::exactly(*net)).collect();
        let passed_on = self.service_ranges();
        let passed_on = passed_on.outside().filter(|net| reflects && is_v6(net) == v6);
        let passed_on: PrefixSet = passed_on.map(PrefixMatch::within).collect();
        let enabled: PrefixSet = pools()
            .filter(|(_, pool)| pool.is_enabled)
            .map(|(_, pool)| PrefixMatch::within(pool.cidr))
            .collect();
        for (label, set) in [
            ("addresses of services", services),
            ("a reflector passes on addresses of services", passed_on),
            ("enabled pools", enabled),
        ] {
            let is_empty = set.is_empty();
            rules.extend((!is_empty).then(|| Rule::deciding(label, Match::prefix(set), Verdict::Accept)));
        }
        rules
    }

    /// Who has a tunnel knows its other ends without BGP.
    fn no_tunnels(&self) -> Rule {
        let mut interfaces: Vec<InterfacePattern> = TUNNELS.map(Into::into).into();
        if !self.programs(ProgramClusterRoutes::EnabledIPIPOnly) {
            interfaces.push(IPIP.into());
        }
        let when = Match { peer: Some(PeerKind::Internal), interfaces, ..Match::default() };
        Rule::deciding("routes through tunnels", when, Verdict::Reject)
    }

    /// prefixAdvertisements: every one that has the prefix adds its communities.
    fn advertised_communities(&self, v6: bool, problems: &mut BTreeSet<Problem>) -> Vec<Rule> {
        let Some((object, spec)) = self.deciding_configuration(|spec| !spec.prefix_advertisements.is_empty())
        else {
            return Vec::new();
        };
        let mut rules = Vec::new();
        for (index, advertisement) in spec.prefix_advertisements.iter().enumerate() {
            let cidr = advertisement.cidr.net().trunc();
            if is_v6(&cidr) != v6 {
                continue;
            }
            let field = format!("spec.prefixAdvertisements[{index}]");
            let mut set = Actions::default();
            for text in &advertisement.communities {
                match filters::community(self.community_value(spec, text)) {
                    Ok(AnyCommunity::Standard(community)) => drop(set.add_communities.insert(community)),
                    Ok(AnyCommunity::Large(community)) => drop(set.add_large_communities.insert(community)),
                    Err(reason) => {
                        let remedy = "name one of spec.communities, or write its value";
                        let (object, reason) =
                            (format!("BGPConfiguration {object}"), format!("{reason}; it is not added"));
                        problems.insert(Problem::new(object, format!("{field}.communities"), reason, remedy));
                    }
                }
            }
            let name = format!("BGPConfiguration {object} prefixAdvertisements[{index}]").into();
            rules.push(Rule { name, when: Match::prefix(PrefixMatch::within(cidr)), set, verdict: None });
        }
        rules
    }

    /// Own blocks are told whole; what is more specific in them only while it has a better priority than normal. A block of
    /// one address counts too.
    fn aggregation(&self, v6: bool) -> Vec<Rule> {
        let set = |range: fn(IpNet) -> PrefixMatch| self.all_own_blocks(v6).map(range).collect::<PrefixSet>();
        let (exactly, within) = (set(PrefixMatch::exactly), set(PrefixMatch::within));
        if exactly.is_empty() {
            return Vec::new();
        }
        let better = PriorityMatch::BetterThan(self.normal_priority(v6));
        let moving = Match { priority: Some(better), ..Match::prefix(within.clone()) };
        vec![
            Rule::deciding("own blocks", Match::prefix(exactly), Verdict::Accept),
            Rule::deciding("inside own blocks, with a better priority than normal", moving, Verdict::Accept),
            Rule::deciding("inside own blocks", Match::prefix(within), Verdict::Reject),
        ]
    }

    /// What of learned routes goes into the kernel.
    pub(super) fn kernel_policy(&self) -> Policy {
        let prefer = |v6: bool| {
            let mut rule = self.prefer_better(v6);
            rule.when.prefix = Match::prefix(PrefixMatch::within(filters::all_of(v6))).prefix;
            rule.when.source = Some(SourceMatch::Learned);
            rule
        };
        let mut rules = vec![prefer(false), prefer(true)];
        let services: PrefixSet = self.service_ranges().all().map(PrefixMatch::within).collect();
        if !services.is_empty() {
            rules.push(Rule::deciding("addresses of services", Match::prefix(services), Verdict::Reject));
        }
        rules.extend(self.wireguard_peers());
        rules.extend(self.pools.iter().flat_map(|(name, pool)| self.pool_in_kernel(name, pool)));
        Policy::new(rules, Verdict::Accept)
    }

    /// Nodes that both have WireGuard reach each other through it, by routes of the dataplane.
    fn wireguard_peers(&self) -> Option<Rule> {
        let us = self.nodes.get(&self.node_name).filter(|_| self.tunnels.wireguard)?;
        let others = self.nodes.iter().filter(|(name, _)| **name != self.node_name);
        let addresses = others.flat_map(|(_, node)| {
            let both = |v6: bool| us.wireguard.has(v6) && node.wireguard.has(v6);
            node.addresses.iter().filter(move |address| both(address.is_ipv6()))
        });
        let set: PrefixSet = addresses.map(|address| PrefixMatch::exactly((*address).into())).collect();
        if set.is_empty() {
            return None;
        }
        let next_hop = Some(PrefixCondition { set, is_negated: false });
        let when = Match { next_hop, ..Match::default() };
        Some(Rule::deciding("nodes reached through WireGuard", when, Verdict::Reject))
    }

    /// Who makes the routes of a pool: the dataplane those through its tunnels, and whatever `programClusterRoutes` leaves
    /// to it. A tunnel that the dataplane cannot make is none: the routes are BGP's.
    fn pool_in_kernel(&self, name: &str, pool: &PoolRow) -> Vec<Rule> {
        let label = |what: &str| format!("IPPool {name}: {what}");
        let within = || Match::prefix(PrefixMatch::within(pool.cidr));
        let plain = |verdict| vec![Rule::deciding(label("no encapsulation"), within(), verdict)];
        if pool.vxlan != EncapsulationMode::Never && self.tunnels.vxlan {
            return vec![Rule::deciding(label("VXLAN"), within(), Verdict::Reject)];
        }
        if pool.ipip == EncapsulationMode::Never || !self.tunnels.ipip {
            let is_ours = pool.ipip != EncapsulationMode::Never || pool.vxlan != EncapsulationMode::Never;
            let programs = self.programs(ProgramClusterRoutes::EnabledNoEncapOnly);
            return plain(if programs || is_ours { Verdict::Accept } else { Verdict::Reject });
        }
        if !self.programs(ProgramClusterRoutes::EnabledIPIPOnly) {
            return vec![Rule::deciding(label("IP in IP"), within(), Verdict::Reject)];
        }
        let mut rules = Vec::new();
        if pool.ipip == EncapsulationMode::CrossSubnet {
            let next_hop = Some(PrefixCondition { set: self.local_subnets(), is_negated: false });
            let when = Match { next_hop, ..within() };
            rules.push(Rule::deciding(label("IP in IP, same subnet"), when, Verdict::Accept));
        }
        let set = Actions { tunnel: Some(IPIP.into()), ..Actions::default() };
        let rule =
            Rule { name: label("IP in IP").into(), when: within(), set, verdict: Some(Verdict::Accept) };
        rules.push(rule);
        rules
    }

    fn local_subnets(&self) -> PrefixSet {
        let networks = self.nodes.get(&self.node_name).into_iter().flat_map(|us| &us.networks);
        networks.map(|net| PrefixMatch::within(net.trunc())).collect()
    }

    /// Whether BGP makes the routes of a sort: `EnabledIPIPOnly` or `EnabledNoEncapOnly`.
    fn programs(&self, sort: ProgramClusterRoutes) -> bool {
        let all = self.setting(|spec| spec.program_cluster_routes);
        let all = all.unwrap_or(ProgramClusterRoutes::EnabledNoEncapOnly);
        all == ProgramClusterRoutes::Enabled || all == sort
    }

    /// The interfaces whose networks are not announced.
    pub(super) fn excluded_interfaces(&self) -> Vec<InterfacePattern> {
        let spec = self.deciding_configuration(|spec| !spec.ignored_interfaces.is_empty());
        let ignored = spec.into_iter().flat_map(|(_, spec)| &spec.ignored_interfaces);
        ignored.map(String::as_str).chain(NOT_DIRECT).map(Into::into).collect()
    }

    /// The networks of the host's interfaces.
    pub(super) fn networks(&self) -> BTreeMap<IpNet, std::sync::Arc<str>> {
        let of = |address: &IpNet| match address.addr() {
            IpAddr::V6(link_local) if link_local.is_unicast_link_local() => None,
            _ => Some(address.trunc()),
        };
        let all = self.interfaces.iter();
        all.flat_map(|(name, nets)| nets.iter().filter_map(of).map(|net| (net, name.clone()))).collect()
    }
}
