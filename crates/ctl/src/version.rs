//! `calicoctl version`.

use anyhow::{Context, Result};
use clap::Args;

use crate::Console;
use crate::cli::Global;
use crate::session::{Access, Session};

/// Show the versions of this program and of the cluster.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  calicoctl version
  calicoctl version --client       without asking the datastore")]
pub(crate) struct VersionArgs {
    /// Only this program's
    #[arg(long)]
    client: bool,
}

pub(crate) fn run(args: &VersionArgs, global: &Global, console: &mut Console<'_>) -> Result<()> {
    writeln!(console.output, "Client Version:    {}", env!("CARGO_PKG_VERSION"))?;
    if args.client {
        return Ok(());
    }
    let cluster = Session::open_any_version(global, console, Access::Existing)
        .and_then(|session| session.cluster())
        .context("the cluster's version is not known")?;
    let spec = cluster.map(|information| information.spec).unwrap_or_default();
    let or_unknown = |text: String| if text.is_empty() { "unknown".to_owned() } else { text };
    writeln!(console.output, "Cluster Version:   {}", or_unknown(spec.calico_version))?;
    writeln!(console.output, "Cluster Type:      {}", or_unknown(spec.cluster_type))?;
    Ok(())
}
