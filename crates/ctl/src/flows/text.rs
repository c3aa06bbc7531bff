//! Flows for people.

use api::wire::flows::{Flow, FlowAction, FlowEnd, FlowPolicy, Unseen};

/// Above the lines.
pub(super) const HEADING: &str =
    "LAST SEEN   ACTION   PROTOCOL   PACKETS   FROM -> TO                                 RULE";

/// A flow in a line.
pub(super) fn line(flow: &Flow) -> String {
    let text = format!(
        "{:<12}{:<9}{:<11}{:>7}   {:<42} {}",
        time(flow.last_seen),
        flow.action.name(),
        protocol(flow),
        flow.packets,
        ends(flow),
        rules(flow),
    );
    text.trim_end().to_owned()
}

/// Who speaks to whom.
pub(super) fn ends(flow: &Flow) -> String {
    format!("{} -> {}", end(&flow.source, false), end(&flow.destination, true))
}

fn end(end: &FlowEnd, with_port: bool) -> String {
    let who = end.name.clone().unwrap_or_else(|| end.address.to_string());
    match end.port.filter(|_| with_port) {
        Some(port) if end.name.is_none() && end.address.is_ipv6() => format!("[{who}]:{port}"),
        Some(port) => format!("{who}:{port}"),
        None => who,
    }
}

/// The protocol in words, with the type and code of ICMP.
pub(crate) fn protocol(flow: &Flow) -> String {
    let name = match flow.protocol {
        1 => "ICMP".to_owned(),
        6 => "TCP".to_owned(),
        17 => "UDP".to_owned(),
        58 => "ICMPv6".to_owned(),
        132 => "SCTP".to_owned(),
        number => number.to_string(),
    };
    match flow.icmp {
        Some((kind, code)) => format!("{name} {kind}/{code}"),
        None => name,
    }
}

/// The rule that denied, or all that allowed; and what staged ones would do.
fn rules(flow: &Flow) -> String {
    let decided =
        |policy: &&FlowPolicy| flow.action == FlowAction::Allow || policy.action == FlowAction::Deny;
    let rules = flow.policies.iter().filter(decided).map(rule);
    let staged = flow.policies.iter().filter_map(|policy| {
        let staged = policy.staged.as_ref()?;
        let by = staged.rule.as_deref().unwrap_or("a rule that is not known");
        Some(format!("staged: would {}: {by}", staged.action.name()))
    });
    rules.chain(staged).collect::<Vec<_>>().join("; ")
}

fn rule(policy: &FlowPolicy) -> String {
    policy.rule.clone().unwrap_or_else(|| format!("{} rule not known", policy.direction))
}

fn time(milliseconds: i64) -> String {
    match jiff::Timestamp::from_millisecond(milliseconds) {
        Ok(time) if milliseconds > 0 => time.strftime("%H:%M:%SZ").to_string(),
        _ => "connected".to_owned(),
    }
}

/// What is missing, in a line.
pub(super) fn unseen(unseen: &Unseen) -> String {
    let Unseen {
        lost_packets,
        denied_deaf_ms,
        allowed_deaf_ms,
        uncounted_denials,
        skipped_lines,
        skipped_connections,
        connections_unknown,
    } = *unseen;
    let parts = [
        (lost_packets > 0).then(|| format!("{lost_packets} packets could not be queued")),
        (denied_deaf_ms > 0)
            .then(|| format!("too many denied packets: nobody looked at them for {denied_deaf_ms} ms")),
        (allowed_deaf_ms > 0)
            .then(|| format!("too many new connections: nobody looked at them for {allowed_deaf_ms} ms")),
        (uncounted_denials > 0).then(|| format!("{uncounted_denials} denied packets were not looked at")),
        (skipped_lines > 0).then(|| format!("{skipped_lines} lines were left out: this reads too slowly")),
        (skipped_connections > 0)
            .then(|| format!("too many tracked connections: {skipped_connections} of them were left out")),
        connections_unknown.then(|| "the kernel's tracked connections cannot be listed".to_owned()),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use api::wire::flows::StagedPolicy;

    use super::*;

    fn flow(action: FlowAction) -> Flow {
        let end = |address: &str, name: Option<&str>| FlowEnd {
            address: address.parse().unwrap(),
            port: Some(80),
            name: name.map(str::to_owned),
        };
        let policy = |direction: &str, action, rule: &str| FlowPolicy {
            endpoint: "shop/db".to_owned(),
            direction: direction.to_owned(),
            action,
            rule: Some(rule.to_owned()),
            staged: None,
        };
        let mut to = policy("ingress", action, "GlobalNetworkPolicy/web ingress 0");
        to.staged =
            Some(StagedPolicy { action: FlowAction::Deny, rule: Some("end of tier default ingress".into()) });
        Flow {
            node: "n".to_owned(),
            first_seen: 1,
            last_seen: 1_764_028_800_000,
            action,
            protocol: 6,
            icmp: None,
            source: end("fd00::1", None),
            destination: end("fd00::2", Some("shop/db")),
            packets: 3,
            denied_packets: 0,
            policies: vec![policy("egress", FlowAction::Allow, "Profile/kns.shop egress 0"), to],
        }
    }

    #[test]
    fn what_is_denied_has_the_rule_that_denies_and_what_is_allowed_all_that_allow() {
        assert_eq!(
            rules(&flow(FlowAction::Deny)),
            "GlobalNetworkPolicy/web ingress 0; staged: would deny: end of tier default ingress"
        );
        assert!(
            rules(&flow(FlowAction::Allow)).starts_with("Profile/kns.shop egress 0; GlobalNetworkPolicy/web")
        );
    }

    #[test]
    fn ends_have_names_where_they_are_known_and_the_port_that_is_asked_for() {
        assert_eq!(ends(&flow(FlowAction::Allow)), "fd00::1 -> shop/db:80");
        let line = line(&flow(FlowAction::Deny));
        assert!(line.starts_with("00:00:00Z   deny     TCP "), "{line}");
        let mut icmp = flow(FlowAction::Deny);
        (icmp.protocol, icmp.icmp) = (58, Some((128, 0)));
        assert_eq!(protocol(&icmp), "ICMPv6 128/0");
    }

    #[test]
    fn what_is_missing_is_said() {
        let missing = Unseen { denied_deaf_ms: 900, uncounted_denials: 7, ..Unseen::default() };
        assert_eq!(
            unseen(&missing),
            "too many denied packets: nobody looked at them for 900 ms; 7 denied packets were not looked at"
        );
    }
}
