use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use api::{AffinityOwner, BlockAffinityState, IpamBlock, IpamBlockAffinity, IpamHandle, Row, Timestamp};
use datastore::{Memory, Scope, Store};
use ipam::block::{Block, State};
use ipam::reserved::Reservations;
use ipnet::IpNet;

use super::{Operation, Outcome, Setup};

/// All rows of IPAM.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rows {
    pub blocks: BTreeMap<IpNet, IpamBlock>,
    pub handles: BTreeMap<String, IpamHandle>,
    pub affinities: Vec<IpamBlockAffinity>,
}

/// Whose an address is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddressState {
    Free,
    Resting(Timestamp),
    Assigned { handle: Option<String>, sequence: u64 },
}

impl Rows {
    pub fn read(store: &dyn Store) -> Self {
        let mut rows = Self::default();
        let scopes = [Scope::Blocks, Scope::Handles, Scope::BlockAffinities { host: None }];
        for entry in store.list_scopes(&scopes).unwrap().entries {
            match entry.row().unwrap() {
                Row::Block(block) => drop(rows.blocks.insert(block.cidr, block)),
                Row::Handle(handle) => drop(rows.handles.insert(handle.id.clone(), handle)),
                Row::BlockAffinity(affinity) => rows.affinities.push(affinity),
                other => panic!("unexpected row {other:?}"),
            }
        }
        rows
    }

    /// All addresses that are not free.
    pub fn addresses(&self) -> BTreeMap<IpAddr, AddressState> {
        let mut states = BTreeMap::new();
        for row in self.blocks.values() {
            let block = Block::from(row.clone());
            for ordinal in 0..block.size() {
                let address = block.address(ordinal);
                let state = match block.state(address) {
                    State::Free => continue,
                    State::Resting(since) => AddressState::Resting(since),
                    State::Assigned { attribute, sequence } => {
                        AddressState::Assigned { handle: attribute.handle_id.clone(), sequence }
                    }
                };
                states.insert(address, state);
            }
        }
        states
    }

    /// How many addresses each handle has in each block.
    fn held(&self) -> BTreeMap<(String, IpNet), usize> {
        let mut held = BTreeMap::new();
        for row in self.blocks.values() {
            for index in row.allocations.iter().flatten() {
                if let Some(handle) = &row.attributes[*index].handle_id {
                    *held.entry((handle.clone(), row.cidr)).or_default() += 1;
                }
            }
        }
        held
    }
}

/// What must hold after each call to the store, whoever made it.
pub struct Rules {
    reservations: Reservations,
    is_strict: bool,
    cooldown_seconds: u32,
    limit: Option<u32>,
    before: Rows,
    /// Every pair of address and sequence number that there ever was.
    sequences: BTreeMap<IpAddr, BTreeSet<u64>>,
    /// By host: what its operation has assigned, less what it has given back.
    assigned: BTreeMap<usize, BTreeSet<IpAddr>>,
    /// Hosts whose operation has not learned the answer to some call.
    uncertain: BTreeSet<usize>,
    /// How often an address was borrowed.
    pub borrowed: usize,
    /// How many addresses were assigned.
    pub total: usize,
}

impl Rules {
    pub fn new(setup: &Setup, memory: &Memory) -> Self {
        let configured = setup.config.max_blocks_per_host;
        let limits = [configured, setup.max_blocks_per_host];
        Self {
            reservations: Reservations::new(setup.reserved.iter().copied()),
            is_strict: setup.config.strict_affinity,
            cooldown_seconds: setup.config.ip_cooldown_seconds,
            limit: limits.into_iter().filter(|limit| *limit > 0).min(),
            before: Rows::read(memory),
            sequences: BTreeMap::new(),
            assigned: BTreeMap::new(),
            uncertain: BTreeSet::new(),
            borrowed: 0,
            total: 0,
        }
    }

    /// Takes the rows as they are, after someone who is not watched has changed them.
    pub fn resync(&mut self, memory: &Memory) {
        self.before = Rows::read(memory);
    }

    pub fn begin(&mut self, host: usize, _operation: &Operation) {
        self.assigned.insert(host, BTreeSet::new());
    }

    pub fn loses_answer(&mut self, host: usize) {
        self.uncertain.insert(host);
    }

    /// Compares the rows with those before a host's call.
    pub fn check(&mut self, memory: &Memory, now: Timestamp, host: usize, name: &str, operation: &Operation) {
        let rows = Rows::read(memory);
        if rows == self.before {
            return;
        }
        rows.blocks.values().for_each(block_is_sound);
        self.handles_count_enough(&rows);
        self.confirmed_claims_are_true(&rows);
        self.limits_hold(&rows);
        let (old, new) = (self.before.addresses(), rows.addresses());
        let all: BTreeSet<IpAddr> = old.keys().chain(new.keys()).copied().collect();
        for address in all {
            let state = |states: &BTreeMap<IpAddr, AddressState>| {
                states.get(&address).cloned().unwrap_or(AddressState::Free)
            };
            let (old, new) = (state(&old), state(&new));
            if old != new {
                self.transition(address, &old, &new, &rows, now, host, name, operation);
            }
        }
        self.before = rows;
    }

    #[allow(clippy::too_many_arguments)] // one caller, and they are all different
    fn transition(
        &mut self,
        address: IpAddr,
        old: &AddressState,
        new: &AddressState,
        rows: &Rows,
        now: Timestamp,
        host: usize,
        name: &str,
        operation: &Operation,
    ) {
        let context = || format!("{address}: {old:?} became {new:?} by {operation:?} of {name}");
        if let AddressState::Resting(since) = old {
            let rested = now.duration_since(*since).as_secs();
            assert!(rested >= i64::from(self.cooldown_seconds), "did not rest: {}", context());
        }
        if let AddressState::Assigned { handle, sequence } = old {
            assert!(!matches!(new, AddressState::Assigned { .. }), "two owners: {}", context());
            assert!(
                self.may_release(address, handle.as_deref(), *sequence, host, operation),
                "{}",
                context()
            );
            self.assigned.entry(host).or_default().remove(&address);
        }
        if let AddressState::Assigned { handle, sequence } = new {
            assert!(operation.is_assignment_to(handle.as_deref()), "{}", context());
            let known = self.sequences.entry(address).or_default();
            assert!(known.last().is_none_or(|last| last < sequence), "sequence repeats: {}", context());
            known.insert(*sequence);
            self.assigned.entry(host).or_default().insert(address);
            self.total += 1;
            let is_auto = matches!(operation, Operation::AutoAssign { .. });
            assert!(!is_auto || !self.reservations.contains(address), "reserved: {}", context());
            let block = rows.blocks.values().find(|block| block.cidr.contains(&address)).unwrap();
            let is_own = block.affinity == Some(AffinityOwner::Host(name.to_owned()));
            assert!(is_own || !self.is_strict, "borrowed under strict affinity: {}", context());
            self.borrowed += usize::from(!is_own);
        }
    }

    fn may_release(
        &self,
        address: IpAddr,
        handle: Option<&str>,
        sequence: u64,
        host: usize,
        operation: &Operation,
    ) -> bool {
        match operation {
            Operation::ReleaseByHandle { handle: released } => handle == Some(released.as_str()),
            Operation::ReleaseIps { releases } => releases.iter().any(|release| {
                release.address == address
                    && release.sequence.is_none_or(|expected| expected == sequence)
                    && release.handle.as_deref().is_none_or(|expected| Some(expected) == handle)
            }),
            // It gives back what it has just got itself.
            _ => self.assigned.get(&host).is_some_and(|assigned| assigned.contains(&address)),
        }
    }

    fn handles_count_enough(&self, rows: &Rows) {
        for ((handle, block), held) in rows.held() {
            let counted = rows.handles.get(&handle).and_then(|handle| handle.blocks.get(&block)).copied();
            assert!(counted >= Some(held), "handle {handle} counts {counted:?} in {block}, has {held}");
        }
    }

    fn confirmed_claims_are_true(&self, rows: &Rows) {
        for affinity in &rows.affinities {
            if affinity.state == BlockAffinityState::Confirmed {
                let owner = rows.blocks.get(&affinity.cidr).and_then(|block| block.affinity.as_ref());
                assert_eq!(owner, Some(&affinity.owner), "{affinity:?} is confirmed");
            }
        }
    }

    fn limits_hold(&self, rows: &Rows) {
        let Some(limit) = self.limit else { return };
        let mut owned: BTreeMap<(&AffinityOwner, bool), u32> = BTreeMap::new();
        for affinity in rows.affinities.iter().filter(|a| a.state == BlockAffinityState::Confirmed) {
            *owned.entry((&affinity.owner, affinity.cidr.addr().is_ipv4())).or_default() += 1;
        }
        for ((owner, _), count) in owned {
            assert!(count <= limit, "{owner} has {count} blocks of at most {limit}");
        }
    }

    /// Compares what an operation says with what it did.
    pub fn finish(&mut self, host: usize, operation: &Operation, outcome: &Outcome) {
        let assigned = self.assigned.remove(&host).unwrap_or_default();
        let is_uncertain = self.uncertain.remove(&host);
        match outcome {
            Outcome::Crashed => {}
            // It may have done something without knowing.
            Outcome::Failed { is_store: true, .. } if is_uncertain => {}
            Outcome::Addresses(addresses) => {
                let said: BTreeSet<IpAddr> = addresses.iter().copied().collect();
                assert_eq!(said.len(), addresses.len(), "{operation:?} got an address twice");
                assert!(assigned.is_subset(&said), "{operation:?} keeps {assigned:?}, says {said:?}");
            }
            Outcome::Done { .. } => assert!(assigned.is_empty(), "{operation:?} assigned {assigned:?}"),
            Outcome::Failed { reason, is_contention, is_store } => {
                assert!(assigned.is_empty(), "{operation:?} failed ({reason}), but keeps {assigned:?}");
                assert!(!is_contention && !is_store, "{operation:?}: {reason}");
            }
        }
    }
}

/// Allocated and free ordinals make up the block, and attributes are what is pointed to.
fn block_is_sound(block: &IpamBlock) {
    let free: BTreeSet<usize> = block.unallocated.iter().copied().collect();
    assert_eq!(free.len(), block.unallocated.len(), "an ordinal is free twice: {block:?}");
    for (ordinal, allocation) in block.allocations.iter().enumerate() {
        assert_eq!(allocation.is_none(), free.contains(&ordinal), "ordinal {ordinal}: {block:?}");
    }
    let used: BTreeSet<usize> = block.allocations.iter().flatten().copied().collect();
    assert_eq!(used, (0..block.attributes.len()).collect(), "attributes: {block:?}");
    for (ordinal, sequence) in &block.sequence_number_for_allocation {
        assert!(block.allocations[*ordinal].is_some(), "a free ordinal has a sequence number: {block:?}");
        assert!(*sequence <= block.sequence_number, "a sequence number of the future: {block:?}");
    }
}
