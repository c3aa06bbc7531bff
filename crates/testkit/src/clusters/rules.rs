//! Rules and selectors of random policies.

use serde_json::{Value, json};

use super::Generator;

impl Generator {
    pub(super) fn selector(&mut self) -> &'static str {
        self.one_of(&[
            "app == 'web'",
            "app == 'db'",
            "app in {'web', 'db'} && has(version)",
            "app != 'web'",
            "!has(app) || version == '2'",
            "all()",
            "projectcalico.org/serviceaccount == 'robot'",
        ])
    }

    pub(super) fn rules(&mut self) -> Vec<Value> {
        (0..self.random.usize(..5)).map(|_| self.rule()).collect()
    }

    fn rule(&mut self) -> Value {
        let action = self.one_of(&["Allow", "Allow", "Allow", "Deny", "Pass", "Log"]);
        let mut rule = json!({"action": action});
        // Networks of one family, if any.
        let is_ipv4 = self.random.bool();
        for side in ["source", "destination"] {
            if self.chance(2) {
                rule[side] = self.entity(is_ipv4);
            }
        }
        match self.random.u8(..8) {
            0..4 => {
                rule["protocol"] = self.one_of(&["TCP", "TCP", "UDP", "SCTP"]).into();
                self.ports(&mut rule);
            }
            4 => {
                rule["notProtocol"] = [json!("TCP"), json!("UDP"), json!(253)][self.random.usize(..3)].clone()
            }
            5 => self.icmp(&mut rule),
            6 => rule["ipVersion"] = if is_ipv4 { 4 } else { 6 }.into(),
            _ => {}
        }
        rule
    }

    fn icmp(&mut self, rule: &mut Value) {
        let is_ipv4 = self.random.bool();
        rule["protocol"] = if is_ipv4 { "ICMP" } else { "ICMPv6" }.into();
        let mut icmp = json!({"type": self.one_of(if is_ipv4 { &[8, 13] } else { &[128, 139] })});
        if self.chance(2) {
            icmp["code"] = self.random.u8(..2).into();
        }
        rule[self.one_of(&["icmp", "icmp", "notICMP"])] = icmp;
    }

    fn ports(&mut self, rule: &mut Value) {
        let side = if self.chance(4) { "source" } else { "destination" };
        let list: Vec<Value> = (0..self.random.usize(1..4)).map(|_| self.port_of_rule()).collect();
        let field = if self.chance(4) { "notPorts" } else { "ports" };
        if rule[side].is_null() {
            rule[side] = json!({});
        }
        rule[side][field] = list.into();
    }

    fn port_of_rule(&mut self) -> Value {
        let port = self.port();
        match self.random.u8(..4) {
            0 => self.one_of(&["http", "dns", "nothing"]).into(),
            1 => format!("{port}:{}", port.saturating_add(self.random.u16(..2))).into(),
            _ => port.into(),
        }
    }

    fn entity(&mut self, is_ipv4: bool) -> Value {
        let mut entity = json!({});
        for _ in 0..self.random.usize(1..3) {
            match self.random.u8(..9) {
                0 | 1 => entity["nets"] = self.nets(is_ipv4),
                2 => entity["notNets"] = self.nets(is_ipv4),
                3 | 4 => entity["selector"] = self.selector().into(),
                5 => entity["notSelector"] = self.selector().into(),
                6 | 7 => {
                    let among = ["team == 'red'", "has(team)", "all()", "global()"];
                    entity["namespaceSelector"] = self.one_of(&among).into();
                }
                _ if self.chance(2) => entity["serviceAccounts"] = json!({"names": ["robot"]}),
                _ => entity["serviceAccounts"] = json!({"selector": "role == 'reader'"}),
            }
        }
        entity
    }

    fn nets(&mut self, is_ipv4: bool) -> Value {
        (0..self.random.usize(1..4)).map(|_| self.net(Some(is_ipv4))).collect()
    }

    pub(super) fn pod_selector(&mut self) -> Value {
        match self.random.u8(..3) {
            0 => json!({}),
            1 => json!({"matchLabels": {"app": self.one_of(&["web", "db"])}}),
            _ => {
                json!({"matchExpressions": [{"key": "version", "operator": self.one_of(&["Exists", "DoesNotExist"])}]})
            }
        }
    }

    pub(super) fn kubernetes_rule(&mut self, peers: &str) -> Value {
        let mut rule = json!({});
        if !self.chance(4) {
            rule[peers] = (0..self.random.usize(1..3)).map(|_| self.kubernetes_peer()).collect();
        }
        if !self.chance(3) {
            rule["ports"] = (0..self.random.usize(1..3)).map(|_| self.kubernetes_port()).collect();
        }
        rule
    }

    fn kubernetes_peer(&mut self) -> Value {
        let namespaces = json!({"matchLabels": {"team": self.one_of(&["red", "blue"])}});
        match self.random.u8(..4) {
            0 => json!({"podSelector": self.pod_selector()}),
            1 => json!({"namespaceSelector": namespaces}),
            2 => json!({"namespaceSelector": namespaces, "podSelector": self.pod_selector()}),
            _ if self.chance(2) => {
                json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.65.0.12/30", "10.65.0.11/32"]}})
            }
            _ => json!({"ipBlock": {"cidr": "fd00::/8", "except": ["fd00:65::10/126"]}}),
        }
    }

    fn kubernetes_port(&mut self) -> Value {
        let protocol = self.one_of(&["TCP", "TCP", "UDP", "SCTP"]);
        match self.random.u8(..4) {
            0 => json!({"protocol": protocol}),
            1 => json!({"protocol": protocol, "port": self.one_of(&["http", "dns"])}),
            2 => json!({"protocol": protocol, "port": 79, "endPort": self.one_of(&[80, 8080])}),
            _ => json!({"protocol": protocol, "port": self.port()}),
        }
    }

    pub(super) fn cluster_rule(&mut self, peers: &str) -> Value {
        let namespaces = json!({"matchLabels": {"team": self.one_of(&["red", "blue"])}});
        let peer = match self.random.u8(..3) {
            0 => json!({"namespaces": namespaces}),
            1 if peers == "to" => json!({"networks": [self.net(None)]}),
            _ => json!({"pods": {"namespaceSelector": namespaces, "podSelector": self.pod_selector()}}),
        };
        let action = self.one_of(&["Accept", "Deny", "Pass"]);
        let mut rule = json!({"action": action, peers: [peer]});
        match self.random.u8(..4) {
            0 => rule["protocols"] = json!([{"tcp": {"destinationPort": {"number": self.port()}}}]),
            1 => {
                rule["protocols"] = json!([{"udp": {"destinationPort": {"range": {"start": 53, "end": 80}}}}])
            }
            2 => rule["protocols"] = json!([{"destinationNamedPort": "http"}]),
            _ => {}
        }
        rule
    }
}
