//! `calicoctl apply`.

use anyhow::Result;
use clap::Args;

use crate::Console;
use crate::cli::Global;
use crate::files::FileArgs;
use crate::session::{Access, Session};
use crate::tally::{self, Done, Words};
use crate::{confirm, filter_tests};

/// Create resources from a file, or change those that exist to what it says.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  calicoctl apply -f policy.yaml
  calicoctl apply -f k8s-network-policy.yaml -n production
  calicoctl get felixconfig default -o yaml > felix.yaml   edit it, then:
  calicoctl apply -f felix.yaml
  calicoctl apply -f host-endpoint.yaml --confirm 60s      undone unless calicoctl confirm ID

A file with metadata.resourceVersion is only applied to that version: if someone else changed the
resource since, it is a conflict. Kubernetes NetworkPolicy, ClusterNetworkPolicy, Namespace,
ServiceAccount and the older AdminNetworkPolicies are stored as what Calico makes of them.
Resources are applied one after the other, up to the first that fails.")]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Have the nodes undo it all, unless it is confirmed within this time: 60s, 5m
    #[arg(long, value_name = "TIME", value_parser = confirm::allowed)]
    confirm: Option<u32>,
}

pub(crate) fn run(args: &ApplyArgs, global: &Global, console: &mut Console<'_>) -> Result<()> {
    let documents = args.files.load(console)?;
    if let Some(allowed_secs) = args.confirm {
        return confirm::apply(&documents, allowed_secs, global, console);
    }
    let session = Session::open(global, console, Access::MayCreate)?;
    let words = Words { infinitive: "apply", past: "applied" };
    tally::each(&documents, tally::kind_of, words, console, |document| {
        filter_tests::check(document.resource())?;
        session.resources().apply(document.resource())?;
        Ok(Done::Yes)
    })
}
