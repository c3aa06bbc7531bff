//! `calicoctl apply`.

use anyhow::Result;
use clap::Args;

use crate::Console;
use crate::cli::Global;
use crate::files::FileArgs;
use crate::filter_tests;
use crate::session::{Access, Session};
use crate::tally::{self, Done, Words};

/// Create resources from a file, or change those that exist to what it says.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  calicoctl apply -f policy.yaml
  calicoctl apply -f k8s-network-policy.yaml -n production
  calicoctl get felixconfig default -o yaml > felix.yaml   edit it, then:
  calicoctl apply -f felix.yaml

A file with metadata.resourceVersion is only applied to that version: if someone else changed the
resource since, it is a conflict. Kubernetes NetworkPolicy, ClusterNetworkPolicy, Namespace,
ServiceAccount and the older AdminNetworkPolicies are stored as what Calico makes of them.
Resources are applied one after the other, up to the first that fails.")]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    files: FileArgs,
}

pub(crate) fn run(args: &ApplyArgs, global: &Global, console: &mut Console<'_>) -> Result<()> {
    let documents = args.files.load(console)?;
    let session = Session::open(global, console, Access::MayCreate)?;
    let words = Words { infinitive: "apply", past: "applied" };
    tally::each(&documents, tally::kind_of, words, console, |document| {
        filter_tests::check(document.resource())?;
        session.resources().apply(document.resource())?;
        Ok(Done::Yes)
    })
}
