//! `calicoctl ipam release`.

use std::net::IpAddr;

use ::ipam::Release;
use anyhow::{Result, ensure};
use clap::Args;

use crate::Console;
use crate::cli::Global;
use crate::session::{Access, Session};

/// Release addresses that nothing uses any more.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  calicoctl ipam show --ip 10.65.79.3       first see whose it is
  calicoctl ipam release --ip 10.65.79.3

An address that a workload still has may be given to another afterwards: only release what is
leaked.")]
pub(crate) struct ReleaseArgs {
    /// The address (repeatable)
    #[arg(long, value_name = "IP", required = true)]
    ip: Vec<IpAddr>,
}

pub(crate) fn run(args: &ReleaseArgs, global: &Global, console: &mut Console<'_>) -> Result<()> {
    let session = Session::open(global, console, Access::Existing)?;
    let releases: Vec<_> = args.ip.iter().copied().map(Release::of).collect();
    let outcome = session.ipam().release_ips(&releases)?;
    for address in &outcome.released {
        writeln!(console.output, "Successfully released IP address {address}")?;
    }
    let unallocated =
        outcome.unallocated.iter().map(|address| format!("IP address {address} is not assigned"));
    let errors: Vec<_> = unallocated.chain(outcome.refused.iter().map(ToString::to_string)).collect();
    ensure!(errors.is_empty(), "{}", errors.join("\n"));
    Ok(())
}
