use std::collections::BTreeSet;
use std::fmt::Debug;
use std::net::IpAddr;

use api::{BlockAffinityState, IpamConfig};
use ipam::Usage;
use ipnet::IpNet;
use serde_json::{Map, Value};

use super::operations::{address, net, nets};
use super::{OpResult, World, text};
use crate::support::Rows;

impl World {
    /// Whether a result has all the properties that a vector asks for.
    pub fn judge(&mut self, result: &OpResult, expected: &Value) -> Result<(), String> {
        let expected = expected.as_object().ok_or("what is expected is no object")?;
        if !expected.contains_key("error") {
            must(!result.has_failed, || "no error".to_owned())?;
        }
        for (name, value) in expected {
            self.judge_one(result, name, value, expected)?;
        }
        Ok(())
    }

    fn judge_one(
        &mut self,
        result: &OpResult,
        name: &str,
        value: &Value,
        expected: &Map<String, Value>,
    ) -> Result<(), String> {
        let of_family =
            |is_v4: bool| result.addresses.iter().filter(move |net| net.addr().is_ipv4() == is_v4);
        let number = || value.as_u64().map(|number| number as usize).ok_or(format!("{name} is no number"));
        let earlier = |world: &Self| -> Result<Vec<IpNet>, String> {
            Ok(world.results.get(number()?).ok_or(format!("{name}: no such operation"))?.addresses.clone())
        };
        match name {
            "ok" | "note" => Ok(()),
            "error" => {
                let classes: Vec<&str> = result.errors.iter().map(|(class, _)| *class).collect();
                must(classes.contains(&text(value)), || format!("error {value}, not {classes:?}"))
            }
            "message_contains" => {
                must(result.errors.iter().any(|(_, message)| message.contains(text(value))), || {
                    format!("a message with {value}")
                })
            }
            "ips4" => same(name, &of_family(true).count(), &number()?),
            "ips6" => same(name, &of_family(false).count(), &number()?),
            "new4" => same(name, &result.new.iter().filter(|ip| ip.is_ipv4()).count(), &number()?),
            "new6" => same(name, &result.new.iter().filter(|ip| ip.is_ipv6()).count(), &number()?),
            "distinct" => {
                let distinct: BTreeSet<IpAddr> = result.addresses.iter().map(IpNet::addr).collect();
                same(name, &distinct.len(), &result.addresses.len())
            }
            "within4" => must(all_within(of_family(true), &nets(value)), || format!("all in {value}")),
            "within6" => must(all_within(of_family(false), &nets(value)), || format!("all in {value}")),
            "excludes" => must(
                !result.addresses.iter().any(|ip| nets(value).iter().any(|net| net.contains(&ip.addr()))),
                || format!("none in {value}"),
            ),
            "borrowed" => same(name, &result.borrowed, &number()?),
            "from_own_block" => same(name, &result.from_own_block, &number()?),
            "blocks_used" => same(name, &result.blocks.len(), &number()?),
            "same_block" => same(name, &result.blocks, &BTreeSet::from([net(value)])),
            "same_block_as_op" => same(name, &blocks(&result.addresses), &blocks(&earlier(self)?)),
            "different_block_from_op" => {
                must(blocks(&result.addresses).is_disjoint(&blocks(&earlier(self)?)), || {
                    "another block".to_owned()
                })
            }
            "equals_result_of_op" => {
                let plain = |nets: &[IpNet]| nets.iter().map(IpNet::addr).collect::<BTreeSet<_>>();
                same(name, &plain(&result.addresses), &plain(&earlier(self)?))
            }
            "not_seen_before" => {
                let seen: BTreeSet<IpNet> =
                    self.results.iter().flat_map(|result| result.addresses.clone()).collect();
                must(!result.addresses.iter().any(|ip| seen.contains(ip)), || "new addresses".to_owned())
            }
            "save" => {
                self.save(result);
                Ok(())
            }
            "released" if expected.contains_key("error") || value.is_array() => {
                same(name, &addresses(&result.released), &listed(value))
            }
            "unallocated" => same(name, &addresses(&result.unallocated), &listed(value)),
            "released_count" => same(name, &result.released.len(), &number()?),
            "claimed" => same(name, &result.claimed, &number()?),
            "failed" => same(name, &result.failed, &number()?),
            "pools" => same(name, &result.pools, &nets(value)),
            "attrs" => same(name, &result.attributes, value),
            "handle" => same(name, &result.handle.as_deref(), &value.as_str()),
            "block_counts_sum" => same(name, &result.block_counts_sum, &number()?),
            "still_allocated" => same(name, &self.ipam.assignments().unwrap().len(), &number()?),
            "persisted" => same(name, &Some(result.is_persisted), &value.as_bool()),
            "config" => {
                let config = |value: &Value| serde_json::from_value::<IpamConfig>(value.clone()).unwrap();
                same(name, &config(&result.config), &config(value))
            }
            "pool" => {
                let found = result.utilization.as_ref().map(|(pool, _)| *pool);
                must(found.is_some_and(|usage| is_usage(&usage, value)), || format!("pool {value}"))
            }
            "blocks" if value.is_array() => self.judge_block_usage(result, value),
            "blocks" => same(name, &self.rows().blocks.len(), &number()?),
            "host_blocks" => self.judge_host_blocks(value),
            "invariant" => self.judge_claims(),
            // What other sets of vectors add is not ours to judge; of our own, everything is.
            _ => must(std::env::var_os("TORTIE_VECTORS").is_some(), || format!("{name}, which is not known")),
        }
    }

    fn rows(&self) -> Rows {
        Rows::read(&self.store)
    }

    fn judge_block_usage(&self, result: &OpResult, value: &Value) -> Result<(), String> {
        let expected = value.as_array().cloned().unwrap_or_default();
        let (_, found) = result.utilization.clone().ok_or("no utilization")?;
        let agree = found.len() == expected.len() && found.iter().zip(&expected).all(|(u, v)| is_usage(u, v));
        must(agree, || format!("blocks {value}"))
    }

    /// Host to number of blocks, or to the list of them.
    fn judge_host_blocks(&self, value: &Value) -> Result<(), String> {
        let rows = self.rows();
        for (host, expected) in value.as_object().ok_or("host_blocks is no object")? {
            let named = rows
                .blocks
                .values()
                .filter(|block| block.affinity.as_ref().is_some_and(|owner| owner.name() == host));
            let claims = rows.affinities.iter().filter(|affinity| affinity.owner.name() == host);
            let named: BTreeSet<IpNet> = named.map(|block| block.cidr).collect();
            let claims: BTreeSet<IpNet> = claims.map(|affinity| affinity.cidr).collect();
            same("blocks and claims of a host", &named, &claims)?;
            match expected.as_u64() {
                Some(number) => same("blocks of a host", &named.len(), &(number as usize))?,
                None => same("blocks of a host", &named, &nets(expected).into_iter().collect())?,
            }
        }
        Ok(())
    }

    /// A claim is confirmed exactly if the block says the same.
    fn judge_claims(&self) -> Result<(), String> {
        let rows = self.rows();
        for affinity in &rows.affinities {
            let named = rows.blocks.get(&affinity.cidr).and_then(|block| block.affinity.as_ref());
            let is_confirmed = affinity.state == BlockAffinityState::Confirmed;
            same("confirmed", &is_confirmed, &(named == Some(&affinity.owner)))?;
        }
        must(!rows.affinities.is_empty(), || "a claim".to_owned())
    }
}

fn must(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("expected {}", what())) }
}

fn same<T: PartialEq + Debug>(name: &str, found: &T, expected: &T) -> Result<(), String> {
    must(found == expected, || format!("{name} {expected:?}, not {found:?}"))
}

fn blocks(addresses: &[IpNet]) -> BTreeSet<IpNet> {
    addresses.iter().map(IpNet::trunc).collect()
}

fn all_within<'a>(mut addresses: impl Iterator<Item = &'a IpNet>, nets: &[IpNet]) -> bool {
    addresses.all(|address| nets.iter().any(|net| net.contains(&address.addr())))
}

fn addresses(list: &[IpAddr]) -> BTreeSet<IpAddr> {
    list.iter().copied().collect()
}

fn listed(value: &Value) -> BTreeSet<IpAddr> {
    value.as_array().map(|list| list.iter().map(address).collect()).unwrap_or_default()
}

fn is_usage(usage: &Usage, value: &Value) -> bool {
    let parts = [
        ("capacity", usage.capacity),
        ("in_use", usage.in_use),
        ("reserved", usage.reserved),
        ("available", usage.available),
    ];
    parts.iter().all(|(name, found)| value[name].as_u64().map(u128::from) == Some(*found))
}
