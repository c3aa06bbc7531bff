use std::collections::BTreeSet;
use std::net::IpAddr;

use api::{AffinityOwner, IPPool, IPPoolAllowedUse, Kind};
use datastore::{Scope, Store};
use ipam::{AssignIp, AutoAssign, Family, IpamError, PoolUtilization, Release, Shortfall};
use ipnet::IpNet;
use serde_json::Value;

use super::{OpResult, World, config, put_pool, put_reservation, text};

impl World {
    /// Does what a vector says. An error is a vector that cannot be understood; errors of IPAM are in the result.
    pub fn operate(&mut self, op: &Value) -> Result<OpResult, String> {
        let mut result = OpResult::default();
        let done = match text(&op["op"]) {
            "auto_assign" => self.auto_assign(op, &mut result),
            "assign_ip" => self.assign_ip(op, &mut result),
            "release_ips" => {
                let releases = self.releases(&op["ips"])?;
                self.release_ips(&releases, &mut result)
            }
            "release_by_handle" => {
                let released = self.ipam.release_by_handle(text(&op["handle"]));
                released.map(|addresses| result.released = addresses)
            }
            "ips_by_handle" => {
                let addresses = self.ipam.ips_by_handle(text(&op["handle"]));
                addresses.map(|addresses| result.addresses = addresses.into_iter().map(IpNet::from).collect())
            }
            "get_attributes" => self.ipam.assignment_attributes(address(&op["ip"])).map(|found| {
                result.attributes = serde_json::to_value(found.attributes).unwrap();
                result.handle = found.handle;
            }),
            "get_handle" => self.get_handle(text(&op["handle"]), &mut result),
            "claim_affinity" => self.ipam.claim_affinity(net(&op["cidr"]), &owner(op)).map(|claimed| {
                (result.claimed, result.failed) = (claimed.claimed.len(), claimed.failed.len());
            }),
            "release_affinity" => {
                let cidr = match op["block_of_op"].as_u64() {
                    Some(index) => self.results[index as usize].addresses[0].trunc(),
                    None => net(&op["cidr"]),
                };
                self.ipam.release_affinity(cidr, &owner(op), flag(&op["must_be_empty"])).map(drop)
            }
            "release_host_affinities" => {
                self.ipam.release_host_affinities(&owner(op), flag(&op["must_be_empty"])).map(drop)
            }
            "release_pool_affinities" => self.ipam.release_pool_affinities(net(&op["cidr"])).map(drop),
            "remove_host" => self.ipam.remove_host(text(&op["host"])),
            "ensure_block" => self.ipam.ensure_block(&ensure_request(op)).map(|blocks| {
                result.blocks = blocks.iter().copied().collect();
                result.addresses = blocks;
            }),
            "determine_pools" => self.determine_pools(op, &mut result),
            "get_utilization" => self.utilization(op, &mut result),
            "get_config" => self.ipam.config().map(|config| {
                result.config = serde_json::to_value(config).unwrap();
                result.is_persisted = !self.store.list(&Scope::IpamConfig).unwrap().entries.is_empty();
            }),
            "set_config" => self.ipam.set_config(&config(&op["config"])),
            "set_pool" => {
                put_pool(&self.store, &op["pool"]);
                Ok(())
            }
            "set_reservation" => {
                put_reservation(&self.store, op);
                Ok(())
            }
            "delete_pools" => {
                for entry in self.store.list(&Scope::all(Kind::IPPool)).unwrap().entries {
                    self.store.delete(&entry.key, None).unwrap();
                }
                Ok(())
            }
            other => return Err(format!("operation {other:?} is not known")),
        };
        if let Err(error) = done {
            result.has_failed = true;
            result.errors.push((class(&error), error.to_string()));
        }
        Ok(result)
    }

    fn auto_assign(&mut self, op: &Value, result: &mut OpResult) -> Result<(), IpamError> {
        let before = self.assigned();
        let host = text(&op["host"]);
        let assigned = self.ipam.auto_assign(&request(op))?;
        let reasons = assigned.ipv4.reasons.iter().chain(&assigned.ipv6.reasons);
        result.errors = reasons.map(|reason| (reason_class(reason), reason.to_string())).collect();
        result.addresses = assigned.ipv4.addresses.into_iter().chain(assigned.ipv6.addresses).collect();
        result.blocks = result.addresses.iter().map(IpNet::trunc).collect();
        let addresses = result.addresses.iter().map(IpNet::addr);
        result.new = addresses.filter(|address| !before.contains(address)).collect();
        for address in &result.new {
            let found = self.ipam.assignment_attributes(*address)?;
            let is_own = found.block_owner == Some(AffinityOwner::Host(host.to_owned()));
            *(if is_own { &mut result.from_own_block } else { &mut result.borrowed }) += 1;
        }
        Ok(())
    }

    fn assigned(&self) -> BTreeSet<IpAddr> {
        self.ipam.assignments().unwrap().into_iter().map(|assignment| assignment.address).collect()
    }

    fn assign_ip(&mut self, op: &Value, result: &mut OpResult) -> Result<(), IpamError> {
        let ip = match (text(&op["ip"]), self.saved) {
            ("saved", Some((saved, _))) => saved,
            _ => address(&op["ip"]),
        };
        let request = AssignIp {
            handle: op["handle"].as_str().map(str::to_owned),
            attributes: serde_json::from_value(op["attrs"].clone()).unwrap_or_default(),
            intended_use: op["use"].as_str().map(|usage| usage.parse().expect("a use")),
            ..AssignIp::new(ip, text(&op["host"]))
        };
        result.addresses = vec![self.ipam.assign_ip(&request)?];
        Ok(())
    }

    fn release_ips(&mut self, releases: &[Release], result: &mut OpResult) -> Result<(), IpamError> {
        let released = self.ipam.release_ips(releases)?;
        result.released = released.released;
        result.unallocated = released.unallocated;
        result.errors = released.refused.iter().map(|error| (class(error), error.to_string())).collect();
        Ok(())
    }

    /// `result of op N`, `results of ops N-M`, `first of op N`, or a list.
    fn releases(&self, ips: &Value) -> Result<Vec<Release>, String> {
        let Some(words) = ips.as_str() else {
            let list = ips.as_array().ok_or("no list of addresses")?;
            return Ok(list.iter().map(|item| self.release(item)).collect());
        };
        let (what, which) = words.rsplit_once(' ').ok_or("no operation is named")?;
        let (first, last) = which.split_once('-').unwrap_or((which, which));
        let number = |text: &str| text.parse::<usize>().map_err(|error| error.to_string());
        let results = &self.results[number(first)?..=number(last)?];
        let all = results.iter().flat_map(|result| &result.addresses).map(|net| Release::of(net.addr()));
        Ok(all.take(if what.starts_with("first") { 1 } else { usize::MAX }).collect())
    }

    fn release(&self, item: &Value) -> Release {
        let saved = || self.saved.expect("an earlier step saved it");
        let address = match text(&item["address"]) {
            "saved" => saved().0,
            _ => address(&item["address"]),
        };
        let current = || self.ipam.assignment_attributes(address).expect("it is assigned").sequence;
        let sequence = match (&item["sequence"], item["sequence"].as_str()) {
            (_, Some("saved")) => Some(saved().1),
            (_, Some("current")) => Some(current()),
            (number, _) => number.as_u64(),
        };
        Release { address, handle: item["handle"].as_str().map(str::to_owned), sequence }
    }

    fn get_handle(&self, handle: &str, result: &mut OpResult) -> Result<(), IpamError> {
        let entry = self.store.get(&api::Key::Handle(handle.to_owned()))?;
        if let api::Row::Handle(row) = entry.row()? {
            result.block_counts_sum = row.blocks.values().sum();
        }
        Ok(())
    }

    fn determine_pools(&self, op: &Value, result: &mut OpResult) -> Result<(), IpamError> {
        let is_v4 = op["version"].as_u64() == Some(4);
        let mut request = request(op);
        let requested = nets(&op["requested"]);
        *(if is_v4 { &mut request.ipv4_pools } else { &mut request.ipv6_pools }) = requested;
        let family = if is_v4 { Family::V4 } else { Family::V6 };
        let pools = self.ipam.determine_pools(&request, family)?;
        result.pools = pools.iter().map(|pool: &IPPool| pool.spec.cidr.net()).collect();
        Ok(())
    }

    fn utilization(&self, op: &Value, result: &mut OpResult) -> Result<(), IpamError> {
        let only: Vec<String> = nets(&op["pools"]).iter().map(ToString::to_string).collect();
        let pools: Vec<PoolUtilization> = self.ipam.utilization(&only)?;
        result.utilization = pools
            .into_iter()
            .next()
            .map(|pool| (pool.usage, pool.blocks.iter().map(|block| block.usage).collect()));
        Ok(())
    }

    /// Remembers the first address of a result.
    pub fn save(&mut self, result: &OpResult) {
        let address = result.addresses[0].addr();
        let sequence = self.ipam.assignment_attributes(address).expect("it is assigned").sequence;
        self.saved = Some((address, sequence));
    }
}

fn request(op: &Value) -> AutoAssign {
    let number = |name: &str| op[name].as_u64().unwrap_or_default();
    AutoAssign {
        num4: number("num4") as usize,
        num6: number("num6") as usize,
        handle: op["handle"].as_str().map(str::to_owned),
        ipv4_pools: nets(&op["pools4"]),
        ipv6_pools: nets(&op["pools6"]),
        attributes: serde_json::from_value(op["attrs"].clone()).unwrap_or_default(),
        intended_use: op["use"]
            .as_str()
            .map_or(IPPoolAllowedUse::Workload, |usage| usage.parse().expect("a use")),
        namespace: op["namespace"].as_str().map(str::to_owned),
        max_blocks_per_host: number("max_blocks_per_host") as u32,
        max_per_handle: number("max_alloc_per_handle") as usize,
        ..AutoAssign::new(text(&op["host"]))
    }
}

/// One block, of the family whose pools are named; IPv4 if none are.
fn ensure_request(op: &Value) -> AutoAssign {
    let request = request(op);
    let num6 = usize::from(!request.ipv6_pools.is_empty());
    let num4 = usize::from(!request.ipv4_pools.is_empty() || num6 == 0);
    AutoAssign { num4, num6, ..request }
}

fn owner(op: &Value) -> AffinityOwner {
    AffinityOwner::Host(text(&op["host"]).to_owned())
}

fn flag(value: &Value) -> bool {
    value.as_bool().unwrap_or_default()
}

pub fn net(value: &Value) -> IpNet {
    text(value).parse().expect("a network")
}

pub fn nets(value: &Value) -> Vec<IpNet> {
    value.as_array().map(|list| list.iter().map(net).collect()).unwrap_or_default()
}

pub fn address(value: &Value) -> IpAddr {
    text(value).parse().expect("an address")
}

/// The vectors' word for an error.
fn class(error: &IpamError) -> &'static str {
    match error {
        IpamError::NoQualifiedPool { .. } => "no-qualified-pool",
        IpamError::PoolNotEnabled { .. } => "pool-not-enabled",
        IpamError::WrongFamily { .. } => "wrong-family",
        IpamError::BadSelector { .. } => "bad-selector",
        IpamError::NotInPool(_) => "not-in-pool",
        IpamError::UseNotAllowed { .. } => "use-not-allowed",
        IpamError::AlreadyAssigned { .. } => "already-exists",
        IpamError::StrictAffinity { .. } => "strict-affinity",
        IpamError::BlockLimit { .. } => "block-limit",
        IpamError::HandleNotFound(_) | IpamError::NotAssigned(_) => "does-not-exist",
        IpamError::Store(datastore::StoreError::NotFound(_)) => "does-not-exist",
        IpamError::HandleMismatch { .. } => "handle-mismatch",
        IpamError::SequenceMismatch { .. } => "sequence-mismatch",
        IpamError::BlockNotEmpty { .. } => "block-not-empty",
        IpamError::InvalidConfig { .. } => "invalid-config",
        IpamError::Cooling { .. } => "cooling",
        _ => "other",
    }
}

fn reason_class(reason: &Shortfall) -> &'static str {
    match reason {
        Shortfall::BlockLimit { .. } => "block-limit",
        Shortfall::StrictAffinity { .. } => "strict-affinity",
        Shortfall::NoAutoAllocate { .. } => "no-auto-allocate",
        Shortfall::NoFreeBlocks { .. } => "no-free-blocks",
        Shortfall::NoAddresses { .. } => "no-addresses",
    }
}
