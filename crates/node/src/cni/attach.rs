//! ADD.

use std::net::IpAddr;

use api::WorkloadEndpoint;
use api::cni::{CniResult, Interface, Ip, Route, SpecVersion, code};
use api::wire::{CniRequest, WireError};
use datastore::{Revision, objects};
use ipnet::IpNet;
use kernel::netns::Netns;
use kernel::pod::{self, PodInterfaces, PodSpec, Removal};
use kernel::{InterfaceName, MacAddress};
use serde_json::Value;

use super::addresses::{self, Assigned};
use super::admission::admit;
use super::profile::Profiles;
use super::sandbox::Sandbox;
use super::{Cni, UNDO_LIMIT, delegation, detach, endpoint, failed, later, mtu, refuse};
use crate::agent::waiters::Programmed;

/// Attaches a sandbox; the result in the newest version.
pub(super) fn add(cni: &Cni, request: &CniRequest) -> Result<Value, WireError> {
    let mut sandbox = Sandbox::read(request)?;
    admit(cni, &sandbox)?;
    let path = request.netns.as_deref().unwrap_or_default();
    let namespace = Netns::open(path)
        .map_err(|error| refuse(code::INVALID_ENVIRONMENT, format!("CNI_NETNS: {error}")))?;
    let _held = cni.locks.hold(&sandbox.endpoint_name(&cni.node_name)?);
    let routes = delegation::routes(&sandbox, request.delegated.as_ref());
    let (endpoint, interfaces) = match find(cni, &sandbox)? {
        Some(stored) if stored.is_of(&sandbox) => repeat(cni, &mut sandbox, &namespace, &routes, stored)?,
        stored => {
            let profiles = Profiles::read(cni.store.as_ref(), &sandbox)?;
            let assigned = match &request.delegated {
                Some(result) => delegation::assigned(result),
                None => addresses::assign(cni, &sandbox, &profiles),
            }?;
            let replaces = stored.map(|stored| stored.revision);
            let attempt = Attempt { cni, sandbox: &sandbox, namespace: &namespace, assigned, replaces };
            attempt.run(&routes, &profiles)?
        }
    };
    Ok(result(&endpoint, &interfaces, &routes, path))
}

/// An endpoint that is in the datastore.
#[derive(Debug, Clone)]
pub(super) struct Stored {
    pub(super) endpoint: WorkloadEndpoint,
    pub(super) revision: Revision,
}

impl Stored {
    /// Whether it is this very sandbox's, and not that of another sandbox of the same pod.
    pub(super) fn is_of(&self, sandbox: &Sandbox) -> bool {
        self.endpoint.spec.container_id == sandbox.container_id
    }
}

/// The stored endpoint of the sandbox's pod, whichever sandbox it is of.
pub(super) fn find(cni: &Cni, sandbox: &Sandbox) -> Result<Option<Stored>, WireError> {
    let name = api::Metadata::namespaced(sandbox.namespace(), sandbox.endpoint_name(&cni.node_name)?);
    let found = objects::read::<api::WorkloadEndpointSpec>(cni.store.as_ref(), &name).map_err(failed)?;
    Ok(found.map(|(endpoint, revision)| Stored { endpoint, revision }))
}

/// ADD of a sandbox that is attached: it keeps its addresses, and what the kernel lacks is made again. A failure takes
/// nothing away.
fn repeat(
    cni: &Cni,
    sandbox: &mut Sandbox,
    namespace: &Netns,
    routes: &[IpNet],
    stored: Stored,
) -> Result<(WorkloadEndpoint, PodInterfaces), WireError> {
    let Stored { mut endpoint, revision } = stored;
    let host = host_interface(sandbox, &endpoint)?;
    let attached =
        cni.sockets.with(|socket| pod::interface_inside(socket, &host, namespace).map_err(failed))?;
    // A second ADD with another interface is about the same attachment.
    if let Some(interface) = attached {
        sandbox.interface = interface.to_string();
    }
    let interfaces = make_link(cni, sandbox, &pod_spec(cni, sandbox, &endpoint, namespace, routes)?)?;
    if endpoint::set_mac(&mut endpoint, interfaces.inside.mac) {
        endpoint::write(cni.store.as_ref(), &endpoint, Some(&revision)).map_err(failed)?;
    }
    wait_programmed(cni, sandbox, &endpoint, &interfaces)?;
    Ok((endpoint, interfaces))
}

/// ADD of a sandbox that is new.
struct Attempt<'a> {
    cni: &'a Cni,
    sandbox: &'a Sandbox,
    namespace: &'a Netns,
    assigned: Assigned,
    /// The pod's earlier sandbox's endpoint, in this revision, is to be replaced.
    replaces: Option<Revision>,
}

/// What an attempt has made so far besides assigning addresses.
#[derive(Debug, Default)]
struct Made {
    link: Option<InterfaceName>,
    endpoint: bool,
}

impl Attempt<'_> {
    /// All of it, or nothing.
    fn run(
        &self,
        routes: &[IpNet],
        profiles: &Profiles,
    ) -> Result<(WorkloadEndpoint, PodInterfaces), WireError> {
        let mut made = Made::default();
        let outcome = self.make(routes, profiles, &mut made);
        if outcome.is_err() {
            self.undo(&made);
        }
        outcome
    }

    fn make(
        &self,
        routes: &[IpNet],
        profiles: &Profiles,
        made: &mut Made,
    ) -> Result<(WorkloadEndpoint, PodInterfaces), WireError> {
        let Self { cni, sandbox, .. } = self;
        let mut endpoint = endpoint::build(cni, sandbox, &self.assigned.addresses)?;
        let mut link = pod_spec(cni, sandbox, &endpoint, self.namespace, routes)?;
        // Were it the kernel's choice, it would be known only when the link is there.
        let mac = *link.mac.get_or_insert_with(|| sandbox.mac());
        endpoint::set_mac(&mut endpoint, Some(mac));
        profiles.ensure(cni.store.as_ref(), sandbox).map_err(failed)?;
        // A write whose answer is lost may have been done.
        made.endpoint = true;
        endpoint::write(cni.store.as_ref(), &endpoint, self.replaces.as_ref()).map_err(failed)?;
        // While the agent works out and programs the endpoint's policy; the routes wait for the link.
        let interfaces = make_link(cni, sandbox, &link)?;
        made.link = Some(interfaces.host.name.clone());
        wait_programmed(cni, sandbox, &endpoint, &interfaces)?;
        Ok((endpoint, interfaces))
    }

    /// Takes back what was made, in reverse. What cannot be taken back now, the runtime's DEL will: the addresses stay with
    /// their handle until the endpoint that names them is gone.
    fn undo(&self, made: &Made) {
        let Self { cni, sandbox, .. } = self;
        let mut errors = Vec::new();
        if made.endpoint {
            errors.extend(detach::delete_endpoint(cni, sandbox, UNDO_LIMIT).err());
        }
        let is_referred_to = !errors.is_empty();
        if let Some(host_interface) = &made.link {
            let removal = Removal { host_interface: host_interface.clone(), inside: None };
            errors.extend(cni.condemn(&removal).err());
        }
        if let Some(handle) = self.assigned.handle.as_ref().filter(|_| !is_referred_to) {
            errors.extend(addresses::release_handle(cni, handle).map_err(failed).err());
        }
        for error in errors {
            let sandbox = sandbox.display();
            tracing::warn!(sandbox, error = error.msg, "part of a failed ADD stays until its DEL");
        }
    }
}

fn wait_programmed(
    cni: &Cni,
    sandbox: &Sandbox,
    endpoint: &WorkloadEndpoint,
    interfaces: &PodInterfaces,
) -> Result<(), WireError> {
    let addresses = endpoint.spec.ip_networks.iter().map(|net| net.addr()).collect();
    let wanted = Programmed { addresses, link: interfaces.host.index };
    cni.agent
        .wait_programmed(&endpoint::identity(endpoint), wanted, cni.programming_limit)
        .map_err(|reason| later(format!("{}: {reason}", sandbox.display())))
}

fn make_link(cni: &Cni, sandbox: &Sandbox, link: &PodSpec<'_>) -> Result<PodInterfaces, WireError> {
    cni.sockets
        .with(|socket| link.add(socket).map_err(|error| failed(format!("{}: {error}", sandbox.display()))))
}

fn host_interface(sandbox: &Sandbox, endpoint: &WorkloadEndpoint) -> Result<InterfaceName, WireError> {
    InterfaceName::new(&endpoint.spec.interface_name).map_err(|error| sandbox.invalid(error))
}

/// The link of an endpoint. Its routes on the host are the dataplane's.
pub(super) fn pod_spec<'a>(
    cni: &Cni,
    sandbox: &Sandbox,
    endpoint: &WorkloadEndpoint,
    namespace: &'a Netns,
    routes: &[IpNet],
) -> Result<PodSpec<'a>, WireError> {
    let mac = sandbox.annotation("cni.projectcalico.org/hwAddr").map(|text| {
        text.parse::<MacAddress>().map_err(|error| sandbox.invalid(format!("annotation hwAddr: {error}")))
    });
    let config = &sandbox.config;
    let mut routes = routes.to_vec();
    if routes.is_empty() || config.include_default_routes {
        routes.extend(PodSpec::default_routes());
    }
    Ok(PodSpec {
        namespace,
        interface: InterfaceName::new(&sandbox.interface).map_err(|error| sandbox.invalid(error))?,
        host_interface: host_interface(sandbox, endpoint)?,
        addresses: endpoint.spec.ip_networks.iter().map(|net| net.addr()).collect(),
        routes,
        mac: mac.transpose()?,
        mtu: mtu::of_pod(cni, config)?,
        queues: config.num_queues,
        allow_ip_forwarding: config.container_settings.allow_ip_forwarding,
        host_routes: None,
    })
}

fn result(endpoint: &WorkloadEndpoint, interfaces: &PodInterfaces, routes: &[IpNet], path: &str) -> Value {
    let interface = |link: &kernel::link::Link, sandbox: &str| Interface {
        name: link.name.to_string(),
        mac: link.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        mtu: Some(link.mtu),
        sandbox: sandbox.to_owned(),
    };
    let ip = |address: IpAddr| Ip { address: IpNet::from(address), gateway: None, interface: Some(1) };
    let result = CniResult {
        interfaces: vec![interface(&interfaces.host, ""), interface(&interfaces.inside, path)],
        ips: endpoint.spec.ip_networks.iter().map(|net| ip(net.addr())).collect(),
        routes: routes.iter().map(|route| Route { destination: *route, gateway: None }).collect(),
        ..CniResult::default()
    };
    result.to_json(SpecVersion::NEWEST)
}
