//! The reconciler against the kernel and against people with `nft`.

use kernel::nft::*;
use testkit::TestNamespace;

use super::support::{listed, nft, ruleset, table, try_nft};

fn ip(text: &str) -> std::net::IpAddr {
    text.parse().unwrap()
}

fn accept(port: u16) -> Rule {
    Rule::new().when(Match::is(Field::TcpDport, port)).counter().verdict(Verdict::Accept)
}

fn forward() -> BaseChain {
    BaseChain { kind: ChainType::Filter, hook: Hook::Forward, priority: 0, policy: Policy::Accept }
}

/// A small table with something of everything.
fn fill(table: &mut NftTable<NftSocket>) {
    let kind = SetKind::hash([DataType::Ipv4Addr]);
    table.set_set("hosts", kind, [ip("10.0.0.1"), ip("10.0.0.2")]).unwrap();
    let nets: Vec<ipnet::IpNet> =
        ["10.0.0.0/8", "10.1.0.0/16", "192.168.0.0/24", "192.168.1.0/24", "255.255.255.255/32"]
            .iter()
            .map(|net| net.parse().unwrap())
            .collect();
    table.set_set("nets", SetKind::intervals([DataType::Ipv4Addr]), nets).unwrap();
    table.set_chain("pod-1", vec![accept(80), accept(443), Rule::always(Verdict::Drop)]).unwrap();
    table.set_chain("pod-2", vec![Rule::new().when(Match::in_set(Field::IpSaddr, "hosts"))]).unwrap();
    let map = SetKind::hash([DataType::IfName]);
    let entries = [("cali1", Verdict::goto("pod-1")), ("cali2", Verdict::goto("pod-2"))];
    table.set_map("dispatch", map, entries).unwrap();
    let dispatch = Statement::VerdictMap { fields: vec![Field::Iifname], map: "dispatch".into() };
    let rules = vec![
        Rule::new().when(Match::in_set(Field::IpSaddr, "nets")).counter().comment("networks"),
        Rule::new().when(Match::is(Field::Iifname, "cali*")).then(dispatch),
        Rule::new().when(Match::one_of(Field::TcpDport, [1_u16, 2])).verdict(Verdict::Drop),
    ];
    table.set_base_chain("filter-FORWARD", forward(), rules).unwrap();
}

#[test]
fn a_second_apply_and_a_restart_write_nothing() {
    let namespace = TestNamespace::new();
    let mut first = table(&namespace, Family::Ip);
    fill(&mut first);
    assert!(first.apply().unwrap().operations > 0);
    let before = ruleset(&namespace);
    assert_eq!(first.apply().unwrap(), Applied::default());

    let mut restarted = table(&namespace, Family::Ip);
    fill(&mut restarted);
    assert_eq!(restarted.apply().unwrap(), Applied { resynced: true, ..Applied::default() });
    assert_eq!(ruleset(&namespace), before);
}

#[test]
fn our_own_changes_need_no_reading_back() {
    let namespace = TestNamespace::new();
    let mut table = table(&namespace, Family::Ip);
    fill(&mut table);
    assert!(table.apply().unwrap().resynced);
    for port in 1..20_u16 {
        table.add_members("hosts", [ip(&format!("10.0.1.{port}"))]).unwrap();
        table.set_chain("pod-1", (1..=port).map(accept).collect()).unwrap();
        table.set_chain(format!("pod-new-{port}"), vec![accept(port)]).unwrap();
        let applied = table.apply().unwrap();
        assert!(applied.operations > 0 && !applied.resynced, "{applied:?}");
        assert!(!table.changed().unwrap());
    }
    assert_eq!(listed(&namespace, Family::Ip, "pod-1").len(), 19);
    table.resync().unwrap();
    assert_eq!(table.apply().unwrap().operations, 0);
}

#[test]
fn rules_inserted_anywhere_land_in_order() {
    let namespace = TestNamespace::new();
    let mut table = table(&namespace, Family::Ip);
    let seed = 11;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut ports: Vec<u16> = Vec::new();
    for round in 0..60 {
        for _ in 0..random.usize(1..5) {
            if random.bool() || ports.is_empty() {
                ports.insert(random.usize(0..=ports.len()), random.u16(1..1000));
            } else {
                ports.remove(random.usize(0..ports.len()));
            }
        }
        let set = |port: &u16| Match::one_of(Field::TcpDport, [*port, 60000]);
        let rules: Vec<Rule> = ports.iter().map(|port| Rule::new().when(set(port)).counter()).collect();
        let expected: Vec<String> = rules
            .iter()
            .map(|rule| rule.to_string().replace("counter", "counter packets 0 bytes 0"))
            .collect();
        table.set_chain("c", rules).unwrap();
        let applied = table.apply().unwrap();
        assert!(round == 0 || !applied.resynced, "seed {seed}, round {round}: handles were not known");
        assert_eq!(listed(&namespace, Family::Ip, "c"), expected, "seed {seed}, round {round}");
    }
}

#[test]
fn unchanged_rules_keep_their_counters() {
    let namespace = TestNamespace::new();
    namespace.command("ip link set lo up");
    let mut table = table(&namespace, Family::Ip);
    let base = BaseChain { hook: Hook::Input, ..forward() };
    let probes = Rule::new().when(Match::is(Field::UdpDport, 9_u16)).counter().comment("probes");
    table.set_base_chain("filter-INPUT", base, vec![accept(1), probes.clone(), accept(2)]).unwrap();
    table.apply().unwrap();
    namespace.run(|| {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        (0..3).for_each(|_| drop(socket.send_to(b"probe", "127.0.0.1:9")));
    });
    let rules = vec![accept(9), accept(1), accept(8), probes, accept(3)];
    table.set_base_chain("filter-INPUT", base, rules).unwrap();
    table.apply().unwrap();
    let counted: Vec<_> = table
        .counters()
        .unwrap()
        .into_iter()
        .filter(|count| count.comment.as_deref() == Some("probes"))
        .map(|count| count.count.packets)
        .collect();
    assert_eq!(counted, [3]);
}

#[test]
fn edits_by_hand_are_noticed_and_repaired() {
    let namespace = TestNamespace::new();
    let mut table = table(&namespace, Family::Ip);
    fill(&mut table);
    table.apply().unwrap();
    let right = ruleset(&namespace);
    let edits = [
        "flush ruleset",
        "delete table ip calico",
        "flush table ip calico",
        "flush chain ip calico pod-1",
        "add rule ip calico pod-1 ip saddr 1.2.3.4 accept",
        "insert rule ip calico filter-FORWARD accept",
        "add rule ip calico pod-1 tcp flags syn tcp option maxseg size set rt mtu",
        "insert rule ip calico pod-1 queue num 3",
        "add chain ip calico extra; add rule ip calico extra drop; add rule ip calico pod-1 jump extra",
        "add chain ip calico e1; add chain ip calico e2; add rule ip calico e1 jump e2",
        "add chain ip calico e1 { type filter hook input priority 7; policy drop; }",
        "flush chain ip calico filter-FORWARD; delete map ip calico dispatch; delete chain ip calico pod-1",
        "chain ip calico filter-FORWARD { policy drop; }",
        "delete chain ip calico filter-FORWARD; add chain ip calico filter-FORWARD",
        "delete chain ip calico filter-FORWARD; \
         add chain ip calico filter-FORWARD { type filter hook input priority 3; }",
        "add element ip calico hosts { 1.1.1.1 }",
        "delete element ip calico hosts { 10.0.0.1 }",
        "flush set ip calico hosts",
        "add element ip calico nets { 1.0.0.0/8, 9.9.9.1-9.9.9.7 }",
        "delete element ip calico nets { 10.0.0.0/8 }; add element ip calico nets { 10.0.0.0/9 }",
        "delete element ip calico dispatch { \"cali1\" }",
        "delete element ip calico dispatch { \"cali1\" }; \
         add element ip calico dispatch { \"cali1\" : accept, \"caliX\" : jump pod-2 }",
        "add set ip calico extra { type ipv4_addr; timeout 1h; elements = { 1.1.1.1 } }",
        "add map ip calico extra { type ipv4_addr : verdict; elements = { 1.1.1.1 : jump pod-1 } }",
        "add map ip calico extra { type ipv4_addr : inet_service; elements = { 1.1.1.1 : 5 } }; \
         add rule ip calico pod-1 dnat to ip saddr map @extra",
        "flush chain ip calico pod-2; delete set ip calico hosts; \
         add set ip calico hosts { type inet_service; elements = { 5 } }; \
         add rule ip calico pod-2 tcp dport @hosts",
        "add table ip calico { flags dormant; }",
    ];
    for edit in edits {
        let (worked, _, said) = try_nft(&namespace, edit);
        if !worked {
            // Some edits need what a kernel may lack (queue, options); the others have to work.
            assert!(
                edit.contains("queue") || edit.contains("maxseg") || edit.contains("dnat"),
                "{edit}: {said}"
            );
            continue;
        }
        assert!(table.changed().unwrap(), "not noticed: {edit}");
        let applied = table.apply().unwrap_or_else(|error| panic!("{edit}: {error}"));
        assert!(applied.resynced && applied.operations > 0, "{edit}: {applied:?}");
        assert_eq!(applied.refused, [], "{edit}");
        assert_eq!(ruleset(&namespace), right, "after: {edit}");
        assert_eq!(table.apply().unwrap(), Applied::default(), "after: {edit}");
    }
}

#[test]
fn other_tables_are_neither_touched_nor_a_reason_to_read_back() {
    let namespace = TestNamespace::new();
    let other = "table inet other { set s { type ipv4_addr; elements = { 1.1.1.1 } }\n\
                 chain c { type filter hook input priority 0; policy accept; \
                 ip saddr @s counter packets 7 bytes 9 accept; }; }\n\
                 table ip6 calico { chain pod-1 { accept; }; }";
    nft(&namespace, other);
    let foreign = ruleset(&namespace);
    let mut table = table(&namespace, Family::Ip);
    fill(&mut table);
    table.apply().unwrap();
    for index in 0..20 {
        nft(&namespace, &format!("add element inet other s {{ 2.2.2.{index} }}"));
        nft(&namespace, &format!("delete element inet other s {{ 2.2.2.{index} }}"));
        assert!(!table.changed().unwrap());
        assert!(!table.apply().unwrap().resynced);
        table.add_members("hosts", [ip(&format!("10.0.3.{index}"))]).unwrap();
        let applied = table.apply().unwrap();
        assert_eq!((applied.operations, applied.resynced), (1, false));
    }
    table.remove().unwrap();
    assert_eq!(ruleset(&namespace), foreign);
}

#[test]
fn a_refused_chain_drops_everything_and_does_not_hold_up_the_others() {
    let namespace = TestNamespace::new();
    let mut table = table(&namespace, Family::Ip);
    fill(&mut table);
    table.apply().unwrap();
    table.set_chain("pod-1", vec![accept(1), Rule::always(Verdict::jump("nowhere"))]).unwrap();
    table.set_chain("pod-3", vec![accept(3)]).unwrap();
    let applied = table.apply().unwrap();
    assert_eq!(applied.refused.len(), 1, "{applied:?}");
    let text = applied.refused[0].to_string();
    assert!(text.contains("add rule ip calico pod-1 jump nowhere"), "{text}");
    assert!(listed(&namespace, Family::Ip, "pod-1")[0].starts_with("counter packets 0 bytes 0 drop comment"));
    assert_eq!(listed(&namespace, Family::Ip, "pod-3").len(), 1);
    assert_eq!(table.apply().unwrap().operations, 0, "what was refused is not tried again by itself");

    table.set_chain("pod-1", vec![accept(1)]).unwrap();
    assert_eq!(table.apply().unwrap().refused, []);
    assert!(listed(&namespace, Family::Ip, "pod-1")[0].starts_with("tcp dport 1"));
}

#[test]
fn a_refused_base_chain_leaves_the_table_as_it_was() {
    let namespace = TestNamespace::new();
    let mut table = table(&namespace, Family::Ip);
    fill(&mut table);
    table.apply().unwrap();
    let before = ruleset(&namespace);
    table.set_base_chain("filter-FORWARD", forward(), vec![Rule::always(Verdict::jump("nowhere"))]).unwrap();
    table.set_chain("pod-1", vec![]).unwrap();
    let error = table.apply().unwrap_err();
    assert!(matches!(error, NftError::Refused(_)), "{error}");
    assert!(error.to_string().contains("filter-FORWARD jump nowhere"), "{error}");
    assert_eq!(ruleset(&namespace), before);
    fill(&mut table);
    table.apply().unwrap();
    assert_eq!(ruleset(&namespace), before);
}

#[test]
fn a_loop_of_jumps_is_refused_and_nothing_is_done() {
    let namespace = TestNamespace::new();
    let mut table = table(&namespace, Family::Ip);
    fill(&mut table);
    table.apply().unwrap();
    let before = ruleset(&namespace);
    table.set_chain("a", vec![Rule::always(Verdict::jump("b"))]).unwrap();
    table.set_chain("b", vec![Rule::always(Verdict::jump("a"))]).unwrap();
    table.set_base_chain("filter-FORWARD", forward(), vec![Rule::always(Verdict::jump("a"))]).unwrap();
    let error = table.apply().unwrap_err();
    // The kernel blames the rule by which it comes into the loop, here that of the base chain.
    assert!(error.to_string().contains("filter-FORWARD jump a"), "{error}");
    assert_eq!(ruleset(&namespace), before);
}

#[test]
fn a_set_of_another_kind_is_made_anew_with_the_rules_that_use_it() {
    let namespace = TestNamespace::new();
    let mut table = table(&namespace, Family::Ip);
    fill(&mut table);
    table.apply().unwrap();
    let nets: [ipnet::IpNet; 2] = ["10.0.0.0/8".parse().unwrap(), "10.1.2.3/32".parse().unwrap()];
    table.set_set("hosts", SetKind::intervals([DataType::Ipv4Addr]), nets).unwrap();
    let applied = table.apply().unwrap();
    assert_eq!(applied.refused, []);
    assert!(nft(&namespace, "list set ip calico hosts").contains("elements = { 10.0.0.0/8 }"));
    assert_eq!(listed(&namespace, Family::Ip, "pod-2"), ["ip saddr @hosts"]);
    table.resync().unwrap();
    assert_eq!(table.apply().unwrap().operations, 0);
}

#[test]
fn chains_that_lead_to_each_other_go_together() {
    let namespace = TestNamespace::new();
    let mut table = table(&namespace, Family::Ip);
    fill(&mut table);
    table.set_chain("x", vec![Rule::always(Verdict::jump("y"))]).unwrap();
    table.set_chain("y", vec![Rule::new().when(Match::in_set(Field::IpSaddr, "hosts"))]).unwrap();
    table.set_entry("dispatch", "cali9", Verdict::jump("x")).unwrap();
    table.apply().unwrap();
    for chain in ["x", "y", "pod-1", "pod-2"] {
        table.remove_chain(chain);
    }
    table.remove_set("dispatch");
    table.remove_set("hosts");
    table.set_base_chain("filter-FORWARD", forward(), vec![]).unwrap();
    assert_eq!(table.apply().unwrap().refused, []);
    let listing = ruleset(&namespace);
    assert!(!listing.contains("chain x") && !listing.contains("dispatch") && !listing.contains("hosts"));
    table.remove().unwrap();
    assert_eq!(ruleset(&namespace), "");
}

#[test]
fn sets_are_listed_with_the_elements_that_were_given() {
    let namespace = TestNamespace::new();
    let mut table = table(&namespace, Family::Ip);
    fill(&mut table);
    let key = [DataType::Ipv4Addr, DataType::InetProto, DataType::InetService];
    let member = Member::from([ip("10.0.0.1").into(), 6_u8.into(), 80_u16.into()]);
    table.set_set("ports", SetKind::hash(key), [member]).unwrap();
    let pairs = SetKind::intervals([DataType::Ipv4Addr, DataType::InetService]);
    let net: ipnet::IpNet = "10.0.0.0/8".parse().unwrap();
    let members = [
        Member::from([net.into(), Part::range(80_u16, 90_u16)]),
        Member::from([ip("1.1.1.1").into(), 22_u16.into()]),
    ];
    table.set_set("pairs", pairs, members).unwrap();
    table.set_set("marks", SetKind::hash([DataType::Mark]), [0x10_u32]).unwrap();
    let all = SetKind::intervals([DataType::Ipv4Addr]);
    table.set_set("everything", all, ["0.0.0.0/0".parse::<ipnet::IpNet>().unwrap()]).unwrap();
    table.apply().unwrap();
    for (set, elements) in [
        ("set ip calico hosts", "{ 10.0.0.1, 10.0.0.2 }"),
        ("set ip calico nets", "{ 10.0.0.0/8, 192.168.0.0/24, 192.168.1.0/24, 255.255.255.255 }"),
        ("set ip calico ports", "{ 10.0.0.1 . tcp . 80 }"),
        ("set ip calico pairs", "{ 1.1.1.1 . 22, 10.0.0.0/8 . 80-90 }"),
        ("set ip calico marks", "{ 0x00000010 }"),
        ("set ip calico everything", "{ 0.0.0.0/0 }"),
        ("map ip calico dispatch", "{ \"cali1\" : goto pod-1, \"cali2\" : goto pod-2 }"),
    ] {
        let listing = nft(&namespace, &format!("list {set}"));
        let words: Vec<&str> = listing.split_whitespace().collect();
        assert!(words.join(" ").contains(&format!("elements = {elements}")), "{set}: {listing}");
    }
    table.resync().unwrap();
    assert_eq!(table.apply().unwrap().operations, 0);
}

#[test]
fn our_listing_is_a_script_that_makes_nft_write_the_same() {
    let (ours, theirs) = (TestNamespace::new(), TestNamespace::new());
    let mut table = table(&ours, Family::Ip);
    fill(&mut table);
    let pairs = SetKind::intervals([DataType::Ipv4Addr, DataType::InetService]);
    let net: ipnet::IpNet = "10.0.0.0/8".parse().unwrap();
    table.set_set("pairs", pairs, [Member::from([net.into(), Part::range(80_u16, 90_u16)])]).unwrap();
    table.apply().unwrap();
    nft(&theirs, &table.listing());
    assert_eq!(ruleset(&ours), ruleset(&theirs));
}

#[test]
fn interval_members_come_and_go_one_at_a_time() {
    let namespace = TestNamespace::new();
    let mut table = table(&namespace, Family::Ip);
    let kind = SetKind::intervals([DataType::Ipv4Addr]);
    let none: [Member; 0] = [];
    table.set_set("nets", kind, none).unwrap();
    table.apply().unwrap();
    let seed = 5;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut members: Vec<ipnet::IpNet> = Vec::new();
    for round in 0..150 {
        for _ in 0..random.usize(1..4) {
            if random.u8(0..5) < 3 || members.is_empty() {
                let bytes = [10, random.u8(0..4), random.u8(..), 0];
                let net = ipnet::Ipv4Net::new(bytes.into(), random.u8(8..=24)).unwrap().trunc();
                table.add_members("nets", [ipnet::IpNet::V4(net)]).unwrap();
                members.push(net.into());
                members.sort();
                members.dedup();
            } else {
                let net = members.swap_remove(random.usize(0..members.len()));
                table.remove_members("nets", [net]).unwrap();
            }
        }
        let applied = table.apply().unwrap_or_else(|error| panic!("seed {seed}, round {round}: {error}"));
        assert!(round == 0 || !applied.resynced);
        assert_eq!(applied.refused, [], "seed {seed}, round {round}");
    }
    table.resync().unwrap();
    assert_eq!(table.apply().unwrap().operations, 0);
}
