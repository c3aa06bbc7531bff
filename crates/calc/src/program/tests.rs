//! What the renderer makes of policies and endpoints.

use super::*;
use crate::contract::{Action, PolicyKind, Qos, Rule as ContractRule, RuleOwner, Tier, TierDefault};

fn policy_id(name: &str) -> PolicyId {
    PolicyId { kind: PolicyKind::GlobalNetworkPolicy, namespace: None, name: name.into() }
}

fn rule(owner: &PolicyId, index: u32, action: Action) -> ContractRule {
    let id = RuleId { owner: RuleOwner::Policy(owner.clone()), direction: Direction::Ingress, index };
    ContractRule::new(id, action)
}

fn policy(name: &str, actions: &[Action]) -> (PolicyId, Policy) {
    let id = policy_id(name);
    let inbound = (0..).zip(actions).map(|(index, action)| rule(&id, index, *action)).collect();
    let policy = Policy {
        tier: "default".into(),
        inbound,
        outbound: Vec::new(),
        untracked: false,
        pre_dnat: false,
        apply_on_forward: false,
        rechecks: false,
    };
    (id, policy)
}

fn program(policies: &[(&str, &[Action])]) -> Program {
    let mut program = Program::new(IpVersion::V4);
    for (name, actions) in policies {
        let (id, policy) = policy(name, actions);
        program.set_policy(&id, &policy);
    }
    program
}

fn tier(name: &str, default_action: TierDefault, ingress: &[&str]) -> Tier {
    let ingress = ingress.iter().map(|name| policy_id(name)).collect();
    Tier { name: name.into(), default_action, ingress, egress: Vec::new() }
}

fn endpoint(tiers: Vec<Tier>, profiles: &[&str]) -> WorkloadEndpoint {
    WorkloadEndpoint {
        active: true,
        interface: "cali1".into(),
        mac: None,
        ipv4_nets: Vec::new(),
        ipv6_nets: Vec::new(),
        tiers,
        profiles: profiles.iter().map(|name| ProfileId((*name).into())).collect(),
        allow_spoofed_source_prefixes: Vec::new(),
        qos: Qos::default(),
    }
}

/// A chain in one line a rule: `[unless passed] verdict`; without the two rules on tracked packets.
fn lines(chain: &Chain) -> Vec<String> {
    chain
        .rules
        .iter()
        .filter(|rule| ![Origin::Established, Origin::Invalid].contains(&rule.origin))
        .map(|rule| {
            let guard = if rule.matches == [Match::Passed(false)] { "unless passed: " } else { "" };
            match &rule.verdict {
                Verdict::Jump(id) => format!("{guard}jump {id}"),
                Verdict::Drop => format!("{guard}drop: {}", rule.origin),
                Verdict::Accept => format!("{guard}accept: {}", rule.origin),
                other => format!("{guard}{other:?}"),
            }
        })
        .collect()
}

/// The chain that judges a workload, in lines.
fn workload(endpoint: &WorkloadEndpoint, direction: Direction, program: &Program) -> Vec<String> {
    let judgement = Judgement::of(endpoint, direction);
    lines(&workload_chain(&judgement, direction, Options::default(), program))
}

#[test]
fn the_usual_endpoint_is_a_jump_for_each_policy_and_one_drop() {
    let program = program(&[("a", &[Action::Allow]), ("b", &[Action::Deny])]);
    let endpoint = endpoint(vec![tier("default", TierDefault::Deny, &["a", "b"])], &["kns.x"]);
    assert_eq!(
        workload(&endpoint, Direction::Ingress, &program),
        [
            "jump policy GlobalNetworkPolicy/a ingress",
            "jump policy GlobalNetworkPolicy/b ingress",
            "drop: end of tier default ingress"
        ]
    );
}

#[test]
fn a_tier_that_can_pass_guards_what_follows_in_it_and_goes_on() {
    let program = program(&[("a", &[Action::Pass]), ("b", &[Action::Deny]), ("c", &[Action::Allow])]);
    let tiers =
        vec![tier("first", TierDefault::Deny, &["a", "b"]), tier("default", TierDefault::Deny, &["c"])];
    assert_eq!(
        workload(&endpoint(tiers, &[]), Direction::Ingress, &program),
        [
            "ClearPass",
            "jump policy GlobalNetworkPolicy/a ingress",
            "unless passed: jump policy GlobalNetworkPolicy/b ingress",
            "unless passed: drop: end of tier first ingress",
            "jump policy GlobalNetworkPolicy/c ingress",
            "drop: end of tier default ingress"
        ]
    );
}

#[test]
fn a_direction_without_policies_reaches_the_profiles() {
    let mut program = program(&[("a", &[Action::Allow])]);
    let profile = Profile { inbound: Vec::new(), outbound: vec![rule(&policy_id("x"), 0, Action::Allow)] };
    program.set_profile(&ProfileId("kns.x".into()), &profile);
    let endpoint = endpoint(vec![tier("default", TierDefault::Deny, &["a"])], &["kns.x", "gone", "kns.y"]);
    assert_eq!(
        workload(&endpoint, Direction::Egress, &program),
        ["jump profile kns.x egress", "drop: profile not known: gone"]
    );
}

#[test]
fn an_unknown_policy_denies_in_its_place() {
    let program = program(&[("a", &[Action::Allow])]);
    let endpoint = endpoint(vec![tier("default", TierDefault::Pass, &["a", "gone", "a"])], &[]);
    assert_eq!(
        workload(&endpoint, Direction::Ingress, &program),
        ["jump policy GlobalNetworkPolicy/a ingress", "drop: policy not known: GlobalNetworkPolicy/gone"]
    );
}

#[test]
fn staged_policies_are_not_enforced_and_do_not_end_a_tier() {
    let mut staged = tier("default", TierDefault::Deny, &["a"]);
    staged.ingress[0].kind = PolicyKind::StagedGlobalNetworkPolicy;
    let program = Program::new(IpVersion::V4);
    assert_eq!(
        workload(&endpoint(vec![staged], &[]), Direction::Ingress, &program),
        ["drop: no profile matched ingress"]
    );
}

#[test]
fn an_inactive_endpoint_drops_everything() {
    let mut endpoint = endpoint(Vec::new(), &[]);
    endpoint.active = false;
    let program = Program::new(IpVersion::V4);
    assert_eq!(workload(&endpoint, Direction::Ingress, &program), ["drop: endpoint disabled"]);
}

#[test]
fn forwarded_traffic_of_a_host_endpoint_without_forward_policy_is_allowed() {
    let endpoint = HostEndpoint {
        interface: Some("eth0".into()),
        expected_ips: Vec::new(),
        tiers: Vec::new(),
        untracked_tiers: Vec::new(),
        pre_dnat_tiers: Vec::new(),
        forward_tiers: Vec::new(),
        profiles: Vec::new(),
    };
    let program = Program::new(IpVersion::V4);
    let chain = |hook| lines(&host_chain(&endpoint, hook, Direction::Ingress, Options::default(), &program));
    assert_eq!(chain(HostHook::Forward), ["accept: no policy on forwarded traffic"]);
    assert_eq!(chain(HostHook::Normal), ["jump failsafe ingress", "drop: no profile matched ingress"]);
    assert_eq!(chain(HostHook::PreDnat), ["jump failsafe ingress"]);
}

fn rendered(change: impl FnOnce(&mut ContractRule), version: IpVersion) -> Vec<Vec<Match>> {
    let (_, mut policy) = policy("p", &[Action::Allow]);
    change(&mut policy.inbound[0]);
    let chain = policy_chain(&policy, Direction::Ingress, version);
    chain.rules.into_iter().map(|rule| rule.matches).collect()
}

#[test]
fn rules_of_the_other_family_are_not_rendered() {
    let only_v6 = |rule: &mut ContractRule| rule.source.nets = vec!["2001:db8::/32".parse().unwrap()];
    assert_eq!(rendered(only_v6, IpVersion::V4), Vec::<Vec<Match>>::new());
    assert_eq!(rendered(only_v6, IpVersion::V6).len(), 1);
    let not_v6 = |rule: &mut ContractRule| rule.source.not_nets = vec!["2001:db8::/32".parse().unwrap()];
    assert_eq!(rendered(not_v6, IpVersion::V4), Vec::<Vec<Match>>::new());
    let nothing = |rule: &mut ContractRule| rule.source.not_nets = vec!["0.0.0.0/0".parse().unwrap()];
    assert_eq!(rendered(nothing, IpVersion::V4), Vec::<Vec<Match>>::new());
}

#[test]
fn numeric_and_named_ports_become_rules_of_one_origin() {
    let ports = |rule: &mut ContractRule| {
        rule.protocol = Some(6);
        rule.destination.ports = vec![PortRange { min: 80, max: 81 }];
        rule.destination.named_port_sets = vec![IpSetId("n:a".into()), IpSetId("n:b".into())];
    };
    let tcp = Match::Protocol { protocols: vec![6], negated: false };
    let side = Side::Destination;
    let set = |id: &str| Match::PortSet { side, set: IpSetId(id.into()), negated: false };
    let numeric = Match::Ports { side, ranges: vec![PortRange { min: 80, max: 81 }], negated: false };
    assert_eq!(
        rendered(ports, IpVersion::V4),
        [vec![tcp.clone(), numeric], vec![tcp.clone(), set("n:a")], vec![tcp, set("n:b")]]
    );
}

#[test]
fn numeric_ports_without_protocol_pick_the_protocols_that_have_ports() {
    let ports = |rule: &mut ContractRule| rule.source.ports = vec![PortRange { min: 1, max: 1 }];
    let matches = rendered(ports, IpVersion::V4).remove(0);
    assert_eq!(matches[0], Match::Protocol { protocols: vec![6, 17, 132], negated: false });
}

fn staged_id(name: &str) -> PolicyId {
    PolicyId { kind: PolicyKind::StagedGlobalNetworkPolicy, ..policy_id(name) }
}

#[test]
fn a_staged_policy_takes_the_place_of_the_one_that_it_is_a_draft_of() {
    let mut tier = tier("default", TierDefault::Deny, &["first", "second"]);
    tier.ingress.insert(1, staged_id("second"));
    let endpoint = endpoint(vec![tier], &[]);
    let replaced = staged_id("second").stands_for().into_iter().collect();
    let Some(Judgement::Policies { tiers, .. }) = Judgement::staged(&endpoint, Direction::Ingress, &replaced)
    else {
        panic!("it makes a difference")
    };
    assert_eq!(tiers[0].policies, [policy_id("first"), staged_id("second")]);
    let Judgement::Policies { tiers, .. } = Judgement::of(&endpoint, Direction::Ingress) else { panic!() };
    assert_eq!(tiers[0].policies, [policy_id("first"), policy_id("second")]);
}

#[test]
fn a_policy_that_is_staged_to_be_deleted_does_not_count_and_its_tier_may_end() {
    let endpoint = endpoint(vec![tier("default", TierDefault::Deny, &["only"])], &["p"]);
    let replaced = BTreeSet::from([policy_id("only")]);
    let staged = Judgement::staged(&endpoint, Direction::Ingress, &replaced);
    assert_eq!(staged, Some(Judgement::Policies { tiers: vec![], profiles: vec![ProfileId("p".into())] }));
    assert_eq!(Judgement::staged(&endpoint, Direction::Egress, &replaced), None);
    assert_eq!(Judgement::staged(&endpoint, Direction::Ingress, &BTreeSet::new()), None);
}

#[test]
fn a_draft_of_a_kubernetes_policy_stands_for_it_however_it_is_kept() {
    let staged = PolicyId {
        kind: PolicyKind::StagedKubernetesNetworkPolicy,
        namespace: Some("n".into()),
        name: "p".into(),
    };
    let names: Vec<_> = staged.stands_for().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["KubernetesNetworkPolicy/n/p", "NetworkPolicy/n/knp.default.p"]);
    assert_eq!(policy_id("p").stands_for(), []);
}

#[test]
fn staged_kinds_sort_behind_all_others() {
    use PolicyKind::*;
    let mut kinds = [
        StagedNetworkPolicy,
        NetworkPolicy,
        StagedKubernetesNetworkPolicy,
        KubernetesClusterNetworkPolicy,
        StagedGlobalNetworkPolicy,
        KubernetesNetworkPolicy,
        GlobalNetworkPolicy,
    ];
    kinds.sort();
    assert!(
        kinds[..4].iter().all(|kind| !kind.is_staged()) && kinds[4..].iter().all(|kind| kind.is_staged())
    );
}
