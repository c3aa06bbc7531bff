//! `bench SUBJECT`: measures one subject, beside its peer where there is one.
//!
//! Every subject works in network namespaces and a temporary folder of its own, and leaves nothing behind. The binary
//! under test is `tortie` beside this one. `scripts/bench` builds both and runs everything.

mod bgp;
mod cni;
mod harness;
mod nft;
mod node;
mod policy;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "Measures one subject of Tortie, beside its peer where there is one (root)")]
struct Arguments {
    #[command(subcommand)]
    subject: Subject,
}

#[derive(Subcommand)]
enum Subject {
    /// BGP speakers beside each other: rows 1 to 9
    Bgp(bgp::Options),
    /// The byte copy that `bgp` measures beside the speakers
    #[command(hide = true)]
    BgpCopy(bgp::copy::Options),
    /// CNI ADD and DEL beside ptp with host-local: rows 10 to 12 of the goals
    Cni(cni::Options),
    /// A policy or endpoint written to the datastore until the kernel has it
    Policy(policy::Options),
    /// Memory of `tortie node` under load, and start-up until ready
    Node(node::Options),
    /// Loading and changing rules beside nft, iptables and ipset: rows 13 to 15
    Nft(nft::Options),
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    testkit::require_root();
    if !matches!(arguments.subject, Subject::BgpCopy(_)) {
        harness::machine::describe();
    }
    match arguments.subject {
        Subject::Bgp(options) => bgp::run(&options),
        Subject::BgpCopy(options) => bgp::copy::run(&options),
        Subject::Cni(options) => cni::run(&options),
        Subject::Policy(options) => policy::run(&options),
        Subject::Node(options) => node::run(&options),
        Subject::Nft(options) => nft::run(&options),
    }
}
