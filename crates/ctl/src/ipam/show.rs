//! `calicoctl ipam show`.

use std::net::IpAddr;

use ::ipam::{Assignment, Ipam, IpamError, PoolUtilization, Usage};
use anyhow::Result;
use api::{AffinityOwner, IpamConfig, Kind, Resource, VMAddressPersistence};
use clap::Args;
use ipnet::IpNet;

use crate::cli::Global;
use crate::session::{Access, Session};
use crate::{Console, table};

/// Show how full pools and blocks are, or whose an address is.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  calicoctl ipam show                       all pools
  calicoctl ipam show --show-blocks         and the blocks that hosts have in them
  calicoctl ipam show --ip 10.65.79.3       whose it is
  calicoctl ipam show --show-borrowed       addresses from blocks of other hosts

Addresses that were released and still rest (ipCooldownSeconds) count as in use.")]
pub(crate) struct ShowArgs {
    /// Whose is this address?
    #[arg(long, value_name = "IP", conflicts_with_all = ["show_blocks", "show_borrowed", "show_configuration"])]
    ip: Option<IpAddr>,
    /// Show blocks too
    #[arg(long)]
    show_blocks: bool,
    /// Show addresses that a node has from another's block
    #[arg(long)]
    show_borrowed: bool,
    /// Show the settings
    #[arg(long)]
    show_configuration: bool,
}

const USAGE: [&str; 6] = ["GROUPING", "CIDR", "IPS TOTAL", "IPS IN USE", "IPS RESERVED", "IPS FREE"];
const BORROWED: [&str; 6] = ["IP", "BORROWING-NODE", "BLOCK", "BLOCK OWNER", "TYPE", "ALLOCATED-TO"];
const SETTINGS: [&str; 2] = ["PROPERTY", "VALUE"];

pub(crate) fn run(args: &ShowArgs, global: &Global, console: &mut Console<'_>) -> Result<()> {
    let session = Session::open(global, console, Access::Existing)?;
    let ipam = session.ipam();
    if let Some(address) = args.ip {
        return show_address(address, &ipam, &session, console);
    }
    if args.show_configuration {
        console.output.write_all(table::framed(&SETTINGS, &settings(&ipam.config()?)).as_bytes())?;
    }
    if args.show_borrowed {
        let assignments = ipam.assignments()?;
        let rows: Vec<_> = assignments.iter().filter_map(borrowed).collect();
        console.output.write_all(table::framed(&BORROWED, &rows).as_bytes())?;
    }
    if args.show_blocks || !(args.show_configuration || args.show_borrowed) {
        let pools = ipam.utilization(&[])?;
        let rows: Vec<_> = pools.iter().flat_map(|pool| utilization(pool, args.show_blocks)).collect();
        console.output.write_all(table::framed(&USAGE, &rows).as_bytes())?;
    }
    Ok(())
}

fn show_address(address: IpAddr, ipam: &Ipam, session: &Session, console: &mut Console<'_>) -> Result<()> {
    let assignment = match ipam.assignment_attributes(address) {
        Ok(assignment) => assignment,
        Err(IpamError::NotAssigned(_)) => {
            writeln!(console.output, "IP {address} is not assigned")?;
            if !is_in_a_pool(address, session)? {
                writeln!(console.errors, "{address} is in no IPPool; calicoctl get ippools lists them")?;
            }
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    writeln!(console.output, "IP {address} is in use")?;
    if let Some(handle) = &assignment.handle {
        writeln!(console.output, "Handle: {handle}")?;
    }
    for (title, attributes) in
        [("Attributes", &assignment.attributes), ("Alternate owner", &assignment.alternate_attributes)]
    {
        if !attributes.is_empty() {
            writeln!(console.output, "{title}:")?;
        }
        for (name, value) in attributes {
            writeln!(console.output, "  {name}: {value}")?;
        }
    }
    Ok(())
}

fn is_in_a_pool(address: IpAddr, session: &Session) -> Result<bool> {
    let pools = session.resources().list(Kind::IPPool, None)?.items;
    Ok(pools.iter().any(|pool| match pool {
        Resource::IPPool(pool) => pool.spec.cidr.net().contains(&address),
        _ => false,
    }))
}

fn utilization(pool: &PoolUtilization, with_blocks: bool) -> Vec<Vec<String>> {
    let blocks = pool.blocks.iter().filter(|_| with_blocks);
    let blocks = blocks.map(|block| usage("Block", &block.cidr, &block.usage));
    std::iter::once(usage("IP Pool", &pool.cidr, &pool.usage)).chain(blocks).collect()
}

fn usage(grouping: &str, cidr: &IpNet, usage: &Usage) -> Vec<String> {
    let share = |count: u128| format!("{count} ({}%)", percent(count, usage.capacity));
    vec![
        grouping.to_owned(),
        cidr.to_string(),
        usage.capacity.to_string(),
        share(usage.in_use + usage.resting),
        share(usage.reserved),
        share(usage.available),
    ]
}

/// Rounded to the nearest.
fn percent(part: u128, whole: u128) -> u128 {
    // IPv6 pools have so many addresses that a hundred times as many do not fit.
    let scale = (whole >> 64).max(1);
    let (part, whole) = (part / scale, (whole / scale).max(1));
    (part * 200 + whole) / (whole * 2)
}

/// The row of an address whose node is not the owner of its block.
fn borrowed(assignment: &Assignment) -> Option<Vec<String>> {
    let attribute = |name: &str| assignment.attributes.get(name).map(String::as_str).unwrap_or_default();
    let node = attribute("node");
    let owner = assignment.block_owner.as_ref().map(AffinityOwner::name);
    if node.is_empty() || owner == Some(node) {
        return None;
    }
    let (kind, user) = match (attribute("pod"), attribute("type")) {
        ("", "") => ("", assignment.handle.clone().unwrap_or_default()),
        ("", kind) => (kind, node.to_owned()),
        (pod, _) => ("pod", format!("{}/{pod}", attribute("namespace"))),
    };
    Some(vec![
        assignment.address.to_string(),
        node.to_owned(),
        assignment.block.to_string(),
        owner.unwrap_or("<none>").to_owned(),
        kind.to_owned(),
        user,
    ])
}

fn settings(config: &IpamConfig) -> Vec<Vec<String>> {
    let persistence = config.kube_virt_vm_address_persistence.unwrap_or(VMAddressPersistence::Enabled);
    let rows = [
        ("StrictAffinity", config.strict_affinity.to_string()),
        ("AutoAllocateBlocks", config.auto_allocate_blocks.to_string()),
        ("MaxBlocksPerHost", config.max_blocks_per_host.to_string()),
        ("KubeVirtVMAddressPersistence", persistence.to_string()),
        ("IPCooldownSeconds", config.ip_cooldown_seconds.to_string()),
    ];
    rows.into_iter().map(|(property, value)| vec![property.to_owned(), value]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_and_do_not_overflow() {
        assert_eq!(percent(5, 64), 8);
        assert_eq!(percent(5, 65536), 0);
        assert_eq!(percent(65531, 65536), 100);
        assert_eq!(percent(0, 0), 0);
        assert_eq!(percent(u128::MAX / 2, u128::MAX), 50);
    }
}
