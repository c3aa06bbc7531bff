//! What the speaker says, as it goes over the node's socket.

use std::collections::BTreeMap;
use std::time::Instant;

use api::wire::bgp::{
    KernelView, Lost, Peer, PeerCapability, PeerMessages, PeerPath, PeerPrefixes, PeerSession, PeerTimers,
    PolicyStep, PolicyTrace, Rejected, Route, RouteAttributes, RouteChange, SessionChange, Station, Told,
    ToldChange, WhatIfPage, Why, WhyAggregate, WhyPath,
};
use bgp::config::{ConnectMode, PeerConfig, StationView};
use bgp::packet::attribute::{Attribute, AttributeValue};
use bgp::policy::{StepOutcome, Trace, Verdict};
use bgp::query::{AggregateView, Defeat, Explanation, PathExplanation, RejectedRoute, RouteView, ToldPeer};
use bgp::rib::AttributeSet;
use bgp::session::SessionState;
use bgp::{PathStatus, PeerStatus, StationStatus};
use kernel::link::Link;
use kernel::route::{KernelRoute, RouteKind};

use super::questions::PeerView;
use crate::status::seconds_since_epoch;

/// Steps of a policy that are shown; of more, those in the middle that did not match are left out.
const STEPS: usize = 32;

/// A session.
pub(super) fn peer(view: PeerView) -> Peer {
    let PeerView { status, config, local_as, capabilities, counts } = view;
    let is_up = status.state == SessionState::Established;
    Peer {
        name: status.id.to_string(),
        address: status.address,
        peer_type: status.label.clone(),
        remote_as: status.remote_as.0,
        local_as,
        reflector_client: config.as_ref().is_some_and(|config| config.reflector_client),
        state: status.state.to_string(),
        since: seconds_since_epoch(status.since),
        uptime_seconds: is_up.then(|| Instant::now().saturating_duration_since(status.since).as_secs()),
        reason: status.reason.as_ref().map(ToString::to_string),
        remedy: status.remedy.clone(),
        established_count: status.established_count,
        flaps: status.flaps(),
        session: session(&status),
        bfd: status.path.map(path_to),
        configured: config.as_ref().map(timers).unwrap_or_default(),
        prefixes: prefixes(&status, &counts),
        messages: PeerMessages {
            received: status.messages.received,
            sent: status.messages.sent,
            updates_received: status.messages.updates_received,
            updates_sent: status.messages.updates_sent,
            malformed_updates: status.messages.malformed_updates,
        },
        capabilities: capabilities
            .into_iter()
            .map(|pair| PeerCapability { name: pair.name.to_owned(), ours: pair.ours, theirs: pair.theirs })
            .collect(),
    }
}

fn session(status: &PeerStatus) -> Option<PeerSession> {
    let established = status.established.as_ref()?;
    let names = |families: &[bgp::Family]| families.iter().map(ToString::to_string).collect();
    Some(PeerSession {
        router_id: established.router_id.to_string(),
        local_address: established.local_address,
        hold_seconds: established.hold_time.as_secs(),
        keepalive_seconds: established.keepalive.as_secs(),
        families: names(&established.families),
        end_of_rib: names(&established.end_of_rib),
        graceful_restart: established.graceful_restart,
        unread_octets: status.unread,
    })
}

fn path_to(status: PathStatus) -> PeerPath {
    let PathStatus { bfd, path } = status;
    let unknown = || "not up: nothing has come from the peer's BFD yet".to_owned();
    PeerPath {
        state: path.map_or_else(unknown, |path| path.to_string()),
        interval_milliseconds: u64::try_from(bfd.interval.as_millis()).unwrap_or(u64::MAX),
        multiplier: bfd.multiplier,
        multihop: bfd.multihop,
        strict: bfd.strict,
    }
}

fn timers(config: &PeerConfig) -> PeerTimers {
    PeerTimers {
        port: config.port,
        passive: config.connect == ConnectMode::Passive,
        hold_seconds: config.timers.hold.as_secs(),
        keepalive_seconds: config.timers.keepalive.map(|time| time.as_secs()),
        connect_retry_seconds: config.timers.connect_retry.as_secs(),
        restart_seconds: config.graceful_restart.map(|restart| restart.restart_time.as_secs()),
    }
}

fn prefixes(status: &PeerStatus, counts: &[(u64, u64)]) -> BTreeMap<String, PeerPrefixes> {
    let stale = |family| {
        let of_it = status.stale.iter().find(|(other, _)| *other == family);
        of_it.map_or(0, |(_, routes)| *routes as u64)
    };
    let families = status.received.iter().zip(counts);
    let prefixes = families.map(|((family, received), (best, advertised))| {
        let (received, stale) = (*received as u64, stale(*family));
        (family.to_string(), PeerPrefixes { received, stale, best: *best, advertised: *advertised })
    });
    prefixes.collect()
}

/// A route.
pub(super) fn route(view: &RouteView) -> Route {
    let next_hop = view.attributes.next_hop;
    Route {
        prefix: view.prefix,
        next_hop: (!next_hop.is_unspecified()).then_some(next_hop),
        from: view.from,
        peer: view.peer.as_ref().map(ToString::to_string),
        path_id: view.path_id,
        best: view.best,
        multipath: view.multipath,
        stale: view.stale,
        unusable: view.unusable.map(|unusable| unusable.to_string()),
        attributes: attributes(&view.attributes),
    }
}

fn attributes(set: &AttributeSet) -> RouteAttributes {
    let mut attributes = RouteAttributes {
        origin: set.origin.to_string(),
        local_pref: set.local_pref,
        med: set.med,
        preference: set.preference,
        ..RouteAttributes::default()
    };
    for attribute in set.decode() {
        match &attribute.value {
            AttributeValue::Origin(_) | AttributeValue::Med(_) | AttributeValue::LocalPref(_) => {}
            AttributeValue::AsPath(path) => attributes.as_path = path.to_string(),
            AttributeValue::Communities(list) => {
                attributes.communities = list.iter().map(ToString::to_string).collect();
            }
            AttributeValue::LargeCommunities(list) => {
                attributes.large_communities = list.iter().map(ToString::to_string).collect();
            }
            _ => {
                let (name, value) = other(&attribute);
                attributes.others.insert(name, value);
            }
        }
    }
    attributes
}

/// Attributes that are seldom there.
fn other(attribute: &Attribute) -> (String, String) {
    let joined = |texts: Vec<String>| texts.join(" ");
    let hex = |octets: &[u8]| octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
    match &attribute.value {
        AttributeValue::AtomicAggregate => ("ATOMIC_AGGREGATE".to_owned(), "yes".to_owned()),
        AttributeValue::Aggregator(by) => ("AGGREGATOR".to_owned(), format!("AS {} {}", by.asn, by.address)),
        AttributeValue::OriginatorId(id) => ("ORIGINATOR_ID".to_owned(), id.to_string()),
        AttributeValue::ClusterList(list) => {
            ("CLUSTER_LIST".to_owned(), joined(list.iter().map(ToString::to_string).collect()))
        }
        AttributeValue::ExtendedCommunities(list) => {
            ("EXTENDED_COMMUNITIES".to_owned(), joined(list.iter().map(|octets| hex(octets)).collect()))
        }
        AttributeValue::Ipv6ExtendedCommunities(list) => {
            ("IPV6_EXTENDED_COMMUNITIES".to_owned(), joined(list.iter().map(|octets| hex(octets)).collect()))
        }
        AttributeValue::Aigp(octets) => ("AIGP".to_owned(), hex(octets)),
        AttributeValue::Otc(asn) => ("OTC".to_owned(), asn.to_string()),
        AttributeValue::Unknown { code, value } => (format!("attribute {code}"), hex(value)),
        rest => (format!("attribute {}", rest.code()), "not kept in this form".to_owned()),
    }
}

/// An explanation.
pub(super) fn why(explanation: Explanation, kernel: KernelView) -> Why {
    Why {
        prefix: explanation.prefix,
        aggregate: explanation.aggregate.as_ref().map(aggregate),
        paths: explanation.paths.iter().map(path).collect(),
        more_paths: explanation.more_paths as u64,
        rejected: explanation.rejected.iter().map(rejected).collect(),
        kernel,
        told: explanation.told.iter().map(told).collect(),
        more_peers: explanation.more_peers as u64,
    }
}

fn aggregate(aggregate: &AggregateView) -> WhyAggregate {
    WhyAggregate {
        summary_only: aggregate.config.summary_only,
        internal_peers: aggregate.config.internal,
        count: aggregate.count as u64,
        first: aggregate.first.clone(),
    }
}

fn path(path: &PathExplanation) -> WhyPath {
    WhyPath {
        route: route(&path.route),
        lost: path.defeat.as_ref().map(lost),
        import: path.import.as_ref().map(|import| trace(&import.trace, import.exact)),
    }
}

fn lost(defeat: &Defeat) -> Lost {
    Lost {
        step: defeat.step.to_string(),
        this: defeat.this.clone(),
        better: defeat.better.clone(),
        beaten_by: defeat.beaten_by.as_ref().map(ToString::to_string),
    }
}

fn rejected(rejected: &RejectedRoute) -> Rejected {
    Rejected { route: route(&rejected.route), import: trace(&rejected.import, true) }
}

fn told(told: &ToldPeer) -> Told {
    let outdated = told.outdated.then(|| "something newer is still to be told".to_owned());
    let (routes, reason) = match &told.route {
        Ok(routes) => (routes.iter().map(route).collect(), outdated),
        Err(reason) => (Vec::new(), Some(reason.to_string())),
    };
    Told {
        peer: told.peer.to_string(),
        address: told.address,
        routes,
        reason,
        export: told.export.as_ref().map(|export| trace(export, true)),
    }
}

fn trace(trace: &Trace, exact: bool) -> PolicyTrace {
    let steps = trace.steps.iter().map(|step| PolicyStep {
        rule: step.name.to_string(),
        condition: step.condition.clone(),
        outcome: match &step.outcome {
            StepOutcome::NotMatched(mismatch) => format!("does not match: {mismatch}"),
            StepOutcome::Continued(actions) => format!("matches: {actions}; goes on"),
            StepOutcome::Accepted(actions) if actions.is_empty() => "accepts".to_owned(),
            StepOutcome::Accepted(actions) => format!("accepts: {actions}"),
            StepOutcome::Rejected => "rejects".to_owned(),
        },
    });
    let accepted = trace.verdict == Verdict::Accept;
    let by_default = trace.decided_by.is_none();
    PolicyTrace {
        accepted,
        steps: shortened(steps.collect()),
        default: by_default.then(|| trace.verdict.to_string()),
        exact,
    }
}

/// The first and the last steps, and all in between that match.
fn shortened(steps: Vec<PolicyStep>) -> Vec<PolicyStep> {
    if steps.len() <= STEPS {
        return steps;
    }
    let end = steps.len() - STEPS / 2;
    let mut left_out = 0;
    let mut kept: Vec<PolicyStep> = Vec::new();
    for (index, step) in steps.into_iter().enumerate() {
        let in_the_middle = (STEPS / 2..end).contains(&index);
        if in_the_middle && (step.outcome.starts_with("does not match") || kept.len() > STEPS * 2) {
            left_out += 1;
            continue;
        }
        if left_out > 0 && index >= end {
            let rule = format!("({left_out} more)");
            kept.push(PolicyStep { rule, condition: String::new(), outcome: "do not match".to_owned() });
            left_out = 0;
        }
        kept.push(step);
    }
    kept
}

/// What would change.
pub(super) fn what_if(page: bgp::query::WhatIfPage) -> WhatIfPage {
    let words = |events: &[bgp::query::SessionEvent]| {
        events.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    };
    WhatIfPage {
        sessions: page
            .sessions
            .iter()
            .map(|change| SessionChange {
                peer: change.peer.to_string(),
                address: change.address,
                change: words(&change.events),
            })
            .collect(),
        changes: page
            .changes
            .iter()
            .map(|change| RouteChange {
                prefix: change.prefix,
                before: change.before.iter().map(route).collect(),
                after: change.after.iter().map(route).collect(),
            })
            .collect(),
        told: page
            .told
            .iter()
            .map(|(peer, told)| ToldChange {
                peer: peer.to_string(),
                announced: told.announced,
                changed: told.changed,
                withdrawn: told.withdrawn,
            })
            .collect(),
        examined: page.examined as u64,
        next: page.next.map(|next| api::wire::bgp::Cursor(next.to_string())),
    }
}

/// A route in the words of `ip route`.
pub(super) fn kernel_route(route: &KernelRoute, links: &[Link]) -> String {
    let mut text = match route.kind {
        RouteKind::Unicast => String::new(),
        RouteKind::Blackhole => "blackhole ".to_owned(),
        RouteKind::Unreachable => "unreachable ".to_owned(),
        RouteKind::Prohibit => "prohibit ".to_owned(),
        RouteKind::Throw => "throw ".to_owned(),
        RouteKind::Other(number) => format!("type {number} "),
    };
    text += &match route.destination.prefix_len() {
        0 => "default".to_owned(),
        _ => route.destination.to_string(),
    };
    let name = |index: u32| links.iter().find(|link| link.index == index).map(|link| link.name.to_string());
    for hop in &route.hops {
        if route.hops.len() > 1 {
            text += " nexthop";
        }
        text += &hop.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
        let device = hop.device.map(|index| name(index).unwrap_or_else(|| format!("#{index}")));
        text += &device.map(|device| format!(" dev {device}")).unwrap_or_default();
    }
    text += &format!(" proto {}", protocol(route.protocol));
    if route.metric != 0 {
        text += &format!(" metric {}", route.metric);
    }
    text
}

/// `rt_protos` of iproute2, as far as it matters here.
fn protocol(number: u8) -> String {
    match number {
        2 => "kernel".to_owned(),
        3 => "boot".to_owned(),
        4 => "static".to_owned(),
        9 => "ra".to_owned(),
        12 => "bird".to_owned(),
        16 => "dhcp".to_owned(),
        186 => "bgp".to_owned(),
        other => other.to_string(),
    }
}

/// A monitoring station.
pub(super) fn station(status: StationStatus) -> Station {
    let view = |view: &StationView| match view {
        StationView::PrePolicy => "PrePolicy",
        StationView::PostPolicy => "PostPolicy",
        StationView::LocRib => "LocRIB",
    };
    Station {
        name: status.name,
        views: status.config.views.iter().map(|each| view(each).to_owned()).collect(),
        connected_seconds: status.since.map(|at| Instant::now().saturating_duration_since(at).as_secs()),
        reason: status.reason,
        unread_octets: status.unread as u64,
        waiting_changes: status.waiting as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(number: usize, outcome: &str) -> PolicyStep {
        PolicyStep { rule: number.to_string(), condition: String::new(), outcome: outcome.to_owned() }
    }

    #[test]
    fn a_long_policy_keeps_its_ends_and_what_matches() {
        let mut steps: Vec<PolicyStep> = (0..1000).map(|number| step(number, "does not match: x")).collect();
        steps[500].outcome = "matches: no change; goes on".to_owned();
        steps[999].outcome = "accepts".to_owned();
        let kept = shortened(steps);
        assert_eq!(kept.len(), STEPS + 2);
        assert_eq!((kept[0].rule.as_str(), kept[STEPS + 1].rule.as_str()), ("0", "999"));
        assert!(kept.iter().any(|step| step.rule == "500"));
        assert!(kept.iter().any(|step| step.rule == "(967 more)"), "{kept:?}");
        assert_eq!(shortened(vec![step(1, "accepts")]).len(), 1);
    }
}
