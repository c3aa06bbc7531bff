//! The store as IPAM sees it: typed rows with their revisions, and compare-and-swap writes that say whether someone else
//! was faster.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use api::{
    AffinityOwner, BlockAffinityState, IPPool, IpamBlockAffinity, IpamConfig, IpamHandle, Key, Kind,
    Resource, Row,
};
use datastore::{Entry, Revision, Scope, Store, StoreError};
use ipnet::IpNet;

use crate::block::Block;
use crate::reserved::Reservations;
use crate::{Family, IpamError};

/// Most attempts of one compare-and-swap (control-plane.md 1.2).
pub(crate) const MAX_ATTEMPTS: usize = 100;

/// What became of a conditional write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Write {
    /// It was done; the row has this revision now.
    Done(Revision),
    /// Someone else changed, created or deleted the row first: read again.
    Lost,
}

/// Reads and writes of typed rows.
#[derive(Clone)]
pub(crate) struct Rows {
    store: Arc<dyn Store>,
    /// The highest sequence number of a block that was read or written here.
    highest_sequence: Arc<AtomicU64>,
}

/// What a request is decided on, all as of one revision.
pub(crate) struct View {
    /// In the order of their names.
    pub(crate) pools: Vec<IPPool>,
    pub(crate) reservations: Reservations,
    pub(crate) config: IpamConfig,
    /// Of the owner that the view was made for, in the order of the blocks.
    pub(crate) affinities: Vec<IpamBlockAffinity>,
}

impl View {
    /// The blocks that the owner claims, of one family.
    pub(crate) fn claimed(&self, family: Family) -> impl Iterator<Item = IpNet> + '_ {
        self.affinities.iter().map(|affinity| affinity.cidr).filter(move |cidr| Family::of(cidr) == family)
    }
}

impl Rows {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, highest_sequence: Arc::default() }
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Pools, reservations, settings and the owner's affinities, in one read.
    pub(crate) fn view(&self, owner: Option<&AffinityOwner>) -> Result<View, IpamError> {
        let mut scopes = vec![Scope::all(Kind::IPPool), Scope::all(Kind::IPReservation), Scope::IpamConfig];
        scopes.extend(owner.map(|owner| Scope::BlockAffinities { host: Some(owner.name().to_owned()) }));
        let (mut pools, mut reserved, mut config, mut affinities) =
            (Vec::new(), Vec::new(), None, Vec::new());
        for entry in self.store.list_scopes(&scopes)?.entries {
            match entry.row() {
                Ok(Row::Resource(Resource::IPPool(pool))) => pools.push(*pool),
                Ok(Row::Resource(Resource::IPReservation(reservation))) => {
                    reserved.extend(reservation.spec.reserved_cidrs.iter().map(|net| net.net()));
                }
                Ok(Row::IpamConfig(row)) => config = Some(row),
                Ok(Row::BlockAffinity(affinity)) if !affinity.deleted && Some(&affinity.owner) == owner => {
                    affinities.push(affinity);
                }
                Ok(_) => {}
                // A pool that cannot be read gives no address; the others do.
                Err(error) if matches!(entry.key, Key::Resource { kind: Kind::IPPool, .. }) => {
                    tracing::warn!(%error, "pool left out of address management");
                }
                Err(error) => return Err(error.into()),
            }
        }
        let config = config.unwrap_or_default();
        Ok(View { pools, reservations: Reservations::new(reserved), config, affinities })
    }

    /// A block.
    pub(crate) fn block(&self, cidr: IpNet) -> Result<Option<(Block, Revision)>, IpamError> {
        let Some((row, revision)) = self.read(&Key::Block(cidr))? else { return Ok(None) };
        let Row::Block(block) = row else { return Ok(None) };
        if block.deleted {
            // Someone died between the two steps of a deletion: the second is still to be done.
            self.delete(&Key::Block(cidr), &revision)?;
            return Ok(None);
        }
        self.highest_sequence.fetch_max(block.sequence_number, Ordering::Relaxed);
        Ok(Some((block.into(), revision)))
    }

    /// All blocks, or those that could be read.
    pub(crate) fn blocks(&self) -> Result<Vec<Block>, IpamError> {
        let listing = self.store.list(&Scope::Blocks)?;
        Ok(listing.entries.iter().filter_map(readable_block).collect())
    }

    /// The CIDRs of all blocks, readable or not.
    pub(crate) fn block_cidrs(&self) -> Result<Vec<IpNet>, IpamError> {
        let cidr = |entry: &Entry| match entry.key {
            Key::Block(cidr) => Some(cidr),
            _ => None,
        };
        Ok(self.store.list(&Scope::Blocks)?.entries.iter().filter_map(cidr).collect())
    }

    /// A claim.
    pub(crate) fn affinity(
        &self,
        owner: &AffinityOwner,
        cidr: IpNet,
    ) -> Result<Option<(BlockAffinityState, Revision)>, IpamError> {
        let key = Key::BlockAffinity { owner: owner.clone(), cidr };
        let Some((row, revision)) = self.read(&key)? else { return Ok(None) };
        let Row::BlockAffinity(affinity) = row else { return Ok(None) };
        if affinity.deleted {
            self.delete(&key, &revision)?;
            return Ok(None);
        }
        Ok(Some((affinity.state, revision)))
    }

    /// A handle.
    pub(crate) fn handle(&self, id: &str) -> Result<Option<(IpamHandle, Revision)>, IpamError> {
        let key = Key::Handle(id.to_owned());
        let Some((row, revision)) = self.read(&key)? else { return Ok(None) };
        let Row::Handle(handle) = row else { return Ok(None) };
        if handle.deleted {
            self.delete(&key, &revision)?;
            return Ok(None);
        }
        Ok(Some((handle, revision)))
    }

    fn read(&self, key: &Key) -> Result<Option<(Row, Revision)>, IpamError> {
        match self.store.get(key) {
            Ok(entry) => Ok(Some((entry.row()?, entry.revision))),
            Err(StoreError::NotFound(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a row: creates it, or replaces it if its revision is still this.
    pub(crate) fn write(&self, row: &Row, expected: Option<&Revision>) -> Result<Write, IpamError> {
        self.put(&row.key(), &row.encode(), expected)
    }

    fn put(&self, key: &Key, text: &str, expected: Option<&Revision>) -> Result<Write, IpamError> {
        outcome(match expected {
            None => self.store.create(key, text),
            Some(_) => self.store.update(key, text, expected),
        })
    }

    pub(crate) fn write_block(&self, block: &Block, expected: Option<&Revision>) -> Result<Write, IpamError> {
        self.highest_sequence.fetch_max(block.row().sequence_number, Ordering::Relaxed);
        self.put(&Key::Block(block.cidr()), &block.row().encode(), expected)
    }

    /// A number above those of all blocks that were read or written here: who deletes a block has read it.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.highest_sequence.load(Ordering::Relaxed) + 1
    }

    pub(crate) fn write_affinity(
        &self,
        owner: &AffinityOwner,
        cidr: IpNet,
        state: BlockAffinityState,
        expected: Option<&Revision>,
    ) -> Result<Write, IpamError> {
        self.write(&Row::BlockAffinity(IpamBlockAffinity::new(owner.clone(), cidr, state)), expected)
    }

    /// Deletes a row if its revision is still this.
    pub(crate) fn delete(&self, key: &Key, expected: &Revision) -> Result<Write, IpamError> {
        outcome(self.store.delete(key, Some(expected)))
    }
}

/// A block of a listing. One that cannot be read still keeps others from its addresses: its key is in the listing.
pub(crate) fn readable_block(entry: &Entry) -> Option<Block> {
    match entry.row() {
        Ok(Row::Block(row)) if !row.deleted => Some(row.into()),
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(%error, "block left alone");
            None
        }
    }
}

fn outcome(result: Result<Entry, StoreError>) -> Result<Write, IpamError> {
    match result {
        Ok(entry) => Ok(Write::Done(entry.revision)),
        Err(StoreError::Conflict { .. } | StoreError::NotFound(_) | StoreError::AlreadyExists(_)) => {
            Ok(Write::Lost)
        }
        Err(error) => Err(error.into()),
    }
}

/// Repeats a compare-and-swap until it has an answer: `None` means that someone else was faster.
pub(crate) fn retry<T>(
    key: impl FnOnce() -> Key,
    mut attempt: impl FnMut() -> Result<Option<T>, IpamError>,
) -> Result<T, IpamError> {
    for _ in 0..MAX_ATTEMPTS {
        if let Some(answer) = attempt()? {
            return Ok(answer);
        }
    }
    Err(IpamError::Contention { key: Box::new(key()), attempts: MAX_ATTEMPTS })
}
