//! ADD.

use std::net::IpAddr;

use api::WorkloadEndpoint;
use api::cni::{CniResult, Interface, Ip, SpecVersion, code};
use api::wire::{CniRequest, WireError};
use datastore::{StoreError, objects};
use ipnet::IpNet;
use kernel::netns::Netns;
use kernel::pod::{PodInterfaces, PodSpec, Removal};
use kernel::{InterfaceName, MacAddress};
use serde_json::Value;

use super::addresses::{self, Assigned};
use super::request::{Sandbox, check_config};
use super::{Cni, PROGRAMMING_LIMIT, endpoint, failed, gates, later, refuse};

/// Attaches a sandbox; the result in the newest version.
pub(super) fn add(cni: &Cni, request: &CniRequest) -> Result<Value, WireError> {
    let sandbox = Sandbox::read(request)?;
    check_config(cni, &sandbox)?;
    check_datastore_ready(cni)?;
    gates::wait(&sandbox.config.readiness_gates)?;
    let path = request.netns.as_deref().unwrap_or_default();
    let namespace = Netns::open(path)
        .map_err(|error| refuse(code::INVALID_ENVIRONMENT, format!("CNI_NETNS: {error}")))?;
    let _held = cni.locks.hold(&sandbox.endpoint_name(&cni.node_name)?);
    let attachment = Attachment::plan(cni, &sandbox, request.delegated.as_ref())?;
    attachment.make(cni, &sandbox, &namespace, path)
}

/// A datastore that says it is not ready (an upgrade, a migration) must not be written to.
fn check_datastore_ready(cni: &Cni) -> Result<(), WireError> {
    let found =
        objects::read::<api::ClusterInformationSpec>(cni.store.as_ref(), &api::Metadata::named("default"));
    match found {
        Ok(Some((information, _))) if information.spec.datastore_ready == Some(true) => Ok(()),
        Ok(_) => {
            Err(later("the datastore is not ready to process requests: ClusterInformation default says so"))
        }
        Err(error) => Err(later(error)),
    }
}

/// What an ADD is going to make.
struct Attachment {
    assigned: Assigned,
    endpoint: WorkloadEndpoint,
    /// Whether the sandbox was attached before, so that a failure now must not take that away.
    existed: bool,
}

impl Attachment {
    /// The same sandbox again keeps what it has; a pod's new sandbox gets addresses of its own.
    fn plan(cni: &Cni, sandbox: &Sandbox, delegated: Option<&Value>) -> Result<Self, WireError> {
        if let Some(endpoint) =
            find(cni, sandbox)?.filter(|found| found.spec.container_id == sandbox.container_id)
        {
            let addresses = endpoint.spec.ip_networks.iter().map(|net| net.addr()).collect();
            return Ok(Self { assigned: Assigned { addresses, handle: None }, endpoint, existed: true });
        }
        // A plugin that was killed half-way may have left addresses under this very handle.
        addresses::release(cni, sandbox)?;
        let assigned = addresses::assign(cni, sandbox, delegated)?;
        match endpoint::build(cni, sandbox, &assigned.addresses) {
            Ok(endpoint) => Ok(Self { assigned, endpoint, existed: false }),
            Err(error) => {
                assigned.handle.iter().for_each(|handle| addresses::give_back(cni, handle));
                Err(error)
            }
        }
    }

    fn make(
        mut self,
        cni: &Cni,
        sandbox: &Sandbox,
        namespace: &Netns,
        path: &str,
    ) -> Result<Value, WireError> {
        let outcome = self.link_and_program(cni, sandbox, namespace);
        match outcome {
            Ok(interfaces) => Ok(self.result(&interfaces, path)),
            Err(error) => {
                if !self.existed {
                    self.undo(cni, sandbox, namespace);
                }
                Err(error)
            }
        }
    }

    fn link_and_program(
        &mut self,
        cni: &Cni,
        sandbox: &Sandbox,
        namespace: &Netns,
    ) -> Result<PodInterfaces, WireError> {
        let spec = pod_spec(cni, sandbox, &self.endpoint, namespace)?;
        let interfaces = cni.sockets.with(|socket| spec.add(socket).map_err(failed))?;
        if let Some(mac) = interfaces.inside.mac {
            endpoint::set_mac(&mut self.endpoint, mac);
        }
        endpoint::ensure_profile(cni.store.as_ref(), sandbox).map_err(failed)?;
        let wanted = self.endpoint.clone();
        objects::modify(cni.store.as_ref(), self.endpoint.clone(), |stored: &mut WorkloadEndpoint| {
            stored.spec = wanted.spec.clone();
            stored.metadata.labels = wanted.metadata.labels.clone();
            stored.metadata.annotations = wanted.metadata.annotations.clone();
            Ok::<(), StoreError>(())
        })
        .map_err(failed)?;
        cni.agent
            .wait_programmed(&endpoint::identity(&self.endpoint), &self.assigned.addresses, PROGRAMMING_LIMIT)
            .map_err(|reason| later(format!("{}: {reason}", sandbox.display())))?;
        Ok(interfaces)
    }

    /// Takes back what was made, in reverse; what cannot be taken back now, the runtime's DEL will.
    fn undo(&self, cni: &Cni, sandbox: &Sandbox, namespace: &Netns) {
        if let Err(error) = super::detach::delete_endpoint(cni, sandbox) {
            tracing::warn!(
                sandbox = sandbox.display(),
                error = error.msg,
                "cannot undo the endpoint of a failed ADD"
            );
        }
        if let (Ok(host), Ok(inside)) =
            (InterfaceName::new(&self.endpoint.spec.interface_name), InterfaceName::new(&sandbox.interface))
        {
            let removal = Removal { host_interface: host, inside: Some((namespace, inside)) };
            if let Err(error) = cni.condemn(&removal) {
                tracing::warn!(
                    sandbox = sandbox.display(),
                    error = error.msg,
                    "cannot undo the link of a failed ADD"
                );
            }
        }
        self.assigned.handle.iter().for_each(|handle| addresses::give_back(cni, handle));
    }

    fn result(&self, interfaces: &PodInterfaces, path: &str) -> Value {
        let mac = |mac: Option<MacAddress>| mac.map(|mac| mac.to_string()).unwrap_or_default();
        let host = Interface {
            name: interfaces.host.name.to_string(),
            mac: mac(interfaces.host.mac),
            mtu: Some(interfaces.host.mtu),
            sandbox: String::new(),
        };
        let inside = Interface {
            name: interfaces.inside.name.to_string(),
            mac: mac(interfaces.inside.mac),
            mtu: Some(interfaces.inside.mtu),
            sandbox: path.to_owned(),
        };
        let ip = |address: &IpAddr| Ip { address: IpNet::from(*address), gateway: None, interface: Some(1) };
        let result = CniResult {
            interfaces: vec![host, inside],
            ips: self.assigned.addresses.iter().map(ip).collect(),
            ..CniResult::default()
        };
        result.to_json(SpecVersion::NEWEST)
    }
}

/// The stored endpoint of the sandbox's pod, whichever sandbox it is of.
pub(super) fn find(cni: &Cni, sandbox: &Sandbox) -> Result<Option<WorkloadEndpoint>, WireError> {
    let name = api::Metadata::namespaced(sandbox.namespace(), sandbox.endpoint_name(&cni.node_name)?);
    let found = objects::read::<api::WorkloadEndpointSpec>(cni.store.as_ref(), &name).map_err(failed)?;
    Ok(found.map(|(endpoint, _)| endpoint))
}

/// The link of an endpoint. Its routes on the host are the dataplane's.
pub(super) fn pod_spec<'a>(
    cni: &Cni,
    sandbox: &Sandbox,
    endpoint: &WorkloadEndpoint,
    namespace: &'a Netns,
) -> Result<PodSpec<'a>, WireError> {
    let invalid = |error: String| refuse(code::INVALID_CONFIG, format!("{}: {error}", sandbox.display()));
    let name = |text: &str| InterfaceName::new(text).map_err(|error| invalid(error.to_string()));
    let mac = sandbox.annotations.get("cni.projectcalico.org/hwAddr").map(|text| {
        text.parse::<MacAddress>().map_err(|error| invalid(format!("annotation hwAddr: {error}")))
    });
    let config = &sandbox.config;
    Ok(PodSpec {
        namespace,
        interface: name(&sandbox.interface)?,
        host_interface: name(&endpoint.spec.interface_name)?,
        addresses: endpoint.spec.ip_networks.iter().map(|net| net.addr()).collect(),
        routes: PodSpec::default_routes(),
        mac: mac.transpose()?,
        mtu: Some(config.mtu).filter(|mtu| *mtu != 0).or(cni.mtu),
        queues: config.num_queues,
        allow_ip_forwarding: config.container_settings.allow_ip_forwarding,
        host_routes: None,
    })
}
