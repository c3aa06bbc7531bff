//! `calicoctl ipam`.

mod configure;
mod release;
mod show;

use anyhow::Result;
use clap::Subcommand;

use crate::Console;
use crate::cli::Global;

#[derive(Debug, Subcommand)]
pub(crate) enum IpamVerb {
    /// Show how full pools and blocks are, or whose an address is
    Show(show::ShowArgs),
    /// Release addresses that nothing uses any more
    Release(release::ReleaseArgs),
    /// Change the settings of IPAM
    Configure(configure::ConfigureArgs),
}

pub(crate) fn run(verb: &IpamVerb, global: &Global, console: &mut Console<'_>) -> Result<()> {
    match verb {
        IpamVerb::Show(args) => show::run(args, global, console),
        IpamVerb::Release(args) => release::run(args, global, console),
        IpamVerb::Configure(args) => configure::run(args, global, console),
    }
}
