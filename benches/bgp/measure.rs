//! One run of one speaker, step by step.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::fleet::Fleet;
use super::kernel;
use super::net::Net;
use super::scenario::{Play, Scenario};
use super::speaker::{ADDRESS, Kind, Speaker};
use super::table::Table;
use crate::harness::sample::Sample;

/// After this long without a word the speaker has said all.
const QUIET: Duration = Duration::from_millis(300);
/// Between single blocks while a table loads.
const PAUSE: Duration = Duration::from_millis(5);

/// How much is done, and for how long it is waited.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Single changes in each run.
    pub(super) changes: u32,
    /// For each step of a run.
    pub(super) limit: Duration,
}

/// What one speaker took, a sample of all rounds.
#[derive(Default)]
pub(super) struct Figures {
    /// From the first octet until everyone had everything.
    pub(super) full: Sample,
    /// Until the last UPDATE, which may say once more what is known.
    pub(super) last: Sample,
    /// For that, of all its processes.
    pub(super) processor: Sample,
    /// From the loss of sessions until everyone knew.
    pub(super) gone: Sample,
    /// From a single change until everyone knew.
    pub(super) change: Sample,
    /// Octets, the most of all rounds.
    pub(super) memory: u64,
    /// What it takes without any route.
    pub(super) empty: u64,
    pub(super) updates: u64,
}

impl Figures {
    /// Memory beyond what it takes without routes.
    pub(super) fn octets_per_prefix(&self, prefixes: usize) -> f64 {
        self.memory.saturating_sub(self.empty) as f64 / prefixes as f64
    }
}

/// Whether a speaker can take part at all; why not.
pub(super) fn excuse(kind: Kind, play: Play) -> Option<&'static str> {
    match (kind, play) {
        (Kind::Openbgpd, Play::Kernel) => Some("its portable version writes no routes into Linux"),
        (Kind::Gobgp, Play::Kernel) => Some("it has no way into the kernel but zebra"),
        (kind, Play::HandOver) if kind != Kind::Tortie => {
            Some("it cannot be replaced without its sessions going down")
        }
        (Kind::Copy, Play::Kernel) => Some("see raw netlink"),
        _ => None,
    }
}

/// Runs a scenario once.
///
/// # Errors
/// The speaker does not get there, in its own words.
pub(super) fn measure(scenario: &Scenario, kind: Kind, bounds: Bounds, figures: &mut Figures) -> Result<()> {
    let net = Net::new(scenario.sessions())?;
    let mut speaker = Speaker::start(kind, scenario.sessions(), &net.speaker, scenario.play == Play::Kernel)?;
    let mut run = Run { scenario, speaker: &mut speaker, bounds };
    run.steps(kind, &net, figures).with_context(|| match speaker.said() {
        said if said.is_empty() => "it has not said why".to_owned(),
        said => format!("the end of what it said: {said}"),
    })
}

pub(super) struct Run<'a> {
    pub(super) scenario: &'a Scenario,
    pub(super) speaker: &'a mut Speaker,
    pub(super) bounds: Bounds,
}

impl Run<'_> {
    fn steps(&mut self, kind: Kind, net: &Net, figures: &mut Figures) -> Result<()> {
        let scenario = self.scenario;
        let mut fleet = net.neighbours.run(|| Fleet::connect(ADDRESS, scenario.sessions()))?;
        fleet.settle(QUIET, self.bounds.limit)?;
        figures.empty = figures.empty.max(self.speaker.peak_memory()?);
        match scenario.play {
            Play::Kernel => return self.install(net, &mut fleet, figures),
            Play::Urgent => return self.hurry(&mut fleet, figures),
            Play::HandOver => return self.hand_over(&net.speaker, &mut fleet, figures),
            Play::Tables | Play::Reflector => self.fill(&mut fleet, figures)?,
        }
        // The byte copy knows no best path: of ten equal tables it passes on all.
        let is_copy_of_many =
            kind == Kind::Copy && scenario.play == Play::Tables && scenario.tables.len() > 1;
        if !scenario.only_full && !is_copy_of_many {
            self.change(&mut fleet, figures)?;
        }
        figures.memory = figures.memory.max(self.speaker.peak_memory()?);
        if !scenario.only_full && kind != Kind::Copy {
            self.lose(&mut fleet, figures)?;
        }
        Ok(())
    }

    /// From the first octet until everyone has everything.
    pub(super) fn fill(&self, fleet: &mut Fleet, figures: &mut Figures) -> Result<()> {
        let (start, before) = (Instant::now(), self.speaker.processor_time()?);
        for (number, table) in self.scenario.tables.iter().enumerate() {
            fleet.send(number, &table.updates)?;
        }
        let hearers = self.scenario.hearers();
        fleet.run(start + self.bounds.limit, |fleet| fleet.all_have(hearers.clone(), self.scenario.heard))?;
        figures.full.push(start.elapsed());
        let last = fleet.settle(QUIET, self.bounds.limit)?;
        figures.last.push(last - start);
        figures.processor.push(self.speaker.processor_time()?.saturating_sub(before));
        figures.updates = fleet.received();
        Ok(())
    }

    /// One route more, until everyone has it.
    fn change(&self, fleet: &mut Fleet, figures: &mut Figures) -> Result<()> {
        let hearers = self.scenario.hearers().start.max(1)..self.scenario.hearers().end;
        for number in 0..self.bounds.changes {
            let one = self.scenario.one_more(number);
            figures.change.push(self.tell_all(fleet, 0, &one, hearers.clone())?);
        }
        Ok(())
    }

    /// How long it takes until all of these have what one announces.
    pub(super) fn tell_all(
        &self,
        fleet: &mut Fleet,
        from: usize,
        one: &Table,
        mut to: std::ops::Range<usize>,
    ) -> Result<Duration> {
        let start = Instant::now();
        fleet.send(from, &one.updates)?;
        // Who has it once keeps it: each is asked until it has, and not again.
        fleet.run(start + self.bounds.limit, |fleet| {
            while to.start < to.end && fleet.has(to.start, one.prefixes[0]) {
                to.start += 1;
            }
            to.is_empty()
        })?;
        Ok(start.elapsed())
    }

    /// Those who announced go without a word: until the others have nothing of theirs.
    fn lose(&self, fleet: &mut Fleet, figures: &mut Figures) -> Result<()> {
        let (going, left) = self.scenario.leavers();
        let staying = going.end.max(self.scenario.hearers().start)..self.scenario.neighbours.len();
        let start = Instant::now();
        for number in going {
            fleet.close(number)?;
        }
        fleet.run(start + self.bounds.limit, |fleet| fleet.all_have(staying.clone(), left))?;
        figures.gone.push(start.elapsed());
        Ok(())
    }

    /// Single blocks, one after another, while a table loads.
    fn hurry(&self, fleet: &mut Fleet, figures: &mut Figures) -> Result<()> {
        let (start, before) = (Instant::now(), self.speaker.processor_time()?);
        let (from, to) = (1, self.scenario.hearers().start);
        let address = self.scenario.neighbours[from].address;
        fleet.send(0, &self.scenario.tables[0].updates)?;
        let mut told = 0;
        while fleet.count(to) < self.scenario.heard + told as usize {
            let one = Table::blocks(told..told + 1, address);
            figures.change.push(self.tell_all(fleet, from, &one, to..to + 1)?);
            told += 1;
            anyhow::ensure!(start.elapsed() < self.bounds.limit, "the table is not there in time");
            fleet.carry_on(PAUSE)?;
        }
        figures.full.push(start.elapsed());
        figures.processor.push(self.speaker.processor_time()?.saturating_sub(before));
        figures.memory = figures.memory.max(self.speaker.peak_memory()?);
        Ok(())
    }

    /// Until the kernel has all routes, and until it has none of them any more.
    fn install(&self, net: &Net, fleet: &mut Fleet, figures: &mut Figures) -> Result<()> {
        let events = kernel::subscribe(net)?;
        let (start, before) = (Instant::now(), self.speaker.processor_time()?);
        fleet.send(0, &self.scenario.tables[0].updates)?;
        let full = kernel::wait(&events, fleet, self.scenario.prefixes, start + self.bounds.limit)?;
        figures.full.push(full - start);
        fleet.carry_on(QUIET)?;
        figures.processor.push(self.speaker.processor_time()?.saturating_sub(before));
        figures.memory = figures.memory.max(self.speaker.peak_memory()?);
        let start = Instant::now();
        fleet.close(0)?;
        let gone = kernel::wait(&events, fleet, 0, start + self.bounds.limit)?;
        figures.gone.push(gone - start);
        Ok(())
    }
}
