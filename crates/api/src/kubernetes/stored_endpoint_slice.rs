//! What a datastore without Kubernetes keeps for an EndpointSlice.

use std::net::IpAddr;

use super::error::FieldError;
use super::namespace_or_default;
use super::objects::EndpointSlice;
use super::stored::{identity_errors, user_owned};
use crate::decode::{Content, Tree};
use crate::scalars::Protocol;
use crate::{EndpointSlicePort, KubernetesEndpointSlice, KubernetesEndpointSliceSpec, Resource};

/// Fields that say nothing about policy, by the list that they are in.
const IGNORED: [(&str, &[&str]); 2] = [
    (
        "endpoints",
        &["hostname", "targetRef", "zone", "hints", "deprecatedTopology", "nodeName", "conditions"],
    ),
    ("ports", &["appProtocol"]),
];

/// The document without what says nothing about policy.
pub(super) fn relevant(mut tree: Tree) -> Tree {
    let Content::Map(fields) = &mut tree.content else { return tree };
    for (list, ignored) in IGNORED {
        let items =
            fields.iter_mut().filter(|(name, _)| name == list).filter_map(|(_, list)| {
                match &mut list.content {
                    Content::List(items) => Some(items),
                    _ => None,
                }
            });
        for item in items.flatten() {
            if let Content::Map(fields) = &mut item.content {
                fields.retain(|(name, _)| !ignored.contains(&name.as_str()));
            }
        }
    }
    tree
}

pub(super) fn stored_endpoint_slice(slice: &EndpointSlice) -> Result<Resource, Vec<FieldError>> {
    let mut errors = identity_errors(&slice.metadata);
    let service = slice.service_name().unwrap_or_default().to_owned();
    if service.is_empty() {
        let field = "metadata.labels[kubernetes.io/service-name]";
        errors.push(FieldError::new(field, "is required: it says which Service the slice belongs to"));
    }
    let (mut addresses, mut ports) = (Vec::new(), Vec::new());
    for (index, endpoint) in slice.endpoints.iter().enumerate() {
        for (number, text) in endpoint.addresses.iter().enumerate() {
            match text.parse::<IpAddr>() {
                Ok(address) => addresses.push(address),
                Err(_) => errors.push(FieldError::bad_value(
                    format!("endpoints[{index}].addresses[{number}]"),
                    text,
                    "is not an IP address; rules cannot name hosts",
                )),
            }
        }
    }
    for (index, port) in slice.ports.iter().enumerate() {
        let at = |error: FieldError| error.within(format_args!("ports[{index}]"));
        let protocol = match port.protocol.as_deref() {
            None | Some("TCP") => Protocol::Tcp,
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => Protocol::Sctp,
            Some(other) => {
                let error = FieldError::bad_value("protocol", other, "is not one of TCP, UDP, SCTP");
                errors.push(at(error));
                continue;
            }
        };
        match port.port.filter(|port| *port > 0) {
            Some(port) => ports.push(EndpointSlicePort { protocol, port }),
            None => errors.push(at(FieldError::new("port", "is required: 1..65535"))),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let mut metadata = user_owned(&slice.metadata);
    metadata.namespace = Some(namespace_or_default(&slice.metadata).to_owned());
    let spec = KubernetesEndpointSliceSpec { service, addresses, ports };
    Ok(KubernetesEndpointSlice::new(metadata, spec).into())
}
