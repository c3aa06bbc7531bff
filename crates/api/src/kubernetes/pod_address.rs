//! The addresses of a pod, and whether it is still there to have any.

use std::net::IpAddr;

use ipnet::IpNet;

use super::FieldError;
use super::objects::Pod;

/// Calico's CNI plugin writes here what it gave the pod, before the kubelet reports it.
pub(super) const POD_IP: &str = "cni.projectcalico.org/podIP";
/// As [`POD_IP`], for all addresses: separated by commas.
pub(super) const POD_IPS: &str = "cni.projectcalico.org/podIPs";
/// The same by the CNI plugin of AWS.
const AWS_POD_IPS: &str = "vpc.amazonaws.com/pod-ips";

impl Pod {
    /// Whether the pod has an endpoint of its own: it is scheduled, and not on the host's network.
    pub fn has_endpoint(&self) -> bool {
        !self.spec.host_network && !self.spec.node_name.is_empty()
    }

    /// Whether an address is known, be it in the status or from the CNI plugin's annotation.
    pub fn has_address(&self) -> bool {
        !self.status.pod_ip.is_empty() || [POD_IP, AWS_POD_IPS].iter().any(|name| !self.note(name).is_empty())
    }

    /// Whether it has an endpoint and an address, so that it can send and receive.
    pub fn is_ready(&self) -> bool {
        self.has_endpoint() && self.has_address()
    }

    /// Whether it will not use its addresses any more: it has run to its end, or it is being deleted and the CNI plugin
    /// has taken the addresses away already. They may belong to another pod by now.
    pub fn is_finished(&self) -> bool {
        let taken_away = [POD_IP, AWS_POD_IPS]
            .iter()
            .any(|name| self.metadata.annotations.get(*name).is_some_and(String::is_empty));
        matches!(self.status.phase.as_str(), "Failed" | "Succeeded" | "Completed")
            || (self.metadata.deletion_timestamp.is_some() && taken_away)
    }

    /// An annotation's value; empty if it is absent.
    pub(super) fn note(&self, name: &str) -> &str {
        self.metadata.annotations.get(name).map_or("", String::as_str)
    }
}

/// The addresses of a pod, at most one of each family. They come from the first of these that has any: `status.podIPs`,
/// `status.podIP`, the annotations of the CNI plugin. A finished pod has none.
///
/// # Errors
/// Something there is not an address.
pub fn pod_addresses(pod: &Pod) -> Result<Vec<IpAddr>, FieldError> {
    if pod.is_finished() {
        return Ok(Vec::new());
    }
    let status: Vec<&str> = pod.status.pod_ips.iter().map(|each| each.ip.as_str()).collect();
    let sources = [
        ("status.podIPs".to_owned(), status),
        ("status.podIP".to_owned(), vec![pod.status.pod_ip.as_str()]),
        (annotation_path(POD_IPS), pod.note(POD_IPS).split(',').collect()),
        (annotation_path(POD_IP), vec![pod.note(POD_IP)]),
        (annotation_path(AWS_POD_IPS), pod.note(AWS_POD_IPS).split(',').collect()),
    ];
    let texts = sources.into_iter().map(|(path, texts)| (path, non_empty(texts)));
    let Some((path, texts)) = texts.into_iter().find(|(_, texts)| !texts.is_empty()) else {
        return Ok(Vec::new());
    };
    let addresses: Result<Vec<IpAddr>, FieldError> =
        texts.into_iter().map(|text| address(text).ok_or_else(|| not_an_address(&path, text))).collect();
    Ok(one_of_each_family(addresses?))
}

/// Where an annotation is, for messages.
pub(super) fn annotation_path(name: &str) -> String {
    format!("metadata.annotations[{name}]")
}

fn non_empty(texts: Vec<&str>) -> Vec<&str> {
    texts.into_iter().map(str::trim).filter(|text| !text.is_empty()).collect()
}

/// An address, alone or with the prefix length of a single address.
fn address(text: &str) -> Option<IpAddr> {
    let single = |net: &IpNet| net.prefix_len() == net.max_prefix_len();
    text.parse().ok().or_else(|| text.parse::<IpNet>().ok().filter(single).map(|net| net.addr()))
}

fn not_an_address(path: &str, text: &str) -> FieldError {
    FieldError::bad_value(path, text, "is not an address")
}

fn one_of_each_family(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut kept: Vec<IpAddr> = Vec::new();
    for address in addresses {
        if kept.iter().all(|other| other.is_ipv4() != address.is_ipv4()) {
            kept.push(address);
        }
    }
    kept
}
