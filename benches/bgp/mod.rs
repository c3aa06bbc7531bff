//! Speakers beside each other: tables, best paths, fan-out, single changes, losses (rows 1 to 8 of the goals).
//!
//! Every speaker runs alone in a network namespace, with all its neighbours played by one thread here; UPDATEs are encoded
//! before the clock starts, and each neighbour has a bit map of what it has heard. Rounds alternate between speakers. The
//! byte copy shows what the sockets and this program cost by themselves.

pub(crate) mod copy;
mod fleet;
mod speaker;
mod stream;
mod table;
mod wire;

use std::io::Write;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kernel::link::{NewVeth, VethEnd};
use kernel::netns::Netns;
use kernel::{InterfaceName, Rtnetlink};
use testkit::TestNamespace;

use crate::harness::sample::{Sample, at_most};
use fleet::{Fleet, Neighbour};
use speaker::{ADDRESS, ASN, Kind, Speaker};
use table::Table;
use wire::Prefix;

/// How much is done.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The speakers
    #[arg(long, value_delimiter = ',', default_values = ["tortie", "bird", "frr", "copy"])]
    speakers: Vec<Kind>,
    /// What is measured
    #[arg(long, value_delimiter = ',', default_values = ["table", "best", "reflector", "many"])]
    cases: Vec<Case>,
    /// Rounds; the speakers alternate
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Routes of the table
    #[arg(long, default_value_t = 1_000_000)]
    routes: u32,
    /// Single changes in each round
    #[arg(long, default_value_t = 50)]
    changes: u32,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Case {
    /// One neighbour announces a table, another hears it; then the first goes
    Table,
    /// Ten neighbours announce the same 100,000 prefixes, one hears the best
    Best,
    /// 200 clients of a reflector, 64 blocks each
    Reflector,
    /// 500 clients, 10 blocks each
    Many,
}

/// For one round of one speaker.
const LIMIT: Duration = Duration::from_secs(180);
/// After this long without a word the speaker has said all.
const QUIET: Duration = Duration::from_millis(300);

/// What one speaker took for one case, a sample of all rounds.
#[derive(Default)]
struct Figures {
    full: Sample,
    processor: Sample,
    gone: Sample,
    change: Sample,
    /// Octets, the most of all rounds.
    memory: u64,
    /// What it takes without any route.
    empty: u64,
    updates: u64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    for case in &options.cases {
        let prepared = Prepared::new(*case, options);
        println!("{}", prepared.title);
        let mut figures: Vec<Figures> = options.speakers.iter().map(|_| Figures::default()).collect();
        for round in 0..options.rounds {
            for step in 0..options.speakers.len() {
                let index = (round + step) % options.speakers.len();
                let kind = options.speakers[index];
                prepared
                    .measure(kind, options.changes, &mut figures[index])
                    .with_context(|| format!("{}, {}", prepared.title, kind.name()))?;
            }
        }
        for (kind, figures) in options.speakers.iter().zip(&figures) {
            prepared.print(*kind, figures);
        }
        prepared.judge(&options.speakers, &figures);
    }
    Ok(())
}

/// A case with everything encoded.
struct Prepared {
    case: Case,
    title: String,
    neighbours: Vec<Neighbour>,
    /// What each of the first neighbours announces.
    tables: Vec<Table>,
    /// How many prefixes the others have in the end.
    heard: usize,
    /// Prefixes that the speaker holds.
    prefixes: usize,
}

impl Prepared {
    fn new(case: Case, options: &Options) -> Self {
        match case {
            Case::Table => {
                let neighbours = external(2);
                let table = Table::full(options.routes, neighbours[0].asn, neighbours[0].address, 1);
                let title = format!("table: {} routes, one neighbour to another", options.routes);
                Self::of(case, title, neighbours, vec![table])
            }
            Case::Best => {
                let neighbours = external(11);
                let tables = neighbours[..10].iter().zip(1..);
                let tables =
                    tables.map(|(from, seed)| Table::full(100_000, from.asn, from.address, seed)).collect();
                Self::of(
                    case,
                    "best: ten neighbours with 100000 prefixes each".to_owned(),
                    neighbours,
                    tables,
                )
            }
            Case::Reflector => Self::reflector(case, 200, 64),
            Case::Many => Self::reflector(case, 500, 10),
        }
    }

    fn reflector(case: Case, clients: u32, blocks: u32) -> Self {
        let neighbours: Vec<Neighbour> =
            (0..clients).map(|number| Neighbour { address: address(number), asn: ASN }).collect();
        let tables =
            neighbours.iter().zip(0..).map(|(node, n)| Table::blocks(n, blocks, node.address)).collect();
        Self::of(case, format!("reflector: {clients} clients with {blocks} blocks each"), neighbours, tables)
    }

    fn of(case: Case, title: String, neighbours: Vec<Neighbour>, tables: Vec<Table>) -> Self {
        let announced: usize = tables.iter().map(|table| table.prefixes.len()).sum();
        let (heard, prefixes) = match case {
            Case::Table => (announced, announced),
            Case::Best => (tables[0].prefixes.len(), tables[0].prefixes.len()),
            Case::Reflector | Case::Many => (announced - tables[0].prefixes.len(), announced),
        };
        Self { case, title, neighbours, tables, heard, prefixes }
    }

    /// Those who hear.
    fn hearers(&self) -> std::ops::Range<usize> {
        match self.case {
            Case::Table | Case::Best => self.neighbours.len() - 1..self.neighbours.len(),
            Case::Reflector | Case::Many => 0..self.neighbours.len(),
        }
    }

    fn measure(&self, kind: Kind, changes: u32, figures: &mut Figures) -> Result<()> {
        let net = Net::new(&self.neighbours)?;
        let speaker = Speaker::start(kind, &self.neighbours, &net.speaker)?;
        let numbering = match self.case {
            Case::Table | Case::Best => |prefix: Prefix| (prefix.0 - 0x0b00_0000) as usize >> 8,
            Case::Reflector | Case::Many => |prefix: Prefix| (prefix.0 - 0x0a00_0000) as usize >> 6,
        };
        let fleet = net.neighbours.run(|| Fleet::connect(ADDRESS, &self.neighbours, numbering));
        let mut fleet = fleet.with_context(|| format!("it says: {}", speaker.said()))?;
        fleet.settle(QUIET)?;
        figures.empty = figures.empty.max(speaker.peak_memory()?);
        self.fill(&speaker, &mut fleet, figures)?;
        if kind != Kind::Copy || self.case != Case::Best {
            self.change(&mut fleet, changes, figures)?;
        }
        figures.memory = figures.memory.max(speaker.peak_memory()?);
        if kind != Kind::Copy {
            self.lose(&mut fleet, figures)?;
        }
        Ok(())
    }

    /// From the first octet until everyone has everything.
    fn fill(&self, speaker: &Speaker, fleet: &mut Fleet, figures: &mut Figures) -> Result<()> {
        let (start, before) = (Instant::now(), speaker.processor_time()?);
        for (number, table) in self.tables.iter().enumerate() {
            fleet.send(number, &table.updates)?;
        }
        fleet.run(start + LIMIT, |fleet| fleet.all_have(self.hearers(), self.heard))?;
        figures.full.push(start.elapsed());
        fleet.settle(QUIET)?;
        figures.processor.push(speaker.processor_time()? - before);
        figures.updates = fleet.received();
        Ok(())
    }

    /// One route more, until everyone has it.
    fn change(&self, fleet: &mut Fleet, changes: u32, figures: &mut Figures) -> Result<()> {
        for n in 0..changes {
            let prefix = match self.case {
                Case::Table | Case::Best => Prefix(0x0b00_0000 + ((self.prefixes as u32 + 16 + n) << 8), 24),
                Case::Reflector | Case::Many => Prefix(0x0a00_0000 + ((self.prefixes as u32 + n) << 6), 26),
            };
            let one = match self.case {
                Case::Table | Case::Best => Table::one_external(prefix, self.neighbours[0]),
                Case::Reflector | Case::Many => Table::plain(vec![prefix], self.neighbours[0].address),
            };
            let first = usize::from(self.hearers().start == 0);
            let others = first.max(self.hearers().start)..self.neighbours.len();
            let had: Vec<usize> = others.clone().map(|number| fleet.count(number)).collect();
            let start = Instant::now();
            fleet.send(0, &one.updates)?;
            fleet.run(start + LIMIT, |fleet| {
                others.clone().zip(&had).all(|(number, had)| fleet.count(number) > *had)
            })?;
            figures.change.push(start.elapsed());
        }
        Ok(())
    }

    /// Those who announced go without a word: until the others have nothing of theirs.
    fn lose(&self, fleet: &mut Fleet, figures: &mut Figures) -> Result<()> {
        let going = match self.case {
            Case::Table => 0..1,
            Case::Best => 0..10,
            Case::Reflector | Case::Many => 0..self.neighbours.len() / 2,
        };
        let staying = going.end.max(self.hearers().start)..self.neighbours.len();
        let of_each = self.tables.last().map_or(0, |table| table.prefixes.len());
        let left = match self.case {
            Case::Table | Case::Best => 0,
            Case::Reflector | Case::Many => (staying.len() - 1) * of_each,
        };
        let start = Instant::now();
        for number in going {
            fleet.close(number)?;
        }
        fleet.run(start + LIMIT, |fleet| fleet.all_have(staying.clone(), left))?;
        figures.gone.push(start.elapsed());
        Ok(())
    }

    fn print(&self, kind: Kind, figures: &Figures) {
        let ms = |sample: &Sample| match sample.len() {
            0 => "–".to_owned(),
            _ => format!("{:.2}", sample.median().as_secs_f64() * 1e3),
        };
        println!(
            "  {:<11} full {:>8} ms  processor {:>8} ms  memory {:>6.1} MB ({:>4.0} octets a prefix)  gone {:>8} ms  \
             one change {:>7} ms  {} UPDATEs",
            kind.name(),
            ms(&figures.full),
            ms(&figures.processor),
            figures.memory as f64 / 1e6,
            figures.octets_per_prefix(self.prefixes),
            ms(&figures.gone),
            ms(&figures.change),
            figures.updates
        );
    }

    /// Ours beside the best peer's, as the goals say.
    fn judge(&self, speakers: &[Kind], figures: &[Figures]) {
        let of = |kind: Kind| speakers.iter().position(|other| *other == kind).map(|index| &figures[index]);
        let seconds = |sample: &Sample| sample.median().as_secs_f64();
        let Some(ours) = of(Kind::Tortie) else { return };
        let beside = |what: &str, peer: Kind, of_whom: &dyn Fn(&Figures) -> f64, goal: f64| {
            if let Some(theirs) = of(peer) {
                at_most(what, of_whom(ours) / of_whom(theirs), goal, &format!(" x {}", peer.name()));
            }
        };
        match self.case {
            Case::Table => {
                beside("row 1, processor time", Kind::Bird, &|f| seconds(&f.processor), 0.6);
                beside("row 1, wall time", Kind::Bird, &|f| seconds(&f.full), 0.6);
                beside("row 2, octets a prefix", Kind::Bird, &|f| f.octets_per_prefix(self.prefixes), 1.0);
                beside("row 8, all withdrawn", Kind::Bird, &|f| seconds(&f.gone), 0.6);
            }
            Case::Best => beside("row 3, processor time", Kind::Bird, &|f| seconds(&f.processor), 0.6),
            Case::Reflector => {
                beside("row 4, wall time", Kind::Frr, &|f| seconds(&f.full), 1.0);
                beside("row 4, processor time", Kind::Frr, &|f| seconds(&f.processor), 1.0);
                beside("row 4, wall time", Kind::Bird, &|f| seconds(&f.full), 0.1);
                beside("row 5, memory", Kind::Bird, &|f| f.memory as f64, 1.5);
                let best = [Kind::Bird, Kind::Frr, Kind::Openbgpd, Kind::Gobgp].into_iter();
                let best = best.min_by_key(|kind| of(*kind).map_or(Duration::MAX, |f| f.change.median()));
                if let Some(best) = best {
                    beside("row 6, one block to all", best, &|f| seconds(&f.change), 0.8);
                }
            }
            Case::Many => beside("row 7, wall time", Kind::Frr, &|f| seconds(&f.full), 1.0),
        }
    }
}

impl Figures {
    fn octets_per_prefix(&self, prefixes: usize) -> f64 {
        self.memory.saturating_sub(self.empty) as f64 / prefixes as f64
    }
}

/// Neighbours in ASes of their own.
fn external(count: u32) -> Vec<Neighbour> {
    (0..count).map(|number| Neighbour { address: address(number), asn: 65001 + number }).collect()
}

fn address(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(*ADDRESS.ip()) + 256 + number)
}

/// Where the speaker runs, and where its neighbours are: next hops have to be other hosts' addresses.
struct Net {
    speaker: TestNamespace,
    neighbours: TestNamespace,
}

impl Net {
    fn new(neighbours: &[Neighbour]) -> Result<Self> {
        let net = Self { speaker: TestNamespace::new(), neighbours: TestNamespace::new() };
        let far = Netns::open(net.neighbours.path())?;
        let name = InterfaceName::new("eth0").expect("a good name");
        let end = |namespace| VethEnd { name: name.clone(), mac: None, namespace };
        let veth = NewVeth { near: end(None), far: end(Some(&far)), mtu: None, queues: None };
        net.speaker.run(|| Rtnetlink::open()?.create_veth(&veth))?;
        net.speaker.command(&format!("ip address add {}/16 dev eth0", ADDRESS.ip()));
        let mut batch = String::from("link set eth0 up\n");
        for neighbour in neighbours {
            batch.push_str(&format!("address add {}/16 dev eth0\n", neighbour.address));
        }
        let mut file = tempfile::NamedTempFile::new()?;
        file.write_all(batch.as_bytes())?;
        net.neighbours.command(&format!("ip -batch {}", file.path().display()));
        for line in ["ip link set lo up", "ip link set eth0 up"] {
            net.speaker.command(line);
        }
        Ok(net)
    }
}
