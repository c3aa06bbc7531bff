//! The objects of a random cluster, but for their rules.

use serde_json::{Value, json};

use super::{Generator, HOST_ADDRESSES, OUTSIDE, PODS, PORTS, UPLINK};
use crate::objects::NODE;

/// `Kind [namespace/]name` of a slot as `metadata`, without the kind.
fn metadata(slot: &str) -> Value {
    let name = slot.split_once(' ').map_or(slot, |(_, name)| name);
    match name.split_once('/') {
        Some((namespace, name)) => json!({"namespace": namespace, "name": name}),
        None => json!({"name": name}),
    }
}

fn kind(slot: &str) -> &str {
    slot.split_once(' ').map_or(slot, |(kind, _)| kind)
}

fn v3(slot: &str, labels: Value, spec: Value) -> Value {
    let mut metadata = metadata(slot);
    metadata["labels"] = labels;
    json!({"apiVersion": "projectcalico.org/v3", "kind": kind(slot), "metadata": metadata, "spec": spec})
}

impl Generator {
    pub(super) fn namespace(&mut self, slot: &str) -> Value {
        let mut metadata = metadata(slot);
        metadata["labels"] = json!({"team": self.one_of(&["red", "blue"])});
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    }

    pub(super) fn account(&mut self, slot: &str) -> Value {
        let mut metadata = metadata(slot);
        metadata["labels"] = json!({"role": self.one_of(&["reader", "writer"])});
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    }

    fn labels(&mut self) -> Value {
        let mut labels = json!({});
        if !self.chance(4) {
            labels["app"] = self.one_of(&["web", "db"]).into();
        }
        if self.chance(2) {
            labels["version"] = self.one_of(&["1", "2"]).into();
        }
        labels
    }

    pub(super) fn pod(&mut self, slot: &str) -> Value {
        let mut metadata = metadata(slot);
        metadata["labels"] = self.labels();
        let number = slot.chars().last().unwrap_or('0');
        let ips = [json!({"ip": format!("10.65.0.1{number}")}), json!({"ip": format!("fd00:65::1{number}")})];
        // Most have both families.
        let ips = match self.random.u8(..8) {
            0 => vec![ips[0].clone()],
            1 => vec![ips[1].clone()],
            _ => ips.to_vec(),
        };
        let port = |name: &str, port: u16, protocol: &str| json!({"name": name, "containerPort": port, "protocol": protocol});
        let ports = [
            port("http", self.one_of(&[80, 81, 8080]), self.one_of(&["TCP", "TCP", "SCTP"])),
            port("dns", 53, "UDP"),
        ];
        let account = self.one_of(&["default", "robot"]);
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
            "spec": {"serviceAccountName": account, "containers": [{"name": "c", "ports": ports}]},
            "status": {"podIP": ips[0]["ip"], "podIPs": ips},
        })
    }

    pub(super) fn tier(&mut self, slot: &str) -> Value {
        let order = self.one_of(&[10, 20, 2_000_000]);
        v3(slot, json!({}), json!({"order": order, "defaultAction": self.one_of(&["Pass", "Pass", "Deny"])}))
    }

    pub(super) fn network_set(&mut self, slot: &str) -> Value {
        let nets: Vec<String> = (0..self.random.usize(..5)).map(|_| self.net(None)).collect();
        let labels = self.labels();
        v3(slot, labels, json!({"nets": nets}))
    }

    /// A network around something that is there; of a family if one is wanted.
    pub(super) fn net(&mut self, is_ipv4: Option<bool>) -> String {
        let is_ipv4 = is_ipv4.unwrap_or_else(|| self.random.bool());
        let family = usize::from(!is_ipv4);
        let pod = self.random.usize(..PODS);
        let single = match self.random.u8(..5) {
            0 => OUTSIDE[self.random.usize(..OUTSIDE.len())][family].to_owned(),
            1 => HOST_ADDRESSES[family].to_owned(),
            _ if is_ipv4 => format!("10.65.0.1{pod}"),
            _ => format!("fd00:65::1{pod}"),
        };
        let wide: &[&str] = if is_ipv4 {
            &["10.65.0.0/24", "10.65.0.8/29", "10.0.0.0/8", "192.0.2.0/28", "0.0.0.0/0", "10.65.0.12/30"]
        } else {
            &["fd00:65::/64", "fd00:65::10/126", "fd00::/8", "2001:db8::/32", "::/0", "fd00:65::14/127"]
        };
        match self.random.u8(..3) {
            0 => self.one_of(wide).to_owned(),
            _ => format!("{single}/{}", if is_ipv4 { 32 } else { 128 }),
        }
    }

    fn types(&mut self) -> Value {
        self.one_of(&[&["Ingress"][..], &["Egress"], &["Ingress", "Egress"]]).into()
    }

    fn policy_spec(&mut self) -> Value {
        let mut spec = json!({
            "types": self.types(), "selector": self.selector(), "ingress": self.rules(), "egress": self.rules(),
        });
        if !self.chance(3) {
            spec["order"] = self.one_of(&[1, 1, 5, 1000]).into();
        }
        if !self.chance(3) {
            spec["tier"] = self.one_of(&["first", "second", "default"]).into();
        }
        spec
    }

    pub(super) fn policy(&mut self, slot: &str) -> Value {
        let mut spec = self.policy_spec();
        if self.chance(4) {
            spec["serviceAccountSelector"] = self.one_of(&["role == 'reader'", "has(role)"]).into();
        }
        v3(slot, json!({}), spec)
    }

    pub(super) fn global_policy(&mut self, slot: &str) -> Value {
        let mut spec = self.policy_spec();
        if self.chance(3) {
            spec["namespaceSelector"] = self.one_of(&["team == 'red'", "has(team)", "all()"]).into();
        }
        v3(slot, json!({}), spec)
    }

    /// A policy of host endpoints: a normal one, or at one of the other hooks.
    pub(super) fn host_policy(&mut self, slot: &str) -> Value {
        let mut spec = self.policy_spec();
        spec["selector"] = self.one_of(&["host == 'yes'", "all()", "host == 'any'"]).into();
        match self.random.u8(..5) {
            0 => {
                spec["doNotTrack"] = true.into();
                spec["applyOnForward"] = true.into();
            }
            1 => {
                spec["preDNAT"] = true.into();
                spec["applyOnForward"] = true.into();
                spec["types"] = json!(["Ingress"]);
                spec["egress"] = json!([]);
            }
            2 | 3 => spec["applyOnForward"] = true.into(),
            _ => {}
        }
        v3(slot, json!({}), spec)
    }

    pub(super) fn host_endpoint(&mut self, slot: &str) -> Value {
        let is_any = slot.ends_with("any");
        let mut labels = self.labels();
        labels["host"] = if is_any { "any" } else { "yes" }.into();
        let mut spec = json!({"node": NODE, "expectedIPs": HOST_ADDRESSES});
        if is_any {
            spec["interfaceName"] = "*".into();
        } else if self.chance(2) {
            spec["interfaceName"] = UPLINK.into();
        }
        if self.chance(2) {
            spec["profiles"] = json!(["projectcalico-default-allow", "kns.n1"][..self.random.usize(1..3)]);
        }
        v3(slot, labels, spec)
    }

    pub(super) fn felix(&mut self, slot: &str) -> Value {
        let action = self.one_of(&["Drop", "Accept", "Return"]);
        let mut spec = json!({"defaultEndpointToHostAction": action});
        if self.chance(3) {
            let port = json!({"protocol": "TCP", "port": self.one_of(&PORTS)});
            spec["failsafeInboundHostPorts"] = json!([port]);
        }
        v3(slot, json!({}), spec)
    }

    pub(super) fn kubernetes_policy(&mut self, slot: &str) -> Value {
        let mut spec = json!({"podSelector": self.pod_selector(), "policyTypes": self.types()});
        for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
            spec[direction] = (0..self.random.usize(..3)).map(|_| self.kubernetes_rule(peers)).collect();
        }
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata(slot), "spec": spec,
        })
    }

    pub(super) fn cluster_policy(&mut self, slot: &str) -> Value {
        let is_admin = slot.ends_with("admin");
        let namespaces = json!({"matchLabels": {"team": self.one_of(&["red", "blue"])}});
        let subject = match self.random.u8(..3) {
            0 => json!({"namespaces": {}}),
            1 => json!({"namespaces": namespaces}),
            _ => json!({"pods": {"namespaceSelector": namespaces, "podSelector": self.pod_selector()}}),
        };
        let mut spec = json!({
            "tier": if is_admin { "Admin" } else { "Baseline" }, "priority": self.random.u8(..50), "subject": subject,
        });
        for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
            spec[direction] = (0..self.random.usize(..3)).map(|_| self.cluster_rule(peers)).collect();
        }
        json!({
            "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy",
            "metadata": metadata(slot), "spec": spec,
        })
    }
}
