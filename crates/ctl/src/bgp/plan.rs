//! `calicoctl bgp plan`: what a file of resources would change.
//!
//! The datastore's rows, and a copy of them with the file's resources in it, go through the planner that every node runs;
//! the two plans are compared the way that a running speaker compares configurations.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Result, anyhow, bail};
use api::{Key, Kind, Resource, Row};
use calc::bgp_plan::{BgpPlan, BgpPlanner, PlanChanges, RouterIdSource};
use clap::Args;
use datastore::{Scope, Store};

use super::plan_output::{self, Format};
use crate::Console;
use crate::cli::Global;
use crate::files::FileArgs;
use crate::filter_tests;
use crate::session::{Access, Session};

/// Say which sessions a file would add, remove or reset, and which prefixes would be announced or no longer. Nothing is
/// changed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  calicoctl bgp plan -f peers.yaml                 what applying it does to every node
  calicoctl bgp plan -f peers.yaml --node node-1   to one
  calicoctl bgp plan -f peers.yaml --delete        what deleting it does
  calicoctl bgp plan -f peers.yaml -o json

A session that is 'reset' goes down and comes up again; 'in place' keeps it up: the peer is asked
for its routes again (import), or told what differs (export). Announcements are the nodes' own
prefixes; what they pass on is not known beforehand. Services of Kubernetes and CALICO_ROUTER_ID of
the nodes are not looked at. A password that changes at its place changes no resource, so it is not
seen here.")]
pub(crate) struct PlanArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Only this node
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// As if the file's resources were deleted
    #[arg(long)]
    delete: bool,
    /// table, json or yaml
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    output: Format,
}

type Rows = BTreeMap<Key, Arc<Row>>;

pub(crate) fn run(args: &PlanArgs, global: &Global, console: &mut Console<'_>) -> Result<()> {
    let documents = args.files.load(console)?;
    let mut resources = Vec::new();
    for document in &documents {
        if !args.delete {
            filter_tests::check(document.resource())?;
        }
        let kind = document.resource().kind();
        if !BgpPlanner::KINDS.contains(&kind) {
            writeln!(console.errors, "{} has no say in BGP; it changes nothing here", document.key())?;
        }
        resources.push(document.resource().clone());
    }
    let session = Session::open(global, console, Access::Existing)?;
    let before = rows(session.store())?;
    let after = changed(&before, resources, args.delete)?;
    let nodes = nodes(&before, &after, args.node.as_deref())?;
    let changes: Vec<(String, PlanChanges)> = nodes
        .into_iter()
        .map(|node| {
            let changes = PlanChanges::between(&plan(&node, &before), &plan(&node, &after));
            (node, changes)
        })
        .collect();
    plan_output::write(&changes, args.output, console)
}

fn rows(store: &dyn Store) -> Result<Rows> {
    let scopes: Vec<Scope> = BgpPlanner::KINDS
        .into_iter()
        .map(Scope::all)
        .chain([Scope::BlockAffinities { host: None }])
        .collect();
    let listing = store.list_scopes(&scopes)?;
    let rows = listing.entries.into_iter().map(|entry| Ok((entry.key.clone(), Arc::new(entry.row()?))));
    rows.collect()
}

fn changed(before: &Rows, resources: Vec<Resource>, delete: bool) -> Result<Rows> {
    let mut after = before.clone();
    for resource in resources {
        let key = resource.key();
        if !BgpPlanner::KINDS.contains(&resource.kind()) {
            continue;
        }
        if delete {
            if after.remove(&key).is_none() {
                bail!("{key} does not exist; there is nothing to delete");
            }
        } else {
            after.insert(key, Arc::new(Row::Resource(resource)));
        }
    }
    Ok(after)
}

/// The nodes to plan for: the one that was named, or all that are there before or after.
fn nodes(before: &Rows, after: &Rows, named: Option<&str>) -> Result<Vec<String>> {
    let mut names: Vec<String> = before
        .keys()
        .chain(after.keys())
        .filter_map(|key| match key {
            Key::Resource { kind: Kind::Node, name, .. } => Some(name.clone()),
            _ => None,
        })
        .collect();
    names.sort_unstable();
    names.dedup();
    let Some(named) = named else { return Ok(names) };
    if !names.iter().any(|name| name == named) {
        return Err(anyhow!("Node {named} does not exist; calicoctl get nodes shows those that do"));
    }
    Ok(vec![named.to_owned()])
}

/// The plan of a node. One without IPv4 address gets some identifier, the same before and after.
fn plan(node: &str, rows: &Rows) -> BgpPlan {
    let with = |router_id| {
        let mut planner = BgpPlanner::new(node, router_id);
        rows.iter().for_each(|(key, row)| planner.on_update(key, Some(row.clone())));
        planner.plan()
    };
    let plan = with(RouterIdSource::NodeAddress);
    if plan.router_id.is_some() { plan } else { with(RouterIdSource::NameHash) }
}
