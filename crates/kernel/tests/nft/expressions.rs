//! Every statement: written, read back as the same, and listed by nft as we write it.

use kernel::nft::*;
use testkit::TestNamespace;

use super::support::{listed, nft, table};

fn net(text: &str) -> ipnet::IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> std::net::IpAddr {
    text.parse().unwrap()
}

fn rule(conditions: impl IntoIterator<Item = Match>) -> Rule {
    conditions.into_iter().fold(Rule::new(), Rule::when)
}

fn only(statement: Statement) -> Rule {
    Rule::new().then(statement)
}

fn tcp() -> Match {
    Match::is(Field::L4proto, 6_u8)
}

fn port_matches() -> Vec<Rule> {
    let dport = Field::TcpDport;
    vec![
        rule([Match::is(dport, 80_u16)]),
        rule([Match::is(dport, 80_u16).negate()]),
        rule([tcp(), Match::is(dport, 80_u16)]),
        rule([tcp(), Match::is(Field::ThDport, 80_u16)]),
        rule([Match::is(Field::L4proto, 17_u8), Match::is(Field::ThSport, 80_u16)]),
        rule([Match::is(Field::ThDport, 80_u16)]),
        rule([tcp(), Match::net(Field::IpSaddr, net("10.0.0.0/8")), Match::is(dport, 80_u16)]),
        rule([tcp(), Match::net(Field::IpSaddr, net("10.0.0.0/8"))]),
        rule([tcp().negate(), Match::is(Field::ThDport, 80_u16)]),
        rule([Match::is(Field::L4proto, 4_u8)]),
        rule([Match::is(Field::L4proto, 58_u8).negate()]),
        rule([Match::is(Field::L4proto, 200_u8)]),
        rule([Match::one_of(Field::L4proto, [1_u8, 6, 17, 132, 250])]),
        rule([Match::range(dport, 100_u16, 200_u16)]),
        rule([Match::range(dport, 100_u16, 200_u16).negate()]),
        rule([Match::new(dport, Pattern::AtLeast(100_u16.into()))]),
        rule([Match::new(dport, Pattern::AtLeast(100_u16.into())).negate()]),
        rule([Match::new(dport, Pattern::AtMost(100_u16.into()))]),
        rule([Match::new(dport, Pattern::AtMost(100_u16.into())).negate()]),
        rule([Match::one_of(dport, [443_u16, 22, 80])]),
        rule([Match::one_of(dport, [443_u16, 22, 80]).negate()]),
        rule([Match::one_of(dport, [Part::from(443_u16), Part::range(100_u16, 200_u16), 22_u16.into()])]),
        rule([Match::one_of(dport, [Part::range(0_u16, 1023_u16), Part::range(60000_u16, 65535_u16)])]),
        rule([Match::is(Field::UdpDport, 67_u16), Match::is(Field::UdpSport, 68_u16)]),
        rule([Match::is(Field::SctpDport, 67_u16)]),
        rule([Match::is(Field::SctpSport, 67_u16)]),
        rule([tcp(), Match::one_of(Field::ThDport, [1_u16, 2])]),
    ]
}

fn metadata_matches() -> Vec<Rule> {
    let masked = |value, mask| Match::mark(value, mask);
    vec![
        rule([Match::is(Field::Iifname, "cali*")]),
        rule([Match::is(Field::Iifname, "cali*").negate()]),
        rule([Match::is(Field::Oifname, "eth0")]),
        rule([Match::is(Field::Oifname, "cali*")]),
        rule([Match::is(Field::Oifname, "eth0").negate()]),
        rule([Match::one_of(Field::Iifname, ["b1", "a2", "eth0"])]),
        rule([Match::is(Field::Mark, 0x10000_u32)]),
        rule([Match::is(Field::Mark, 0x10000_u32).negate()]),
        rule([masked(0x10000, 0x10000)]),
        rule([masked(0x10000, 0x10000).negate()]),
        rule([masked(0, 0x10000)]),
        rule([masked(0, 0x30000).negate()]),
        rule([masked(0x20000, 0xffff_0000)]),
        rule([masked(0x20000, 0xffff_0000).negate()]),
        rule([masked(0, 0xffff_0000)]),
        rule([masked(0x8000_0000, 0x8000_0000)]),
        rule([Match::one_of(Field::Mark, [0x1234_u32, 0x10, 0x0100_0000])]),
        rule([Match::is(Field::CtMark, 0x10_u32)]),
        rule([Match::new(Field::CtMark, Pattern::Masked { mask: 0x10, value: 0x10 })]),
        rule([Match::ct_state(ct_state::ESTABLISHED | ct_state::RELATED)]),
        rule([Match::ct_state(ct_state::INVALID)]),
        rule([Match::ct_state(ct_state::NEW | ct_state::UNTRACKED)]),
        rule([Match::ct_state(ct_state::NEW).negate()]),
        rule([Match::is(Field::CtDirection, ct_direction::REPLY)]),
        rule([Match::is(Field::CtDirection, ct_direction::ORIGINAL).negate()]),
        rule([Match::ct_status(ct_status::DNAT)]),
        rule([Match::ct_status(ct_status::DNAT).negate()]),
        rule([Match::ct_status(ct_status::DNAT | ct_status::SNAT | ct_status::ASSURED)]),
        rule([Match::no_reverse_path(false)]),
        rule([Match::no_reverse_path(true)]),
        rule([Match::no_reverse_path(true).negate()]),
        rule([Match::destination_is_local()]),
        rule([Match::source_is_local().negate()]),
        rule([Match::is(
            Field::Fib(FibQuery {
                address: FibAddress::Source,
                mark: false,
                iif: false,
                result: FibResult::OifName,
            }),
            "eth0",
        )]),
    ]
}

fn statements() -> Vec<Rule> {
    let limit = Limit { rate: 10, unit: LimitUnit::Second, burst: 5, over: false };
    let group = LogTarget::Group { group: 1, snaplen: 0 };
    vec![
        Rule::new().counter(),
        Rule::new().log(Log::default()),
        Rule::new().log(Log { prefix: "calico-packet: ".into(), target: LogTarget::default() }),
        Rule::new().log(Log { prefix: "x".into(), target: LogTarget::Kernel { level: 6 } }),
        Rule::new().log(Log { prefix: "x".into(), target: LogTarget::Kernel { level: 0 } }),
        Rule::new().log(Log { prefix: "API0|policy".into(), target: group }),
        Rule::new().log(Log { prefix: "p".into(), target: LogTarget::Group { group: 2, snaplen: 80 } }),
        only(Statement::Limit(limit)),
        only(Statement::Limit(Limit { burst: 20, over: true, ..limit })),
        only(Statement::Limit(Limit { unit: LimitUnit::Minute, ..limit })),
        only(Statement::Limit(Limit { unit: LimitUnit::Hour, ..limit })),
        only(Statement::Limit(Limit { unit: LimitUnit::Day, ..limit })),
        only(Statement::Limit(Limit { unit: LimitUnit::Week, ..limit })),
        only(Statement::ConnectionLimit { count: 10, over: true }),
        only(Statement::ConnectionLimit { count: 10, over: false }),
        Rule::new().reject(Reject::PortUnreachable),
        Rule::new().reject(Reject::TcpReset),
        rule([tcp()]).reject(Reject::TcpReset),
        rule([tcp()]).counter().reject(Reject::TcpReset),
        rule([Match::is(Field::TcpDport, 80_u16)]).reject(Reject::TcpReset),
        Rule::new().set_mark(SetMark::to(0x10)),
        Rule::new().set_mark(SetMark::to(0)),
        Rule::new().set_mark(SetMark::or(0x10000)),
        Rule::new().set_mark(SetMark::clear(0x10000)),
        Rule::new().set_mark(SetMark::masked(0x20000, 0x30000)),
        Rule::new().set_mark(SetMark { mask: 0xfffe_ffff, xor: 0x10004 }),
        Rule::new().set_mark(SetMark { mask: u32::MAX, xor: 4 }),
        only(Statement::Notrack),
        only(Statement::VerdictMap { fields: vec![Field::Iifname], map: "dispatch".into() }),
        Rule::always(Verdict::Accept),
        Rule::always(Verdict::Drop),
        Rule::always(Verdict::Return),
        Rule::always(Verdict::Continue),
        Rule::always(Verdict::jump("target")),
        Rule::always(Verdict::goto("target")),
        rule([Match::ct_state(ct_state::NEW)]).counter().verdict(Verdict::Accept).comment("a = b, \u{e9}"),
        Rule::new().set_mark(SetMark::or(0x10000)).verdict(Verdict::Return).comment("x"),
        rule([tcp()]).counter().when(Match::is(Field::TcpDport, 1_u16)),
        rule([tcp()]).set_mark(SetMark::or(2)).when(Match::is(Field::TcpDport, 1_u16)),
    ]
}

fn ipv4_only() -> Vec<Rule> {
    let fields = [Field::IpDaddr, Field::L4proto, Field::ThDport];
    let member = |address: &str, port: Part| Member::from([ip(address).into(), 6_u8.into(), port]);
    vec![
        only(Statement::SetDscp { family: Family::Ip, value: 46 }),
        only(Statement::SetDscp { family: Family::Ip, value: 0 }),
        only(Statement::SetDscp { family: Family::Ip, value: 34 }),
        only(Statement::SetDscp { family: Family::Ip, value: 45 }),
        rule([Match::net(Field::IpSaddr, net("10.0.0.0/9"))]),
        rule([Match::net(Field::IpSaddr, net("10.128.0.0/9")).negate()]),
        rule([Match::net(Field::IpDaddr, net("10.1.2.3/32"))]),
        rule([Match::net(Field::IpDaddr, net("10.1.2.128/31"))]),
        rule([Match::range(Field::IpSaddr, ip("10.0.0.1"), ip("10.0.0.9"))]),
        rule([Match::range(Field::IpSaddr, ip("10.0.0.0"), ip("10.0.0.255"))]),
        rule([Match::one_of(Field::IpSaddr, [net("10.0.0.0/8"), net("1.1.1.1/32"), net("10.2.0.0/16")])]),
        rule([Match::one_of(Field::IpSaddr, [net("128.0.0.0/1"), net("0.0.0.0/1")]).negate()]),
        rule([Match::one_of(Field::IpSaddr, [ip("2.2.2.2"), ip("1.1.1.1")])]),
        rule([Match::in_set(Field::IpSaddr, "hosts"), Match::in_set(Field::IpDaddr, "nets").negate()]),
        rule([Match::fields_in_set(fields, "ports")]),
        rule([Match::fields_in_set(fields, "ports").negate()]),
        rule([tcp(), Match::fields_in_set(fields, "ports")]),
        rule([Match::fields_in_set([Field::IpSaddr, Field::IpDaddr], "pairs")]),
        rule([Match::fields_one_of(
            fields,
            [member("1.1.1.1", 80_u16.into()), member("1.1.1.2", 22_u16.into())],
        )]),
        rule([Match::fields_one_of(
            [Field::IpSaddr, Field::TcpDport],
            [
                Member::from([net("10.0.0.0/8").into(), Part::range(1_u16, 5_u16)]),
                Member::from([net("11.0.0.0/8").into(), 9_u16.into()]),
            ],
        )]),
        rule([Match::is(Field::IcmpType, 8_u8), Match::is(Field::IcmpCode, 0_u8)]),
        rule([Match::is(Field::IcmpType, 3_u8), Match::is(Field::IcmpCode, 1_u8)]),
        rule([Match::is(Field::IcmpType, 99_u8).negate()]),
        rule([Match::one_of(Field::IcmpType, [0_u8, 3, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 99])]),
        rule([Match::one_of(Field::IcmpCode, [0_u8, 1, 2, 3, 4, 9, 10, 13, 77])]),
        Rule::new().reject(Reject::Icmp(13)),
        Rule::new().reject(Reject::Icmp(3)),
        rule([Match::is(Field::IpSaddr, ip("1.1.1.1")), Match::is(Field::L4proto, 17_u8)])
            .reject(Reject::Icmp(1)),
    ]
}

/// Writes the rules into one chain; they must be listed and read back as written, and written only once.
#[track_caller]
fn check(namespace: &TestNamespace, family: Family, base: Option<BaseChain>, rules: Vec<Rule>) {
    let mut table = table(namespace, family);
    prepare(&mut table, family);
    match base {
        Some(base) => table.set_base_chain("tested", base, rules.clone()).unwrap(),
        None => table.set_chain("tested", rules.clone()).unwrap(),
    }
    let applied = table.apply().unwrap();
    assert_eq!(applied.refused, [], "nothing may be refused");

    let expected: Vec<String> = rules.iter().map(listed_text).collect();
    assert_eq!(listed(namespace, family, "tested"), expected);

    table.resync().unwrap();
    assert_eq!(table.apply().unwrap().operations, 0, "what was read back differs from what was written");
}

/// nft lists the numbers of a counter, which are no part of a rule.
fn listed_text(rule: &Rule) -> String {
    rule.to_string()
        .split(' ')
        .map(|word| if word == "counter" { "counter packets 0 bytes 0" } else { word })
        .collect::<Vec<_>>()
        .join(" ")
}

fn prepare(table: &mut NftTable<NftSocket>, family: Family) {
    table.set_chain("target", vec![]).unwrap();
    table
        .set_map("dispatch", SetKind::hash([DataType::IfName]), [("cali1", Verdict::goto("target"))])
        .unwrap();
    if family != Family::Ip6 {
        let none: [Member; 0] = [];
        let address = DataType::Ipv4Addr;
        table.set_set("hosts", SetKind::hash([address]), none.clone()).unwrap();
        table.set_set("nets", SetKind::intervals([address]), none.clone()).unwrap();
        let key = [address, DataType::InetProto, DataType::InetService];
        table.set_set("ports", SetKind::hash(key), none.clone()).unwrap();
        table.set_set("pairs", SetKind::intervals([address, address]), none).unwrap();
    }
}

#[test]
fn arp_is_matched_by_operation_and_sender() {
    let operation = Field::ArpOperation;
    let rules = vec![
        rule([Match::is(operation, 2_u16), Match::is(Field::ArpSaddrIp, ip("10.0.0.1"))])
            .counter()
            .verdict(Verdict::Drop),
        rule([Match::is(operation, 1_u16).negate()]),
        rule([Match::is(operation, 99_u16)]),
        rule([Match::one_of(operation, [1_u16, 2, 3, 4, 8, 9, 10])]),
        rule([Match::one_of(Field::ArpSaddrIp, [ip("10.0.0.2"), ip("10.0.0.1")])]),
        only(Statement::VerdictMap { fields: vec![Field::Oifname], map: "dispatch".into() }),
    ];
    let base = |hook| BaseChain {
        kind: ChainType::Filter,
        hook,
        priority: priority::FILTER,
        policy: Policy::Accept,
    };
    for hook in [Hook::Input, Hook::Output] {
        check(&TestNamespace::new(), Family::Arp, Some(base(hook)), rules.clone());
    }
    let mut table = table(&TestNamespace::new(), Family::Arp);
    let error = table.set_base_chain("f", base(Hook::Forward), vec![]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no base chain \"type filter hook forward priority filter; policy accept;\" in a table of family arp"
    );
    let reply = rule([Match::is(operation, 2_u16)]);
    let mut others = [Family::Ip, Family::Inet].map(|family| NftTable::new(Fake::new(), family, "calico"));
    assert!(others.iter_mut().all(|table| table.set_chain("c", vec![reply.clone()]).is_err()));
    assert!(table.set_chain("c", vec![rule([tcp(), Match::is(Field::IpSaddr, ip("10.0.0.1"))])]).is_err());
}

#[test]
fn matches_on_ports_are_listed_as_we_write_them() {
    let namespace = TestNamespace::new();
    check(&namespace, Family::Ip, None, port_matches());
}

#[test]
fn matches_on_metadata_and_connections_are_listed_as_we_write_them() {
    let namespace = TestNamespace::new();
    let base = BaseChain {
        kind: ChainType::Filter,
        hook: Hook::Prerouting,
        priority: priority::RAW,
        policy: Policy::Accept,
    };
    check(&namespace, Family::Ip, Some(base), metadata_matches());
}

#[test]
fn statements_are_listed_as_we_write_them() {
    let namespace = TestNamespace::new();
    check(&namespace, Family::Ip, None, statements());
}

#[test]
fn matches_on_ipv4_are_listed_as_we_write_them() {
    let namespace = TestNamespace::new();
    check(&namespace, Family::Ip, None, ipv4_only());
}

#[test]
fn ipv6_rules_are_listed_as_we_write_them() {
    let namespace = TestNamespace::new();
    let rules = vec![
        rule([Match::net(Field::Ip6Saddr, net("fe80::/10")), Match::is(Field::Ip6Daddr, ip("2001:db8::1"))]),
        rule([Match::one_of(Field::Ip6Daddr, [net("2001:db8::1/128"), net("2001:db8:1::/48")])]),
        rule([Match::range(Field::Ip6Saddr, ip("fe80::1"), ip("fe80::9"))]),
        rule([Match::is(Field::Icmpv6Type, 135_u8)]),
        rule([Match::is(Field::Icmpv6Type, 1_u8), Match::is(Field::Icmpv6Code, 1_u8)]),
        rule([Match::one_of(Field::Icmpv6Type, (1_u8..=4).chain(128..=138).chain(141..=143).chain([99]))]),
        rule([Match::one_of(Field::Icmpv6Code, 0_u8..=6)]),
        rule([Match::is(Field::L4proto, 58_u8)]),
        rule([Match::is(Field::TcpDport, 80_u16)]).verdict(Verdict::Accept),
        rule([Match::no_reverse_path(true)]).verdict(Verdict::Drop),
        Rule::new().reject(Reject::PortUnreachable),
        Rule::new().reject(Reject::Icmpv6(1)),
        only(Statement::SetDscp { family: Family::Ip6, value: 46 }),
        Rule::new().reject(Reject::TcpReset),
    ];
    let base = BaseChain {
        kind: ChainType::Filter,
        hook: Hook::Forward,
        priority: priority::FILTER,
        policy: Policy::Drop,
    };
    check(&namespace, Family::Ip6, None, rules[..9].to_vec());
    check(&namespace, Family::Ip6, None, rules[10..].to_vec());
    let prerouting = BaseChain { hook: Hook::Prerouting, ..base };
    check(&namespace, Family::Ip6, Some(prerouting), rules[9..10].to_vec());
}

#[test]
fn inet_rules_match_the_network_protocol_themselves() {
    let namespace = TestNamespace::new();
    let rules = vec![
        rule([Match::is(Field::IpSaddr, ip("1.1.1.1"))]),
        rule([Match::is(Field::IpSaddr, ip("1.1.1.1")), Match::is(Field::TcpDport, 80_u16)]),
        rule([Match::is(Field::Ip6Saddr, ip("::1"))]),
        Rule::new().reject(Reject::PortUnreachable),
        Rule::new().reject(Reject::Icmpx(3)),
    ];
    check(&namespace, Family::Inet, None, rules);
}

#[test]
fn nat_is_listed_as_we_write_it() {
    let namespace = TestNamespace::new();
    let base = |hook, priority| BaseChain { kind: ChainType::Nat, hook, priority, policy: Policy::Accept };
    let fully_random = NatFlags { fully_random: true, ..NatFlags::default() };
    let random = NatFlags { random: true, persistent: true, fully_random: false };
    let ports = Some((1024, 65535));
    let (one, other) = (ip("2.2.2.2"), ip("2.2.2.4"));
    let masquerade = |ports, flags| Statement::Masquerade(Masquerade { ports, flags });
    let source = vec![
        only(masquerade(None, NatFlags::default())),
        only(masquerade(None, fully_random)),
        only(masquerade(None, random)),
        rule([tcp()]).then(masquerade(ports, NatFlags::default())),
        rule([tcp()]).then(masquerade(ports, fully_random)),
        rule([Match::is(Field::UdpDport, 1_u16)]).then(masquerade(Some((7, 7)), fully_random)),
        rule([Match::is(Field::IpSaddr, ip("1.1.1.1"))]).then(Statement::Snat(Nat::to(one))),
        rule([tcp()]).then(Statement::Snat(Nat { ports, flags: fully_random, ..Nat::to(one) })),
        only(Statement::Snat(Nat { flags: random, ..Nat::to(one) })),
        only(Statement::Snat(Nat { addresses: (one, other), ..Nat::to(one) })),
    ];
    check(&namespace, Family::Ip, Some(base(Hook::Postrouting, priority::SRCNAT + 10)), source);
    let destination = vec![
        rule([Match::is(Field::IpDaddr, ip("1.1.1.1"))]).then(Statement::Dnat(Nat::to(one))),
        rule([Match::is(Field::TcpDport, 80_u16)]).then(Statement::Dnat(Nat::to_port(one, 8080))),
        rule([tcp()]).then(Statement::Dnat(Nat { addresses: (one, other), ports, ..Nat::to(one) })),
    ];
    check(&namespace, Family::Ip, Some(base(Hook::Prerouting, priority::DSTNAT)), destination);
    let six = ip("2001:db8::1");
    let source = vec![
        only(Statement::Snat(Nat::to(six))),
        rule([tcp()]).then(Statement::Snat(Nat { ports: Some((80, 90)), ..Nat::to(six) })),
        only(masquerade(None, NatFlags::default())),
    ];
    check(&namespace, Family::Ip6, Some(base(Hook::Postrouting, priority::SRCNAT)), source);
}

#[test]
fn base_chains_are_listed_as_we_write_them() {
    let namespace = TestNamespace::new();
    let mut table = table(&namespace, Family::Ip);
    let chains = [
        (ChainType::Filter, Hook::Prerouting, -300, Policy::Accept),
        (ChainType::Filter, Hook::Input, 0, Policy::Accept),
        (ChainType::Filter, Hook::Forward, 5, Policy::Drop),
        (ChainType::Filter, Hook::Forward, -150, Policy::Drop),
        (ChainType::Filter, Hook::Output, 31, Policy::Accept),
        (ChainType::Route, Hook::Output, -149, Policy::Accept),
        (ChainType::Nat, Hook::Prerouting, -100, Policy::Accept),
        (ChainType::Nat, Hook::Postrouting, 110, Policy::Accept),
        (ChainType::Nat, Hook::Output, -100, Policy::Accept),
    ];
    let mut expected = Vec::new();
    for (index, (kind, hook, priority, policy)) in chains.into_iter().enumerate() {
        let base = BaseChain { kind, hook, priority, policy };
        table.set_base_chain(format!("chain-{index}"), base, vec![]).unwrap();
        expected.push(base.to_string());
    }
    table.apply().unwrap();
    let listing = nft(&namespace, "list table ip calico");
    let listed: Vec<String> =
        listing.lines().map(str::trim).filter(|line| line.starts_with("type ")).map(str::to_owned).collect();
    assert_eq!(listed, expected);
    table.resync().unwrap();
    assert_eq!(table.apply().unwrap().operations, 0);
}
