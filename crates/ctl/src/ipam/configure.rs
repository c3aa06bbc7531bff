//! `calicoctl ipam configure`.

use anyhow::{Result, ensure};
use api::VMAddressPersistence;
use clap::{ArgAction, Args};

use crate::Console;
use crate::cli::Global;
use crate::session::{Access, Session};

/// Change the settings of IPAM.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  calicoctl ipam configure --strictaffinity=true --max-blocks-per-host=4
  calicoctl ipam show --show-configuration

Addresses and blocks that are in use stay as they are.")]
pub(crate) struct ConfigureArgs {
    /// Whether nodes never borrow addresses from each other's blocks
    #[arg(long, value_name = "BOOL", action = ArgAction::Set)]
    strictaffinity: Option<bool>,
    /// How many blocks a node may have; 0 for the built-in 20. More than 0 needs strict affinity
    #[arg(long, value_name = "NUMBER")]
    max_blocks_per_host: Option<u32>,
    /// Whether a KubeVirt machine keeps its address when it moves: Enabled or Disabled
    #[arg(long, value_name = "WORD")]
    kubevirt_ip_persistence: Option<VMAddressPersistence>,
    /// How long a released address rests before it is given out again
    #[arg(long, value_name = "SECONDS")]
    ip_cooldown_seconds: Option<u32>,
}

pub(crate) fn run(args: &ConfigureArgs, global: &Global, console: &mut Console<'_>) -> Result<()> {
    let session = Session::open(global, console, Access::Existing)?;
    let ipam = session.ipam();
    let mut config = ipam.config()?;
    let mut lines = Vec::new();
    if let Some(strict) = args.strictaffinity {
        config.strict_affinity = strict;
        lines.push(format!("Successfully set StrictAffinity to: {strict}"));
    }
    if let Some(blocks) = args.max_blocks_per_host {
        config.max_blocks_per_host = blocks;
        lines.push(format!("Successfully set MaxBlocksPerHost to: {blocks}"));
    }
    if let Some(persistence) = args.kubevirt_ip_persistence {
        config.kube_virt_vm_address_persistence = Some(persistence);
        lines.push(format!("Successfully set KubeVirtVMAddressPersistence to: {persistence}"));
    }
    if let Some(seconds) = args.ip_cooldown_seconds {
        config.ip_cooldown_seconds = seconds;
        lines.push(format!("Successfully set IPCooldownSeconds to: {seconds}"));
    }
    ensure!(!lines.is_empty(), "nothing to configure; calicoctl ipam configure --help lists the settings");
    ipam.set_config(&config)?;
    for line in lines {
        writeln!(console.output, "{line}")?;
    }
    Ok(())
}
