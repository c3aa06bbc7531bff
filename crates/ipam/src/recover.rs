//! What operations that died have left behind, and how it is mended.
//!
//! An operation in progress looks the same as one that has died. So recovery has two steps: [`Ipam::leaks`] says what looks
//! unfinished, and with which revision; after a while that is longer than any operation takes ([`GRACE_SECS`]),
//! [`Ipam::recover`] mends what has not moved since. (When nothing else uses the store, the second step may follow at
//! once.) Both may be done at any time, by anyone, also by several at once. Should an operation have slept through the
//! grace and go on, no address is assigned twice: at worst its handle counts too few, which the next recovery mends.
//!
//! Which addresses have owners that are no more is not decided here: a collector compares [`Ipam::assignments`] with the
//! pods and nodes that there are.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use api::{AffinityOwner, BlockAffinityState, IpamBlockAffinity, IpamHandle, Key, Row};
use datastore::{Entry, Revision, Scope};
use ipnet::IpNet;

use crate::affinity::Claim;
use crate::block::{Allocation, Block};
use crate::ipam::Ipam;
use crate::rows::{Write, readable_block};
use crate::{HostReserved, IpamError};

/// How long an unfinished operation may take before it is taken for dead, in seconds.
pub const GRACE_SECS: u64 = 60;

/// Something that looks unfinished, and the revision at which it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leak {
    /// A handle counts other addresses than the blocks say it has.
    Handle {
        /// The handle.
        id: String,
        /// Of its row; none if there is no row.
        revision: Option<Revision>,
        /// Its addresses and their sequence numbers, in each block that it counts or that has addresses of it.
        held: BTreeMap<IpNet, Vec<(IpAddr, u64)>>,
    },
    /// A claim has not been finished, or is for a block that is not the claimer's.
    Affinity {
        /// Whose claim.
        owner: AffinityOwner,
        /// For which block.
        cidr: IpNet,
        /// How far it has got.
        state: BlockAffinityState,
        /// Of its row.
        revision: Revision,
    },
    /// A block names an owner that does not claim it.
    Block {
        /// The block.
        cidr: IpNet,
        /// The owner that it names.
        owner: AffinityOwner,
        /// Of its row.
        revision: Revision,
    },
    /// A block is nobody's and empty: the last addresses have rested.
    IdleBlock {
        /// The block.
        cidr: IpNet,
        /// Of its row.
        revision: Revision,
    },
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handle { id, .. } => {
                write!(f, "handle {id} counts other addresses than the blocks say it has")
            }
            Self::Affinity { owner, cidr, .. } => {
                write!(f, "the claim of {owner} on block {cidr} is unfinished")
            }
            Self::Block { cidr, owner, .. } => {
                write!(f, "block {cidr} names {owner}, which does not claim it")
            }
            Self::IdleBlock { cidr, .. } => write!(f, "block {cidr} is nobody's and empty"),
        }
    }
}

/// All rows, as of one revision.
#[derive(Default)]
struct Snapshot {
    blocks: BTreeMap<IpNet, (Block, Revision)>,
    handles: BTreeMap<String, (IpamHandle, Revision)>,
    affinities: Vec<(IpamBlockAffinity, Revision)>,
}

impl Ipam {
    /// What looks unfinished now: operations in progress, and those that have died.
    ///
    /// # Errors
    /// When the store fails. Rows that cannot be read are left out.
    pub fn leaks(&self) -> Result<Vec<Leak>, IpamError> {
        let snapshot = self.snapshot()?;
        let mut leaks = snapshot.handle_leaks();
        leaks.extend(snapshot.affinity_leaks());
        leaks.extend(snapshot.block_leaks());
        Ok(leaks)
    }

    fn snapshot(&self) -> Result<Snapshot, IpamError> {
        let scopes = [Scope::Blocks, Scope::Handles, Scope::BlockAffinities { host: None }];
        let cooldown = self.config_row()?.ip_cooldown_seconds;
        let mut snapshot = Snapshot::default();
        for entry in self.rows.store().list_scopes(&scopes)?.entries {
            snapshot.add(entry);
        }
        for (block, _) in snapshot.blocks.values_mut() {
            block.collect(self.now(), cooldown);
        }
        Ok(snapshot)
    }

    /// Mends what has not changed since [`Ipam::leaks`] saw it. Returns how many rows of the list that were.
    ///
    /// # Errors
    /// When the store fails; what was mended before stays so.
    pub fn recover(&self, leaks: &[Leak]) -> Result<usize, IpamError> {
        let mut mended = 0;
        for leak in leaks {
            let done = match leak {
                Leak::Handle { id, revision, held } => self.recount(id, revision.as_ref(), held)?,
                Leak::Affinity { owner, cidr, state, revision } => {
                    self.finish_claim(owner, *cidr, *state, revision)?
                }
                Leak::Block { cidr, owner, revision } => self.free_block(*cidr, Some(owner), revision)?,
                Leak::IdleBlock { cidr, revision } => self.free_block(*cidr, None, revision)?,
            };
            if done {
                tracing::info!(%leak, "mended");
            }
            mended += usize::from(done);
        }
        Ok(mended)
    }

    /// Makes a handle count what the blocks say. Its addresses must be those that were seen: a release that has changed the
    /// block and is about to change the handle would count down twice.
    fn recount(
        &self,
        id: &str,
        revision: Option<&Revision>,
        seen: &BTreeMap<IpNet, Vec<(IpAddr, u64)>>,
    ) -> Result<bool, IpamError> {
        let found = self.rows.handle(id)?;
        if found.as_ref().map(|(_, found)| found) != revision {
            return Ok(false);
        }
        let mut handle = found.map_or_else(|| IpamHandle::new(id), |(handle, _)| handle);
        for (cidr, seen) in seen {
            let held = self.rows.block(*cidr)?.map(|(block, _)| held_in(&block, id)).unwrap_or_default();
            if held != *seen {
                return Ok(false);
            }
            match held.len() {
                0 => handle.blocks.remove(cidr),
                count => handle.blocks.insert(*cidr, count),
            };
        }
        let written = match (handle.blocks.is_empty(), revision) {
            (true, None) => return Ok(false),
            (true, Some(revision)) => self.rows.delete(&Key::Handle(id.to_owned()), revision)?,
            (false, _) => self.rows.write(&Row::Handle(handle), revision)?,
        };
        Ok(written != Write::Lost)
    }

    /// Finishes a claim whose block names the claimer, in the sense in which it was begun unless that would cut addresses
    /// off; deletes it otherwise.
    fn finish_claim(
        &self,
        owner: &AffinityOwner,
        cidr: IpNet,
        state: BlockAffinityState,
        revision: &Revision,
    ) -> Result<bool, IpamError> {
        if self.rows.affinity(owner, cidr)?.is_none_or(|(_, found)| found != *revision) {
            return Ok(false);
        }
        let block = self.rows.block(cidr)?.filter(|(block, _)| block.owner() == Some(owner));
        let Some((block, _)) = block else {
            let key = Key::BlockAffinity { owner: owner.clone(), cidr };
            return Ok(self.rows.delete(&key, revision)? != Write::Lost);
        };
        if state == BlockAffinityState::PendingDeletion && block.is_empty() {
            return match self.release_block(owner, cidr, true, 0) {
                Ok(()) => Ok(true),
                Err(IpamError::BlockNotEmpty { .. } | IpamError::NotAffine { .. }) => Ok(false),
                Err(error) => Err(error),
            };
        }
        self.claim_block(owner, cidr, Claim::CONFIRM)
    }

    /// Takes the owner from a block, and deletes it if it is empty.
    fn free_block(
        &self,
        cidr: IpNet,
        owner: Option<&AffinityOwner>,
        revision: &Revision,
    ) -> Result<bool, IpamError> {
        let Some((mut block, found)) = self.rows.block(cidr)? else { return Ok(false) };
        let is_claimed = || match owner {
            Some(owner) => Ok::<_, IpamError>(self.rows.affinity(owner, cidr)?.is_some()),
            None => Ok(false),
        };
        if found != *revision || is_claimed()? {
            return Ok(false);
        }
        block.collect(self.now(), self.config_row()?.ip_cooldown_seconds);
        let written = if block.is_empty() {
            self.rows.delete(&Key::Block(cidr), revision)?
        } else if owner.is_some() {
            block.set_owner(None, self.now());
            self.rows.write_block(&block, Some(revision))?
        } else {
            return Ok(false);
        };
        Ok(written != Write::Lost)
    }
}

/// The addresses of a handle in a block.
fn held_in(block: &Block, id: &str) -> Vec<(IpAddr, u64)> {
    let of_handle = |allocation: &Allocation<'_>| allocation.attribute.handle_id.as_deref() == Some(id);
    block
        .allocations()
        .filter(of_handle)
        .map(|allocation| (allocation.address, allocation.sequence))
        .collect()
}

impl Snapshot {
    fn add(&mut self, entry: Entry) {
        if matches!(entry.key, Key::Block(_)) {
            if let Some(block) = readable_block(&entry) {
                self.blocks.insert(block.cidr(), (block, entry.revision));
            }
            return;
        }
        match entry.row() {
            Ok(Row::Handle(handle)) => drop(self.handles.insert(handle.id.clone(), (handle, entry.revision))),
            Ok(Row::BlockAffinity(affinity)) => self.affinities.push((affinity, entry.revision)),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "row left out of recovery"),
        }
    }

    /// The addresses of each handle.
    fn held(&self) -> BTreeMap<String, BTreeMap<IpNet, Vec<(IpAddr, u64)>>> {
        let mut held: BTreeMap<String, BTreeMap<IpNet, Vec<_>>> = BTreeMap::new();
        for (cidr, (block, _)) in &self.blocks {
            for allocation in block.allocations() {
                let Some(handle) = &allocation.attribute.handle_id else { continue };
                if handle != HostReserved::HANDLE {
                    let of_handle = held.entry(handle.clone()).or_default();
                    of_handle.entry(*cidr).or_default().push((allocation.address, allocation.sequence));
                }
            }
        }
        held
    }

    fn handle_leaks(&self) -> Vec<Leak> {
        let mut all_held = self.held();
        // Handles without addresses, too.
        for id in self.handles.keys() {
            all_held.entry(id.clone()).or_default();
        }
        let leak = |(id, mut held): (String, BTreeMap<IpNet, Vec<_>>)| {
            let row = self.handles.get(&id);
            let counted = row.map(|(handle, _)| handle.blocks.clone()).unwrap_or_default();
            let actual: BTreeMap<IpNet, usize> =
                held.iter().map(|(cidr, held)| (*cidr, held.len())).collect();
            // A row that counts nothing should not be there either.
            if counted == actual && !counted.is_empty() {
                return None;
            }
            for cidr in counted.into_keys() {
                held.entry(cidr).or_default();
            }
            Some(Leak::Handle { id, revision: row.map(|(_, revision)| revision.clone()), held })
        };
        all_held.into_iter().filter_map(leak).collect()
    }

    fn affinity_leaks(&self) -> Vec<Leak> {
        let is_right = |affinity: &IpamBlockAffinity| {
            let block = self.blocks.get(&affinity.cidr);
            affinity.state == BlockAffinityState::Confirmed
                && block.is_some_and(|(block, _)| block.owner() == Some(&affinity.owner))
        };
        let leak = |(affinity, revision): &(IpamBlockAffinity, Revision)| Leak::Affinity {
            owner: affinity.owner.clone(),
            cidr: affinity.cidr,
            state: affinity.state,
            revision: revision.clone(),
        };
        self.affinities.iter().filter(|(affinity, _)| !is_right(affinity)).map(leak).collect()
    }

    fn block_leaks(&self) -> Vec<Leak> {
        let claims: BTreeSet<_> =
            self.affinities.iter().map(|(affinity, _)| (&affinity.owner, affinity.cidr)).collect();
        let leak = |(cidr, (block, revision)): (&IpNet, &(Block, Revision))| {
            let (cidr, revision) = (*cidr, revision.clone());
            match block.owner() {
                Some(owner) if !claims.contains(&(owner, cidr)) => {
                    Some(Leak::Block { cidr, owner: owner.clone(), revision })
                }
                None if block.is_empty() => Some(Leak::IdleBlock { cidr, revision }),
                _ => None,
            }
        };
        self.blocks.iter().filter_map(leak).collect()
    }
}
