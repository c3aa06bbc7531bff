//! Figures in words: what each speaker took, what a client or a route more costs, and ours beside the goals.

use std::time::Duration;

use super::Case;
use super::measure::Figures;
use super::scenario::{Play, Scenario};
use super::speaker::Kind;
use crate::harness::sample::{Sample, at_most};

/// What came out of one scenario: figures, or why there are none.
pub(super) struct Outcome {
    pub(super) kind: Kind,
    pub(super) figures: Result<Figures, String>,
}

/// One scenario with all outcomes.
pub(super) struct Results {
    pub(super) scenario: Scenario,
    pub(super) outcomes: Vec<Outcome>,
    /// Raw netlink: wall and processor time.
    pub(super) raw: Option<(Sample, Sample)>,
}

impl Results {
    fn of(&self, kind: Kind) -> Option<&Figures> {
        self.outcomes.iter().find(|outcome| outcome.kind == kind)?.figures.as_ref().ok()
    }

    /// Why there is no figure of a speaker that is not excused.
    pub(super) fn without(&self, kind: Kind) -> Option<String> {
        let outcome = self.outcomes.iter().find(|outcome| outcome.kind == kind)?;
        let why = outcome.figures.as_ref().err()?;
        Some(format!("{}: {why}", self.scenario.title))
    }

    /// Ours divided by a peer's.
    fn beside(&self, what: &str, peer: Kind, figure: impl Fn(&Figures) -> f64, goal: f64) {
        if let (Some(ours), Some(theirs)) = (self.of(Kind::Tortie), self.of(peer)) {
            at_most(what, figure(ours) / figure(theirs), goal, &format!(" x {}", peer.name()));
        }
    }

    /// Ours divided by that of the peer that is best at it.
    fn beside_best(&self, what: &str, peers: &[Kind], figure: impl Fn(&Figures) -> f64, goal: f64) {
        let of = |kind: &Kind| self.of(*kind).map(&figure);
        let there = peers.iter().filter(|kind| of(kind).is_some());
        let best =
            there.min_by(|one, other| of(one).partial_cmp(&of(other)).unwrap_or(std::cmp::Ordering::Equal));
        if let Some(best) = best {
            self.beside(what, *best, figure, goal);
        }
    }

    pub(super) fn print(&self) {
        for Outcome { kind, figures } in &self.outcomes {
            match figures {
                Ok(figures) => print(*kind, figures, &self.scenario),
                Err(why) => println!("  {:<12} NOT MEASURED: {}", kind.name(), why.replace('\n', "; ")),
            }
        }
        if let Some((wall, processor)) = &self.raw {
            println!("  raw netlink  full {:>8} ms  processor {:>8} ms", ms(wall), ms(processor));
        }
    }
}

const PEERS: [Kind; 5] = [Kind::Bird, Kind::Frr, Kind::FrrDefaults, Kind::Openbgpd, Kind::Gobgp];

fn seconds(sample: &Sample) -> f64 {
    sample.median().as_secs_f64()
}

fn ms(sample: &Sample) -> String {
    percentile(sample, 50)
}

fn percentile(sample: &Sample, percent: usize) -> String {
    match sample.len() {
        0 => "–".to_owned(),
        _ => format!("{:.2}", sample.percentile(percent).as_secs_f64() * 1e3),
    }
}

fn print(kind: Kind, figures: &Figures, scenario: &Scenario) {
    print!(
        "  {:<12} full {:>8} ms  processor {:>8} ms  memory {:>6.1} MB ({:>4.0} octets a prefix)",
        kind.name(),
        ms(&figures.full),
        ms(&figures.processor),
        figures.memory as f64 / 1e6,
        figures.octets_per_prefix(scenario.prefixes),
    );
    match scenario.play {
        Play::Urgent => println!(
            "  one block p50 {} p99 {} max {} ms ({} of them)",
            ms(&figures.change),
            percentile(&figures.change, 99),
            percentile(&figures.change, 100),
            figures.change.len()
        ),
        Play::HandOver => println!(
            "  nobody served for {} ms at most, of {} ms; one block p50 {} ms; {} UPDATEs that said nothing new",
            percentile(&figures.change, 100),
            ms(&figures.gone),
            ms(&figures.change),
            figures.updates
        ),
        Play::Kernel => println!("  gone {:>8} ms", ms(&figures.gone)),
        Play::Tables | Play::Reflector => println!(
            "  gone {:>8} ms  one change {:>7} ms  {} UPDATEs until {:.0} ms",
            ms(&figures.gone),
            ms(&figures.change),
            figures.updates,
            seconds(&figures.last) * 1e3
        ),
    }
}

/// What one client or one route more costs each speaker, from each size to the next.
pub(super) fn print_growth(case: Case, results: &[Results]) {
    let of_clients = case == Case::Clients;
    let size = |results: &Results| {
        if of_clients { results.scenario.neighbours.len() } else { results.scenario.prefixes }
    };
    for kind in results.first().into_iter().flat_map(|first| &first.outcomes).map(|outcome| outcome.kind) {
        for pair in results.windows(2) {
            let (Some(less), Some(more)) = (pair[0].of(kind), pair[1].of(kind)) else { continue };
            let (from, to) = (size(&pair[0]), size(&pair[1]));
            let further =
                |figure: &dyn Fn(&Figures) -> f64| (figure(more) - figure(less)) / (to - from) as f64;
            let (wall, processor) =
                (further(&|f| seconds(&f.full) * 1e6), further(&|f| seconds(&f.processor) * 1e6));
            let memory = further(&|f| f.memory as f64);
            let what = if of_clients { "client" } else { "route" };
            println!(
                "  {:<12} a further {what}, {from} to {to}: {wall:.2} us, processor {processor:.2} us, {memory:.0} octets",
                kind.name()
            );
        }
    }
}

/// Ours beside the goals, which are numbered as in the issue.
pub(super) fn judge(case: Case, results: &[Results]) {
    let Some(last) = results.last() else { return };
    let processor = |f: &Figures| seconds(&f.processor);
    let full = |f: &Figures| seconds(&f.full);
    match case {
        Case::Table => {
            last.beside("row 1, processor time", Kind::Bird, processor, 0.6);
            last.beside("row 1, wall time", Kind::Bird, full, 0.6);
            let prefixes = last.scenario.prefixes;
            last.beside("row 2, octets a prefix", Kind::Bird, |f| f.octets_per_prefix(prefixes), 1.0);
            last.beside("row 8, all withdrawn", Kind::Bird, |f| seconds(&f.gone), 0.6);
        }
        Case::Best => last.beside("row 3, processor time", Kind::Bird, processor, 0.6),
        Case::Reflector => {
            last.beside("row 4, wall time", Kind::Frr, full, 1.0);
            last.beside("row 4, processor time", Kind::Frr, processor, 1.0);
            last.beside("row 4, wall time", Kind::Bird, full, 0.1);
            last.beside("row 4, wall time", Kind::Copy, full, 2.0);
            last.beside("row 5, memory", Kind::Bird, |f| f.memory as f64, 1.5);
            last.beside_best("row 6, one block to all", &PEERS, |f| seconds(&f.change), 0.8);
            last.beside("row 6, one block to all", Kind::Copy, |f| seconds(&f.change), 1.2);
        }
        Case::Clients => judge_clients(results),
        // Nobody else does it.
        Case::Handover => {}
        Case::Urgent => {
            last.beside_best("one block while a table loads, p50", &PEERS, |f| seconds(&f.change), 0.8);
            let p99 = |f: &Figures| f.change.percentile(99).as_secs_f64();
            last.beside_best("one block while a table loads, p99", &PEERS, p99, 0.8);
        }
        Case::Kernel => {
            last.beside_best("row 9, routes into the kernel", &PEERS, full, 0.55);
            if let (Some(ours), Some((raw, _))) = (last.of(Kind::Tortie), &last.raw) {
                at_most(
                    "row 9, routes into the kernel",
                    full(ours) / seconds(raw),
                    1.15,
                    " x raw netlink (aim)",
                );
            }
        }
    }
}

/// From 500 clients to 1,000 there are four times as many UPDATEs: an UPDATE must not cost more then.
fn judge_clients(results: &[Results]) {
    for results in results {
        let clients = results.scenario.neighbours.len();
        results.beside(&format!("row 7, wall time, {clients} clients"), Kind::Frr, |f| seconds(&f.full), 1.0);
    }
    let per_update = |results: &Results| {
        let ours = results.of(Kind::Tortie)?;
        let clients = results.scenario.neighbours.len();
        Some((clients, ours.full.median() / u32::try_from(clients * (clients - 1)).ok()?))
    };
    for pair in results.windows(2) {
        if let (Some((from, less)), Some((to, more))) = (per_update(&pair[0]), per_update(&pair[1])) {
            let ratio = more.as_secs_f64() / less.max(Duration::from_nanos(1)).as_secs_f64();
            at_most(&format!("row 7, an UPDATE at {to} clients beside one at {from}"), ratio, 1.2, " x");
        }
    }
}
