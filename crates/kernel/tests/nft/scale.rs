//! Many rules and elements in one transaction.

use std::net::{Ipv4Addr, Ipv6Addr};

use kernel::nft::*;
use testkit::TestNamespace;

use super::support::{nft, table};

/// The shape of a Calico node: a chain of ten rules for each pod, sets, and a map that leads to the chains.
fn calico(table: &mut NftTable<NftSocket>, pods: u32, members: u32) {
    for set in 0..100 {
        let addresses = (0..members / 100).map(|n| Ipv4Addr::from(0x0a00_0000 + set * 0x1_0000 + n));
        table.set_set(format!("cali40s{set}"), SetKind::hash([DataType::Ipv4Addr]), addresses).unwrap();
    }
    let chain = |pod: u32| -> Vec<Rule> {
        let lookup = |n: u32| {
            Rule::new()
                .when(Match::in_set(Field::IpSaddr, format!("cali40s{}", (pod + n) % 100)))
                .when(Match::is(Field::TcpDport, 1000 + n as u16))
                .counter()
                .verdict(Verdict::Accept)
                .comment(format!("policy {pod}/{n}"))
        };
        let established = Rule::new().when(Match::ct_state(ct_state::ESTABLISHED)).verdict(Verdict::Accept);
        let invalid = Rule::new().when(Match::ct_state(ct_state::INVALID)).verdict(Verdict::Drop);
        [established, invalid]
            .into_iter()
            .chain((0..7).map(lookup))
            .chain([Rule::always(Verdict::Drop)])
            .collect()
    };
    for pod in 0..pods {
        table.set_chain(format!("cali-tw-cali{pod}"), chain(pod)).unwrap();
    }
    let entries = (0..pods).map(|pod| (format!("cali{pod}"), Verdict::goto(format!("cali-tw-cali{pod}"))));
    table.set_map("cali-to-wl-dispatch", SetKind::hash([DataType::IfName]), entries).unwrap();
    let dispatch = Statement::VerdictMap { fields: vec![Field::Oifname], map: "cali-to-wl-dispatch".into() };
    let base =
        BaseChain { kind: ChainType::Filter, hook: Hook::Forward, priority: 0, policy: Policy::Accept };
    table.set_base_chain("filter-FORWARD", base, vec![Rule::new().then(dispatch)]).unwrap();
}

#[test]
fn ten_thousand_rules_and_fifty_thousand_elements_are_one_transaction() {
    let namespace = TestNamespace::new();
    let mut first = table(&namespace, Family::Ip);
    calico(&mut first, 1000, 50_000);
    let applied = first.apply().unwrap();
    assert_eq!(applied.refused, []);
    let listing = nft(&namespace, "list chain ip calico cali-tw-cali999");
    assert!(listing.contains("comment \"policy 999/6\""), "{listing}");
    assert_eq!(first.counters().unwrap().len(), 7000);

    let mut restarted = table(&namespace, Family::Ip);
    calico(&mut restarted, 1000, 50_000);
    let applied = restarted.apply().unwrap();
    assert_eq!((applied.operations, applied.resynced), (0, true), "what was read back differs");

    calico(&mut first, 1001, 50_000);
    let applied = first.apply().unwrap();
    assert_eq!((applied.operations, applied.resynced), (12, false), "a chain, its ten rules, a map entry");
}

#[test]
fn large_interval_sets_of_both_families_are_written_whole() {
    let namespace = TestNamespace::new();
    for family in [Family::Ip, Family::Ip6] {
        let key = if family == Family::Ip { DataType::Ipv4Addr } else { DataType::Ipv6Addr };
        let net = |n: u32| -> ipnet::IpNet {
            let address = Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(n) << 64);
            match family {
                Family::Ip => ipnet::Ipv4Net::new_assert(Ipv4Addr::from(n << 8), 24).into(),
                _ => ipnet::Ipv6Net::new_assert(address, 64).into(),
            }
        };
        let load = |table: &mut NftTable<NftSocket>| {
            table.set_set("nets", SetKind::intervals([key]), (0..20_000).map(net)).unwrap();
        };
        let mut first = table(&namespace, family);
        load(&mut first);
        assert_eq!(first.apply().unwrap().refused, []);
        let mut restarted = table(&namespace, family);
        load(&mut restarted);
        assert_eq!(restarted.apply().unwrap().operations, 0);
        let all = nft(&namespace, &format!("list set {family} calico nets"));
        assert_eq!(all.matches('/').count(), 20_000);
    }
}

#[test]
fn concatenations_of_intervals_are_written_whole() {
    let namespace = TestNamespace::new();
    let kind = SetKind::intervals([DataType::Ipv4Addr, DataType::InetProto, DataType::InetService]);
    let member = |n: u32| {
        let net: ipnet::IpNet = ipnet::Ipv4Net::new_assert(Ipv4Addr::from(n << 8), 24).into();
        Member::from([net.into(), 6_u8.into(), Part::range(n as u16, n as u16 + 10)])
    };
    let load = |table: &mut NftTable<NftSocket>| {
        table.set_set("services", kind.clone(), (0..2000).map(member)).unwrap();
    };
    let mut first = table(&namespace, Family::Ip);
    load(&mut first);
    assert_eq!(first.apply().unwrap().refused, []);
    first.remove_members("services", (0..1000).map(member)).unwrap();
    assert_eq!(first.apply().unwrap().operations, 1);
    first.add_members("services", (0..1000).map(member)).unwrap();
    first.apply().unwrap();
    let mut restarted = table(&namespace, Family::Ip);
    load(&mut restarted);
    assert_eq!(restarted.apply().unwrap().operations, 0);
}
