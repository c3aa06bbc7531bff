//! What comes out of the managers, as the text that nft would list.

use std::collections::BTreeMap;
use std::sync::Arc;

use calc::contract::*;
use kernel::nft::{BaseChain, Member, Rule as NftRule, SetKind, Verdict};

use crate::common::*;
use crate::config::Parameters;
use crate::family::Family;
use crate::model::Model;
use crate::nft::NftRules;
use crate::table::DesiredTable;

/// A table in memory that keeps what it is given and counts what changes.
#[derive(Debug, Default)]
struct Recorder {
    chains: BTreeMap<String, (Option<BaseChain>, Vec<NftRule>)>,
    sets: BTreeMap<String, (SetKind, Vec<Member>)>,
    maps: BTreeMap<String, BTreeMap<Member, Verdict>>,
    written: Vec<String>,
}

impl DesiredTable for Recorder {
    fn set_chain(&mut self, name: &str, base: Option<BaseChain>, rules: Vec<NftRule>) {
        let chain = (base, rules);
        if self.chains.get(name) != Some(&chain) {
            self.written.push(format!("chain {name}"));
            self.chains.insert(name.to_owned(), chain);
        }
    }

    fn remove_chain(&mut self, name: &str) {
        if self.chains.remove(name).is_some() {
            self.written.push(format!("no chain {name}"));
        }
    }

    fn set_set(&mut self, name: &str, kind: SetKind, members: Vec<Member>) {
        self.written.push(format!("set {name}"));
        self.sets.insert(name.to_owned(), (kind, members));
    }

    fn change_set(&mut self, name: &str, removed: Vec<Member>, added: Vec<Member>) {
        self.written.push(format!("set {name} -{} +{}", removed.len(), added.len()));
        let members = &mut self.sets.get_mut(name).expect("a set that is there").1;
        members.retain(|member| !removed.contains(member));
        members.extend(added);
    }

    fn remove_set(&mut self, name: &str) {
        if self.sets.remove(name).is_some() || self.maps.remove(name).is_some() {
            self.written.push(format!("no set {name}"));
        }
    }

    fn set_map(&mut self, name: &str, entries: BTreeMap<Member, Verdict>) {
        self.maps.insert(name.to_owned(), entries);
    }

    fn set_map_entry(&mut self, name: &str, key: Member, verdict: Verdict) {
        let before = self.maps.get_mut(name).expect("a map that is there").insert(key, verdict.clone());
        if before != Some(verdict) {
            self.written.push(format!("map {name}"));
        }
    }

    fn remove_map_entry(&mut self, name: &str, key: &Member) {
        if self.maps.get_mut(name).is_some_and(|map| map.remove(key).is_some()) {
            self.written.push(format!("map {name}"));
        }
    }
}

struct Bench {
    family: Family<NftRules<Recorder>>,
    model: Model,
    parameters: Parameters,
}

impl Bench {
    fn new(version: IpVersion, changes: impl IntoIterator<Item = Change>) -> Self {
        let family = Family::new(version, NftRules::new(version, Recorder::default()));
        let mut bench = Self { family, model: Model::default(), parameters: Parameters::default() };
        bench.play(changes);
        bench
    }

    /// Takes in changes and renders; the answer is what was written.
    fn play(&mut self, changes: impl IntoIterator<Item = Change>) -> Vec<String> {
        for change in changes {
            self.take(change);
        }
        self.family.rules.render(&self.model, &self.parameters, &mut self.family.backend);
        std::mem::take(&mut self.family.backend.table.written)
    }

    fn take(&mut self, change: Change) {
        let rules = &mut self.family.rules;
        match change {
            Change::PolicyUpdate { id, policy } => {
                rules.on_policy(&id);
                self.model.policies.insert(id, policy);
            }
            Change::ProfileUpdate { id, profile } => {
                rules.on_profile(&id);
                self.model.profiles.insert(id, profile);
            }
            Change::WorkloadEndpointUpdate { id, endpoint } => {
                rules.on_interfaces(&self.model.set_workload(id, Some(endpoint)).interfaces);
            }
            Change::WorkloadEndpointRemove { id } => {
                rules.on_interfaces(&self.model.set_workload(id, None).interfaces);
            }
            Change::HostEndpointUpdate { name, endpoint } => {
                rules.on_hosts();
                self.model.hosts.insert(name, endpoint);
            }
            Change::PoolUpdate { cidr, pool } => {
                rules.on_pools();
                self.model.pools.insert(cidr, pool);
            }
            Change::PoolRemove { cidr } => {
                rules.on_pools();
                self.model.pools.remove(&cidr);
            }
            Change::ConfigUpdate { parameters } => {
                self.parameters = Parameters::effective(&parameters, &BTreeMap::new()).0;
                rules.on_parameters(&self.model);
            }
            other => self.family.on_ip_set(&other, &self.model),
        }
    }

    fn chain(&self, name: &str) -> Vec<String> {
        let chain = self.family.backend.table.chains.get(name);
        let (_, rules) = chain.unwrap_or_else(|| {
            panic!("no chain {name} among {:?}", self.family.backend.table.chains.keys().collect::<Vec<_>>())
        });
        rules.iter().map(ToString::to_string).collect()
    }

    /// The name of the chain that judges what an interface receives (ingress) or sends.
    fn judge(&self, interface: &str, direction: Direction) -> String {
        let map = match direction {
            Direction::Ingress => "cali-to-wl-dispatch",
            Direction::Egress => "cali-from-wl-dispatch",
        };
        match &self.family.backend.table.maps[map][&Member::from(Arc::from(interface))] {
            Verdict::Goto(chain) => chain.to_string(),
            other => panic!("{other:?}"),
        }
    }

    fn judged(&self, interface: &str, direction: Direction) -> Vec<String> {
        self.chain(&self.judge(interface, direction))
    }

    /// The names of the chains of workloads.
    fn workload_chains(&self) -> Vec<&String> {
        let is_workloads = |name: &&String| name.starts_with("cali-tw-") || name.starts_with("cali-fw-");
        self.family.backend.table.chains.keys().filter(is_workloads).collect()
    }
}

const V4: IpVersion = IpVersion::V4;

fn web() -> Vec<Change> {
    let tiers = vec![tier("default", TierDefault::Deny, &["web"], &[])];
    vec![
        net_set("s:clients", &["10.65.0.7/32"]),
        policy(
            "web",
            vec![Rule {
                source: from_set(Action::Allow, "s:clients").source,
                ..to_port(Action::Allow, 6, 80)
            }],
            vec![],
        ),
        open_profile(),
        endpoint("web", workload("cali1", "10.65.0.2", tiers)),
    ]
}

#[test]
fn an_endpoint_is_two_map_entries_that_lead_to_two_chains() {
    let bench = Bench::new(V4, web());
    assert_eq!(
        bench.judged("cali1", Direction::Ingress),
        [
            "ct state established,related counter accept comment \"established\"",
            "ct state invalid counter drop comment \"invalid\"",
            "jump cali-pi-gnp/web",
            "counter drop comment \"end of tier default ingress\"",
        ]
    );
    assert_eq!(
        bench.judged("cali1", Direction::Egress)[2..],
        ["jump cali-pro-open", "counter drop comment \"no profile matched egress\""]
    );
    let keys: Vec<&String> = bench.family.backend.table.maps.keys().collect();
    assert_eq!(keys, ["cali-from-wl-dispatch", "cali-to-wl-dispatch"]);
    assert_eq!(bench.workload_chains().len(), 2);
}

#[test]
fn a_rule_looks_into_its_set_and_names_its_policy() {
    let bench = Bench::new(V4, web());
    assert_eq!(
        bench.chain("cali-pi-gnp/web"),
        [
            "tcp dport 80 ip saddr @cali40s-clients counter accept comment \"GlobalNetworkPolicy/web ingress 0\""
        ]
    );
}

#[test]
fn the_same_again_writes_nothing() {
    let mut bench = Bench::new(V4, web());
    let without_sets = web().into_iter().skip(1);
    assert_eq!(bench.play(without_sets), Vec::<String>::new());
}

#[test]
fn a_changed_policy_rewrites_its_own_chain_only() {
    let mut bench = Bench::new(V4, web());
    assert_eq!(
        bench.play([policy("web", vec![to_port(Action::Allow, 6, 81)], vec![])]),
        ["chain cali-pi-gnp/web"]
    );
}

#[test]
fn a_policy_that_begins_to_pass_rewrites_the_chains_that_walk_it() {
    let mut bench = Bench::new(V4, web());
    let walks_it = bench.judge("cali1", Direction::Ingress);
    assert_eq!(
        bench.play([policy("web", vec![rule(Action::Pass)], vec![])]),
        ["chain cali-pi-gnp/web".to_owned(), format!("chain {walks_it}")]
    );
    assert_eq!(
        bench.chain("cali-pi-gnp/web"),
        ["counter meta mark set meta mark | 0x00020000 return comment \"GlobalNetworkPolicy/web ingress 0\""]
    );
}

#[test]
fn members_change_by_deltas_until_the_shape_changes() {
    let mut bench = Bench::new(V4, web());
    assert_eq!(
        bench.play([delta("s:clients", &["10.65.0.7/32"], &["10.65.0.8/32"])]),
        ["set cali40s-clients -1 +1"]
    );
    assert_eq!(
        bench.play([delta("s:clients", &[], &["10.66.0.0/16"])]),
        ["set cali40s-clients-net", "no set cali40s-clients", "chain cali-pi-gnp/web"]
    );
    assert!(bench.chain("cali-pi-gnp/web")[0].contains("@cali40s-clients-net"));
}

#[test]
fn a_set_that_was_never_sent_is_there_as_long_as_a_rule_looks_into_it() {
    let mut bench = Bench::new(V4, web());
    let sets = |bench: &Bench| bench.family.backend.table.sets.keys().cloned().collect::<Vec<_>>();
    bench.play([policy("web", vec![from_set(Action::Allow, "s:absent")], vec![])]);
    assert_eq!(sets(&bench), ["cali40s-absent", "cali40s-clients"]);
    bench.play([policy("web", vec![from_set(Action::Allow, "s:clients")], vec![])]);
    assert_eq!(sets(&bench), ["cali40s-clients"], "nobody will ever say that it is to go");
    bench.play([policy("web", vec![from_set(Action::Allow, "s:absent")], vec![])]);
    bench.play([net_set("s:absent", &["10.65.0.9/32"])]);
    bench.play([policy("web", vec![to_port(Action::Allow, 6, 80)], vec![])]);
    assert_eq!(sets(&bench), ["cali40s-absent", "cali40s-clients"], "it was sent");
}

#[test]
fn endpoints_that_are_judged_alike_share_their_chains() {
    let mut bench = Bench::new(V4, web());
    let tiers = vec![tier("default", TierDefault::Deny, &["web"], &[])];
    assert_eq!(
        bench.play([endpoint("twin", workload("cali2", "10.65.0.3", tiers.clone()))]),
        ["map cali-to-wl-dispatch", "map cali-from-wl-dispatch"],
        "a further one is two elements"
    );
    bench.play([Change::WorkloadEndpointRemove { id: endpoint_id("web") }]);
    assert_eq!(bench.workload_chains().len(), 2, "somebody still uses them");
    let (to, from) = (bench.judge("cali2", Direction::Ingress), bench.judge("cali2", Direction::Egress));
    bench.play([endpoint("twin", workload("cali2", "10.65.0.3", vec![]))]);
    assert_ne!(bench.judge("cali2", Direction::Ingress), to, "no tier any more");
    assert_eq!(bench.judge("cali2", Direction::Egress), from, "the tier had nothing for this direction");
    assert_eq!(bench.workload_chains().len(), 2, "the chain that nobody uses has gone");
    bench.play([endpoint("other", workload("cali3", "10.65.0.4", tiers))]);
    assert_eq!(bench.judge("cali3", Direction::Ingress), to, "the name says what judges, in every process");
}

#[test]
fn a_removed_endpoint_leaves_nothing() {
    let mut bench = Bench::new(V4, web());
    bench.play([Change::WorkloadEndpointRemove { id: endpoint_id("web") }]);
    assert_eq!(bench.workload_chains(), Vec::<&String>::new());
    assert!(bench.family.backend.table.maps.values().all(BTreeMap::is_empty));
}

#[test]
fn of_two_endpoints_on_an_interface_the_first_has_it() {
    let mut bench = Bench::new(V4, web());
    let mut closed = workload("cali1", "10.65.0.3", vec![]);
    closed.profiles.clear();
    assert_eq!(bench.play([endpoint("zzz", closed.clone())]), Vec::<String>::new());
    bench.play([endpoint("aaa", closed)]);
    assert_eq!(
        bench.judged("cali1", Direction::Ingress).last().unwrap(),
        "counter drop comment \"no profile matched ingress\""
    );
}

#[test]
fn forwarding_judges_by_the_interface_in_and_then_by_the_interface_out() {
    let bench = Bench::new(V4, []);
    assert_eq!(
        bench.chain("filter-FORWARD"),
        [
            "iifname vmap @cali-from-wl-dispatch",
            "iifname \"cali*\" counter drop comment \"unknown interface\"",
        ]
    );
    assert_eq!(
        bench.chain("filter-FORWARD-to"),
        ["oifname vmap @cali-to-wl-dispatch", "oifname \"cali*\" counter drop comment \"unknown interface\"",]
    );
    assert_eq!(
        bench.chain("raw-PREROUTING"),
        ["iifname \"cali*\" fib saddr . mark . iif oif missing counter drop comment \"spoofed source\""]
    );
}

#[test]
fn what_workloads_may_do_to_the_host_is_a_parameter() {
    let mut bench = Bench::new(V4, []);
    let last = |bench: &Bench| bench.chain("filter-INPUT-to-host").pop().unwrap();
    assert!(last(&bench).contains(" drop "));
    bench.play([parameters(&[("DefaultEndpointToHostAction", "ACCEPT")])]);
    assert!(last(&bench).contains(" accept "));
    assert_eq!(
        bench.play([parameters(&[("DefaultEndpointToHostAction", "RETURN")])]),
        ["no chain filter-INPUT-to-host"]
    );
}

#[test]
fn ipv6_hosts_hear_their_neighbours() {
    let bench = Bench::new(IpVersion::V6, []);
    assert!(
        bench.chain("filter-INPUT")[0].contains("nd-neighbor-solicit"),
        "{:?}",
        bench.chain("filter-INPUT")
    );
}

#[test]
fn pools_with_nat_outgoing_are_masqueraded_and_without_them_nothing_is() {
    let mut bench = Bench::new(V4, []);
    let pool = |nat_outgoing| Change::PoolUpdate {
        cidr: "10.65.0.0/16".parse().unwrap(),
        pool: Pool { nat_outgoing, ..Pool::default() },
    };
    bench.play([pool(true)]);
    assert_eq!(
        bench.chain("cali-nat-outgoing"),
        [
            "ip saddr @cali40masq-ipam-pools ip daddr != @cali40network-ip-pools masquerade fully-random comment \"natOutgoing\""
        ]
    );
    bench.play([pool(false)]);
    assert!(!bench.family.backend.table.chains.contains_key("nat-POSTROUTING"));
    assert_eq!(bench.family.backend.table.sets.len(), 0);
}

#[test]
fn a_host_endpoint_has_failsafe_ports_and_its_own_dispatch() {
    let endpoint = HostEndpoint {
        interface: Some("eth0".into()),
        expected_ips: Vec::new(),
        tiers: Vec::new(),
        untracked_tiers: Vec::new(),
        pre_dnat_tiers: Vec::new(),
        forward_tiers: vec![tier("default", TierDefault::Pass, &["web"], &[])],
        profiles: Vec::new(),
    };
    let changes = web()
        .into_iter()
        .chain([Change::HostEndpointUpdate { name: "eth".into(), endpoint: endpoint.into() }]);
    let bench = Bench::new(V4, changes);
    assert_eq!(
        bench.chain("cali-fh-eth")[2..],
        ["jump cali-failsafe-in", "counter drop comment \"no profile matched ingress\""]
    );
    assert_eq!(bench.chain("cali-fhfw-eth")[2..], ["jump cali-pi-gnp/web"]);
    assert_eq!(bench.chain("filter-OUTPUT"), ["oifname vmap @cali-to-host-endpoint"]);
    assert_eq!(bench.chain("filter-INPUT").last().unwrap(), "iifname vmap @cali-from-host-endpoint");
    assert!(bench.chain("cali-failsafe-in")[0].contains("tcp dport 22"));
}

#[test]
fn what_an_early_hook_accepts_no_later_one_drops() {
    let (id, mut early) = match policy("early", vec![to_port(Action::Allow, 6, 80)], vec![]) {
        Change::PolicyUpdate { id, policy } => (id, Policy::clone(&policy)),
        other => panic!("{other:?}"),
    };
    early.pre_dnat = true;
    let endpoint = HostEndpoint {
        interface: Some("eth0".into()),
        expected_ips: Vec::new(),
        tiers: Vec::new(),
        untracked_tiers: Vec::new(),
        pre_dnat_tiers: vec![tier("default", TierDefault::Deny, &["early"], &[])],
        forward_tiers: Vec::new(),
        profiles: Vec::new(),
    };
    let bench = Bench::new(
        V4,
        [
            Change::PolicyUpdate { id, policy: early.into() },
            Change::HostEndpointUpdate { name: "eth".into(), endpoint: endpoint.into() },
        ],
    );
    assert_eq!(
        bench.chain("cali-pi-gnp/early"),
        [
            "tcp dport 80 counter meta mark set meta mark | 0x00010000 accept comment \"GlobalNetworkPolicy/early ingress 0\""
        ]
    );
    assert_eq!(bench.chain("raw-PREROUTING")[0], "meta mark set meta mark & 0xfffeffff");
    let marked = "meta mark & 0x00010000 == 0x00010000 accept comment \"accepted before tracking or NAT\"";
    assert_eq!(bench.chain("mangle-PREROUTING"), [marked, "iifname vmap @cali-from-hep-pre-dnat"]);
    let input = bench.chain("filter-INPUT");
    assert_eq!(input[input.len() - 2..], [marked, "iifname vmap @cali-from-host-endpoint"]);
    // An end of tier is no end there.
    assert_eq!(bench.chain("cali-fhpd-eth")[2..], ["jump cali-failsafe-in", "jump cali-pi-gnp/early"]);
}

#[test]
fn annotations_of_a_rule_follow_its_identity_in_the_comment() {
    let mut annotated = rule(Action::Allow);
    annotated.annotations.insert("ticket".to_owned(), "a \"quoted\" one".to_owned());
    let mut bench = Bench::new(V4, web());
    bench.play([policy("p", vec![annotated], vec![])]);
    assert_eq!(
        bench.chain("cali-pi-gnp/p"),
        ["counter accept comment \"GlobalNetworkPolicy/p ingress 0 ticket=a _quoted_ one\""]
    );
}

#[test]
fn a_family_that_no_endpoint_has_gets_no_policies_and_no_sets() {
    let mut bench = Bench::new(IpVersion::V6, web());
    assert_eq!(
        bench.judged("cali1", Direction::Ingress),
        ["counter drop comment \"no address of the family\""]
    );
    assert!(!bench.family.backend.table.chains.contains_key("cali-pi-gnp/web"));
    assert_eq!(bench.family.backend.table.sets.len(), 0);
    let mut dual = workload("cali2", "10.65.0.3", vec![tier("default", TierDefault::Deny, &["web"], &[])]);
    dual.ipv6_nets.push("2001:db8::3/128".parse().unwrap());
    bench.play([endpoint("dual", dual)]);
    assert!(bench.judged("cali2", Direction::Ingress).contains(&"jump cali-pi-gnp/web".to_owned()));
    assert!(bench.chain("cali-pi-gnp/web")[0].contains("@cali60s-clients"));
    assert_eq!(
        bench.judged("cali1", Direction::Ingress),
        ["counter drop comment \"no address of the family\""]
    );
    bench.play([Change::WorkloadEndpointRemove { id: endpoint_id("dual") }]);
    assert!(!bench.family.backend.table.chains.contains_key("cali-pi-gnp/web"));
    assert_eq!(bench.family.backend.table.sets.len(), 0);
}
