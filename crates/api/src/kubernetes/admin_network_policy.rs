//! `AdminNetworkPolicy` and `BaselineAdminNetworkPolicy` (`policy.networking.k8s.io/v1alpha1`), which
//! `ClusterNetworkPolicy` has replaced, written as that: the tiers `Admin` and `Baseline`, `Allow` as `Accept`.

use serde::Deserialize;

use super::error::{Direction, FieldError};
use super::objects::{
    ClusterNetworkPolicy, ClusterNetworkPolicyEgressRule, ClusterNetworkPolicyIngressRule,
    ClusterNetworkPolicyPeer, ClusterNetworkPolicyProtocol, ClusterNetworkPolicySpec,
    ClusterNetworkPolicySubject, DestinationPort, PortOrRange, PortRange, or_default,
};
use super::rules::{port_number, ports_between};
use crate::Metadata;

/// An `AdminNetworkPolicy`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct AdminNetworkPolicy {
    /// Its name.
    pub metadata: Metadata,
    /// What it says.
    #[serde(deserialize_with = "or_default")]
    pub spec: AdminNetworkPolicySpec,
}

/// `spec` of an admin network policy.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct AdminNetworkPolicySpec {
    /// 0..1000, lower first.
    #[serde(deserialize_with = "or_default")]
    pub priority: i32,
    /// The pods that it is about.
    #[serde(deserialize_with = "or_default")]
    pub subject: ClusterNetworkPolicySubject,
    /// Rules for what comes in.
    #[serde(deserialize_with = "or_default")]
    pub ingress: Vec<AdminNetworkPolicyIngressRule>,
    /// Rules for what goes out.
    #[serde(deserialize_with = "or_default")]
    pub egress: Vec<AdminNetworkPolicyEgressRule>,
}

/// A `BaselineAdminNetworkPolicy`; there is only one, `default`.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct BaselineAdminNetworkPolicy {
    /// Its name.
    pub metadata: Metadata,
    /// What it says.
    #[serde(deserialize_with = "or_default")]
    pub spec: BaselineAdminNetworkPolicySpec,
}

/// `spec` of a baseline admin network policy.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct BaselineAdminNetworkPolicySpec {
    /// The pods that it is about.
    #[serde(deserialize_with = "or_default")]
    pub subject: ClusterNetworkPolicySubject,
    /// Rules for what comes in.
    #[serde(deserialize_with = "or_default")]
    pub ingress: Vec<AdminNetworkPolicyIngressRule>,
    /// Rules for what goes out.
    #[serde(deserialize_with = "or_default")]
    pub egress: Vec<AdminNetworkPolicyEgressRule>,
}

/// A rule for what comes in.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct AdminNetworkPolicyIngressRule {
    /// A name for people; empty if it has none.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// `Allow`, `Deny` or, not in a baseline, `Pass`.
    #[serde(deserialize_with = "or_default")]
    pub action: String,
    /// Where from.
    #[serde(deserialize_with = "or_default")]
    pub from: Vec<ClusterNetworkPolicyPeer>,
    /// Which ports; empty for all.
    #[serde(deserialize_with = "or_default")]
    pub ports: Vec<AdminNetworkPolicyPort>,
}

/// A rule for what goes out.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct AdminNetworkPolicyEgressRule {
    /// A name for people; empty if it has none.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// `Allow`, `Deny` or, not in a baseline, `Pass`.
    #[serde(deserialize_with = "or_default")]
    pub action: String,
    /// Where to.
    #[serde(deserialize_with = "or_default")]
    pub to: Vec<ClusterNetworkPolicyPeer>,
    /// Which ports; empty for all.
    #[serde(deserialize_with = "or_default")]
    pub ports: Vec<AdminNetworkPolicyPort>,
}

/// Ports of the destination: one of the three.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AdminNetworkPolicyPort {
    /// One port.
    pub port_number: Option<AdminPortNumber>,
    /// A port that the pods name, of whatever protocol.
    pub named_port: Option<String>,
    /// Several ports.
    pub port_range: Option<AdminPortRange>,
}

/// One port of a protocol.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct AdminPortNumber {
    /// `TCP` (also if absent), `UDP` or `SCTP`.
    pub protocol: Option<String>,
    /// The port.
    pub port: i64,
}

/// Ports of a protocol, from the first to the last.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct AdminPortRange {
    /// `TCP` (also if absent), `UDP` or `SCTP`.
    pub protocol: Option<String>,
    /// The first.
    pub start: i64,
    /// The last.
    pub end: i64,
}

impl AdminNetworkPolicy {
    /// The cluster network policy of the tier `Admin` that says the same.
    ///
    /// # Errors
    /// Every action and port that means nothing. All else is the conversion's of that policy to find.
    pub fn into_cluster_network_policy(self) -> Result<ClusterNetworkPolicy, Vec<FieldError>> {
        let Self { metadata, spec } = self;
        let mut writer = Writer { may_pass: true, errors: Vec::new() };
        let spec = ClusterNetworkPolicySpec {
            tier: "Admin".to_owned(),
            priority: spec.priority,
            subject: spec.subject,
            ingress: writer.ingress(spec.ingress),
            egress: writer.egress(spec.egress),
        };
        writer.finish(ClusterNetworkPolicy { metadata, spec })
    }
}

impl BaselineAdminNetworkPolicy {
    /// The cluster network policy of the tier `Baseline` that says the same, with the priority 0.
    ///
    /// # Errors
    /// Every action and port that means nothing. All else is the conversion's of that policy to find.
    pub fn into_cluster_network_policy(self) -> Result<ClusterNetworkPolicy, Vec<FieldError>> {
        let Self { metadata, spec } = self;
        let mut writer = Writer { may_pass: false, errors: Vec::new() };
        let spec = ClusterNetworkPolicySpec {
            tier: "Baseline".to_owned(),
            priority: 0,
            subject: spec.subject,
            ingress: writer.ingress(spec.ingress),
            egress: writer.egress(spec.egress),
        };
        writer.finish(ClusterNetworkPolicy { metadata, spec })
    }
}

/// Writes rules anew, and notes what means nothing.
struct Writer {
    /// Whether there is a tier that the rules can pass to.
    may_pass: bool,
    errors: Vec<FieldError>,
}

impl Writer {
    fn ingress(&mut self, rules: Vec<AdminNetworkPolicyIngressRule>) -> Vec<ClusterNetworkPolicyIngressRule> {
        let rules = rules.into_iter().enumerate();
        let rule = |(index, rule): (usize, AdminNetworkPolicyIngressRule)| {
            let (action, protocols) = self.parts(Direction::Ingress, index, &rule.action, &rule.ports);
            ClusterNetworkPolicyIngressRule { name: rule.name, action, from: rule.from, protocols }
        };
        rules.map(rule).collect()
    }

    fn egress(&mut self, rules: Vec<AdminNetworkPolicyEgressRule>) -> Vec<ClusterNetworkPolicyEgressRule> {
        let rules = rules.into_iter().enumerate();
        let rule = |(index, rule): (usize, AdminNetworkPolicyEgressRule)| {
            let (action, protocols) = self.parts(Direction::Egress, index, &rule.action, &rule.ports);
            ClusterNetworkPolicyEgressRule { name: rule.name, action, to: rule.to, protocols }
        };
        rules.map(rule).collect()
    }

    /// The action and the protocols of a rule.
    fn parts(
        &mut self,
        direction: Direction,
        index: usize,
        action: &str,
        ports: &[AdminNetworkPolicyPort],
    ) -> (String, Vec<ClusterNetworkPolicyProtocol>) {
        let at = |error: FieldError| error.within(format_args!("spec.{}[{index}]", direction.field()));
        let action = self.action(action).unwrap_or_else(|error| {
            self.errors.push(at(error));
            // The rule goes no further: there is an error.
            "Deny".to_owned()
        });
        let mut protocols = Vec::new();
        for (index, port) in ports.iter().enumerate() {
            match protocol(port) {
                Ok(protocol) => protocols.push(protocol),
                Err(error) => self.errors.push(at(error.within(format_args!("ports[{index}]")))),
            }
        }
        (action, protocols)
    }

    fn action(&self, word: &str) -> Result<String, FieldError> {
        match word {
            "Allow" => Ok("Accept".to_owned()),
            "Deny" => Ok(word.to_owned()),
            "Pass" if self.may_pass => Ok(word.to_owned()),
            other if self.may_pass => {
                Err(FieldError::bad_value("action", other, "is not one of Allow, Deny, Pass"))
            }
            other => Err(FieldError::bad_value("action", other, "is not one of Allow, Deny")),
        }
    }

    fn finish(self, policy: ClusterNetworkPolicy) -> Result<ClusterNetworkPolicy, Vec<FieldError>> {
        if self.errors.is_empty() { Ok(policy) } else { Err(self.errors) }
    }
}

fn protocol(port: &AdminNetworkPolicyPort) -> Result<ClusterNetworkPolicyProtocol, FieldError> {
    match port {
        AdminNetworkPolicyPort { port_number: Some(number), named_port: None, port_range: None } => {
            port_number(number.port, "port").map_err(|error| error.within("portNumber"))?;
            let ports = PortOrRange { number: Some(number.port), range: None };
            of_protocol(number.protocol.as_deref(), ports).map_err(|error| error.within("portNumber"))
        }
        AdminNetworkPolicyPort { port_number: None, named_port: None, port_range: Some(range) } => {
            let at = |error: FieldError| error.within("portRange");
            ports_between((range.start, "start"), (range.end, "end")).map_err(at)?;
            let ports =
                PortOrRange { number: None, range: Some(PortRange { start: range.start, end: range.end }) };
            of_protocol(range.protocol.as_deref(), ports).map_err(at)
        }
        AdminNetworkPolicyPort { port_number: None, named_port: Some(name), port_range: None }
            if !name.is_empty() =>
        {
            Ok(ClusterNetworkPolicyProtocol { destination_named_port: name.clone(), ..Default::default() })
        }
        _ => Err(FieldError::new("", "has to have exactly one of portNumber, namedPort and portRange")),
    }
}

fn of_protocol(name: Option<&str>, ports: PortOrRange) -> Result<ClusterNetworkPolicyProtocol, FieldError> {
    let ports = Some(DestinationPort { destination_port: Some(ports) });
    let none = ClusterNetworkPolicyProtocol::default();
    match name {
        None | Some("TCP" | "") => Ok(ClusterNetworkPolicyProtocol { tcp: ports, ..none }),
        Some("UDP") => Ok(ClusterNetworkPolicyProtocol { udp: ports, ..none }),
        Some("SCTP") => Ok(ClusterNetworkPolicyProtocol { sctp: ports, ..none }),
        Some(other) => Err(FieldError::bad_value("protocol", other, "is not one of TCP, UDP, SCTP")),
    }
}
