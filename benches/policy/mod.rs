//! From a row written to the datastore until the kernel has what follows from it, on a loaded host.
//!
//! The clock starts before the write and stops at the kernel's own event of the change (see `harness::nft_events`); so
//! the write, the watch, the calculation and the transaction are all in it. First one change after another, each
//! awaited, with pauses of random length so that no period of the node's is hit in step; then 100 changes a second, whether
//! the one before is done or not (row 19 of the goals).

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use api::Key;
use datastore::{Sqlite, Store};
use serde_json::Value;

use crate::harness::cluster::{self, APPS, NODE, Size};
use crate::harness::host::Host;
use crate::harness::nft_events::{NftEvents, Sign, datum, kind};
use crate::harness::sample::{Sample, at_most, print};

/// How much is done.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    size: Size,
    /// Changes of each kind
    #[arg(long, default_value_t = 200)]
    changes: usize,
    /// Changes a second in the second part
    #[arg(long, default_value_t = 100)]
    rate: u32,
    /// Seed of the pauses
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

const LIMIT: Duration = Duration::from_secs(20);
const QUIET: Duration = Duration::from_millis(500);
const GOAL_MS: f64 = 20.0;
/// Ports from here on are told apart in the kernel's events; none is used otherwise.
const FIRST_PORT: u16 = 20_000;

pub(crate) fn run(options: &Options) -> Result<()> {
    println!("policy: {}; a change written -> the kernel tells of it; seed {}", options.size, options.seed);
    let mut host = Host::new()?;
    host.make_interfaces(options.size.pods + 1)?;
    let store = host.store()?;
    cluster::fill(&store, options.size)?;
    let events = host.namespace.run(NftEvents::subscribe)?;
    host.start_node()?;
    host.wait_ready()?;
    events.wait_for_quiet(QUIET, LIMIT)?;
    let mut bench =
        Bench { store, events, random: fastrand::Rng::with_seed(options.seed), next_port: FIRST_PORT };
    let worst = bench.one_by_one(options)?;
    at_most("a change until the kernel has it, worst p99 of all kinds", worst, GOAL_MS, " ms");
    let paced = bench.paced(options)?;
    print(&format!("{} policy changes a second", options.rate), &paced);
    at_most("row 19, p99 under changes at a steady rate", ms(paced.percentile(99)), GOAL_MS, " ms");
    let last = format!("{}", bench.next_port - 1);
    ensure!(
        host.nft("list table ip calico").contains(&last),
        "nft does not show the last change, port {last}"
    );
    Ok(())
}

struct Bench {
    store: Sqlite,
    events: NftEvents,
    random: fastrand::Rng,
    next_port: u16,
}

/// What is written, and how it shows in the kernel. Without a value the row is deleted.
type Change = (Key, Option<Value>, Sign);

impl Bench {
    /// Every kind of change; the worst p99 in milliseconds.
    fn one_by_one(&mut self, options: &Options) -> Result<f64> {
        let Size { policies, pods, .. } = options.size;
        let mut worst = 0_f64;
        let mut kind =
            |bench: &mut Self, what: &str, change: &dyn Fn(&mut Self, usize) -> Change| -> Result<()> {
                let (total, writes) =
                    bench.measure(options.changes, change).with_context(|| what.to_owned())?;
                print(what, &total);
                print("  of it the write", &writes);
                worst = worst.max(ms(total.percentile(99)));
                Ok(())
            };
        kind(self, "a policy's port changes", &|bench, round| bench.port_change(round % policies))?;
        kind(self, "a policy appears", &|bench, round| bench.port_change(policies + round))?;
        kind(self, "a policy goes", &|bench, round| {
            let port = bench.next_port - u16::try_from(options.changes - round).expect("fewer than 65536");
            let (key, _) = cluster::policy(policies + round, port);
            (key, None, sign(&[kind::DELETE_RULE], &port.to_be_bytes()))
        })?;
        kind(self, "an endpoint elsewhere joins or leaves a set", &|_, round| {
            // In and out of an app that policies of this host's pods name.
            let number = 7 + round / 2 * 2;
            let (app, kinds): (_, &[u16]) = match round % 2 {
                0 => (APPS, &[kind::DELETE_ELEMENT]),
                _ => (number % APPS, &[kind::NEW_ELEMENT]),
            };
            let (key, value) = cluster::remote_pod(number, app);
            (key, Some(value), sign(kinds, &cluster::remote_address(number)))
        })?;
        kind(self, "a pod appears here or goes", &|_, round| {
            let (key, value) = cluster::pod(pods, NODE, 0);
            let mut name = [0; 16];
            let interface = cluster::interface(pods);
            name[..interface.len()].copy_from_slice(interface.as_bytes());
            match round % 2 {
                0 => (key, Some(value), sign(&[kind::NEW_ELEMENT], &name)),
                _ => (key, None, sign(&[kind::DELETE_ELEMENT], &name)),
            }
        })?;
        Ok(worst)
    }

    /// A policy with a port that nothing had before.
    fn port_change(&mut self, policy: usize) -> Change {
        let port = self.next_port;
        self.next_port += 1;
        let (key, value) = cluster::policy(policy, port);
        (key, Some(value), sign(&[kind::NEW_RULE, kind::NEW_ELEMENT], &port.to_be_bytes()))
    }

    /// Times of changes, and of their writes.
    fn measure(
        &mut self,
        changes: usize,
        change: &dyn Fn(&mut Self, usize) -> Change,
    ) -> Result<(Sample, Sample)> {
        let (mut total, mut writes) = (Sample::default(), Sample::default());
        for round in 0..changes {
            let (key, value, sign) = change(self, round);
            let start = Instant::now();
            self.write(&key, value)?;
            writes.push(start.elapsed());
            let came =
                self.events.wait_for(&sign, LIMIT).with_context(|| format!("change {round}: {key}"))?;
            total.push(came - start);
            std::thread::sleep(Duration::from_micros(self.random.u64(2_000..12_000)));
        }
        self.events.wait_for_quiet(QUIET, LIMIT)?;
        Ok((total, writes))
    }

    fn write(&self, key: &Key, value: Option<Value>) -> Result<()> {
        match value.map(|value| value.to_string()) {
            None => self.store.delete(key, None)?,
            Some(value) => match self.store.update(key, &value, None) {
                Err(datastore::StoreError::NotFound(_)) => self.store.create(key, &value)?,
                outcome => outcome?,
            },
        };
        Ok(())
    }

    /// Policy changes at a steady rate from a thread of their own.
    fn paced(&mut self, options: &Options) -> Result<Sample> {
        let Size { policies, .. } = options.size;
        let changes: Vec<_> =
            (0..options.changes * 3).map(|round| self.port_change(round * 7 % policies)).collect();
        let signs: Vec<_> = changes.iter().map(|(_, _, sign)| sign.clone()).collect();
        let (store, events) = (&self.store, &self.events);
        std::thread::scope(|scope| {
            let writer = scope.spawn(move || -> Result<Vec<Instant>> {
                let begin = Instant::now();
                let mut starts = Vec::new();
                for (number, (key, value, _)) in (0..).zip(changes) {
                    let due = begin + Duration::from_secs(1) / options.rate * number;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                    starts.push(Instant::now());
                    store.update(&key, &value.expect("no deletions").to_string(), None)?;
                }
                Ok(starts)
            });
            let came = arrivals(events, &signs)?;
            let starts = writer.join().expect("no panic")?;
            Ok(starts.iter().zip(came).map(|(start, came)| came - *start).collect())
        })
    }
}

/// When each sign came.
fn arrivals(events: &NftEvents, signs: &[Sign]) -> Result<Vec<Instant>> {
    let mut came = vec![None; signs.len()];
    let mut deadline = Instant::now() + LIMIT;
    while came.iter().any(Option::is_none) {
        let (datagram, now) = events.next(deadline)?.context("a change never reached the kernel")?;
        for (sign, came) in signs.iter().zip(&mut came).filter(|(_, came)| came.is_none()) {
            if sign.is_in(&datagram) {
                *came = Some(now);
                deadline = now + LIMIT;
            }
        }
    }
    Ok(came.into_iter().flatten().collect())
}

fn sign(kinds: &'static [u16], value: &[u8]) -> Sign {
    Sign { kinds, octets: datum(value) }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
