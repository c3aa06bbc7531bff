//! Blocks of hosts, by hand: claim, release, and all of a host or a pool at once.

use std::collections::BTreeSet;

use api::{AffinityOwner, IPPool, Key, Row};
use datastore::Scope;
use ipnet::IpNet;

use crate::affinity::Claim;
use crate::candidate::Ring;
use crate::ipam::Ipam;
use crate::pools;
use crate::{AutoAssign, Family, IpamError};

/// Most blocks that one call claims.
const MAX_BLOCKS_PER_CALL: u32 = 1 << 16;

/// What became of the blocks of a range.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claimed {
    /// They belong to the owner now.
    pub claimed: Vec<IpNet>,
    /// They belong to others.
    pub failed: Vec<IpNet>,
}

impl Ipam {
    /// Claims every block of a range for an owner. Limits on blocks per host do not count here: someone decided.
    ///
    /// # Errors
    /// [`IpamError::NotInPool`], [`IpamError::BadRange`], or the store fails; blocks before the failing one are claimed.
    pub fn claim_affinity(&self, cidr: IpNet, owner: &AffinityOwner) -> Result<Claimed, IpamError> {
        let view = self.rows.view(None)?;
        let around = |pool: &&IPPool| pools::cidr(pool).contains(&cidr) && pools::is_enabled(pool);
        let pool = view.pools.iter().find(around).ok_or(IpamError::NotInPool(cidr))?;
        let mut outcome = Claimed::default();
        for block in blocks_of(cidr, pool)? {
            match self.claim_block(owner, block, Claim::default())? {
                true => outcome.claimed.push(block),
                false => outcome.failed.push(block),
            }
        }
        Ok(outcome)
    }

    /// Releases the owner's blocks in a range: empty ones are deleted, others stay and belong to nobody. Returns those that
    /// are not the owner's any more.
    ///
    /// # Errors
    /// With `must_be_empty`, [`IpamError::BlockNotEmpty`] for the first that is not; it and the others that are not stay
    /// as they are, the rest is released. Or the store fails.
    pub fn release_affinity(
        &self,
        cidr: IpNet,
        owner: &AffinityOwner,
        must_be_empty: bool,
    ) -> Result<Vec<IpNet>, IpamError> {
        let view = self.rows.view(Some(owner))?;
        let inside =
            view.affinities.iter().map(|affinity| affinity.cidr).filter(|block| cidr.contains(block));
        let claims: Vec<_> = inside.map(|block| (owner.clone(), block)).collect();
        self.release_claims(&claims, must_be_empty, view.config.ip_cooldown_seconds)
    }

    /// Releases all blocks of an owner, as [`Ipam::release_affinity`] does.
    ///
    /// # Errors
    /// As there.
    pub fn release_host_affinities(
        &self,
        owner: &AffinityOwner,
        must_be_empty: bool,
    ) -> Result<Vec<IpNet>, IpamError> {
        let view = self.rows.view(Some(owner))?;
        let claims: Vec<_> = view.affinities.iter().map(|affinity| (owner.clone(), affinity.cidr)).collect();
        self.release_claims(&claims, must_be_empty, view.config.ip_cooldown_seconds)
    }

    /// Releases all blocks of a pool, whoever has them; those with addresses stay and belong to nobody. For a pool that is
    /// about to be deleted: disable it first, so that no host claims blocks meanwhile.
    ///
    /// # Errors
    /// When the store fails; some blocks may have been released.
    pub fn release_pool_affinities(&self, pool: IpNet) -> Result<Vec<IpNet>, IpamError> {
        let config = self.config_row()?;
        let listing = self.rows.store().list(&Scope::BlockAffinities { host: None })?;
        let claim = |entry: &datastore::Entry| match &entry.key {
            Key::BlockAffinity { owner, cidr } if pool.contains(cidr) => Some((owner.clone(), *cidr)),
            _ => None,
        };
        let claims: Vec<_> = listing.entries.iter().filter_map(claim).collect();
        self.release_claims(&claims, false, config.ip_cooldown_seconds)
    }

    /// Releases all that IPAM keeps for a host that is gone. Addresses stay with their handles. A host that is not known is
    /// no error.
    ///
    /// # Errors
    /// When the store fails; the same call again releases the rest.
    pub fn remove_host(&self, host: &str) -> Result<(), IpamError> {
        let owner = AffinityOwner::Host(host.to_owned());
        self.release_host_affinities(&owner, false).map(|_| ())
    }

    fn release_claims(
        &self,
        claims: &[(AffinityOwner, IpNet)],
        must_be_empty: bool,
        cooldown_seconds: u32,
    ) -> Result<Vec<IpNet>, IpamError> {
        let (mut released, mut not_empty) = (Vec::new(), None);
        for (owner, cidr) in claims {
            match self.release_block(owner, *cidr, must_be_empty, cooldown_seconds) {
                Ok(()) => released.push(*cidr),
                // Someone else released it meanwhile.
                Err(IpamError::NotAffine { .. }) => {}
                Err(error @ IpamError::BlockNotEmpty { .. }) => drop(not_empty.get_or_insert(error)),
                Err(error) => return Err(error),
            }
        }
        match not_empty {
            Some(error) => Err(error),
            None => Ok(released),
        }
    }

    /// Sees to it that the host has a block in each family of which the request wants an address, without assigning one.
    /// Returns one block a family, IPv4 first.
    ///
    /// # Errors
    /// As [`Ipam::auto_assign`]; [`IpamError::NoBlock`] when none can be had.
    pub fn ensure_block(&self, request: &AutoAssign) -> Result<Vec<IpNet>, IpamError> {
        let families = [Family::V4, Family::V6];
        let wanted = families.into_iter().filter(|family| request.number(*family) > 0);
        wanted.map(|family| self.ensure_block_of(request, family)).collect()
    }

    /// All claims, in the order of their owners: which host has which blocks, and how far it has got with them.
    ///
    /// # Errors
    /// When the store fails, or a row cannot be read.
    pub fn affinities(&self) -> Result<Vec<api::IpamBlockAffinity>, IpamError> {
        let listing = self.rows.store().list(&Scope::BlockAffinities { host: None })?;
        let mut affinities = Vec::new();
        for entry in &listing.entries {
            if let Row::BlockAffinity(affinity) = entry.row()? {
                affinities.push(affinity);
            }
        }
        affinities.retain(|affinity| !affinity.deleted);
        Ok(affinities)
    }
}

/// The blocks of a range.
fn blocks_of(cidr: IpNet, pool: &IPPool) -> Result<BTreeSet<IpNet>, IpamError> {
    let block_prefix_len = pool.spec.block_prefix_len();
    let bad = || IpamError::BadRange {
        cidr,
        pool: pool.metadata.name.clone(),
        block_prefix_len,
        most: MAX_BLOCKS_PER_CALL,
    };
    if cidr.prefix_len() > block_prefix_len {
        return Err(bad());
    }
    let ring = Ring::new(cidr.trunc(), block_prefix_len, "", 0);
    if ring.len() > u128::from(MAX_BLOCKS_PER_CALL) {
        return Err(bad());
    }
    Ok((0..ring.len()).map(|place| ring.block(place)).collect())
}
