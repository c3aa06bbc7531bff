//! A cluster that changes while packets flow: at every moment each packet is judged by the old state or by the new one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use testkit::clusters::{Case, Generator};

use super::clusters::{WORKLOADS, case, play, read};
use super::reference::Reference;
use super::stage::{BACKENDS, Places, Probe, Spot, Stage, on_a_stage};

const STEPS: usize = 40;
/// Flows of each of the two threads.
const FLOWS: usize = 12;
/// The kernel takes a new ruleset into use between two look-ups: a packet that is just being judged may meet the one before its
/// change and the other after it, and be judged by neither state as a whole. So many such packets are none too many for a step:
/// one on either processor, when either family changes.
const BETWEEN: usize = 4;
/// How long a packet that has to come is waited for.
const LATE: Duration = Duration::from_secs(1);

#[test]
fn while_a_cluster_changes_no_packet_passes_that_both_states_deny_and_none_is_lost_that_both_allow() {
    let given = std::env::var("TORTIE_SEED").ok();
    let seed = given.map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("seed {seed} (repeat with TORTIE_SEED={seed})");
    for backend in &BACKENDS {
        on_a_stage(backend, WORKLOADS, |mut stage| changes(&mut stage, seed));
    }
}

fn changes(stage: &mut Stage, seed: u64) {
    let mut generator = Generator::new(seed);
    let mut cluster = generator.cluster();
    let mut next = case(&cluster, Vec::new());
    play(stage, &next).unwrap();
    let mut total = Tally::default();
    for step in 0..STEPS {
        let probes: Vec<_> = (0..FLOWS * 8).map(|_| generator.probe(&cluster)).collect();
        let flows = flows(probes.iter().filter_map(|probe| read(stage, probe)));
        let before = Reference::new(stage);
        generator.mutate(&mut cluster);
        let last = std::mem::replace(&mut next, case(&cluster, Vec::new()));
        stage.forget_connections();
        let mut traffic = Traffic::new(stage.places(), flows, u32::try_from(step).unwrap());
        traffic.flow_during(|| play(stage, &next).unwrap());
        let after = Reference::new(stage);
        let wrong = traffic.tally(&before, &after);
        assert!(
            wrong.lost + wrong.passed <= BETWEEN,
            "seed {seed}, step {step}: {wrong:?}\nbefore:\n{}\nafter:\n{}",
            without(&last, &next).to_yaml(),
            without(&next, &last).to_yaml()
        );
        total.add(&wrong);
        at_rest(stage, &traffic.flows, &after);
    }
    println!("{total:?}");
    assert!(total.both_allow > 1000 && total.both_deny > 1000, "too little traffic: {total:?}");
}

/// The objects of one state that the other does not have.
fn without(case: &Case, other: &Case) -> Case {
    let objects = case.objects.iter().filter(|object| !other.objects.contains(object));
    Case { objects: objects.cloned().collect(), probes: Vec::new() }
}

/// Afterwards only the new state counts.
fn at_rest(stage: &mut Stage, flows: &[Probe], after: &Reference) {
    stage.forget_connections();
    let probes: Vec<_> = flows.iter().map(|flow| (flow.clone(), after.allows(flow))).collect();
    let arrived = stage.send(&probes);
    for ((flow, expected), arrived) in probes.iter().zip(arrived) {
        assert_eq!(arrived, *expected, "{flow:?}");
    }
}

/// Packets of flows whose verdict did not change.
#[derive(Debug, Default)]
struct Tally {
    both_allow: usize,
    both_deny: usize,
    lost: usize,
    passed: usize,
    /// The flows that these are of.
    of: Vec<String>,
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.both_allow += other.both_allow;
        self.both_deny += other.both_deny;
        self.lost += other.lost;
        self.passed += other.passed;
    }
}

/// Flows that nobody answers, so that each packet of one is judged as its first; none shares its ends with another.
fn flows(probes: impl Iterator<Item = Probe>) -> Vec<Probe> {
    let mut ends = BTreeSet::new();
    let unanswered = |probe: &Probe| probe.from != Spot::Host && probe.to != Spot::Host;
    let mut alone = |probe: &Probe| {
        let packet = &probe.packet;
        let (a, b) = ((packet.source, packet.source_port), (packet.destination, packet.destination_port));
        // Protocols without ports are one flow between two addresses.
        let ports = matches!(packet.protocol, 6 | 17 | 132);
        let strip = |end: (std::net::IpAddr, u16)| if ports { end } else { (end.0, 0) };
        let (a, b) = (strip(a), strip(b));
        ends.insert((packet.protocol, a.min(b), a.max(b)))
    };
    probes.filter(|probe| unanswered(probe) && alone(probe)).take(2 * FLOWS).collect()
}

/// Packets on several flows, as many as can be sent while something is done.
struct Traffic {
    places: Arc<Places>,
    flows: Vec<Probe>,
    /// In the numbers of its packets.
    step: u32,
    /// How many were sent on each flow.
    sent: Vec<u32>,
    seen: BTreeMap<Spot, BTreeSet<u32>>,
}

impl Traffic {
    fn new(places: Arc<Places>, flows: Vec<Probe>, step: u32) -> Self {
        Self { places, sent: vec![0; flows.len()], flows, step, seen: BTreeMap::new() }
    }

    /// 20 bits count the packets of a flow, 5 the flows, 6 the steps; the stage's own numbers are below.
    fn number(&self, flow: usize, count: u32) -> u32 {
        1 << 31 | self.step << 25 | u32::try_from(flow).unwrap() << 20 | count
    }

    fn flow_during(&mut self, act: impl FnOnce()) {
        let stop = AtomicBool::new(false);
        let half = self.flows.len().div_ceil(2);
        let halves = [0..half, half..self.flows.len()];
        let done: Vec<_> = std::thread::scope(|scope| {
            let threads = halves.map(|half| scope.spawn(|| self.send(half, &stop)));
            act();
            stop.store(true, Ordering::Release);
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (sent, seen) in done {
            self.sent.iter_mut().zip(sent).for_each(|(all, sent)| *all += sent);
            seen.into_iter().for_each(|(spot, numbers)| self.seen.entry(spot).or_default().extend(numbers));
        }
    }

    /// Sends on some of the flows in turn, and takes in what arrives.
    fn send(&self, flows: Range<usize>, stop: &AtomicBool) -> (Vec<u32>, BTreeMap<Spot, BTreeSet<u32>>) {
        let (mut sent, mut seen) = (vec![0; self.flows.len()], BTreeMap::<Spot, BTreeSet<u32>>::new());
        // Every flow has a packet at least before and after; none has more than there are numbers.
        let mut last = false;
        for count in 0..1 << 20 {
            for flow in flows.clone() {
                let probe = &self.flows[flow];
                self.places.get(probe.from).send(&probe.packet, self.number(flow, count));
                sent[flow] += 1;
                self.places.get(probe.to).drain(seen.entry(probe.to).or_default());
            }
            if last {
                break;
            }
            last = stop.load(Ordering::Acquire);
        }
        (sent, seen)
    }

    /// What became of the packets of those flows that both states judge alike.
    fn tally(&mut self, before: &Reference, after: &Reference) -> Tally {
        let mut tally = Tally::default();
        for flow in 0..self.flows.len() {
            let sent = self.sent[flow] as usize;
            let so_far = tally.lost + tally.passed;
            match [before, after].map(|reference| reference.allows(&self.flows[flow])) {
                [true, true] => {
                    tally.both_allow += sent;
                    tally.lost += sent - self.arrived(flow, true);
                }
                [false, false] => {
                    tally.both_deny += sent;
                    tally.passed += self.arrived(flow, false);
                }
                _ => {}
            }
            if tally.lost + tally.passed > so_far {
                tally.of.push(format!("{:?}", self.flows[flow]));
            }
        }
        tally
    }

    /// How many of a flow arrived; if all have to, they are given time.
    fn arrived(&mut self, flow: usize, all: bool) -> usize {
        let (first, sent) = (self.number(flow, 0), self.sent[flow]);
        let deadline = Instant::now() + if all { LATE } else { Duration::ZERO };
        loop {
            let to = self.flows[flow].to;
            let seen = self.seen.entry(to).or_default();
            self.places.get(to).drain(seen);
            let arrived = seen.range(first..first + sent).count();
            if arrived == sent as usize || Instant::now() >= deadline {
                return arrived;
            }
            std::thread::yield_now();
        }
    }
}
