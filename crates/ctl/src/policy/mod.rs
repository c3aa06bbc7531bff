//! `calicoctl policy`: questions about policy as a whole.

mod plan;

use anyhow::Result;
use clap::Subcommand;

use crate::Console;
use crate::cli::Global;

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyVerb {
    /// Say which flows a file would cut or newly allow, without applying it
    Plan(plan::PlanArgs),
}

pub(crate) fn run(verb: &PolicyVerb, global: &Global, console: &mut Console<'_>) -> Result<()> {
    match verb {
        PolicyVerb::Plan(args) => plan::run(args, global, console),
    }
}
