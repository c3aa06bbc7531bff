//! Rows 13 to 15 of the performance goals: loading a ruleset, adding a set member, adding a pod; each beside the `nft`
//! program doing the same in the same run. Needs root and `nft`.
//!
//!     cargo run --release -p kernel --example nft_bench [-- RULES…]

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kernel::nft::*;
use testkit::TestNamespace;

const MEMBERS: u32 = 100;
const SETS: u32 = 100;
const ROUNDS: usize = 5;
const CHANGES: usize = 60;

fn main() {
    let sizes: Vec<u32> = std::env::args().skip(1).filter_map(|size| size.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![1_000, 10_000, 50_000] } else { sizes };
    println!(
        "median (min..max) of {ROUNDS} loads and {CHANGES} changes; Calico's shape: chains of 10 rules, {SETS} sets of {MEMBERS}"
    );
    for rules in sizes {
        println!("\n{rules} rules");
        memory(rules / 10);
        load(rules / 10);
        changes(rules / 10);
    }
}

fn chain_name(pod: u32) -> String {
    format!("cali-tw-cali{pod}")
}

/// Connection tracking, seven sets with a port each, an accept, a drop.
fn chain(pod: u32) -> Vec<Rule> {
    let lookup = |n: u32| {
        Rule::new()
            .when(Match::in_set(Field::IpSaddr, format!("s{}", (pod + n) % SETS)))
            .when(Match::is(Field::TcpDport, 1000 + n as u16))
            .counter()
            .verdict(Verdict::Accept)
    };
    let state = |states, verdict| Rule::new().when(Match::ct_state(states)).verdict(verdict);
    let first = [
        state(ct_state::ESTABLISHED | ct_state::RELATED, Verdict::Accept),
        state(ct_state::INVALID, Verdict::Drop),
    ];
    first
        .into_iter()
        .chain((0..7).map(lookup))
        .chain([Rule::new().counter().verdict(Verdict::Drop)])
        .collect()
}

fn members(set: u32) -> impl Iterator<Item = Ipv4Addr> {
    (0..MEMBERS).map(move |n| Ipv4Addr::from(0x0a00_0000 + set * 0x1_0000 + n))
}

const BASE: BaseChain =
    BaseChain { kind: ChainType::Filter, hook: Hook::Forward, priority: 0, policy: Policy::Accept };

fn dispatch() -> Rule {
    Rule::new().then(Statement::VerdictMap { fields: vec![Field::Oifname], map: "dispatch".into() })
}

fn fill(table: &mut NftTable<NftSocket>, pods: u32) {
    for set in 0..SETS {
        table.set_set(format!("s{set}"), SetKind::hash([DataType::Ipv4Addr]), members(set)).unwrap();
    }
    for pod in 0..pods {
        table.set_chain(chain_name(pod), chain(pod)).unwrap();
    }
    let entries = (0..pods).map(|pod| (format!("cali{pod}"), Verdict::goto(chain_name(pod))));
    table.set_map("dispatch", SetKind::hash([DataType::IfName]), entries).unwrap();
    table.set_base_chain("filter-FORWARD", BASE, vec![dispatch()]).unwrap();
}

/// The same for `nft -f`.
fn script(pods: u32) -> String {
    let mut text = String::from("table ip bench {\n");
    for set in 0..SETS {
        let elements: Vec<String> = members(set).map(|member| member.to_string()).collect();
        let _ = writeln!(text, "set s{set} {{ type ipv4_addr; elements = {{ {} }} }}", elements.join(", "));
    }
    for pod in 0..pods {
        text += &pod_chain(pod);
    }
    let entries: Vec<String> =
        (0..pods).map(|pod| format!("\"cali{pod}\" : goto {}", chain_name(pod))).collect();
    let _ =
        writeln!(text, "map dispatch {{ type ifname : verdict; elements = {{ {} }} }}", entries.join(", "));
    let _ = writeln!(text, "chain filter-FORWARD {{ {BASE}\n{}\n}}\n}}", dispatch());
    text
}

fn pod_chain(pod: u32) -> String {
    let rules: Vec<String> = chain(pod).iter().map(ToString::to_string).collect();
    format!("chain {} {{\n{}\n}}\n", chain_name(pod), rules.join("\n"))
}

fn nft(arguments: &[&str], script: &str) {
    let mut child =
        Command::new("nft").args(arguments).stdin(Stdio::piped()).spawn().expect("nft is installed");
    child.stdin.take().expect("it is piped").write_all(script.as_bytes()).expect("nft reads its input");
    assert!(child.wait().expect("nft ends").success());
}

fn timed(code: impl FnOnce()) -> Duration {
    let start = Instant::now();
    code();
    start.elapsed()
}

fn report(what: &str, mut times: Vec<Duration>) -> Duration {
    times.sort();
    let (median, least, most) = (times[times.len() / 2], times[0], times[times.len() - 1]);
    println!("  {what:<44} {median:>9.1?} ({least:.1?}..{most:.1?})");
    median
}

fn compare(row: &str, ours: Duration, theirs: Duration) {
    println!("  {row}: {:.3} x nft", ours.as_secs_f64() / theirs.as_secs_f64());
}

fn open() -> NftTable<NftSocket> {
    NftTable::new(NftSocket::open().expect("root can open a netlink socket"), Family::Ip, "bench")
}

/// Resident memory of this process in KiB (`VmRSS`).
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn memory(pods: u32) {
    TestNamespace::new().run(|| {
        let before = resident();
        let mut table = open();
        fill(&mut table, pods);
        table.apply().unwrap();
        let grown = resident().saturating_sub(before);
        println!("  ours: resident memory grew by {grown} KiB (table and {} set members)", MEMBERS * SETS);
    });
}

fn load(pods: u32) {
    let text = script(pods);
    let (mut fills, mut applies, mut reads, mut theirs) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        TestNamespace::new().run(|| {
            let mut table = open();
            fills.push(timed(|| fill(&mut table, pods)));
            applies.push(timed(|| assert!(table.apply().unwrap().refused.is_empty())));
            let mut restarted = open();
            fill(&mut restarted, pods);
            reads.push(timed(|| assert_eq!(restarted.apply().unwrap().operations, 0)));
        });
        TestNamespace::new().run(|| theirs.push(timed(|| nft(&["-f", "-"], &text))));
    }
    let ours: Vec<Duration> = fills.iter().zip(&applies).map(|(fill, apply)| *fill + *apply).collect();
    report("ours: set and compile, in memory", fills);
    report("ours: apply (plan, encode, commit)", applies);
    let ours = report("ours: both", ours);
    report("ours: read back and compare (restart)", reads);
    let theirs = report("nft -f", theirs);
    compare("row 13, load", ours, theirs);
}

fn changes(pods: u32) {
    TestNamespace::new().run(|| {
        let mut table = open();
        fill(&mut table, pods);
        table.apply().unwrap();
        let ours = one_member(&mut table);
        let theirs: Vec<Duration> = (0..CHANGES)
            .map(|n| {
                let element = format!("{{ 172.17.0.{n} }}");
                timed(|| nft(&["add", "element", "ip", "bench", "s1", &element], ""))
            })
            .collect();
        let theirs = report("nft add element", theirs);
        compare("row 14, one set member", ours, theirs);
        table.apply().unwrap();

        let ours = one_pod(&mut table, pods, "ours: one pod");
        let mut own = NftTable::new(NftSocket::open().unwrap(), Family::Ip, "small");
        fill(&mut own, 10);
        own.apply().unwrap();
        one_pod(&mut own, 10, "ours: one pod, in a small table beside");
        let theirs: Vec<Duration> = (0..CHANGES as u32)
            .map(|n| {
                let pod = pods + 10_000 + n;
                let map = format!(
                    "map dispatch {{ type ifname : verdict; elements = {{ \"x{pod}\" : goto {} }} }}",
                    chain_name(pod)
                );
                let text = format!("table ip bench {{\n{}{map}\n}}", pod_chain(pod));
                timed(|| nft(&["-f", "-"], &text))
            })
            .collect();
        let theirs = report("nft -f, one pod", theirs);
        compare("row 15, one pod", ours, theirs);
        let idle = (0..CHANGES).map(|_| timed(|| drop(own.apply().unwrap()))).collect();
        report("ours: apply with nothing to do", idle);
    });
}

fn one_member(table: &mut NftTable<NftSocket>) -> Duration {
    let times = (0..CHANGES as u32).map(|n| {
        timed(|| {
            table.add_members("s1", [Ipv4Addr::from(0xac10_0000 + n)]).unwrap();
            assert_eq!(table.apply().unwrap().operations, 1);
        })
    });
    report("ours: one set member", times.collect())
}

fn one_pod(table: &mut NftTable<NftSocket>, pods: u32, what: &str) -> Duration {
    let times = (pods..pods + CHANGES as u32).map(|pod| {
        timed(|| {
            table.set_chain(chain_name(pod), chain(pod)).unwrap();
            table.set_entry("dispatch", format!("cali{pod}"), Verdict::goto(chain_name(pod))).unwrap();
            assert_eq!(table.apply().unwrap().operations, 12);
        })
    });
    report(what, times.collect())
}
