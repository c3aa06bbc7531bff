//! What each speaker is configured with: passive sessions with all neighbours, which are clients of a reflector where they are
//! of its AS; everything is let through.

use std::fmt::Write as _;

use super::{ADDRESS, ASN, Kind};
use crate::bgp::session::Neighbour;

/// The name of the file, and what is in it; `installs`: routes go into the kernel.
pub(super) fn of(kind: Kind, neighbours: &[Neighbour], installs: bool) -> (&'static str, String) {
    match kind {
        Kind::Tortie => ("resources.yaml", resources(neighbours)),
        Kind::Bird => ("bird.conf", bird(neighbours, installs)),
        Kind::Frr => ("bgpd.conf", frr(neighbours, true)),
        Kind::FrrDefaults => ("bgpd.conf", frr(neighbours, false)),
        Kind::Openbgpd => ("bgpd.conf", openbgpd(neighbours)),
        Kind::Gobgp => ("gobgpd.yaml", gobgp(neighbours)),
        Kind::Copy => ("unused", String::new()),
    }
}

/// Calico's resources. Filters let everything through: by itself a node only passes on what is of its cluster.
fn resources(neighbours: &[Neighbour]) -> String {
    let mut text = format!(
        "apiVersion: projectcalico.org/v3\nkind: Node\nmetadata: {{name: dut}}\n\
         spec: {{bgp: {{ipv4Address: {}/32, routeReflectorClusterID: 10.255.0.1}}}}\n---\n\
         apiVersion: projectcalico.org/v3\nkind: BGPConfiguration\nmetadata: {{name: default}}\n\
         spec: {{nodeToNodeMeshEnabled: false, asNumber: {ASN}}}\n---\n\
         apiVersion: projectcalico.org/v3\nkind: BGPFilter\nmetadata: {{name: all}}\n\
         spec:\n  importV4: [{{action: Accept}}]\n  exportV4: [{{action: Accept}}]\n",
        ADDRESS.ip()
    );
    for (number, Neighbour { address, asn, .. }) in neighbours.iter().enumerate() {
        let _ = write!(
            text,
            "---\napiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: {{name: p{number}}}\n\
             spec: {{peerIP: {address}, asNumber: {asn}, filters: [all]}}\n"
        );
    }
    text
}

fn bird(neighbours: &[Neighbour], installs: bool) -> String {
    let mut text = format!("router id {};\nprotocol device {{}}\n", ADDRESS.ip());
    if installs {
        text.push_str("protocol direct { ipv4; interface \"eth0\"; }\nprotocol kernel { ipv4 { import none; export all; }; }\n");
    }
    for (number, Neighbour { address, asn, .. }) in neighbours.iter().enumerate() {
        let client = if *asn == ASN { "rr client;" } else { "" };
        let _ = writeln!(
            text,
            "protocol bgp p{number} {{ local {} as {ASN}; neighbor {address} as {asn}; {client} passive; multihop; \
             ipv4 {{ import all; export all; }}; }}",
            ADDRESS.ip()
        );
    }
    text
}

/// Tuned: no timer that collects changes, neither for the first table nor for single routes, as its profile for data centres
/// has it (but with its usual hold time, which is longer).
fn frr(neighbours: &[Neighbour], tuned: bool) -> String {
    let mut text = format!(
        "router bgp {ASN}\n bgp router-id {}\n no bgp ebgp-requires-policy\n no bgp network import-check\n \
         no bgp default ipv4-unicast\n timers bgp 60 180\n",
        ADDRESS.ip()
    );
    if tuned {
        text.push_str(" coalesce-time 0\n");
    }
    for Neighbour { address, asn, .. } in neighbours {
        let _ = writeln!(
            text,
            " neighbor {address} remote-as {asn}\n neighbor {address} passive\n neighbor {address} timers connect 5\n \
             neighbor {address} disable-connected-check"
        );
        if tuned {
            let _ = writeln!(text, " neighbor {address} advertisement-interval 0");
        }
    }
    text.push_str(" address-family ipv4 unicast\n");
    for Neighbour { address, asn, .. } in neighbours {
        let _ = writeln!(text, "  neighbor {address} activate");
        if *asn == ASN {
            let _ = writeln!(text, "  neighbor {address} route-reflector-client");
        }
    }
    text.push_str(" exit-address-family\n");
    text
}

fn openbgpd(neighbours: &[Neighbour]) -> String {
    let mut text = format!(
        "AS {ASN}\nrouter-id {0}\nlisten on {0}\nfib-update no\nnexthop qualify via default\n",
        ADDRESS.ip()
    );
    for Neighbour { address, asn, .. } in neighbours {
        let client = if *asn == ASN { "route-reflector\n" } else { "" };
        let _ =
            writeln!(text, "neighbor {address} {{\n remote-as {asn}\n passive\n multihop 2\n {client} }}");
    }
    text.push_str("allow from any\nallow to any\n");
    text
}

fn gobgp(neighbours: &[Neighbour]) -> String {
    let mut text = format!(
        "global:\n  config:\n    as: {ASN}\n    router-id: {0}\n    local-address-list: [{0}]\nneighbors:\n",
        ADDRESS.ip()
    );
    for Neighbour { address, asn, .. } in neighbours {
        let _ = writeln!(
            text,
            "  - config: {{neighbor-address: {address}, peer-as: {asn}}}\n    transport: {{config: {{passive-mode: true}}}}"
        );
        if *asn == ASN {
            text.push_str(
                "    route-reflector: {config: {route-reflector-client: true, route-reflector-cluster-id: 10.255.0.1}}\n",
            );
        } else {
            text.push_str("    ebgp-multihop: {config: {enabled: true, multihop-ttl: 2}}\n");
        }
    }
    text
}
