//! What happens in one run: who the neighbours are, what they announce, and what the others have in the end.

use std::ops::Range;

use super::net::address;
use super::session::{LONG, Neighbour};
use super::speaker::ASN;
use super::table::Table;

/// Prefixes of each of the ten that announce the same.
const SAME: u32 = 100_000;
/// Routes for the kernel, and gateways that they go by.
const INSTALLED: u32 = 100_000;
const GATEWAYS: u32 = 200;
/// Sessions over which clients of a hand-over hear, and the least that they agree on as hold time.
const HANDED: u32 = 200;
const SHORT: u16 = 9;

/// What is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Play {
    /// The first neighbours announce tables, the last one hears them; neighbours are in ASes of their own.
    Tables,
    /// Clients of a reflector, each with some blocks, each hears those of all others.
    Reflector,
    /// The first neighbour announces a table; meanwhile the second, a client of a reflector, announces single blocks, and
    /// it counts when the third, another client, has them.
    Urgent,
    /// The first neighbour announces a table, all others are clients that hear it; then another process takes over.
    HandOver,
    /// The only neighbour that has a session announces blocks by way of others; it counts when the kernel has them.
    Kernel,
}

/// A run with everything encoded.
pub(super) struct Scenario {
    pub(super) play: Play,
    pub(super) title: String,
    pub(super) neighbours: Vec<Neighbour>,
    /// What each of the first neighbours announces.
    pub(super) tables: Vec<Table>,
    /// How many prefixes each of those who hear has in the end.
    pub(super) heard: usize,
    /// Prefixes that the speaker holds.
    pub(super) prefixes: usize,
    /// Only the time until all have all is measured, not what comes after.
    pub(super) only_full: bool,
}

impl Scenario {
    /// One table from one neighbour to another.
    pub(super) fn table(routes: u32) -> Self {
        let neighbours = external(2, 1);
        let table = Table::full(routes, neighbours[0].asn, neighbours[0].address, 1);
        let title = format!("{routes} routes, one neighbour to another");
        Self::new(Play::Tables, title, neighbours, vec![table], routes as usize)
    }

    /// The same prefixes from ten neighbours, with different attributes, to one.
    pub(super) fn best() -> Self {
        let neighbours = external(11, 10);
        let tables = neighbours[..10].iter().zip(1..);
        let tables = tables.map(|(from, seed)| Table::full(SAME, from.asn, from.address, seed)).collect();
        let title = format!("ten neighbours with the same {SAME} prefixes, the best of them to one");
        Self::new(Play::Tables, title, neighbours, tables, SAME as usize)
    }

    /// Clients of a reflector.
    pub(super) fn reflector(clients: u32, blocks: u32) -> Self {
        let of = |client: u32| client * blocks..(client + 1) * blocks;
        let neighbours: Vec<Neighbour> = (0..clients).map(|client| internal(client, of(client))).collect();
        let tables =
            neighbours.iter().zip(0..).map(|(client, n)| Table::blocks(of(n), client.address)).collect();
        let title = format!("{clients} clients of a reflector with {blocks} blocks each");
        let heard = ((clients - 1) * blocks) as usize;
        let scenario = Self::new(Play::Reflector, title, neighbours, tables, heard);
        Self { prefixes: (clients * blocks) as usize, ..scenario }
    }

    /// Single blocks while a table loads.
    pub(super) fn urgent(routes: u32) -> Self {
        let mut neighbours = external(1, 1);
        neighbours.extend([internal(1, 0..0), internal(2, 0..0)]);
        let table = Table::full(routes, neighbours[0].asn, neighbours[0].address, 1);
        let title =
            format!("single blocks from one client to another while {routes} routes come from outside");
        Self::new(Play::Urgent, title, neighbours, vec![table], routes as usize)
    }

    /// A process in the place of another, with 201 sessions.
    pub(super) fn hand_over(routes: u32) -> Self {
        let mut neighbours = external(1, 1);
        neighbours.extend((1..=HANDED).map(|number| internal(number, 0..0)));
        neighbours.iter_mut().for_each(|neighbour| neighbour.hold_time = SHORT);
        let table = Table::full(routes, neighbours[0].asn, neighbours[0].address, 1);
        let title = format!(
            "a process takes the place of one with {routes} routes and {} sessions, hold time {SHORT} s",
            HANDED + 1
        );
        Self::new(Play::HandOver, title, neighbours, vec![table], routes as usize)
    }

    /// Routes into the kernel.
    pub(super) fn kernel() -> Self {
        let neighbours: Vec<Neighbour> = (0..=GATEWAYS).map(|number| internal(number, 0..0)).collect();
        let of_each = INSTALLED / GATEWAYS;
        let tables = neighbours[1..].iter().zip(0..);
        let table = tables
            .map(|(gateway, n)| Table::blocks(n * of_each..(n + 1) * of_each, gateway.address))
            .reduce(Table::and)
            .expect("there are gateways");
        let title = format!("{INSTALLED} routes by {GATEWAYS} gateways into the kernel");
        Self { heard: 0, ..Self::new(Play::Kernel, title, neighbours, vec![table], INSTALLED as usize) }
    }

    fn new(
        play: Play,
        title: String,
        neighbours: Vec<Neighbour>,
        tables: Vec<Table>,
        prefixes: usize,
    ) -> Self {
        Self { play, title, neighbours, tables, heard: prefixes, prefixes, only_full: false }
    }

    pub(super) fn only_full(self) -> Self {
        Self { only_full: true, ..self }
    }

    /// Those who have sessions.
    pub(super) fn sessions(&self) -> &[Neighbour] {
        match self.play {
            Play::Kernel => &self.neighbours[..1],
            _ => &self.neighbours,
        }
    }

    /// Those who hear.
    pub(super) fn hearers(&self) -> Range<usize> {
        let last = self.neighbours.len() - 1;
        match self.play {
            Play::Tables | Play::Urgent => last..last + 1,
            Play::Reflector => 0..last + 1,
            Play::HandOver => 1..last + 1,
            Play::Kernel => 0..0,
        }
    }

    /// One route more of the first neighbour: the one of this number.
    pub(super) fn one_more(&self, number: u32) -> Table {
        let number = self.prefixes as u32 + number;
        match self.play {
            Play::Tables => Table::one_external(number, &self.neighbours[0]),
            _ => Table::blocks(number..number + 1, self.neighbours[0].address),
        }
    }

    /// Those who go without a word in the end, and what the others that hear have then.
    pub(super) fn leavers(&self) -> (Range<usize>, usize) {
        match self.play {
            Play::Tables | Play::Urgent | Play::HandOver | Play::Kernel => (0..self.tables.len(), 0),
            Play::Reflector => {
                let going = self.neighbours.len() / 2;
                (0..going, (self.neighbours.len() - going - 1) * self.tables[0].prefixes.len())
            }
        }
    }
}

/// Neighbours in ASes of their own, of which the first announce whatever they like.
fn external(count: u32, announcing: usize) -> Vec<Neighbour> {
    let neighbour = |number: u32| {
        let own = if (number as usize) < announcing { 0..usize::MAX } else { 0..0 };
        Neighbour { address: address(number), asn: 65001 + number, own, hold_time: LONG }
    };
    (0..count).map(neighbour).collect()
}

/// A client of the reflector that announces these blocks.
fn internal(number: u32, own: Range<u32>) -> Neighbour {
    let own = own.start as usize..own.end as usize;
    Neighbour { address: address(number), asn: ASN, own, hold_time: LONG }
}
