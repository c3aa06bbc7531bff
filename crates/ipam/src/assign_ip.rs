//! Assignment of an address that the caller names.

use std::net::IpAddr;

use api::{
    AffinityOwner, BlockAffinityState, IPPool, IPPoolAllowedUse, IpamAllocationAttribute, IpamBlockAffinity,
    IpamConfig, Key,
};
use ipnet::IpNet;

use crate::affinity::Claim;
use crate::block::{Block, State};
use crate::handles::{Counter, canonical};
use crate::ipam::Ipam;
use crate::pools;
use crate::release::block_of;
use crate::request::owner;
use crate::rows::{View, Write, retry};
use crate::{Attributes, Family, HostReserved, IpamError};

/// A request for one address. Start from [`AssignIp::new`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignIp {
    /// The address.
    pub ip: IpAddr,
    /// The node that will route it.
    pub host: String,
    /// Whose it will be.
    pub handle: Option<String>,
    /// Stored with it.
    pub attributes: Attributes,
    /// For what; anything if absent.
    pub intended_use: Option<IPPoolAllowedUse>,
    /// Addresses to keep back if a new block is needed.
    pub host_reserved: Option<HostReserved>,
}

impl AssignIp {
    /// A request without handle and attributes.
    pub fn new(ip: IpAddr, host: impl Into<String>) -> Self {
        let (handle, attributes) = (None, Attributes::new());
        Self { ip, host: host.into(), handle, attributes, intended_use: None, host_reserved: None }
    }
}

impl Ipam {
    /// Assigns this very address, also if it is reserved (as in Calico, an IPReservation keeps addresses from being assigned
    /// unasked) and whatever nodes and namespaces its pool selects. The block becomes the host's if it is nobody's; of
    /// another host's block the address is borrowed, unless strict affinity forbids it. Returns the address with the
    /// prefix length of its block.
    ///
    /// # Errors
    /// When the address is taken or rests, in no enabled pool, in a pool that is not for the use; when the block is another
    /// host's under strict affinity, or the host has all the blocks that the configuration allows; or the store fails.
    /// Nothing is assigned then, unless the store failed.
    pub fn assign_ip(&self, request: &AssignIp) -> Result<IpNet, IpamError> {
        let owner = owner(&request.host, request.intended_use);
        let view = self.rows.view(Some(&owner))?;
        let pool = pool_of(request, &view)?;
        let cidr = block_of(request.ip, pool.spec.block_prefix_len())
            .ok_or(IpamError::NotInPool(request.ip.into()))?;
        let handle = request.handle.as_deref().map(canonical);
        let attribute = IpamAllocationAttribute {
            handle_id: handle.clone(),
            secondary: request.attributes.clone(),
            ..IpamAllocationAttribute::default()
        };
        let is_confirmed = |claim: &IpamBlockAffinity| claim.state == BlockAffinityState::Confirmed;
        if view.affinities.iter().any(|claim| claim.cidr == cidr && !is_confirmed(claim)) {
            // An operation has died: routing does not count the block yet.
            self.claim_block(&owner, cidr, Claim::default())?;
        }
        let mut counter = handle.map(|handle| Counter::new(&self.rows, &handle));
        let mut counted = false;
        let done = retry(
            || Key::Block(cidr),
            || {
                let Some((mut block, revision)) = self.block_for(&owner, cidr, request, &view)? else {
                    return Ok(None);
                };
                block.collect(self.now(), view.config.ip_cooldown_seconds);
                check_free(&block, request.ip, &view.config)?;
                if !block.assign(request.ip, &attribute) {
                    return Err(IpamError::AlreadyAssigned { address: request.ip, handle: None });
                }
                if let (Some(counter), false) = (counter.as_mut(), counted) {
                    counter.add(cidr, 1, None)?;
                    counted = true;
                }
                let written = self.rows.write_block(&block, Some(&revision))?;
                Ok((written != Write::Lost).then_some(()))
            },
        );
        if let (Err(error), true, Some(counter)) = (&done, counted, counter.as_mut())
            && !matches!(error, IpamError::Store(_))
        {
            counter.subtract(cidr, 1)?;
        }
        done.map(|()| {
            IpNet::new(request.ip, cidr.prefix_len()).expect("the block is of the address's family")
        })
    }

    /// The block around the address, claimed or borrowed from; none if someone else was faster.
    fn block_for(
        &self,
        owner: &AffinityOwner,
        cidr: IpNet,
        request: &AssignIp,
        view: &View,
    ) -> Result<Option<(Block, datastore::Revision)>, IpamError> {
        let found = self.rows.block(cidr)?;
        let of = found.as_ref().and_then(|(block, _)| block.owner());
        match of {
            Some(of) if of == owner => Ok(found),
            Some(_) if !view.config.strict_affinity => Ok(found),
            Some(_) => {
                let host = request.host.clone();
                Err(IpamError::StrictAffinity { block: cidr, owner: of.cloned(), host })
            }
            None => {
                if let Some((block, _)) = &found {
                    check_free(block, request.ip, &view.config)?;
                }
                self.claim_for(owner, cidr, request, view)?;
                Ok(None)
            }
        }
    }

    fn claim_for(
        &self,
        owner: &AffinityOwner,
        cidr: IpNet,
        request: &AssignIp,
        view: &View,
    ) -> Result<(), IpamError> {
        let limit = view.config.max_blocks_per_host;
        let owned = view.claimed(Family::of(&cidr)).filter(|block| *block != cidr).count();
        if limit > 0 && owned >= limit as usize {
            return Err(IpamError::BlockLimit { host: request.host.clone(), limit });
        }
        let how = Claim { reserved: request.host_reserved.as_ref(), ..Claim::default() };
        if !self.claim_block(owner, cidr, how)? && self.rows.block(cidr)?.is_none() {
            return Err(IpamError::Overlap(cidr));
        }
        // If another was faster, the next attempt sees whose the block is.
        Ok(())
    }
}

fn pool_of<'v>(request: &AssignIp, view: &'v View) -> Result<&'v IPPool, IpamError> {
    let around = |pool: &&IPPool| pools::cidr(pool).contains(&request.ip) && pools::is_enabled(pool);
    let pool = view.pools.iter().find(around).ok_or(IpamError::NotInPool(request.ip.into()))?;
    match request.intended_use {
        Some(usage) if !pool.spec.allows(usage) => {
            Err(IpamError::UseNotAllowed { pool: pool.metadata.name.clone(), usage })
        }
        _ => Ok(pool),
    }
}

fn check_free(block: &Block, address: IpAddr, config: &IpamConfig) -> Result<(), IpamError> {
    match block.state(address) {
        State::Free => Ok(()),
        State::Resting(_) => {
            Err(IpamError::Cooling { address, cooldown_seconds: config.ip_cooldown_seconds })
        }
        State::Assigned { attribute, .. } => {
            Err(IpamError::AlreadyAssigned { address, handle: attribute.handle_id.clone() })
        }
    }
}
