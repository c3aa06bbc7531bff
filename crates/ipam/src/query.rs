//! What is where.

use std::net::IpAddr;

use api::AffinityOwner;
use ipnet::IpNet;

use crate::block::{Allocation, Block, State};
use crate::handles::canonical;
use crate::ipam::Ipam;
use crate::pools;
use crate::reserved::{Reservations, size};
use crate::{Attributes, IpamError};

/// An assigned address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The address.
    pub address: IpAddr,
    /// Its block.
    pub block: IpNet,
    /// Whose block that is. Another than the node of the attributes: the address is borrowed.
    pub block_owner: Option<AffinityOwner>,
    /// Whose it is.
    pub handle: Option<String>,
    /// What the active owner said about it.
    pub attributes: Attributes,
    /// The same of the other owner, while a virtual machine moves.
    pub alternate_attributes: Attributes,
    /// Together with the address it names this assignment for ever: release with it what was looked at, and nothing
    /// later.
    pub sequence: u64,
}

/// How full a pool is. Addresses that are both reserved and in use count in both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolUtilization {
    /// Name of the pool.
    pub name: String,
    /// Its addresses.
    pub cidr: IpNet,
    /// The sum over its blocks and what has no block yet.
    pub usage: Usage,
    /// Its blocks, in their order.
    pub blocks: Vec<BlockUtilization>,
}

/// How full a block is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockUtilization {
    /// The block.
    pub cidr: IpNet,
    /// Whose it is.
    pub owner: Option<AffinityOwner>,
    /// Its addresses.
    pub usage: Usage,
}

/// Numbers of addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// All; saturates.
    pub capacity: u128,
    /// Assigned.
    pub in_use: u128,
    /// Released a moment ago, and not to be assigned yet.
    pub resting: u128,
    /// Reserved by IPReservations.
    pub reserved: u128,
    /// Neither assigned, nor resting, nor reserved.
    pub available: u128,
}

impl Ipam {
    /// The addresses of a handle, in the order of their blocks.
    ///
    /// # Errors
    /// [`IpamError::HandleNotFound`], or the store fails.
    pub fn ips_by_handle(&self, handle: &str) -> Result<Vec<IpAddr>, IpamError> {
        let id = canonical(handle);
        let (row, _) = self.rows.handle(&id)?.ok_or_else(|| IpamError::HandleNotFound(handle.to_owned()))?;
        let mut addresses = Vec::new();
        for cidr in row.blocks.keys() {
            if let Some((block, _)) = self.rows.block(*cidr)? {
                addresses.extend(block.addresses_of(&id));
            }
        }
        Ok(addresses)
    }

    /// Whose an address is.
    ///
    /// # Errors
    /// [`IpamError::NotAssigned`], or the store fails.
    pub fn assignment_attributes(&self, address: IpAddr) -> Result<Assignment, IpamError> {
        let not_assigned = || IpamError::NotAssigned(address);
        let view = self.rows.view(None)?;
        let cidr = self.block_around(address, &view)?.ok_or_else(not_assigned)?;
        let (block, _) = self.rows.block(cidr)?.ok_or_else(not_assigned)?;
        match block.state(address) {
            State::Assigned { attribute, sequence } => {
                Ok(assignment(&block, Allocation { address, attribute, sequence }))
            }
            State::Free | State::Resting(_) => Err(not_assigned()),
        }
    }

    /// All assigned addresses, in the order of the blocks, in one read: what a garbage collector compares with what exists.
    /// It releases with handle and sequence number, so that an address that was assigned anew meanwhile stays.
    ///
    /// # Errors
    /// When the store fails.
    pub fn assignments(&self) -> Result<Vec<Assignment>, IpamError> {
        let blocks = self.rows.blocks()?;
        Ok(blocks
            .iter()
            .flat_map(|block| block.allocations().map(|allocation| assignment(block, allocation)))
            .collect())
    }

    /// How full pools are: those of these CIDRs or names, all if none are given.
    ///
    /// # Errors
    /// When the store fails.
    pub fn utilization(&self, only: &[String]) -> Result<Vec<PoolUtilization>, IpamError> {
        let view = self.rows.view(None)?;
        let blocks = self.rows.blocks()?;
        let is_wanted = |pool: &&api::IPPool| {
            let cidr = pools::cidr(pool).to_string();
            only.is_empty() || only.iter().any(|only| *only == pool.metadata.name || *only == cidr)
        };
        let utilization = |pool: &api::IPPool| {
            let cidr = pools::cidr(pool);
            let inside = blocks.iter().filter(|block| cidr.contains(&block.cidr()));
            let blocks: Vec<BlockUtilization> =
                inside.map(|block| block_utilization(block, &view.reservations)).collect();
            let usage = pool_usage(&cidr, &blocks, &view.reservations);
            PoolUtilization { name: pool.metadata.name.clone(), cidr, usage, blocks }
        };
        Ok(view.pools.iter().filter(is_wanted).map(utilization).collect())
    }
}

fn assignment(block: &Block, allocation: Allocation<'_>) -> Assignment {
    Assignment {
        address: allocation.address,
        block: block.cidr(),
        block_owner: block.owner().cloned(),
        handle: allocation.attribute.handle_id.clone(),
        attributes: allocation.attribute.secondary.clone(),
        alternate_attributes: allocation.attribute.alternate_owner_attrs.clone(),
        sequence: allocation.sequence,
    }
}

fn block_utilization(block: &Block, reservations: &Reservations) -> BlockUtilization {
    let mut usage = Usage {
        capacity: size(&block.cidr()),
        reserved: reservations.count_in(&block.cidr()),
        ..Usage::default()
    };
    for ordinal in 0..block.size() {
        let address = block.address(ordinal);
        match block.state(address) {
            State::Assigned { .. } => usage.in_use += 1,
            State::Resting(_) => usage.resting += 1,
            State::Free if !reservations.contains(address) => usage.available += 1,
            State::Free => {}
        }
    }
    BlockUtilization { cidr: block.cidr(), owner: block.owner().cloned(), usage }
}

fn pool_usage(cidr: &IpNet, blocks: &[BlockUtilization], reservations: &Reservations) -> Usage {
    let sum = |part: fn(&Usage) -> u128| blocks.iter().map(|block| part(&block.usage)).sum::<u128>();
    let (capacity, reserved) = (size(cidr), reservations.count_in(cidr));
    // Outside of blocks nothing is assigned: what is not reserved there is available.
    let outside = capacity.saturating_sub(sum(|usage| usage.capacity));
    let reserved_outside = reserved.saturating_sub(sum(|usage| usage.reserved));
    Usage {
        capacity,
        reserved,
        in_use: sum(|usage| usage.in_use),
        resting: sum(|usage| usage.resting),
        available: sum(|usage| usage.available) + outside.saturating_sub(reserved_outside),
    }
}
