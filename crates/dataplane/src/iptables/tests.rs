//! What is rendered and planned, without a kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use calc::contract::{Action, IpVersion, PortRange};
use calc::program;

use super::dispatch::{End, tree};
use super::rule::{Rule, translate};
use super::tables::{Actual, Hook, TableName, Tables, parse};
use super::variant::{Variant, detect};
use crate::backend::{Context, Place};
use crate::common::rule;
use crate::config::Parameters;

fn rendered(change: impl FnOnce(&mut calc::contract::Rule)) -> (Vec<String>, usize) {
    let mut one = rule(Action::Deny);
    change(&mut one);
    let policy = calc::contract::Profile { inbound: vec![one], outbound: Vec::new() };
    let chain = program::profile_chain(&policy, calc::contract::Direction::Ingress, IpVersion::V4);
    let (parameters, shapes) = (Parameters::default(), BTreeMap::new());
    let context =
        Context { version: IpVersion::V4, shapes: &shapes, parameters: &parameters, place: Place::FILTER };
    let translated = translate("cali-pi-p", &chain, &context).unwrap();
    let without_comment = |rule: Rule| rule.text.rsplit("0\" ").next().unwrap().to_owned();
    (translated.rules.into_iter().map(without_comment).collect(), translated.sets.len())
}

#[test]
fn what_one_rule_of_iptables_cannot_say_becomes_several_that_exclude_each_other_or_a_set() {
    let ports = |count: u16| (0..count).map(|n| PortRange { min: 10 * n, max: 10 * n }).collect::<Vec<_>>();
    let (rules, _) = rendered(|rule| rule.destination.ports = ports(16));
    assert_eq!(rules.len(), 6, "three protocols, and two lists of ports: {rules:?}");
    assert_eq!(rules[1], "-p 6 -m multiport --dports 150 -j DROP");
    let (rules, _) = rendered(|rule| (rule.protocol, rule.destination.not_ports) = (Some(6), ports(16)));
    assert_eq!(rules.len(), 1, "in none of both lists: {rules:?}");
    let nets = |rule: &mut calc::contract::Rule| {
        rule.source.nets = vec!["10.0.0.0/8".parse().unwrap()];
        rule.source.not_nets = vec!["10.1.0.0/16".parse().unwrap(), "10.2.0.0/16".parse().unwrap()];
    };
    let (rules, sets) = rendered(nets);
    assert!(rules[0].starts_with("-s 10.0.0.0/8 -m set ! --match-set cali40n:"), "{rules:?}");
    assert_eq!(sets, 1);
}

#[test]
fn a_packet_meets_few_rules_of_a_dispatch_however_many_interfaces_there_are() {
    let names = (0..256).map(|n| (Arc::from(format!("cali{n:02x}")), Arc::from("cali-fw-x"))).collect();
    let chains = tree(&"cali-from-wl-dispatch".into(), End::In, &names, Vec::new(), &[Rule::new("-j DROP")]);
    assert_eq!(chains.len(), 17, "the root, and one for each next character");
    assert!(chains.values().all(|rules| rules.len() == 17 && rules[16].text == "-j DROP"));
    assert_eq!(chains["cali-from-wl-dispatch"][0].text, "-i cali0+ -g cali-from-wl-dispatch-cali0");
}

fn tables(rules: &[&str]) -> Tables {
    let rules: Vec<Rule> = rules.iter().map(|text| Rule::new(*text)).collect();
    let mut tables = Tables::default();
    tables.set_chain(TableName::Filter, &"cali-x".into(), &rules, BTreeSet::new());
    let hook = Hook { first: vec![Rule::new("-j cali-x")], append: false, last: Vec::new() };
    tables.set_hooks(TableName::Filter, BTreeMap::from([("FORWARD", hook)]));
    tables
}

#[test]
fn only_differences_are_written_and_what_is_there_is_known_by_its_hash() {
    let mut actual = Actual::new();
    let first = tables(&["-j A", "-j C"]).plan(&mut actual);
    assert_eq!(tables(&["-j A", "-j C"]).plan(&mut actual), "", "it is there");
    // What iptables-save would say of it.
    let saved =
        first.replace("-I FORWARD 1", "-A FORWARD").replace("*filter", "*filter\n:FORWARD ACCEPT [0:0]");
    assert_eq!(parse(&saved)[&TableName::Filter], actual[&TableName::Filter]);
    let input = tables(&["-j A", "-j B", "-j C"]).plan(&mut actual);
    assert_eq!(input.lines().count(), 3, "the others keep their counters: {input}");
    assert!(input.contains("-I cali-x 2 "), "{input}");
    let removed = Tables::default().plan(&mut actual);
    assert_eq!(removed, "*filter\n:cali-x - [0:0]\n-D FORWARD 1\n-X cali-x\nCOMMIT\n");
}

#[test]
fn the_variant_is_the_one_of_kubernetes_else_of_most_rules_else_nft() {
    let (hint, rule, ours) =
        (":KUBE-KUBELET-CANARY - [0:0]\n", "-A INPUT -j DOCKER\n", "-A INPUT -j cali-INPUT\n");
    for (nft, legacy, wanted) in [
        (Some(""), Some(""), Some(Variant::Nft)),
        (Some(hint), Some(rule), Some(Variant::Nft)),
        (Some(rule), Some(hint), Some(Variant::Legacy)),
        (Some(ours), Some(rule), Some(Variant::Legacy)),
        (Some(""), Some(ours), Some(Variant::Nft)),
        (None, Some(""), Some(Variant::Legacy)),
        (None, None, None),
    ] {
        assert_eq!(detect(nft, legacy), wanted, "{nft:?} {legacy:?}");
    }
}
