//! Who owns a block: the claim protocol (control-plane.md 1.2 and 1.3, step 4).
//!
//! Two rows say it: the affinity, which is found from its owner, and the block. What must hold at any moment, whoever has
//! died where:
//!
//! - An affinity is `confirmed` only while its block exists and names the same owner.
//! - A block that names an owner has an affinity row of that owner, in whatever state. (One exception, for a moment: someone
//!   releases the affinity between the first two writes of a claim. The claimer then starts again; if it has died,
//!   [`Ipam::recover`] frees the block.)
//!
//! Claiming writes the affinity (`pending`), then the block, then the affinity (`confirmed`). Giving up, and taking an empty
//! block from another host, first demote the affinity to `pendingDeletion`, then write the block, then delete the
//! affinity. Each write is conditional on the revision that was read. Three rules keep racing claims honest:
//!
//! - Whoever takes a block reads it *before* it demotes the affinity of its owner. An owner that confirms an affinity of a
//!   block that exists already writes the block (a touch: only its sequence number changes) in between. So either the
//!   taker's block write or the owner's confirmation fails, and that one reads again.
//! - Whoever deletes an affinity as void reads it *before* the block that does not bear it out.
//! - A taker whose block write fails confirms again what it has demoted: the owner has come to use the block.

use api::{AffinityOwner, BlockAffinityState, Key, Timestamp};
use datastore::Revision;
use ipnet::IpNet;

use crate::block::Block;
use crate::ipam::Ipam;
use crate::rows::{Write, retry};
use crate::{HostReserved, IpamError};

/// How long another host's empty block is left alone after it was claimed, in seconds: that host is about to use it.
pub(crate) const RECLAIM_AFTER_SECS: i64 = 60;

/// How to claim.
#[derive(Clone, Copy, Default)]
pub(crate) struct Claim<'a> {
    /// What the host keeps back in a new block.
    pub(crate) reserved: Option<&'a HostReserved>,
    /// Whether another host's empty block may be taken.
    pub(crate) may_reclaim: bool,
    /// Whether the caller has seen that no block of another size overlaps.
    pub(crate) is_known_disjoint: bool,
    /// Whether only to confirm what the block says already.
    pub(crate) must_be_named: bool,
}

impl Claim<'_> {
    /// Confirms an affinity whose block names its owner; deletes it otherwise.
    pub(crate) const CONFIRM: Self =
        Self { reserved: None, may_reclaim: false, is_known_disjoint: true, must_be_named: true };
}

impl Ipam {
    /// Makes a block the owner's. `false`: it is another's, or overlaps another; nothing of the claim is left.
    pub(crate) fn claim_block(
        &self,
        owner: &AffinityOwner,
        cidr: IpNet,
        how: Claim<'_>,
    ) -> Result<bool, IpamError> {
        retry(|| Key::Block(cidr), || self.try_claim(owner, cidr, how))
    }

    fn try_claim(
        &self,
        owner: &AffinityOwner,
        cidr: IpNet,
        how: Claim<'_>,
    ) -> Result<Option<bool>, IpamError> {
        let affinity = self.rows.affinity(owner, cidr)?;
        let block = self.rows.block(cidr)?;
        let named = block.as_ref().map(|(block, _)| block.owner().cloned());
        let is_confirmed = matches!(affinity, Some((BlockAffinityState::Confirmed, _)));
        if is_confirmed && named.as_ref() == Some(&Some(owner.clone())) {
            return Ok(Some(true));
        }
        let is_takeable = match &block {
            Some((block, _)) => self.is_takeable(block, owner, how),
            None if how.must_be_named => false,
            None => how.is_known_disjoint || !self.overlaps_a_block(cidr)?,
        };
        if !is_takeable {
            return self.withdraw(owner, cidr, affinity.as_ref().map(|(_, revision)| revision));
        }
        let Some(pending) = self.make_pending(owner, cidr, affinity)? else { return Ok(None) };
        if !self.name_owner(owner, cidr, block, how)? {
            return Ok(None);
        }
        let confirmed = BlockAffinityState::Confirmed;
        if self.rows.write_affinity(owner, cidr, confirmed, Some(&pending))? == Write::Lost {
            return Ok(None);
        }
        Ok(Some(true))
    }

    /// Whether an existing block is free to be claimed by the owner.
    pub(crate) fn is_takeable(&self, block: &Block, owner: &AffinityOwner, how: Claim<'_>) -> bool {
        match block.owner() {
            None => !how.must_be_named,
            Some(other) if other == owner => true,
            Some(_) => how.may_reclaim && block.is_empty() && is_old(block, self.now()),
        }
    }

    fn overlaps_a_block(&self, cidr: IpNet) -> Result<bool, IpamError> {
        Ok(self.rows.block_cidrs()?.iter().any(|other| other.contains(&cidr) || cidr.contains(other)))
    }

    fn withdraw(
        &self,
        owner: &AffinityOwner,
        cidr: IpNet,
        affinity: Option<&Revision>,
    ) -> Result<Option<bool>, IpamError> {
        let Some(revision) = affinity else { return Ok(Some(false)) };
        let key = Key::BlockAffinity { owner: owner.clone(), cidr };
        Ok((self.rows.delete(&key, revision)? != Write::Lost).then_some(false))
    }

    /// The revision of the pending affinity, or none if someone else was faster.
    fn make_pending(
        &self,
        owner: &AffinityOwner,
        cidr: IpNet,
        affinity: Option<(BlockAffinityState, Revision)>,
    ) -> Result<Option<Revision>, IpamError> {
        let expected = match affinity {
            Some((BlockAffinityState::Pending, revision)) => return Ok(Some(revision)),
            Some((_, revision)) => Some(revision),
            None => None,
        };
        let written =
            self.rows.write_affinity(owner, cidr, BlockAffinityState::Pending, expected.as_ref())?;
        Ok(match written {
            Write::Done(revision) => Some(revision),
            Write::Lost => None,
        })
    }

    /// Makes the block name the owner; `false` if someone else was faster.
    fn name_owner(
        &self,
        owner: &AffinityOwner,
        cidr: IpNet,
        block: Option<(Block, Revision)>,
        how: Claim<'_>,
    ) -> Result<bool, IpamError> {
        let written = match block {
            None => {
                let (now, sequence) = (self.now(), self.first_sequence());
                let block = Block::create(cidr, Some(owner.clone()), now, sequence, how.reserved);
                self.rows.write_block(&block, None)?
            }
            Some((mut block, revision)) => {
                let other = block.owner().cloned().filter(|other| other != owner);
                if let Some(other) = &other {
                    self.demote(other, cidr)?;
                }
                match block.owner() == Some(owner) {
                    true => block.touch(),
                    false => block.set_owner(Some(owner.clone()), self.now()),
                }
                let written = self.rows.write_block(&block, Some(&revision))?;
                match (&written, &other) {
                    (Write::Done(_), Some(other)) => self.finish_deletion(other, cidr)?,
                    // It has come to use its block after all.
                    (Write::Lost, Some(other)) => self.restore(other, cidr)?,
                    (_, None) => {}
                }
                written
            }
        };
        Ok(written != Write::Lost)
    }

    /// Makes an affinity `pendingDeletion`, if it is there; returns its revision then.
    fn demote(&self, owner: &AffinityOwner, cidr: IpNet) -> Result<Option<Revision>, IpamError> {
        let key = || Key::BlockAffinity { owner: owner.clone(), cidr };
        retry(key, || {
            let (state, revision) = match self.rows.affinity(owner, cidr)? {
                None => return Ok(Some(None)),
                Some(affinity) => affinity,
            };
            let deletion = BlockAffinityState::PendingDeletion;
            if state == deletion {
                return Ok(Some(Some(revision)));
            }
            match self.rows.write_affinity(owner, cidr, deletion, Some(&revision))? {
                Write::Done(revision) => Ok(Some(Some(revision))),
                Write::Lost => Ok(None),
            }
        })
    }

    /// Deletes an affinity that is `pendingDeletion`. If it is no longer, its owner has seen to it.
    fn finish_deletion(&self, owner: &AffinityOwner, cidr: IpNet) -> Result<(), IpamError> {
        if let Some((BlockAffinityState::PendingDeletion, revision)) = self.rows.affinity(owner, cidr)? {
            self.rows.delete(&Key::BlockAffinity { owner: owner.clone(), cidr }, &revision)?;
        }
        Ok(())
    }

    /// Takes a block from its owner: an empty one is deleted, another stays and belongs to nobody.
    pub(crate) fn release_block(
        &self,
        owner: &AffinityOwner,
        cidr: IpNet,
        must_be_empty: bool,
        cooldown_seconds: u32,
    ) -> Result<(), IpamError> {
        retry(|| Key::Block(cidr), || self.try_release_block(owner, cidr, must_be_empty, cooldown_seconds))
    }

    fn try_release_block(
        &self,
        owner: &AffinityOwner,
        cidr: IpNet,
        must_be_empty: bool,
        cooldown_seconds: u32,
    ) -> Result<Option<()>, IpamError> {
        let block = self.rows.block(cidr)?;
        let Some((mut block, revision)) = block.filter(|(block, _)| block.owner() == Some(owner)) else {
            return self.drop_void_affinity(owner, cidr);
        };
        block.collect(self.now(), cooldown_seconds);
        if must_be_empty && !block.is_empty() {
            self.restore(owner, cidr)?;
            let host = owner.name().to_owned();
            return Err(IpamError::BlockNotEmpty { block: cidr, host, in_use: block.in_use() });
        }
        self.demote(owner, cidr)?;
        let written = if block.is_empty() {
            self.rows.delete(&Key::Block(cidr), &revision)?
        } else {
            block.set_owner(None, self.now());
            self.rows.write_block(&block, Some(&revision))?
        };
        if written == Write::Lost {
            return Ok(None);
        }
        self.finish_deletion(owner, cidr).map(Some)
    }

    /// Deletes an affinity whose block is not the owner's.
    fn drop_void_affinity(&self, owner: &AffinityOwner, cidr: IpNet) -> Result<Option<()>, IpamError> {
        let affinity = self.rows.affinity(owner, cidr)?;
        let actual = self.rows.block(cidr)?.and_then(|(block, _)| block.owner().cloned());
        if actual.as_ref() == Some(owner) {
            return Ok(None);
        }
        let Some((_, revision)) = affinity else {
            return Err(IpamError::NotAffine { block: cidr, host: owner.name().to_owned(), owner: actual });
        };
        let key = Key::BlockAffinity { owner: owner.clone(), cidr };
        Ok((self.rows.delete(&key, &revision)? != Write::Lost).then_some(()))
    }

    /// Confirms again what an attempt to take the block has demoted, when the block turns out to be in use.
    fn restore(&self, owner: &AffinityOwner, cidr: IpNet) -> Result<(), IpamError> {
        if let Some((BlockAffinityState::PendingDeletion, _)) = self.rows.affinity(owner, cidr)? {
            self.claim_block(owner, cidr, Claim::CONFIRM)?;
        }
        Ok(())
    }
}

/// Whether the block was claimed so long ago that its owner would have used it by now. Old rows do not say when.
fn is_old(block: &Block, now: Timestamp) -> bool {
    block
        .row()
        .affinity_claim_time
        .is_none_or(|claimed| now.duration_since(claimed).as_secs() >= RECLAIM_AFTER_SECS)
}
