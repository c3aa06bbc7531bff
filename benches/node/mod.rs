//! What `tortie node` costs under load: memory, and start-up until it is ready.
//!
//! A first start finds an empty kernel; a restart finds everything as the process before left it. Ready is what the
//! node's own status says; that the kernel then has the policy is checked.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::harness::cluster::{self, Size};
use crate::harness::host::Host;
use crate::harness::nft_events::NftEvents;
use crate::harness::sample::{Sample, at_most, print};

/// How much is done.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    size: Size,
    /// Starts of each kind
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Keep each loaded node this many seconds, to look at it with a profiler
    #[arg(long, default_value_t = 0)]
    hold: u64,
}

const GOAL_START_SECS: f64 = 1.0;
const GOAL_RESIDENT_MIB: f64 = 40.0;
/// Memory is read once nothing has happened for this long.
const QUIET: Duration = Duration::from_secs(2);
const LIMIT: Duration = Duration::from_secs(60);

pub(crate) fn run(options: &Options) -> Result<()> {
    println!("node: {}; {} starts of each kind", options.size, options.rounds);
    empty(options.rounds)?;
    let template = Host::new()?;
    cluster::fill(&template.store()?, options.size)?;
    let (mut first, mut again) = (Sample::default(), Sample::default());
    let (mut fresh, mut restarted) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let mut host = Host::new()?;
        fs::copy(template.datastore(), host.datastore())?;
        host.make_interfaces(options.size.pods)?;
        start(&mut host, &mut first)?;
        verify(&host, options.size.pods)?;
        fresh.push(Memory::of(&host)?);
        std::thread::sleep(Duration::from_secs(options.hold));
        host.stop_node()?;
        start(&mut host, &mut again)?;
        verify(&host, options.size.pods)?;
        restarted.push(Memory::of(&host)?);
    }
    print("first start until ready", &first);
    print("restart until ready", &again);
    at_most("start-up p50", first.median().as_secs_f64(), GOAL_START_SECS, " s");
    for (what, mut memory) in [("first start", fresh), ("restart", restarted)] {
        memory.sort_by_key(|memory| memory.resident_kib);
        println!("  {what}: least: {}", memory[0]);
        let most = &memory[memory.len() - 1];
        println!("  {what}: most:  {most}");
        at_most(
            &format!("memory after a {what}, most"),
            most.resident_kib as f64 / 1024.0,
            GOAL_RESIDENT_MIB,
            " MiB",
        );
    }
    Ok(())
}

/// For comparison: a node with nothing to do.
fn empty(rounds: usize) -> Result<()> {
    let mut times = Sample::default();
    let mut host = Host::new()?;
    for _ in 0..rounds {
        start(&mut host, &mut times)?;
        host.stop_node()?;
    }
    start(&mut host, &mut Sample::default())?;
    print("an empty cluster: start until ready", &times);
    println!("  an empty cluster: {}", Memory::of(&host)?);
    Ok(())
}

fn start(host: &mut Host, times: &mut Sample) -> Result<()> {
    let start = Instant::now();
    host.start_node()?;
    host.wait_ready()?;
    times.push(start.elapsed());
    Ok(())
}

/// Ready means that the kernel has every pod's program.
fn verify(host: &Host, pods: usize) -> Result<()> {
    let map = host.nft("list map ip calico cali-to-wl-dispatch");
    let programs = map.matches(" : goto ").count() + map.matches(" : jump ").count();
    ensure!(programs == pods, "the node said ready, and the kernel has {programs} programs, not {pods}");
    Ok(())
}

struct Memory {
    resident_kib: u64,
    anonymous_kib: u64,
    proportional_kib: u64,
    peak_kib: u64,
}

impl Memory {
    fn of(host: &Host) -> Result<Self> {
        host.namespace.run(NftEvents::subscribe)?.wait_for_quiet(QUIET, LIMIT)?;
        Ok(Self {
            resident_kib: host.memory_kib("status", "VmRSS")?,
            anonymous_kib: host.memory_kib("status", "RssAnon")?,
            proportional_kib: host.memory_kib("smaps_rollup", "Pss")?,
            peak_kib: host.memory_kib("status", "VmHWM")?,
        })
    }
}

impl std::fmt::Display for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |kib: u64| kib as f64 / 1024.0;
        write!(
            f,
            "{:.1} MiB ({:.1} anonymous, {:.1} proportional), peak {:.1}",
            mib(self.resident_kib),
            mib(self.anonymous_kib),
            mib(self.proportional_kib),
            mib(self.peak_kib)
        )
    }
}
