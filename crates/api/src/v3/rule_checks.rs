//! Rules on the rules of policies and profiles.

use super::{Action, EntityRule, HttpMatch, HttpPath, IcmpFields, Rule};
use crate::rules::{
    Place, check_annotation_keys, check_count, check_namespace_selector, check_range, check_selector,
    check_unique,
};
use crate::scalars::{IpVersion, Net, Port, Protocol};

/// How many rules a direction may have.
const MAX_RULES: usize = 1024;
/// How many networks each list of a rule may have.
const MAX_NETS: usize = 256;
/// How many ports each list of a rule may have.
const MAX_PORTS: usize = 50;
/// How many methods and how many paths an HTTP match may have.
const MAX_HTTP: usize = 20;
/// The longest HTTP path.
const MAX_HTTP_PATH: usize = 1024;

/// What the rules of a resource depend on outside of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RuleContext {
    /// Whether the rules are for traffic from the endpoint.
    pub(crate) is_egress: bool,
    /// Whether the resource has a namespace, in which services are looked for.
    pub(crate) is_namespaced: bool,
}

/// Checks both directions' rules.
pub(crate) fn check_rules(ingress: &[Rule], egress: &[Rule], is_namespaced: bool, spec: &Place<'_>) {
    for (rules, is_egress, at) in
        [(ingress, false, spec.field("ingress")), (egress, true, spec.field("egress"))]
    {
        check_count(rules, MAX_RULES, &at);
        for (index, rule) in rules.iter().enumerate() {
            check_rule(rule, RuleContext { is_egress, is_namespaced }, &at.index(index));
        }
    }
}

fn check_rule(rule: &Rule, context: RuleContext, at: &Place<'_>) {
    for (protocol, field) in [(rule.protocol, "protocol"), (rule.not_protocol, "notProtocol")] {
        check_protocol(protocol, rule.ip_version, &at.field(field));
    }
    check_icmp_match(rule, at);
    check_families(rule, at);
    for (entity, field) in [(&rule.source, "source"), (&rule.destination, "destination")] {
        let at = at.field(field);
        check_entity(entity, &at);
        check_ports(entity, rule.protocol, &at);
        check_services(entity, field == "destination", context, &at);
    }
    if let Some(http) = &rule.http {
        check_http(http, rule, context, at);
    }
    if let Some(metadata) = &rule.metadata {
        check_annotation_keys(&metadata.annotations, &at.field("metadata").field("annotations"));
    }
}

fn check_protocol(protocol: Option<Protocol>, version: Option<IpVersion>, at: &Place<'_>) {
    let (Some(protocol), Some(version)) = (protocol, version) else { return };
    match (protocol.number(), version) {
        (1, IpVersion::V6) => at.refuse(protocol, "is a protocol of IPv4, but ipVersion is 6; write ICMPv6"),
        (58, IpVersion::V4) => at.refuse(protocol, "is a protocol of IPv6, but ipVersion is 4; write ICMP"),
        _ => {}
    }
}

fn check_icmp_match(rule: &Rule, at: &Place<'_>) {
    if rule.icmp.is_some() && !rule.protocol.is_some_and(Protocol::is_icmp) {
        at.field("icmp").refuse_all("needs protocol ICMP or ICMPv6");
    }
    for (icmp, field) in [(&rule.icmp, "icmp"), (&rule.not_icmp, "notICMP")] {
        if let Some(icmp) = icmp {
            check_icmp(icmp, &at.field(field));
        }
    }
}

fn check_icmp(icmp: &IcmpFields, at: &Place<'_>) {
    if let Some(icmp_type) = icmp.icmp_type {
        check_range(icmp_type, 0, 254, &at.field("type"));
    }
    if let Some(code) = icmp.code {
        check_range(code, 0, 255, &at.field("code"));
        if icmp.icmp_type.is_none() {
            at.field("code").refuse(code, "needs a type");
        }
    }
}

/// A packet has one IP version, so a rule that names networks of both matches nothing.
fn check_families(rule: &Rule, at: &Place<'_>) {
    let mut wanted = rule.ip_version.map(|version| (version, "ipVersion".to_owned()));
    for (entity, side) in [(&rule.source, "source"), (&rule.destination, "destination")] {
        for (nets, list) in [(&entity.nets, "nets"), (&entity.not_nets, "notNets")] {
            for (index, net) in nets.iter().enumerate() {
                let version = IpVersion::of(net.addr());
                match &wanted {
                    Some((wanted, cause)) if *wanted != version => {
                        let reason =
                            format!("is IPv{version}, but {cause} makes this a rule for IPv{wanted}");
                        at.field(side).field(list).index(index).refuse(net, reason);
                    }
                    Some(_) => {}
                    None => wanted = Some((version, format!("{side}.{list}[{index}]"))),
                }
            }
        }
    }
}

fn check_entity(entity: &EntityRule, at: &Place<'_>) {
    check_count(&entity.nets, MAX_NETS, &at.field("nets"));
    check_count(&entity.not_nets, MAX_NETS, &at.field("notNets"));
    check_not_nets(&entity.not_nets, &at.field("notNets"));
    check_selector(&entity.selector, &at.field("selector"));
    check_selector(&entity.not_selector, &at.field("notSelector"));
    check_namespace_selector(&entity.namespace_selector, &at.field("namespaceSelector"));
    if let Some(accounts) = &entity.service_accounts {
        check_selector(&accounts.selector, &at.field("serviceAccounts").field("selector"));
    }
}

fn check_not_nets(nets: &[Net], at: &Place<'_>) {
    for (index, net) in nets.iter().enumerate().filter(|(_, net)| net.prefix_len() == 0) {
        at.index(index).refuse(net, "excludes every address, so that the rule would match nothing");
    }
}

fn check_ports(entity: &EntityRule, protocol: Option<Protocol>, at: &Place<'_>) {
    for (ports, list) in [(&entity.ports, "ports"), (&entity.not_ports, "notPorts")] {
        let at = at.field(list);
        check_count(ports, MAX_PORTS, &at);
        for (index, port) in ports.iter().enumerate() {
            check_port(port, protocol, &at.index(index));
        }
    }
}

fn check_port(port: &Port, protocol: Option<Protocol>, at: &Place<'_>) {
    if port.range().is_some_and(|(first, _)| first == 0) {
        at.refuse(port, "includes port 0; ports are 1..65535");
    }
    // It would be a good name, but nobody means one.
    if let Port::Named(name) = port
        && name.parse::<i64>().is_ok()
    {
        at.refuse(port, "is out of range: ports are 1..65535");
    }
    match protocol {
        Some(protocol) if !protocol.has_ports() => {
            at.refuse(
                port,
                format!("means nothing: protocol {protocol} has no ports; only TCP, UDP and SCTP have"),
            );
        }
        None if port.range().is_some() => {
            at.refuse(port, "needs protocol TCP, UDP or SCTP; only named ports go without");
        }
        _ => {}
    }
}

fn check_services(entity: &EntityRule, is_destination: bool, context: RuleContext, at: &Place<'_>) {
    let Some(services) = &entity.services else { return };
    let at_services = at.field("services");
    if services.name.is_empty() {
        at_services.field("name").refuse_all("is required");
    }
    if !context.is_namespaced && services.namespace.is_empty() {
        at_services.field("namespace").refuse_all("is required: the policy has no namespace of its own");
    }
    if is_destination != context.is_egress {
        let place = if context.is_egress { "the destination of egress" } else { "the source of ingress" };
        at_services.refuse_all(format!("can only be {place} rules in this list"));
    }
    let others = [
        ("selector", !entity.selector.is_empty()),
        ("notSelector", !entity.not_selector.is_empty()),
        ("namespaceSelector", !entity.namespace_selector.is_empty()),
        ("nets", !entity.nets.is_empty()),
        ("notNets", !entity.not_nets.is_empty()),
        ("serviceAccounts", entity.service_accounts.is_some()),
        // The ports of the service itself are what matters.
        ("ports", is_destination && !entity.ports.is_empty()),
        ("notPorts", is_destination && !entity.not_ports.is_empty()),
    ];
    for (field, _) in others.iter().filter(|(_, is_set)| *is_set) {
        at.field(field).refuse_all("cannot be combined with services; put it into a rule of its own");
    }
}

fn check_http(http: &HttpMatch, rule: &Rule, context: RuleContext, at: &Place<'_>) {
    let at_http = at.field("http");
    if context.is_egress {
        at_http.refuse_all("is only possible in ingress rules");
    }
    if rule.action != Action::Allow {
        at_http.refuse_all(format!("needs action Allow, not {}", rule.action));
    }
    if let Some(protocol) = rule.protocol.filter(|protocol| protocol.number() != Protocol::Tcp.number()) {
        at_http.refuse_all(format!("needs protocol TCP (or none), not {protocol}"));
    }
    check_count(&http.methods, MAX_HTTP, &at_http.field("methods"));
    check_unique(&http.methods, &at_http.field("methods"));
    check_count(&http.paths, MAX_HTTP, &at_http.field("paths"));
    for (index, path) in http.paths.iter().enumerate() {
        check_http_path(path, &at_http.field("paths").index(index));
    }
}

fn check_http_path(path: &HttpPath, at: &Place<'_>) {
    let (text, field) = match (&path.exact, &path.prefix) {
        (Some(exact), None) => (exact, "exact"),
        (None, Some(prefix)) => (prefix, "prefix"),
        _ => return at.refuse_all("has to have exactly one of exact and prefix"),
    };
    let at = at.field(field);
    if text.len() > MAX_HTTP_PATH {
        at.refuse_all(format!("is longer than {MAX_HTTP_PATH} bytes"));
    }
    if !text.starts_with('/') {
        at.refuse(text, "has to start with /");
    }
    if let Some(character) = text.chars().find(|c| matches!(c, '?' | '#') || c.is_whitespace()) {
        at.refuse(text, format!("holds {character:?}, which is no part of a path"));
    }
}
