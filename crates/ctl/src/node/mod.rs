//! `calicoctl node`.

mod status;

use anyhow::Result;
use clap::Subcommand;

use crate::Console;

#[derive(Debug, Subcommand)]
pub(crate) enum NodeVerb {
    /// Show whether the node runs, and its BGP sessions
    Status(status::StatusArgs),
}

pub(crate) fn run(verb: &NodeVerb, console: &mut Console<'_>) -> Result<()> {
    match verb {
        NodeVerb::Status(_) => status::run(console),
    }
}
