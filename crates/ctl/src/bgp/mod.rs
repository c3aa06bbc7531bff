//! `calicoctl bgp`.

mod plan;
mod plan_output;

use anyhow::Result;
use clap::Subcommand;

use crate::Console;
use crate::cli::Global;

#[derive(Debug, Subcommand)]
pub(crate) enum BgpVerb {
    /// Say what a change would do to sessions and announcements, without doing it
    Plan(plan::PlanArgs),
}

pub(crate) fn run(verb: &BgpVerb, global: &Global, console: &mut Console<'_>) -> Result<()> {
    match verb {
        BgpVerb::Plan(args) => plan::run(args, global, console),
    }
}
