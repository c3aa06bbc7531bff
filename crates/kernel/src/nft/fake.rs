//! nf_tables in memory: the strict stand-in for the kernel in tests.
//!
//! It refuses what the kernel refuses (and some that the kernel lets pass): references to what does not exist, removal
//! of what is in use, elements that are there already or overlap, jumps to base chains, loops. Transactions are atomic,
//! carry the generation, and report all refusals. Faults can be injected at any call.

mod check;
mod state;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::decode::Count;
use super::error::{NftError, Refusal};
use super::expression::{Expression, userdata_comment};
use super::family::TableId;
use super::transport::{Committed, Operation, RuleCount, RuleState, TableState, Transport};
use crate::netlink;
use state::FakeTable;

/// What goes wrong at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Someone else was faster. (A reading fails; a transaction is not done.)
    Raced,
    /// The call fails before anything is done.
    Lost,
    /// A transaction is done, but its answer is lost.
    AnswerLost,
    /// A transaction is done, but the handles of the new rules are not told.
    HandlesUnknown,
    /// The events were lost: whether a table was touched cannot be told.
    EventsLost,
}

#[derive(Debug, Default)]
struct World {
    generation: u32,
    tables: BTreeMap<TableId, FakeTable>,
    /// Which client changed which table in which generation.
    log: Vec<(u32, usize, TableId)>,
    clients: usize,
    calls: usize,
    reads: usize,
    commits: usize,
    faults: BTreeMap<usize, Fault>,
}

/// One client's way to a ruleset in memory. Clones are the same client; [`other_client`](Fake::other_client) is not.
#[derive(Debug, Clone, Default)]
pub struct Fake {
    world: Arc<Mutex<World>>,
    client: usize,
}

impl Fake {
    /// An empty ruleset.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another program's way to the same ruleset.
    pub fn other_client(&self) -> Self {
        let mut world = self.world();
        world.clients += 1;
        Self { world: self.world.clone(), client: world.clients }
    }

    /// Lets the `n`th call from now (0 is the next) go wrong.
    pub fn fail_at(&self, n: usize, fault: Fault) {
        let mut world = self.world();
        let call = world.calls + n;
        world.faults.insert(call, fault);
    }

    /// No call goes wrong any more.
    pub fn heal(&self) {
        self.world().faults.clear();
    }

    /// How many calls there were, of any kind.
    pub fn calls(&self) -> usize {
        self.world().calls
    }

    /// How often a table was read.
    pub fn reads(&self) -> usize {
        self.world().reads
    }

    /// How many transactions were done.
    pub fn commits(&self) -> usize {
        self.world().commits
    }

    /// The table as it is.
    pub fn state(&self, table: &TableId) -> Option<TableState> {
        self.world().tables.get(table).map(|table| table.state.clone())
    }

    /// All tables as they are.
    pub fn tables(&self) -> BTreeMap<TableId, TableState> {
        let world = self.world();
        world.tables.iter().map(|(id, table)| (id.clone(), table.state.clone())).collect()
    }

    /// Changes a table as somebody else would, by hand; nothing is checked. Rules of handle 0 get one.
    pub fn edit(&self, table: &TableId, change: impl FnOnce(&mut Option<TableState>)) {
        let mut world = self.world();
        let mut edited = world.tables.remove(table);
        let mut state = edited.as_ref().map(|table| table.state.clone());
        change(&mut state);
        if let Some(state) = state {
            let mut kept = edited.take().unwrap_or_default();
            kept.replace(state);
            world.tables.insert(table.clone(), kept);
        }
        world.generation += 1;
        let (generation, nobody) = (world.generation, usize::MAX);
        world.log.push((generation, nobody, table.clone()));
    }

    /// Adds to the counter of a rule.
    pub fn count(&self, table: &TableId, handle: u64, count: Count) {
        if let Some(table) = self.world().tables.get_mut(table) {
            table.counts.insert(handle, count);
        }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call; gives what is to go wrong with it.
    fn enter(&self) -> (MutexGuard<'_, World>, Option<Fault>) {
        let mut world = self.world();
        let call = world.calls;
        world.calls += 1;
        let fault = world.faults.remove(&call);
        (world, fault)
    }
}

fn lost(what: &'static str) -> NftError {
    NftError::Io { what, source: io::Error::from(io::ErrorKind::ConnectionReset) }
}

impl Transport for Fake {
    fn generation(&mut self) -> Result<u32, NftError> {
        match self.enter() {
            (_, Some(Fault::Lost | Fault::AnswerLost)) => Err(lost("read the generation")),
            (world, _) => Ok(world.generation),
        }
    }

    fn touched(&mut self, table: &TableId, since: u32, until: u32) -> Result<bool, NftError> {
        match self.enter() {
            (_, Some(Fault::Lost | Fault::AnswerLost)) => Err(lost("read the events")),
            (_, Some(Fault::EventsLost)) => Ok(true),
            (world, _) => {
                let others = world.log.iter().filter(|(_, client, _)| *client != self.client);
                let mut others =
                    others.filter(|(generation, ..)| *generation > since && *generation <= until);
                Ok(others.any(|(_, _, touched)| touched == table))
            }
        }
    }

    fn read(&mut self, table: &TableId) -> Result<(u32, Option<TableState>), NftError> {
        match self.enter() {
            (_, Some(Fault::Raced)) => Err(NftError::Raced),
            (_, Some(Fault::Lost | Fault::AnswerLost)) => Err(lost("read the table")),
            (mut world, _) => {
                world.reads += 1;
                let state = world.tables.get(table).map(|table| table.state.clone());
                Ok((world.generation, state))
            }
        }
    }

    fn counters(&mut self, table: &TableId) -> Result<Vec<RuleCount>, NftError> {
        match self.enter() {
            (_, Some(Fault::Raced)) => Err(NftError::Raced),
            (_, Some(Fault::Lost | Fault::AnswerLost)) => Err(lost("read the counters")),
            (world, _) => Ok(world.tables.get(table).map(counts).unwrap_or_default()),
        }
    }

    fn commit(
        &mut self,
        table: &TableId,
        generation: u32,
        operations: &[Operation],
    ) -> Result<Committed, NftError> {
        let (mut world, fault) = self.enter();
        if fault == Some(Fault::Lost) {
            return Err(lost("send the transaction"));
        }
        if fault == Some(Fault::Raced) || generation != world.generation {
            return Err(NftError::Raced);
        }
        let mut changed = world.tables.get(table).cloned();
        let (handles, refused) = state::play(table.family, &mut changed, operations);
        if !refused.is_empty() {
            return Err(NftError::Refused(name(refused, table, operations)));
        }
        match changed {
            Some(changed) => drop(world.tables.insert(table.clone(), changed)),
            None => drop(world.tables.remove(table)),
        }
        world.commits += 1;
        world.generation += 1;
        let generation = world.generation;
        world.log.push((generation, self.client, table.clone()));
        match fault {
            Some(Fault::AnswerLost) => Err(lost("read the answer to the transaction")),
            Some(Fault::HandlesUnknown) => Ok(Committed { generation, handles: None }),
            _ => Ok(Committed { generation, handles: Some(handles) }),
        }
    }
}

fn counts(table: &FakeTable) -> Vec<RuleCount> {
    let counted = |rule: &&RuleState| rule.body.expressions.contains(&Expression::Counter);
    let count = |chain: &str, rule: &RuleState| RuleCount {
        chain: chain.to_owned(),
        handle: rule.handle,
        comment: userdata_comment(&rule.body.userdata),
        count: table.counts.get(&rule.handle).copied().unwrap_or_default(),
    };
    let chains = table.state.chains.iter();
    chains
        .flat_map(|(name, chain)| chain.rules.iter().filter(counted).map(move |rule| count(name, rule)))
        .collect()
}

fn name(refused: Vec<(usize, rustix::io::Errno)>, table: &TableId, operations: &[Operation]) -> Vec<Refusal> {
    let name = |(index, errno): (usize, _)| Refusal {
        index,
        operation: operations[index].describe(table),
        cause: netlink::Refusal::new(errno),
    };
    refused.into_iter().map(name).collect()
}
