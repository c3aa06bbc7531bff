//! Rows 13 to 15 of the performance goals: loading a ruleset, adding a set member, adding a pod; ours by netlink, beside
//! `nft`, `iptables-restore` (nft and legacy) and `ipset` doing the same in the same run, taking turns.

mod peers;
mod shape;

use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::Duration;

use anyhow::{Result, ensure};
use kernel::nft::{NftSocket, NftTable};
use testkit::TestNamespace;

use crate::harness::sample::{Sample, at_most, print, ratio};
use shape::{MEMBERS, RULES_OF_A_POD, SETS};

/// How much is done.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Rules that are there
    #[arg(default_values_t = [1_000, 10_000, 50_000])]
    rules: Vec<u32>,
    /// Whole loads
    #[arg(long, default_value_t = 5)]
    loads: u32,
    /// Changes of each kind
    #[arg(long, default_value_t = 60)]
    changes: u32,
}

/// The size that the goals are for.
const GOAL_RULES: u32 = 10_000;

pub(crate) fn run(options: &Options) -> Result<()> {
    println!("nft: Calico's shape: chains of {RULES_OF_A_POD} rules, {SETS} sets of {MEMBERS} members");
    for rules in &options.rules {
        println!("{rules} rules");
        let pods = rules / RULES_OF_A_POD;
        let load = load(pods, options.loads)?;
        let [member, pod] = changes(pods, options.changes)?;
        if *rules != GOAL_RULES {
            continue;
        }
        at_most("row 13, load", ratio(&load.ours, &load.nft), 0.6, " x nft -f");
        // Ours has loaded the sets too.
        let with_sets = load.legacy.median() + load.ipset.median();
        let beside_legacy = load.ours.median().as_secs_f64() / with_sets.as_secs_f64();
        at_most("row 13, load", beside_legacy, 1.0, " x iptables-legacy-restore and ipset");
        at_most("row 14, one set member", ratio(&member.ours, &member.best()), 0.1, " x ipset");
        at_most("row 15, one pod", ratio(&pod.ours, &pod.best()), 0.25, " x the best peer");
        at_most("row 15, one pod", pod.ours.median().as_secs_f64() * 1e3, 1.1, " ms");
    }
    Ok(())
}

/// Times of one thing, ours and the peers'. A peer that does not do it has none.
#[derive(Default)]
struct Times {
    ours: Sample,
    nft: Sample,
    iptables_nft: Sample,
    legacy: Sample,
    ipset: Sample,
}

impl Times {
    fn print(&self, what: &str) {
        let rows = [
            ("ours", &self.ours),
            ("nft", &self.nft),
            ("iptables-nft-restore", &self.iptables_nft),
            ("iptables-legacy-restore", &self.legacy),
            ("ipset", &self.ipset),
        ];
        for (who, sample) in rows.into_iter().filter(|(_, sample)| sample.median() > Duration::ZERO) {
            print(&format!("{what}: {who}"), sample);
        }
    }

    /// The fastest peer.
    fn best(&self) -> Sample {
        let peers = [&self.nft, &self.iptables_nft, &self.legacy, &self.ipset];
        let measured = peers.into_iter().filter(|sample| sample.median() > Duration::ZERO);
        measured.min_by_key(|sample| sample.median()).cloned().unwrap_or_default()
    }
}

fn load(pods: u32, loads: u32) -> Result<Times> {
    let mut times = Times::default();
    let (mut compile, mut again) = (Sample::default(), Sample::default());
    let (nft, ipset, iptables) = (peers::nft(pods), peers::ipset(), peers::iptables(pods));
    for _ in 0..loads {
        TestNamespace::new().run(|| -> Result<()> {
            let mut table = shape::open("bench")?;
            times.ours.time(|| -> Result<()> {
                compile.time(|| shape::fill(&mut table, pods))?;
                ensure!(table.apply()?.refused.is_empty(), "the kernel refused a part");
                Ok(())
            })?;
            let mut restarted = shape::open("bench")?;
            shape::fill(&mut restarted, pods)?;
            let report = again.time(|| restarted.apply())?;
            ensure!(report.operations == 0, "a restart changed what was right: {report:?}");
            Ok(())
        })?;
        TestNamespace::new().run(|| times.nft.time(|| peers::feed("nft -f -", &nft)))?;
        TestNamespace::new().run(|| -> Result<()> {
            times.ipset.time(|| peers::feed("ipset restore", &ipset))?;
            times.iptables_nft.time(|| peers::feed("iptables-nft-restore", &iptables))
        })?;
        TestNamespace::new().run(|| -> Result<()> {
            peers::feed("ipset restore", &ipset)?;
            times.legacy.time(|| peers::feed("iptables-legacy-restore", &iptables))
        })?;
    }
    times.print("load");
    print("load: of ours, in memory", &compile);
    print("restart, read back and compare: ours", &again);
    Ok(times)
}

/// Changes of one kind follow each other, a block of ours and then one of each peer's: with every other in between, the
/// times would be those of cold caches.
const BLOCK: u32 = 20;

fn blocks(first: u32, count: u32) -> impl Iterator<Item = Range<u32>> {
    let end = first + count;
    (first..end).step_by(BLOCK as usize).map(move |start| start..(start + BLOCK).min(end))
}

/// One set member and one pod, many times. Each ruleset in a namespace of its own, for a commit goes through all chains of
/// its namespace.
fn changes(pods: u32, changes: u32) -> Result<[Times; 2]> {
    let [mine, nft, iptables_nft, legacy] = std::array::from_fn(|_| TestNamespace::new());
    // The socket stays in the namespace, whichever thread uses it.
    let mut table = mine.run(|| shape::open("bench"))?;
    shape::fill(&mut table, pods)?;
    table.apply()?;
    let (sets, iptables) = (peers::ipset(), peers::iptables(pods));
    nft.run(|| peers::feed("nft -f -", &peers::nft(pods)))?;
    for (namespace, restore) in
        [(&iptables_nft, "iptables-nft-restore"), (&legacy, "iptables-legacy-restore")]
    {
        namespace
            .run(|| peers::feed("ipset restore", &sets).and_then(|()| peers::feed(restore, &iptables)))?;
    }

    let (mut member, mut pod, mut idle) = (Times::default(), Times::default(), Sample::default());
    for block in blocks(0, changes) {
        let added = || block.clone().map(|n| Ipv4Addr::from(0xac10_0000 + n));
        for address in added() {
            member.ours.time(|| add_member(&mut table, address))?;
        }
        for address in added() {
            let add = format!("nft add element ip bench s1 {{ {address} }}");
            nft.run(|| member.nft.time(|| peers::feed(&add, "")))?;
        }
        for address in added() {
            legacy.run(|| member.ipset.time(|| peers::feed(&peers::ipset_add(1, address), "")))?;
        }
    }
    for block in blocks(pods, changes) {
        for number in block.clone() {
            pod.ours.time(|| add_pod(&mut table, number))?;
            idle.time(|| table.apply())?;
        }
        for number in block.clone() {
            let script = peers::nft_pod(number);
            nft.run(|| pod.nft.time(|| peers::feed("nft -f -", &script)))?;
        }
        for (namespace, times, command) in [
            (&iptables_nft, &mut pod.iptables_nft, "iptables-nft-restore --noflush"),
            (&legacy, &mut pod.legacy, "iptables-legacy-restore --noflush"),
        ] {
            for number in block.clone() {
                let restore = peers::iptables_pod(number);
                namespace.run(|| times.time(|| peers::feed(command, &restore)))?;
            }
        }
    }
    member.print("one set member");
    pod.print("one pod");
    print("nothing to do: ours", &idle);
    Ok([member, pod])
}

fn add_member(table: &mut NftTable<NftSocket>, address: Ipv4Addr) -> Result<()> {
    table.add_members("s1", [address])?;
    let report = table.apply()?;
    ensure!(report.operations == 1, "one member took {report:?}");
    Ok(())
}

fn add_pod(table: &mut NftTable<NftSocket>, pod: u32) -> Result<()> {
    shape::add_pod(table, pod)?;
    let report = table.apply()?;
    ensure!(report.operations == 12, "a chain, ten rules and an entry took {report:?}");
    Ok(())
}
