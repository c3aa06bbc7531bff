//! Other IPAM plugins: the plugin executes them, for only it sees the host as the runtime does; we tell it with what, and
//! take what they have assigned.

use api::cni::{CniResult, PodCidrs, code, replace_pod_cidrs};
use api::wire::{CniRequest, Delegation, WireError};
use datastore::objects;
use ipnet::IpNet;
use serde_json::Value;

use super::addresses::Assigned;
use super::admission::admit;
use super::sandbox::Sandbox;
use super::{Cni, attach, failed, refuse};

/// What an ADD is to do about its IPAM plugin.
pub(super) fn prepare(cni: &Cni, request: &CniRequest) -> Result<Delegation, WireError> {
    let sandbox = Sandbox::read(request)?;
    admit(cni, &sandbox)?;
    if attach::find(cni, &sandbox)?.is_some_and(|stored| stored.is_of(&sandbox)) {
        return Ok(Delegation::Attached);
    }
    let mut config = request.config.clone();
    if sandbox.config.ipam.delegate() == Some("host-local") {
        let is_pod = sandbox.pod.is_some();
        if api::cni::wants_pod_cidr(&config, is_pod) {
            let cidrs = PodCidrs::of(&pod_cidrs(cni)?);
            replace_pod_cidrs(&mut config, is_pod, &cidrs).map_err(|error| {
                let msg = format!("{error}: status.podCIDRs of Node {} lacks it", cni.node_name);
                refuse(code::INVALID_CONFIG, msg)
            })?;
        }
    }
    Ok(Delegation::Run(config))
}

fn pod_cidrs(cni: &Cni) -> Result<Vec<String>, WireError> {
    let name = api::Metadata::named(&cni.node_name);
    let found = objects::read::<api::NodeSpec>(cni.store.as_ref(), &name).map_err(failed)?;
    Ok(found.and_then(|(node, _)| node.status).map(|status| status.pod_cidrs).unwrap_or_default())
}

/// The addresses that another plugin has assigned. They are its own to give back.
pub(super) fn assigned(result: &Value) -> Result<Assigned, WireError> {
    let result = CniResult::from_json(result)
        .map_err(|error| failed(format!("the IPAM plugin's answer is {error}")))?;
    let addresses: Vec<_> = result.ips.iter().map(|ip| ip.address.addr()).collect();
    match addresses.is_empty() {
        true => Err(failed("the IPAM plugin assigned no address")),
        false => Ok(Assigned { addresses, handle: None }),
    }
}

/// Where the pod's routes are to lead to: as the IPAM plugin says, whose word is in its answer or (when the pod is looked at
/// again) in that of the ADD; else as the configuration says; none: everywhere.
pub(super) fn routes(sandbox: &Sandbox, answer: Option<&Value>) -> Vec<IpNet> {
    if sandbox.config.ipam.delegate().is_none() {
        return Vec::new();
    }
    let answered = answer.and_then(|answer| CniResult::from_json(answer).ok()).map(|result| result.routes);
    let answered: Vec<_> = answered.into_iter().flatten().map(|route| route.destination.trunc()).collect();
    match answered.is_empty() {
        true => sandbox.config.ipam.routes.iter().map(|route| route.dst.trunc()).collect(),
        false => answered,
    }
}
