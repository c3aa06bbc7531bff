//! The vectors of suite `policy.rule`: programs as contract types, packets, verdicts.

mod rule_program;

use std::net::IpAddr;

use testkit::vectors::Runner;

use super::*;
use crate::contract::*;

#[test]
fn every_rule_program_gives_its_verdicts() {
    // The other suite of the file needs the calculation graph: `tests/policy_truth.rs`.
    Runner::new("policy-truth.jsonl").suite("policy.rule", rule_program::check).run_suites();
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_set_contains_what_its_networks_cover() {
    let id = IpSetId("s:x".into());
    let mut sets = IpSets::default();
    sets.set(id.clone(), ["10.0.0.0/8", "192.0.2.1/32"].map(|net| IpSetMember::Net(net.parse().unwrap())));
    assert!(sets.contains(&id, address("10.255.0.1")));
    assert!(sets.contains(&id, address("192.0.2.1")));
    assert!(!sets.contains(&id, address("192.0.2.2")));
    assert!(!sets.contains(&id, address("2001:db8::1")));
    assert!(!sets.contains(&IpSetId("s:y".into()), address("10.0.0.1")));
}

#[test]
fn a_delta_changes_members_and_a_removal_forgets_them() {
    let id = IpSetId("s:x".into());
    let member = |net: &str| IpSetMember::Net(net.parse().unwrap());
    let mut sets = IpSets::default();
    sets.on_change(&Change::IpSetUpdate {
        id: id.clone(),
        kind: IpSetKind::Net,
        members: [member("10.0.0.1/32")].into(),
    });
    sets.on_change(&Change::IpSetDelta {
        id: id.clone(),
        added: vec![member("10.0.0.2/32")],
        removed: vec![member("10.0.0.1/32")],
    });
    assert!(sets.contains(&id, address("10.0.0.2")) && !sets.contains(&id, address("10.0.0.1")));
    sets.on_change(&Change::IpSetRemove { id: id.clone() });
    assert_eq!(sets.members(&id), None);
}

#[test]
fn an_interface_without_program_drops() {
    let (program, sets) = (Program::new(IpVersion::V4), IpSets::default());
    let packet = Packet::tcp(address("10.0.0.1"), address("10.0.0.2"), 80);
    let outcome = Evaluator::new(&program, &sets).workload("cali1", Direction::Ingress, &packet);
    assert_eq!(outcome.decision, Decision::Deny);
}

#[test]
fn replies_pass_whatever_the_policy_and_invalid_packets_never_do() {
    use crate::program::Conntrack;
    let mut program = Program::new(IpVersion::V4);
    let sets = IpSets::default();
    program.set_workload(&rule_program::workload(Vec::new()));
    let mut packet = Packet::tcp(address("10.0.0.1"), address("10.0.0.2"), 80);
    for (state, expected, origin) in [
        (Conntrack::New, Decision::Deny, Origin::NoProfile(Direction::Ingress)),
        (Conntrack::Established, Decision::Allow, Origin::Established),
        (Conntrack::Related, Decision::Allow, Origin::Established),
        (Conntrack::Invalid, Decision::Deny, Origin::Invalid),
    ] {
        packet.conntrack = state;
        let outcome = Evaluator::new(&program, &sets).workload("cali1", Direction::Ingress, &packet);
        assert_eq!((outcome.decision, outcome.deciding), (expected, Some(origin)));
    }
}

#[test]
fn where_a_policy_rechecks_only_answers_pass_unseen() {
    use crate::program::Conntrack;
    let mut program = Program::new(IpVersion::V4);
    let id = PolicyId { kind: PolicyKind::GlobalNetworkPolicy, namespace: None, name: "p".into() };
    let policy = Policy {
        tier: "default".into(),
        inbound: Vec::new(),
        outbound: Vec::new(),
        untracked: false,
        pre_dnat: false,
        apply_on_forward: false,
        rechecks: true,
    };
    program.set_policy(&id, &policy);
    let default_action = TierDefault::Deny;
    let tier = Tier { name: "default".into(), default_action, ingress: vec![id], egress: Vec::new() };
    program.set_workload(&rule_program::workload(vec![tier]));
    let sets = IpSets::default();
    let mut packet = Packet::tcp(address("10.0.0.1"), address("10.0.0.2"), 80);
    let end = Origin::EndOfTier { tier: "default".into(), direction: Direction::Ingress };
    for (conntrack, is_reply, expected, origin) in [
        (Conntrack::Established, false, Decision::Deny, end.clone()),
        (Conntrack::Established, true, Decision::Allow, Origin::Established),
        (Conntrack::Related, false, Decision::Allow, Origin::Established),
        (Conntrack::New, false, Decision::Deny, end),
        (Conntrack::Invalid, true, Decision::Deny, Origin::Invalid),
    ] {
        packet = Packet { conntrack, is_reply, ..packet };
        let outcome = Evaluator::new(&program, &sets).workload("cali1", Direction::Ingress, &packet);
        assert_eq!((outcome.decision, outcome.deciding), (expected, Some(origin)), "{packet:?}");
    }
    packet = Packet { conntrack: Conntrack::Established, is_reply: false, ..packet };
    let egress = Evaluator::new(&program, &sets).workload("cali1", Direction::Egress, &packet);
    assert_eq!(egress.deciding, Some(Origin::Established), "the policy has no say on egress");
}
