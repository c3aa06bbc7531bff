//! What the words of the resources mean for packets, on the real kernel: a host and its workloads in network namespaces.

#[path = "../common/mod.rs"]
mod common;
mod established;
mod hosts;
mod logging;
#[path = "../common/net.rs"]
mod net;
mod qos;
mod services;
mod sources;

use calc::contract::Change;
use common::*;
use net::{Host, Pod};

/// Two workloads that may do everything.
fn two_pods(host: &mut Host) -> (Pod, Pod) {
    let (a, b) = (host.add_pod("cali-a", &["10.65.0.2"]), host.add_pod("cali-b", &["10.65.0.3"]));
    let endpoints = [
        endpoint("a", workload("cali-a", "10.65.0.2", vec![])),
        endpoint("b", workload("cali-b", "10.65.0.3", vec![])),
    ];
    host.play([open_profile()].into_iter().chain(endpoints).chain([Change::InSync]));
    (a, b)
}
