//! One side of a rule.

use std::sync::Arc;

use api as v3;
use api::scalars::{Net, Port};
use api::selector::{PeerSelector, Selector};

use super::{CompileError, selector};
use crate::contract::{EntityMatch, PortRange};
use crate::ip_sets::Definition;

/// Protocol numbers of TCP, UDP and SCTP, the protocols that have ports.
const WITH_PORTS: [u8; 3] = [6, 17, 132];

/// Which side of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Source,
    Destination,
}

/// Compiles a side; every set that it refers to goes to `refer`, once for each reference.
pub(super) fn compile_entity(
    side: Side,
    entity: &v3::EntityRule,
    protocol: Option<u8>,
    namespace: Option<&str>,
    refer: &mut dyn FnMut(Definition),
) -> Result<EntityMatch, CompileError> {
    let peer = peer_selector(entity, namespace)?;
    let not_peer = selector("notSelector", &entity.not_selector)?;
    let service = service(side, entity, namespace)?;
    let mut refer = |definition: Definition| {
        let id = definition.id();
        refer(definition);
        id
    };
    let mut compiled = EntityMatch {
        nets: nets(&entity.nets),
        not_nets: nets(&entity.not_nets),
        ports: ranges(&entity.ports),
        not_ports: ranges(&entity.not_ports),
        ..EntityMatch::default()
    };
    let named = named_ports(&entity.ports, protocol, peer.as_ref());
    // A set of named ports holds only ports of endpoints that the selector matches, so it stands for the selector too;
    // but not when a number would do as well.
    let is_covered = !named.is_empty() && compiled.ports.is_empty();
    let not_named = named_ports(&entity.not_ports, protocol, peer.as_ref());
    compiled.named_port_sets = named.into_iter().map(&mut refer).collect();
    compiled.not_named_port_sets = not_named.into_iter().map(&mut refer).collect();
    compiled.ip_sets =
        peer.filter(|_| !is_covered).map(|peer| refer(Definition::Selector(peer))).into_iter().collect();
    compiled.not_ip_sets = not_peer.map(|peer| refer(Definition::Selector(peer))).into_iter().collect();
    match (service, side) {
        (Some(service), Side::Destination) => compiled.ip_port_sets.push(refer(service)),
        (Some(service), Side::Source) => compiled.ip_sets.push(refer(service)),
        (None, _) => {}
    }
    Ok(compiled)
}

fn peer_selector(entity: &v3::EntityRule, namespace: Option<&str>) -> Result<Option<Selector>, CompileError> {
    let own = selector("selector", &entity.selector)?;
    let namespaces = selector("namespaceSelector", &entity.namespace_selector)?;
    let accounts = entity.service_accounts.as_ref();
    let of_accounts = accounts.map_or("", |accounts| &accounts.selector);
    let of_accounts = selector("serviceAccounts.selector", of_accounts)?;
    let peer = PeerSelector {
        selector: own.as_ref(),
        has_not_selector: !entity.not_selector.is_empty(),
        namespace_selector: namespaces.as_ref(),
        service_account_names: accounts.map_or(&[], |accounts| &accounts.names),
        service_account_selector: of_accounts.as_ref(),
    };
    Ok(peer.compile(namespace))
}

/// On the destination side the service's own ports count too.
fn service(
    side: Side,
    entity: &v3::EntityRule,
    namespace: Option<&str>,
) -> Result<Option<Definition>, CompileError> {
    let Some(service) = &entity.services else { return Ok(None) };
    let given = Some(service.namespace.as_str()).filter(|namespace| !namespace.is_empty());
    let Some(namespace) = given.or(namespace) else {
        return Err(CompileError::ServiceNamespace { name: service.name.clone() });
    };
    let name: Arc<str> = format!("{namespace}/{}", service.name).into();
    Ok(Some(Definition::Service { service: name, with_ports: side == Side::Destination }))
}

/// A set for each name; for each protocol that has ports, too, when the rule leaves the protocol open.
fn named_ports(ports: &[Port], protocol: Option<u8>, peer: Option<&Selector>) -> Vec<Definition> {
    let protocols: &[u8] = match protocol {
        Some(17) => &[17],
        Some(132) => &[132],
        Some(_) => &[6],
        None => &WITH_PORTS,
    };
    let names = ports.iter().filter_map(|port| match port {
        Port::Named(name) => Some(Arc::<str>::from(name.as_str())),
        Port::Number(_) | Port::Range(..) => None,
    });
    let selector = peer.cloned().unwrap_or_default();
    names
        .flat_map(|name| {
            let selector = selector.clone();
            protocols.iter().map(move |protocol| Definition::NamedPort {
                selector: selector.clone(),
                protocol: *protocol,
                name: name.clone(),
            })
        })
        .collect()
}

fn nets(nets: &[Net]) -> Vec<ipnet::IpNet> {
    nets.iter().map(Net::net).collect()
}

fn ranges(ports: &[Port]) -> Vec<PortRange> {
    ports.iter().filter_map(Port::range).map(|(min, max)| PortRange { min, max }).collect()
}
