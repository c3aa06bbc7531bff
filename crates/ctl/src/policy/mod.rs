//! `calicoctl policy`: questions about policy as a whole.

mod assert;
mod plan;
mod reach;

use anyhow::Result;
use clap::Subcommand;

use crate::Console;
use crate::cli::Global;

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyVerb {
    /// Say which flows a file would cut or newly allow, without applying it
    Plan(plan::PlanArgs),
    /// Check what has to pass and what must not
    Assert(assert::AssertArgs),
    /// Say who can reach the pods that a selector matches
    Reach(reach::ReachArgs),
}

pub(crate) fn run(verb: &PolicyVerb, global: &Global, console: &mut Console<'_>) -> Result<()> {
    match verb {
        PolicyVerb::Plan(args) => plan::run(args, global, console),
        PolicyVerb::Assert(args) => assert::run(args, global, console),
        PolicyVerb::Reach(args) => reach::run(args, global, console),
    }
}
