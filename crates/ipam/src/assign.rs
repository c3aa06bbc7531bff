//! Automatic assignment (control-plane.md 1.3): own blocks first, then new ones, then borrowed addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::PoisonError;

use api::{AffinityOwner, BlockAffinityState, IPPool, IpamAllocationAttribute};
use ipnet::IpNet;

use crate::affinity::Claim;
use crate::block::Block;
use crate::candidate::Ring;
use crate::handles::{Counter, canonical};
use crate::ipam::Ipam;
use crate::pools::{self, Choice, Labels, Wanted};
use crate::release::Release;
use crate::reserved::Reservations;
use crate::rows::{MAX_ATTEMPTS, View, Write};
use crate::{Assigned, AutoAssign, AutoAssigned, Family, IpamError, Shortfall};

/// Blocks per host and family when nothing is configured.
const DEFAULT_BLOCK_LIMIT: u32 = 20;
/// How far to look for a block that is not entirely reserved.
const MAX_RESERVED_BLOCKS: usize = 1 << 16;

/// An address that was assigned a moment ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fresh {
    net: IpNet,
    sequence: u64,
}

/// From whom addresses may be taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum From<'a> {
    /// Only if the block is this owner's.
    Own(&'a AffinityOwner),
    /// From any block.
    Anyone,
}

/// What a block had to give.
enum Got {
    Addresses(Vec<Fresh>),
    /// It is not there, or not the owner's.
    NotOwn,
}

/// One family's part of a request.
struct Job<'a, 'r> {
    ipam: &'a Ipam,
    request: &'a AutoAssign,
    owner: AffinityOwner,
    family: Family,
    choice: Choice,
    attribute: &'a IpamAllocationAttribute,
    counter: Option<&'a mut Counter<'r>>,
    limit_per_handle: Option<usize>,
    wanted: usize,
    got: Vec<Fresh>,
    tried: BTreeSet<IpNet>,
    reasons: Vec<Shortfall>,
}

impl Ipam {
    /// Assigns addresses. Fewer than asked for is no error: [`Assigned::reasons`] says why.
    ///
    /// An undisturbed request for one address costs four calls to the store, two of them writes: everything that decides is
    /// read at once, then the host's block, then the handle and the block are written.
    ///
    /// # Errors
    /// When no pool qualifies, the request contradicts itself, or the store fails. Nothing stays assigned, as far as
    /// the store lets that be undone: release the handle to be sure.
    pub fn auto_assign(&self, request: &AutoAssign) -> Result<AutoAssigned, IpamError> {
        let owner = request.owner();
        let view = self.rows.view(Some(&owner))?;
        let labels = Labels::new(&self.rows, &request.host, request.namespace.as_deref());
        // Both families are judged before any address is taken.
        let choose = |family| {
            let is_wanted = request.number(family) > 0;
            is_wanted.then(|| self.choose(request, &view, &labels, family)).transpose()
        };
        let choices = (choose(Family::V4)?, choose(Family::V6)?);
        let handle = request.handle.as_deref().map(canonical);
        let attribute = IpamAllocationAttribute {
            handle_id: handle.clone(),
            secondary: request.attributes.clone(),
            ..IpamAllocationAttribute::default()
        };
        let mut counter = handle.map(|handle| Counter::new(&self.rows, &handle));
        let mut assign = |family, choice: Option<Choice>| match choice {
            Some(choice) => self.assign_family(request, &view, family, choice, &attribute, counter.as_mut()),
            None => Ok((Assigned::default(), Vec::new())),
        };
        let (ipv4, fresh) = assign(Family::V4, choices.0)?;
        match assign(Family::V6, choices.1) {
            Ok((ipv6, _)) => Ok(AutoAssigned { ipv4, ipv6 }),
            Err(error) => {
                self.undo(&fresh);
                Err(error)
            }
        }
    }

    /// Assigns all addresses of the request, or none.
    ///
    /// # Errors
    /// Those of [`Ipam::auto_assign`], and [`IpamError::Short`] when there are too few.
    pub fn auto_assign_all(&self, request: &AutoAssign) -> Result<AutoAssigned, IpamError> {
        let held = match (&request.handle, request.max_per_handle) {
            (Some(handle), 1..) => self.ips_by_handle(handle).unwrap_or_default(),
            _ => Vec::new(),
        };
        let assigned = self.auto_assign(request)?;
        let complete = assigned
            .ipv4
            .require(Family::V4, &request.host)
            .and_then(|()| assigned.ipv6.require(Family::V6, &request.host));
        if let Err(error) = complete {
            let new = assigned.addresses().filter(|address| !held.contains(address));
            let releases: Vec<Release> = new
                .map(|address| Release { handle: request.handle.clone(), ..Release::of(address) })
                .collect();
            self.release_ips(&releases)?;
            return Err(error);
        }
        Ok(assigned)
    }

    /// The pools that a request of a host would use, in order; empty if none qualifies.
    ///
    /// # Errors
    /// When a requested pool is not enabled or of the wrong family, a selector cannot be read, or the store fails.
    pub fn determine_pools(&self, request: &AutoAssign, family: Family) -> Result<Vec<IPPool>, IpamError> {
        let view = self.rows.view(None)?;
        let labels = Labels::new(&self.rows, &request.host, request.namespace.as_deref());
        let wanted = Wanted { family, usage: request.intended_use, requested: request.pools(family) };
        Ok(pools::choose(&view.pools, &wanted, &labels)?.pools)
    }

    pub(crate) fn choose(
        &self,
        request: &AutoAssign,
        view: &View,
        labels: &Labels<'_>,
        family: Family,
    ) -> Result<Choice, IpamError> {
        let wanted = Wanted { family, usage: request.intended_use, requested: request.pools(family) };
        let choice = pools::choose(&view.pools, &wanted, labels)?;
        if choice.pools.is_empty() {
            return Err(IpamError::NoQualifiedPool {
                family,
                host: request.host.clone(),
                usage: request.intended_use,
                rejected: choice.rejected,
            });
        }
        Ok(choice)
    }

    fn assign_family(
        &self,
        request: &AutoAssign,
        view: &View,
        family: Family,
        choice: Choice,
        attribute: &IpamAllocationAttribute,
        mut counter: Option<&mut Counter<'_>>,
    ) -> Result<(Assigned, Vec<Fresh>), IpamError> {
        let requested = request.number(family);
        let limit_per_handle = (request.max_per_handle > 0).then_some(request.max_per_handle);
        let mut held = Vec::new();
        let mut wanted = requested;
        if let (Some(limit), Some(counter)) = (limit_per_handle, counter.as_mut()) {
            let counted = counter.counted(family)?;
            wanted = requested.min(limit.saturating_sub(counted));
            held = self.held(counter, family, requested - wanted)?;
            if requested > 0 && wanted == 0 && held.is_empty() {
                let handle = counter.id().to_owned();
                return Err(IpamError::HandleLimit { handle, family, counted, limit });
            }
        }
        let mut job = Job::new(self, request, family, choice, attribute);
        job.counter = counter;
        job.limit_per_handle = limit_per_handle;
        job.wanted = wanted;
        if let Err(error) = job.run(view) {
            self.undo(&job.got);
            return Err(error);
        }
        let addresses = job.got.iter().map(|fresh| fresh.net).chain(held).collect();
        Ok((Assigned { requested, addresses, reasons: job.reasons }, job.got))
    }

    pub(crate) fn ensure_block_of(&self, request: &AutoAssign, family: Family) -> Result<IpNet, IpamError> {
        let _turn = self.claiming.lock().unwrap_or_else(PoisonError::into_inner);
        let view = self.rows.view(Some(&request.owner()))?;
        let labels = Labels::new(&self.rows, &request.host, request.namespace.as_deref());
        let choice = self.choose(request, &view, &labels, family)?;
        let attribute = IpamAllocationAttribute::default();
        let mut job = Job::new(self, request, family, choice, &attribute);
        let block = job.ensure(&view)?;
        let host = request.host.clone();
        block.ok_or(IpamError::NoBlock { family, host, reasons: job.reasons })
    }

    /// Up to `most` addresses that the handle has already.
    fn held(&self, counter: &mut Counter<'_>, family: Family, most: usize) -> Result<Vec<IpNet>, IpamError> {
        let mut held = Vec::new();
        for block in counter.blocks(family)? {
            let Some((block, _)) = self.rows.block(block)? else { continue };
            held.extend(
                block.addresses_of(counter.id()).into_iter().map(|address| masked(address, block.cidr())),
            );
        }
        held.truncate(most);
        Ok(held)
    }

    /// Gives back what a failing request has got. What cannot be given back stays with the handle.
    fn undo(&self, fresh: &[Fresh]) {
        let releases: Vec<Release> = fresh
            .iter()
            .map(|fresh| Release { sequence: Some(fresh.sequence), ..Release::of(fresh.net.addr()) })
            .collect();
        if let Err(error) = self.release_ips(&releases) {
            tracing::warn!(%error, addresses = releases.len(), "addresses of a failed request stay with its handle");
        }
    }
}

impl<'a> Job<'a, '_> {
    fn new(
        ipam: &'a Ipam,
        request: &'a AutoAssign,
        family: Family,
        choice: Choice,
        attribute: &'a IpamAllocationAttribute,
    ) -> Self {
        Job {
            ipam,
            request,
            owner: request.owner(),
            family,
            choice,
            attribute,
            counter: None,
            limit_per_handle: None,
            wanted: 0,
            got: Vec::new(),
            tried: BTreeSet::new(),
            reasons: Vec::new(),
        }
    }

    /// An address that comes again was released meanwhile, by someone who released the handle: it counts once.
    fn keep(&mut self, fresh: Vec<Fresh>) {
        self.got.retain(|old| fresh.iter().all(|new| new.net != old.net));
        self.got.extend(fresh);
    }

    fn short(&self) -> usize {
        self.wanted - self.got.len()
    }

    fn run(&mut self, view: &View) -> Result<(), IpamError> {
        if self.wanted == 0 {
            return Ok(());
        }
        self.use_own(view)?;
        self.release_strays(view)?;
        if self.short() > 0 {
            self.claim_more()?;
        }
        if self.short() > 0 {
            self.borrow(view)?;
        }
        Ok(())
    }

    /// Step 3: the blocks that the host has.
    fn use_own(&mut self, view: &View) -> Result<(), IpamError> {
        let hint = self.ipam.hint(&self.owner, self.family);
        let mut own: Vec<_> = view
            .affinities
            .iter()
            .filter(|affinity| self.choice.holds(&affinity.cidr) && !self.tried.contains(&affinity.cidr))
            .collect();
        own.sort_by_key(|affinity| Some(affinity.cidr) != hint);
        for affinity in own {
            if self.short() == 0 {
                break;
            }
            let is_confirmed = affinity.state == BlockAffinityState::Confirmed;
            self.use_claimed(affinity.cidr, is_confirmed, &view.reservations, &view.config)?;
        }
        Ok(())
    }

    /// Takes addresses from a block that the host claims; mends the claim first if it has to be.
    fn use_claimed(
        &mut self,
        cidr: IpNet,
        is_confirmed: bool,
        reservations: &Reservations,
        config: &api::IpamConfig,
    ) -> Result<(), IpamError> {
        self.tried.insert(cidr);
        let owner = self.owner.clone();
        let cooldown = config.ip_cooldown_seconds;
        if is_confirmed
            && let Got::Addresses(fresh) = self.take(cidr, From::Own(&owner), reservations, cooldown)?
        {
            self.keep(fresh);
            return Ok(());
        }
        let how = Claim { reserved: self.request.host_reserved.as_ref(), ..Claim::default() };
        if self.ipam.claim_block(&owner, cidr, how)?
            && let Got::Addresses(fresh) = self.take(cidr, From::Own(&owner), reservations, cooldown)?
        {
            self.keep(fresh);
        }
        Ok(())
    }

    /// Step 2: empty blocks in pools that no longer select the host go back. (Pools that are merely disabled keep theirs.)
    fn release_strays(&mut self, view: &View) -> Result<(), IpamError> {
        let labels = Labels::new(&self.ipam.rows, &self.request.host, None);
        for cidr in view.claimed(self.family).filter(|cidr| !self.choice.holds(cidr)) {
            let pool = view.pools.iter().find(|pool| pools::cidr(pool).contains(&cidr));
            let is_stray = match pool {
                None => true,
                Some(pool) => pools::is_enabled(pool) && !labels.node_matches(pool).unwrap_or(true),
            };
            if !is_stray {
                continue;
            }
            match self.ipam.release_block(&self.owner, cidr, true, view.config.ip_cooldown_seconds) {
                Ok(()) => {
                    tracing::info!(block = %cidr, owner = %self.owner, "released a block of a pool that no longer selects the host")
                }
                Err(IpamError::BlockNotEmpty { .. } | IpamError::NotAffine { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Step 4: new blocks. Threads of this process take turns, and look again at what the one before has claimed.
    fn claim_more(&mut self) -> Result<(), IpamError> {
        let ipam = self.ipam;
        let _turn = ipam.claiming.lock().unwrap_or_else(PoisonError::into_inner);
        let view = ipam.rows.view(Some(&self.owner))?;
        self.use_own(&view)?;
        let mut owned = view.claimed(self.family).filter(|cidr| self.choice.holds(cidr)).count();
        while self.short() > 0 {
            let Some(cidr) = self.claim_one(&view, owned)? else { break };
            owned += 1;
            self.use_claimed(cidr, true, &view.reservations, &view.config)?;
        }
        Ok(())
    }

    /// Claims a new block, if settings and limits allow it and there is one.
    fn claim_one(&mut self, view: &View, owned: usize) -> Result<Option<IpNet>, IpamError> {
        let host = || self.request.host.clone();
        if !view.config.auto_allocate_blocks {
            self.reasons.push(Shortfall::NoAutoAllocate { host: host() });
            return Ok(None);
        }
        let limit = self.block_limit(view);
        if owned >= limit as usize {
            self.reasons.push(Shortfall::BlockLimit { host: host(), limit });
            return Ok(None);
        }
        let reserved = self.request.host_reserved.as_ref();
        let how = Claim { reserved, may_reclaim: true, is_known_disjoint: true, must_be_named: false };
        let mut lost = BTreeSet::new();
        while lost.len() < MAX_ATTEMPTS
            && let Some(cidr) = self.next_block(view, &lost)?
        {
            if self.ipam.claim_block(&self.owner, cidr, how)? {
                return Ok(Some(cidr));
            }
            lost.insert(cidr);
        }
        self.reasons.push(Shortfall::NoFreeBlocks { pools: self.choice.cidrs() });
        Ok(None)
    }

    /// A block that the host has already, or a new one.
    fn ensure(&mut self, view: &View) -> Result<Option<IpNet>, IpamError> {
        let ipam = self.ipam;
        let how = Claim { reserved: self.request.host_reserved.as_ref(), ..Claim::default() };
        let own: Vec<IpNet> = view.claimed(self.family).filter(|cidr| self.choice.holds(cidr)).collect();
        for cidr in &own {
            if ipam.claim_block(&self.owner, *cidr, how)? {
                return Ok(Some(*cidr));
            }
        }
        self.claim_one(view, own.len())
    }

    fn block_limit(&self, view: &View) -> u32 {
        let limits = [view.config.max_blocks_per_host, self.request.max_blocks_per_host];
        limits.into_iter().filter(|limit| *limit > 0).min().unwrap_or(DEFAULT_BLOCK_LIMIT)
    }

    /// The first block in the order of the pools, and of the host's ring in each, that can be claimed: one that does not
    /// exist, else one that exists and is nobody's, or another's and empty.
    fn next_block(&self, view: &View, lost: &BTreeSet<IpNet>) -> Result<Option<IpNet>, IpamError> {
        let existing = self.ipam.rows.block_cidrs()?;
        let mut blocks = None;
        for (pool, ring) in self.rings() {
            let in_pool: BTreeSet<IpNet> =
                existing.iter().copied().filter(|block| overlap(block, &pools::cidr(pool))).collect();
            if let Some(cidr) = unborn(&ring, &in_pool, lost, &view.reservations) {
                return Ok(Some(cidr));
            }
            if blocks.is_none() {
                blocks = Some(self.ipam.rows.blocks()?);
            }
            let ours_to_take = |block: &&Block| self.is_worth_taking(block, lost, view);
            let placed = blocks.iter().flatten().filter(ours_to_take);
            let placed = placed.filter_map(|block| Some((ring.place(&block.cidr())?, block.cidr())));
            if let Some((_, cidr)) = placed.min() {
                return Ok(Some(cidr));
            }
        }
        Ok(None)
    }

    fn is_worth_taking(&self, block: &Block, lost: &BTreeSet<IpNet>, view: &View) -> bool {
        let how = Claim { may_reclaim: true, ..Claim::default() };
        let has_room = || {
            let mut trial = block.clone();
            !trial.auto_assign(1, self.attribute, &view.reservations).is_empty()
        };
        !lost.contains(&block.cidr())
            && !self.tried.contains(&block.cidr())
            && self.ipam.is_takeable(block, &self.owner, how)
            && has_room()
    }

    fn rings(&self) -> impl Iterator<Item = (&IPPool, Ring)> {
        let now = u64::try_from(self.ipam.now().as_nanosecond()).unwrap_or_default();
        self.choice.pools.iter().map(move |pool| {
            let ring = Ring::new(pools::cidr(pool), pool.spec.block_prefix_len(), self.owner.name(), now);
            (pool, ring)
        })
    }

    /// Step 5: single addresses from other hosts' blocks.
    fn borrow(&mut self, view: &View) -> Result<(), IpamError> {
        if view.config.strict_affinity {
            self.reasons.push(Shortfall::StrictAffinity { host: self.request.host.clone() });
            return Ok(());
        }
        let blocks = self.ipam.rows.blocks()?;
        let mut order = Vec::new();
        for (_, ring) in self.rings() {
            let with_room = blocks.iter().filter(|block| !self.tried.contains(&block.cidr()));
            let mut placed: Vec<_> =
                with_room.filter_map(|block| Some((ring.place(&block.cidr())?, block.cidr()))).collect();
            placed.sort_unstable();
            order.extend(placed.into_iter().map(|(_, cidr)| cidr));
        }
        for cidr in order {
            if self.short() == 0 {
                return Ok(());
            }
            let cooldown = view.config.ip_cooldown_seconds;
            if let Got::Addresses(fresh) = self.take(cidr, From::Anyone, &view.reservations, cooldown)? {
                self.keep(fresh);
            }
        }
        if self.short() > 0 {
            self.reasons.push(Shortfall::NoAddresses { pools: self.choice.cidrs() });
        }
        Ok(())
    }

    /// Takes from a block what is still wanted: handle first, then the block; again if someone else writes the block.
    fn take(
        &mut self,
        cidr: IpNet,
        from: From<'_>,
        reservations: &Reservations,
        cooldown_seconds: u32,
    ) -> Result<Got, IpamError> {
        let mut counted = 0;
        let taken = self.ipam.change_in_turn(cidr, || {
            let Some((mut block, revision)) = self.ipam.rows.block(cidr)? else {
                return Ok(Some(Got::NotOwn));
            };
            if matches!(from, From::Own(owner) if block.owner() != Some(owner)) {
                return Ok(Some(Got::NotOwn));
            }
            block.collect(self.ipam.now(), cooldown_seconds);
            let addresses = block.auto_assign(self.short(), self.attribute, reservations);
            if addresses.is_empty() {
                return Ok(Some(Got::Addresses(Vec::new())));
            }
            self.count(cidr, &mut counted, addresses.len())?;
            if self.ipam.rows.write_block(&block, Some(&revision))? == Write::Lost {
                return Ok(None);
            }
            if let From::Own(owner) = from
                && block.free() > 0
            {
                self.ipam.remember(owner, cidr);
            }
            let sequence = block.row().sequence_number;
            let fresh = |address| Fresh { net: masked(address, cidr), sequence };
            Ok(Some(Got::Addresses(addresses.into_iter().map(fresh).collect())))
        });
        // What the handle counts beyond what was taken is taken back, unless the store failed: then the block may have
        // been written, and a handle must not count too few.
        let kept = match &taken {
            Ok(Got::Addresses(fresh)) => fresh.len(),
            Err(IpamError::Store(_)) => counted,
            Ok(Got::NotOwn) | Err(_) => 0,
        };
        self.count(cidr, &mut counted, kept)?;
        taken
    }

    /// Makes the handle count `target` for this block, where `counted` have been counted so far.
    fn count(&mut self, block: IpNet, counted: &mut usize, target: usize) -> Result<(), IpamError> {
        if let Some(counter) = self.counter.as_mut() {
            if target > *counted {
                counter.add(block, target - *counted, self.limit_per_handle)?;
            } else if target < *counted {
                counter.subtract(block, *counted - target)?;
            }
        }
        *counted = target;
        Ok(())
    }
}

fn masked(address: IpAddr, block: IpNet) -> IpNet {
    IpNet::new(address, block.prefix_len()).expect("an address of the block has the block's family")
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

/// The first block of the ring that does not exist and is not entirely reserved.
fn unborn(
    ring: &Ring,
    existing: &BTreeSet<IpNet>,
    lost: &BTreeSet<IpNet>,
    reservations: &Reservations,
) -> Option<IpNet> {
    // Blocks of another size, from before the pool was made anew.
    let odd: Vec<IpNet> = existing.iter().copied().filter(|block| ring.place(block).is_none()).collect();
    let most = (existing.len() + lost.len() + MAX_RESERVED_BLOCKS) as u128;
    (0..ring.len().min(most)).map(|place| ring.block(place)).find(|block| {
        !existing.contains(block)
            && !lost.contains(block)
            && !reservations.covers(block)
            && !odd.iter().any(|other| overlap(other, block))
    })
}
