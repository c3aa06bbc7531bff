//! Giving addresses back.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::Key;
use ipnet::IpNet;

use crate::IpamError;
use crate::block::{Block, State};
use crate::handles::{Counter, canonical};
use crate::ipam::Ipam;
use crate::pools;
use crate::rows::{View, Write};

/// An address to release, and what must be true of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// The address.
    pub address: IpAddr,
    /// Only if it belongs to this handle.
    pub handle: Option<String>,
    /// Only if it was assigned with this sequence number ([`crate::Assignment::sequence`]).
    pub sequence: Option<u64>,
}

impl Release {
    /// Whoever has it.
    pub fn of(address: IpAddr) -> Self {
        Self { address, handle: None, sequence: None }
    }
}

/// What became of a list of releases. Each address is in one of the lists.
#[derive(Debug, Default)]
pub struct Released {
    /// These were assigned, and are not any more.
    pub released: Vec<IpAddr>,
    /// These were not assigned.
    pub unallocated: Vec<IpAddr>,
    /// These belong to someone else than the release says ([`IpamError::HandleMismatch`],
    /// [`IpamError::SequenceMismatch`]), and still do.
    pub refused: Vec<IpamError>,
}

impl Ipam {
    /// Releases addresses, all that can be: one that is refused does not keep the others. The block is written before the
    /// handle.
    ///
    /// # Errors
    /// When the store fails. Some of the addresses may have been released; the same call again releases the rest.
    pub fn release_ips(&self, releases: &[Release]) -> Result<Released, IpamError> {
        let mut outcome = Released::default();
        if releases.is_empty() {
            return Ok(outcome);
        }
        let view = self.rows.view(None)?;
        let mut by_block: BTreeMap<IpNet, Vec<&Release>> = BTreeMap::new();
        for release in releases {
            let of_pool = block_of_pool(release.address, &view).filter(|cidr| by_block.contains_key(cidr));
            match of_pool.map_or_else(|| self.block_around(release.address, &view), |cidr| Ok(Some(cidr)))? {
                Some(cidr) => by_block.entry(cidr).or_default().push(release),
                None => outcome.unallocated.push(release.address),
            }
        }
        let cooldown = view.config.ip_cooldown_seconds;
        for (cidr, releases) in by_block {
            self.release_from(cidr, &releases, cooldown, &mut outcome)?;
        }
        Ok(outcome)
    }

    /// Releases all addresses of a handle, and returns them. None is no error if the handle exists: an operation has died
    /// between the handle and the block.
    ///
    /// # Errors
    /// [`IpamError::HandleNotFound`]; or the store fails: then the same call again releases the rest.
    pub fn release_by_handle(&self, handle: &str) -> Result<Vec<IpAddr>, IpamError> {
        let id = canonical(handle);
        let (row, revision) =
            self.rows.handle(&id)?.ok_or_else(|| IpamError::HandleNotFound(handle.to_owned()))?;
        let config = self.config_row()?;
        let blocks: Vec<IpNet> = row.blocks.keys().copied().collect();
        let mut counter = Counter::from_row(&self.rows, row, revision);
        let mut all = Vec::new();
        for cidr in blocks {
            let released =
                self.change_block(cidr, config.ip_cooldown_seconds, |block| block.addresses_of(&id))?;
            if !released.is_empty() {
                counter.subtract(cidr, released.len())?;
            }
            all.extend(released.into_iter().map(|(address, _)| address));
        }
        Ok(all)
    }

    /// The block that an address is in. Pools that are gone, or were made anew with blocks of another size, leave blocks
    /// behind.
    pub(crate) fn block_around(&self, address: IpAddr, view: &View) -> Result<Option<IpNet>, IpamError> {
        if let Some(cidr) = block_of_pool(address, view)
            && self.rows.block(cidr)?.is_some()
        {
            return Ok(Some(cidr));
        }
        Ok(self.rows.block_cidrs()?.into_iter().find(|block| block.contains(&address)))
    }

    fn release_from(
        &self,
        cidr: IpNet,
        releases: &[&Release],
        cooldown_seconds: u32,
        outcome: &mut Released,
    ) -> Result<(), IpamError> {
        let mut verdicts = Verdicts::default();
        let released = self.change_block(cidr, cooldown_seconds, |block| {
            verdicts = judge(block, releases);
            verdicts.to_release.clone()
        })?;
        outcome.refused.extend(verdicts.refused);
        let is_released = |address: &IpAddr| released.iter().any(|(released, _)| released == address);
        let is_refused = |address: &IpAddr| verdicts.kept.contains(address);
        outcome.unallocated.extend(
            releases
                .iter()
                .map(|release| release.address)
                .filter(|address| !is_released(address) && !is_refused(address)),
        );
        let mut by_handle: BTreeMap<String, usize> = BTreeMap::new();
        for (address, handle) in released {
            outcome.released.push(address);
            if let Some(handle) = handle {
                *by_handle.entry(handle).or_default() += 1;
            }
        }
        for (handle, count) in by_handle {
            Counter::new(&self.rows, &handle).subtract(cidr, count)?;
        }
        Ok(())
    }

    /// Releases the addresses that `choose` names in the newest state of a block; returns them with their handles. The block
    /// goes with its last address if it is nobody's.
    fn change_block(
        &self,
        cidr: IpNet,
        cooldown_seconds: u32,
        mut choose: impl FnMut(&Block) -> Vec<IpAddr>,
    ) -> Result<Vec<(IpAddr, Option<String>)>, IpamError> {
        self.change_in_turn(cidr, || {
            let Some((mut block, revision)) = self.rows.block(cidr)? else {
                return Ok(Some(Vec::new()));
            };
            let now = self.now();
            let handle_of = |block: &Block, address| match block.state(address) {
                State::Assigned { attribute, .. } => attribute.handle_id.clone(),
                State::Free | State::Resting(_) => None,
            };
            let mut released = Vec::new();
            for address in choose(&block) {
                let handle = handle_of(&block, address);
                if block.release(address, now) {
                    released.push((address, handle));
                }
            }
            if released.is_empty() {
                return Ok(Some(released));
            }
            block.collect(now, cooldown_seconds);
            let written = if block.owner().is_none() && block.is_empty() {
                self.rows.delete(&Key::Block(cidr), &revision)?
            } else {
                self.rows.write_block(&block, Some(&revision))?
            };
            Ok((written != Write::Lost).then_some(released))
        })
    }
}

/// What a block says to some releases.
#[derive(Default)]
struct Verdicts {
    to_release: Vec<IpAddr>,
    kept: Vec<IpAddr>,
    refused: Vec<IpamError>,
}

fn judge(block: &Block, releases: &[&Release]) -> Verdicts {
    let mut verdicts = Verdicts::default();
    for release in releases {
        let State::Assigned { attribute, sequence } = block.state(release.address) else { continue };
        match refusal(release, attribute.handle_id.as_deref(), sequence) {
            None => verdicts.to_release.push(release.address),
            Some(error) => {
                verdicts.kept.push(release.address);
                verdicts.refused.push(error);
            }
        }
    }
    verdicts
}

fn refusal(release: &Release, handle: Option<&str>, sequence: u64) -> Option<IpamError> {
    let address = release.address;
    if let Some(expected) = release.handle.as_deref().map(canonical)
        && handle != Some(expected.as_str())
    {
        return Some(IpamError::HandleMismatch { address, expected, actual: handle.map(str::to_owned) });
    }
    match release.sequence {
        Some(expected) if expected != sequence => {
            Some(IpamError::SequenceMismatch { address, expected, actual: sequence })
        }
        _ => None,
    }
}

/// The block in which an address is according to its pool.
fn block_of_pool(address: IpAddr, view: &View) -> Option<IpNet> {
    let pool = view.pools.iter().find(|pool| pools::cidr(pool).contains(&address))?;
    block_of(address, pool.spec.block_prefix_len())
}

/// The block of a given size around an address.
pub(crate) fn block_of(address: IpAddr, block_prefix_len: u8) -> Option<IpNet> {
    IpNet::new(address, block_prefix_len).ok().map(|net| net.trunc())
}
