//! The DSCP of what workloads send to outside the cluster (datapath.md 4.9). Calico has a rule for each workload; here it is an
//! element of the set of its DSCP.

use calc::contract::{IpSetId, IpVersion};
use calc::program::Side;
use kernel::nft::{Family, Match, Rule, Statement};

use super::chain::address;
use crate::ip_sets::{Shape, kernel_name};

/// The set of the workloads with a DSCP.
pub(super) fn sources(value: u8, version: IpVersion) -> String {
    kernel_name(&IpSetId(format!("dscp-src-{value}").into()), Shape::Addresses, version)
}

/// The set of what is inside the cluster.
pub(super) fn inside(version: IpVersion) -> String {
    kernel_name(&IpSetId("dscp-inside".into()), Shape::Networks, version)
}

/// Marks what those workloads send elsewhere.
pub(super) fn rule(value: u8, version: IpVersion) -> Rule {
    let family = match version {
        IpVersion::V4 => Family::Ip,
        IpVersion::V6 => Family::Ip6,
    };
    Rule::new()
        .when(Match::in_set(address(version, Side::Source), sources(value, version)))
        .when(Match::in_set(address(version, Side::Destination), inside(version)).negate())
        .counter()
        .then(Statement::SetDscp { family, value })
        .comment(format!("DSCP {value}"))
}
