//! Speakers beside each other: tables, best paths, fan-out, single changes, losses, the kernel (rows 1 to 9 of the goals).
//!
//! Every speaker runs alone in a network namespace, with all its neighbours played by one thread here; UPDATEs are encoded
//! before the clock starts, and each neighbour has a bit map of what it has heard. Rounds alternate between speakers. The
//! byte copy shows what the sockets and this program cost by themselves. A speaker that does not get there, or whose sessions
//! fail, has no figure but a reason; in larger runs of the same case it is not tried again.

pub(crate) mod copy;
mod fleet;
mod goals;
mod handover;
mod kernel;
mod measure;
mod net;
mod scenario;
mod session;
mod speaker;
mod stream;
mod table;
mod wire;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::harness::interrupt;
use crate::harness::sample::Sample;
use goals::{Outcome, Results};
use measure::{Bounds, Figures};
use scenario::{Play, Scenario};
use speaker::Kind;

/// How much is done.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The speakers
    #[arg(long, value_delimiter = ',', default_values = ["tortie", "bird", "frr", "frr-defaults", "openbgpd", "copy"])]
    speakers: Vec<Kind>,
    /// What is measured
    #[arg(long, value_delimiter = ',', default_values = ["table", "best", "reflector", "clients", "urgent", "kernel"])]
    cases: Vec<Case>,
    /// Rounds; the speakers alternate
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Routes of the table
    #[arg(long, default_value_t = 1_000_000)]
    routes: u32,
    /// Clients of the reflector in the case clients
    #[arg(long, value_delimiter = ',', default_values_t = [125, 250, 500, 1000])]
    clients: Vec<u32>,
    /// Single changes in each round
    #[arg(long, default_value_t = 50)]
    changes: u32,
    /// Seconds after which a speaker that has not got there is given up
    #[arg(long, default_value_t = 60)]
    limit: u64,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Case {
    /// One neighbour announces a table, another hears it; then the first goes; a quarter of the table before
    Table,
    /// Ten neighbours announce the same 100,000 prefixes, one hears the best
    Best,
    /// 200 clients of a reflector, 64 blocks each
    Reflector,
    /// More and more clients, 10 blocks each
    Clients,
    /// One block from client to client while a table loads
    Urgent,
    /// 100,000 routes into the kernel
    Kernel,
    /// A process takes the place of another with the table and 200 clients (ours alone)
    Handover,
}

impl Case {
    fn scenarios(self, options: &Options) -> Vec<Scenario> {
        match self {
            Self::Table => {
                vec![Scenario::table(options.routes / 4).only_full(), Scenario::table(options.routes)]
            }
            Self::Best => vec![Scenario::best()],
            Self::Reflector => vec![Scenario::reflector(200, 64)],
            Self::Clients => {
                options.clients.iter().map(|clients| Scenario::reflector(*clients, 10).only_full()).collect()
            }
            Self::Urgent => vec![Scenario::urgent(options.routes)],
            Self::Kernel => vec![Scenario::kernel()],
            Self::Handover => vec![Scenario::hand_over(options.routes)],
        }
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    interrupt::watch()?;
    allow_many_sockets()?;
    let mut missing = Vec::new();
    for case in &options.cases {
        let mut results: Vec<Results> = Vec::new();
        for scenario in case.scenarios(options) {
            println!("{}", scenario.title);
            let of_scenario = measure(scenario, results.last(), options)?;
            of_scenario.print();
            missing.extend(of_scenario.without(Kind::Tortie));
            results.push(of_scenario);
        }
        goals::print_growth(*case, &results);
        goals::judge(*case, &results);
    }
    ensure!(missing.is_empty(), "no figure of ours: {}", missing.join("; "));
    Ok(())
}

/// All speakers, in turns.
fn measure(scenario: Scenario, smaller: Option<&Results>, options: &Options) -> Result<Results> {
    let bounds = Bounds { changes: options.changes, limit: Duration::from_secs(options.limit) };
    let begin = |kind: &Kind| {
        let failed =
            smaller.and_then(|smaller| smaller.without(*kind)).map(|_| "a smaller run failed already");
        let excuse = measure::excuse(*kind, scenario.play).or(failed);
        Outcome {
            kind: *kind,
            figures: excuse.map_or_else(|| Ok(Figures::default()), |why| Err(why.to_owned())),
        }
    };
    let mut outcomes: Vec<Outcome> = options.speakers.iter().map(begin).collect();
    let mut raw = (scenario.play == Play::Kernel).then(<(Sample, Sample)>::default);
    for round in 0..options.rounds {
        for step in 0..outcomes.len() {
            let outcome = &mut outcomes[(round + step) % options.speakers.len()];
            let Ok(figures) = &mut outcome.figures else { continue };
            let measured = measure::measure(&scenario, outcome.kind, bounds, figures);
            interrupt::check()?;
            if let Err(error) = measured {
                outcome.figures = Err(format!("{error:#}"));
            }
        }
        if let Some((wall, processor)) = &mut raw {
            let (time, of_processor) = kernel::raw(&scenario).context("raw netlink")?;
            wall.push(time);
            processor.push(of_processor);
        }
    }
    Ok(Results { scenario, outcomes, raw })
}

/// A thousand sessions need as many sockets here, and in the speakers, which inherit the limit.
fn allow_many_sockets() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, rustix::process::Rlimit { current: limit.maximum, ..limit })
        .context("the limit of open files")
}
