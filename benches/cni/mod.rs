//! CNI ADD and DEL as a container runtime sees them: from fork to the end of the plugin's process.
//!
//! Ours includes IPAM, the datastore's writes and the pod's policy in the kernel when ADD returns (which is checked);
//! beside it Debian's `ptp` with `host-local`, which has neither datastore nor policy. The two alternate in blocks, so
//! that neither's aftermath falls on one of them only, and DEL counts twice: until the plugin returns, and until the
//! kernel has none of the links any more.

mod plugin;

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use datastore::{Scope, Store};
use testkit::TestNamespace;

use crate::harness::host::Host;
use crate::harness::sample::{self, Sample, at_least, at_most, print, ratio};
use crate::harness::{cluster, cpu};
use plugin::Plugin;

/// How much is done.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Pods in a round
    #[arg(long, default_value_t = 100)]
    pods: usize,
    /// Plugins that run at a time, in the second half of a round
    #[arg(long, default_value_t = 16)]
    at_once: usize,
    /// Rounds; ours and the peer's alternate
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Policies that apply to every pod
    #[arg(long, default_value_t = 10)]
    policies: usize,
}

/// One at a time, this many of ours and of the peer's take turns.
const BLOCK: usize = 20;
/// Between turns, so that what one leaves to do in the background does not burden the other.
const SETTLE: Duration = Duration::from_millis(100);
const GONE_LIMIT: Duration = Duration::from_secs(10);

/// A plugin, the host that it works on, and what was measured.
struct Contender {
    plugin: Plugin,
    host: Host,
    /// Namespaces of its pods.
    pods: Vec<TestNamespace>,
    /// Of the host's ends of the links.
    prefix: &'static str,
    alone: Times,
    at_once: Times,
    /// ADDs, DELs, and links gone per second, of each round.
    rates: Vec<[f64; 3]>,
}

#[derive(Default)]
struct Times {
    add: Sample,
    del: Sample,
    /// Processor time of plugins and node, of all ADDs and of all DELs.
    add_cpu: Duration,
    del_cpu: Duration,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let Options { pods, at_once, rounds, policies } = options;
    println!(
        "CNI: {rounds} rounds of {pods} pods, one at a time and {at_once} at once; {policies} policies for each pod of ours"
    );
    let mut ours = ours(*pods, *policies)?;
    let mut peer = peer(*pods)?;
    floor(&ours, &peer)?;
    for round in 0..*rounds {
        one_at_a_time(&mut ours, &mut peer, *pods, round)?;
        let mut turns = [&mut ours, &mut peer];
        turns.rotate_left(round % 2);
        for contender in turns {
            contender.all_at_once(*at_once)?;
        }
    }
    report(&ours, &peer, *at_once);
    Ok(())
}

fn ours(pods: usize, policies: usize) -> Result<Contender> {
    let mut host = Host::new()?;
    let store = host.store()?;
    let (key, value) = cluster::namespace();
    store.create(&key, &value.to_string())?;
    for number in 0..policies {
        // All of them for the pods that the plugin makes.
        let (key, mut value) = cluster::policy(number, 80);
        value["spec"]["selector"] = format!("app == '{}'", plugin::APP).into();
        store.create(&key, &value.to_string())?;
    }
    host.start_node()?;
    host.wait_ready()?;
    let plugin = Plugin::tortie(&host);
    Ok(Contender::new(plugin, host, "cali", pods))
}

fn peer(pods: usize) -> Result<Contender> {
    let host = Host::new()?;
    let plugin = Plugin::ptp(&host)?;
    Ok(Contender::new(plugin, host, "veth", pods))
}

/// What a process costs before it does anything.
fn floor(ours: &Contender, peer: &Contender) -> Result<()> {
    for contender in [ours, peer] {
        let mut times = Sample::default();
        contender.host.namespace.run(|| -> Result<()> {
            (0..BLOCK).try_for_each(|_| times.time(|| contender.plugin.version()))
        })?;
        print(&format!("{}: VERSION only", contender.plugin.name), &times);
    }
    Ok(())
}

fn one_at_a_time(ours: &mut Contender, peer: &mut Contender, pods: usize, round: usize) -> Result<()> {
    for command in ["ADD", "DEL"] {
        for (turn, first) in (0..pods).step_by(BLOCK).enumerate() {
            let last = (first + BLOCK).min(pods);
            let mut turns = [&mut *ours, &mut *peer];
            turns.rotate_left((turn + round) % 2);
            for contender in turns {
                contender.block(command, first..last)?;
                let present = if command == "ADD" { last } else { pods - last };
                contender.wait_for_links(present)?;
                contender.verify(present)?;
                std::thread::sleep(SETTLE);
            }
        }
    }
    Ok(())
}

impl Contender {
    fn new(plugin: Plugin, host: Host, prefix: &'static str, pods: usize) -> Self {
        let pods = (0..pods).map(|_| TestNamespace::new()).collect();
        Self { plugin, host, pods, prefix, alone: Times::default(), at_once: Times::default(), rates: vec![] }
    }

    /// Some pods, one after another.
    fn block(&mut self, command: &str, numbers: Range<usize>) -> Result<()> {
        let before = self.cpu_time()?;
        let Self { plugin, host, pods, alone, .. } = self;
        let times = if command == "ADD" { &mut alone.add } else { &mut alone.del };
        host.namespace.run(|| {
            numbers
                .into_iter()
                .try_for_each(|number| times.time(|| plugin.execute(command, number, &pods[number])))
        })?;
        let used = self.cpu_time()?.saturating_sub(before);
        *(if command == "ADD" { &mut self.alone.add_cpu } else { &mut self.alone.del_cpu }) += used;
        Ok(())
    }

    /// Processor time of the processes that this one has waited for, which are the plugins, and of the node if there is one.
    fn cpu_time(&self) -> Result<Duration> {
        let plugins = cpu::of_children(std::process::id())?;
        let node = self.host.node_id().map(cpu::of_process).transpose()?;
        Ok(plugins + node.unwrap_or_default())
    }

    /// All pods, many at a time: added, then removed.
    fn all_at_once(&mut self, at_once: usize) -> Result<()> {
        let count = self.pods.len() as f64;
        let start = Instant::now();
        let times = self.parallel("ADD", at_once)?;
        let added = count / start.elapsed().as_secs_f64();
        self.at_once.add.extend(times);
        self.verify(self.pods.len())?;
        std::thread::sleep(SETTLE);
        let start = Instant::now();
        let times = self.parallel("DEL", at_once)?;
        let removed = count / start.elapsed().as_secs_f64();
        self.wait_for_links(0)?;
        let gone = count / start.elapsed().as_secs_f64();
        self.at_once.del.extend(times);
        self.verify(0)?;
        self.rates.push([added, removed, gone]);
        std::thread::sleep(SETTLE);
        Ok(())
    }

    fn parallel(&self, command: &str, at_once: usize) -> Result<Vec<Duration>> {
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<Duration>> {
            let mut times = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some(namespace) = self.pods.get(number) else { return Ok(times) };
                let start = Instant::now();
                self.plugin.execute(command, number, namespace)?;
                times.push(start.elapsed());
            }
        };
        let workers = || -> Result<Vec<Duration>> {
            std::thread::scope(|scope| {
                let threads: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
                let results = threads.into_iter().map(|thread| thread.join().expect("no panic"));
                Ok(results.collect::<Result<Vec<_>>>()?.concat())
            })
        };
        self.host.namespace.run(workers)
    }

    /// Waits until this many links of pods are there.
    fn wait_for_links(&self, expected: usize) -> Result<()> {
        self.host.namespace.run(|| {
            let deadline = Instant::now() + GONE_LIMIT;
            loop {
                let table = std::fs::read_to_string("/proc/thread-self/net/dev")?;
                let there = table.lines().filter(|line| line.trim_start().starts_with(self.prefix)).count();
                if there == expected {
                    return Ok(());
                }
                ensure!(Instant::now() < deadline, "{}: {there} links, not {expected}", self.plugin.name);
                std::thread::sleep(Duration::from_micros(200));
            }
        })
    }

    /// Ours only: what the datastore and the kernel have now is what `expected` pods need.
    fn verify(&self, expected: usize) -> Result<()> {
        if self.prefix != "cali" {
            return Ok(());
        }
        let store = self.host.store()?;
        let endpoints = store.list(&Scope::all(api::Kind::WorkloadEndpoint))?.entries.len();
        let handles = store.list(&Scope::Handles)?.entries.len();
        let map = self.host.nft("list map ip calico cali-from-wl-dispatch");
        let programs = map.matches(" : goto ").count() + map.matches(" : jump ").count();
        let found = [endpoints, handles, programs];
        ensure!(
            found == [expected; 3],
            "endpoints, handles, programs: {found:?}, not {expected} each\n{map}"
        );
        Ok(())
    }

    /// The median round's rate.
    fn rate(&self, index: usize) -> f64 {
        let mut rates: Vec<_> = self.rates.iter().map(|rates| rates[index]).collect();
        rates.sort_by(f64::total_cmp);
        rates.get(rates.len() / 2).copied().unwrap_or(0.0)
    }
}

fn report(ours: &Contender, peer: &Contender, at_once: usize) {
    for (how, times) in [
        ("one at a time".to_owned(), [&ours.alone, &peer.alone]),
        (format!("{at_once} at once"), [&ours.at_once, &peer.at_once]),
    ] {
        for (contender, times) in [ours, peer].into_iter().zip(times) {
            sample::print(&format!("{}: ADD, {how}", contender.plugin.name), &times.add);
            sample::print(&format!("{}: DEL, {how}", contender.plugin.name), &times.del);
        }
    }
    for contender in [ours, peer] {
        let Times { add, del, add_cpu, del_cpu } = &contender.alone;
        let each = |total: &Duration, sample: &Sample| total.as_secs_f64() * 1e3 / sample.len() as f64;
        let (name, add, del) = (contender.plugin.name, each(add_cpu, add), each(del_cpu, del));
        println!(
            "  {name}: one at a time, processor time of all processes: {add:.2} ms an ADD, {del:.2} ms a DEL"
        );
    }
    for contender in [ours, peer] {
        let [adds, dels, gone] = [0, 1, 2].map(|index| contender.rate(index));
        let name = contender.plugin.name;
        println!(
            "  {name}: {at_once} at once: {adds:.0} ADD/s, {dels:.0} DEL/s answered, {gone:.0}/s gone from the kernel"
        );
    }
    at_most("row 10, ADD p50", ratio(&ours.alone.add, &peer.alone.add), 0.3, " x ptp");
    at_least("row 11, ADDs at once", ours.rate(0), 400.0, "/s");
    at_least("row 11, ADDs at once", ours.rate(0) / peer.rate(0), 3.5, " x ptp");
    at_most("row 12, DEL p50", ratio(&ours.alone.del, &peer.alone.del), 1.0, " x ptp");
    at_least("row 12, DELs at once, gone from the kernel", ours.rate(2), 500.0, "/s");
    at_least("row 12, DELs at once, gone from the kernel", ours.rate(2) / peer.rate(2), 3.0, " x ptp");
}
