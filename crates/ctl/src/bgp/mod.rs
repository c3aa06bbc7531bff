//! `calicoctl bgp`.

mod ask;
mod dump;
mod peers;
mod plan;
mod plan_output;
mod record;
mod routes;
mod stations;
mod what_if;
mod why;

use anyhow::Result;
use clap::Subcommand;

use crate::Console;
use crate::cli::Global;

pub(crate) use ask::show;
pub(crate) use plan_output::Format;

#[derive(Debug, Subcommand)]
pub(crate) enum BgpVerb {
    /// Show this host's sessions, and why those that are down are down
    Peers(peers::PeersArgs),
    /// Show this host's routes
    Routes(routes::RoutesArgs),
    /// Explain a route: why it is used or not, who was told, what the kernel has
    Why(why::WhyArgs),
    /// Say which routes would change if a peer were lost, or a file applied
    WhatIf(what_if::WhatIfArgs),
    /// Write this host's routes into an MRT file
    Dump(dump::DumpArgs),
    /// Record what peers say into an MRT file, as a monitoring station (BMP)
    Record(record::RecordArgs),
    /// Show this host's monitoring stations (BMP)
    Stations(stations::StationsArgs),
    /// Say what a change would do to sessions and announcements, without doing it
    Plan(plan::PlanArgs),
}

pub(crate) fn run(verb: &BgpVerb, global: &Global, console: &mut Console<'_>) -> Result<()> {
    match verb {
        BgpVerb::Peers(args) => peers::run(args, console),
        BgpVerb::Routes(args) => routes::run(args, console),
        BgpVerb::Why(args) => why::run(args, console),
        BgpVerb::WhatIf(args) => what_if::run(args, console),
        BgpVerb::Dump(args) => dump::run(args, console),
        BgpVerb::Record(args) => record::run(args, console),
        BgpVerb::Stations(args) => stations::run(args, console),
        BgpVerb::Plan(args) => plan::run(args, global, console),
    }
}
