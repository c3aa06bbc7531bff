//! CHECK: is everything as ADD left it?

use std::collections::BTreeSet;
use std::net::IpAddr;

use api::WorkloadEndpoint;
use api::cni::{CniResult, code};
use api::wire::{CniRequest, WireError};
use kernel::netns::Netns;

use super::sandbox::Sandbox;
use super::{Cni, attach, delegation, endpoint, failed, refuse};

/// Compares the kernel and the datastore with what the endpoint is to be: link, addresses and routes inside, link, settings
/// and routes on the host, policy.
pub(super) fn check(cni: &Cni, request: &CniRequest) -> Result<(), WireError> {
    let sandbox = Sandbox::read(request)?;
    let wrong = |reason: String| refuse(code::CHECK_FAILED, format!("{}: {reason}", sandbox.display()));
    let stored = attach::find(cni, &sandbox)?
        .filter(|stored| stored.is_of(&sandbox))
        .ok_or_else(|| refuse(code::UNKNOWN_CONTAINER, format!("{} is not attached", sandbox.display())))?;
    let endpoint = stored.endpoint;
    check_previous_result(&sandbox, &endpoint).map_err(wrong)?;
    let path = request.netns.as_deref().unwrap_or_default();
    let namespace = Netns::open(path).map_err(|error| wrong(error.to_string()))?;
    let routes = delegation::routes(&sandbox, sandbox.config.previous_result.as_ref());
    let mut spec = attach::pod_spec(cni, &sandbox, &endpoint, &namespace, &routes)?;
    // Other plugins of the chain may change the MTU; that is not ours to judge.
    spec.mtu = None;
    let problems = cni.sockets.with(|socket| spec.inspect(socket).map_err(failed))?;
    if !problems.is_empty() {
        let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
        return Err(wrong(problems.join("; ")));
    }
    match cni.agent.is_programmed(&endpoint::identity(&endpoint)) {
        true => Ok(()),
        false => Err(wrong("its policy and routes are not in the kernel".to_owned())),
    }
}

/// The addresses that the runtime remembers are those of the endpoint.
fn check_previous_result(sandbox: &Sandbox, endpoint: &WorkloadEndpoint) -> Result<(), String> {
    let Some(previous) = &sandbox.config.previous_result else {
        return Err("CHECK needs prevResult in the configuration".to_owned());
    };
    let previous = CniResult::from_json(previous).map_err(|error| format!("prevResult is {error}"))?;
    let remembered: BTreeSet<IpAddr> = previous.ips.iter().map(|ip| ip.address.addr()).collect();
    let held: BTreeSet<IpAddr> = endpoint.spec.ip_networks.iter().map(|net| net.addr()).collect();
    match remembered.difference(&held).next() {
        None => Ok(()),
        Some(address) => Err(format!("prevResult has {address}, which the endpoint does not have")),
    }
}
