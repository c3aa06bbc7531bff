//! Sample routes through the policies of a plan.

use std::collections::BTreeSet;
use std::net::IpAddr;

use bgp::Asn;
use bgp::packet::PeerKind;
use bgp::packet::attribute::{Community, LargeCommunity};
use bgp::policy::{Actions, Policy, Route, RouteAttributes, SourceMatch, Verdict, mirrored};
use calc::bgp_plan::{BgpPlan, Peer};
use serde_json::{Map, Value, json};
use testkit::vectors::Case;

/// Every probe of a case: the verdict, and what is changed.
pub(crate) fn check(case: &Case, plan: &BgpPlan) -> Result<(), String> {
    for direction in ["export", "import"] {
        for group in list(&case.then[direction]) {
            for name in list(&group["peers"]) {
                let peer = peer(plan, name.as_str().unwrap(), &group["family"])?;
                let policy = if direction == "export" { &peer.export } else { &peer.import };
                let is_internal = peer.local_as == peer.remote_as;
                let kind = if is_internal { PeerKind::Internal } else { PeerKind::External };
                for probe in list(&group["probes"]) {
                    try_one(plan, policy, Some(kind), probe)
                        .map_err(|e| format!("{direction} {name}: {e}"))?;
                }
            }
        }
    }
    let kernel = list(&case.then["kernel"]).flat_map(|group| list(&group["probes"]));
    kernel.into_iter().try_for_each(|probe| {
        try_one(plan, &plan.kernel, None, probe).map_err(|error| format!("kernel: {error}"))
    })
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// `ADDRESS` or `ADDRESS port PORT`; the family is that of the address.
fn peer<'a>(plan: &'a BgpPlan, name: &str, family: &Value) -> Result<&'a Peer, String> {
    let (address, port) = name.split_once(" port ").map_or((name, None), |(a, port)| (a, Some(port)));
    let address: IpAddr = address.parse().map_err(|_| format!("{name} is no peer"))?;
    let port: Option<u16> = port.map(|port| port.parse().unwrap());
    let is = |peer: &&Peer| peer.address == address && port.is_none_or(|port| peer.port == port);
    assert_eq!(family == "ipv6", address.is_ipv6(), "{name}");
    plan.peers.iter().find(is).ok_or_else(|| format!("there is no session with {name}"))
}

fn try_one(plan: &BgpPlan, policy: &Policy, peer: Option<PeerKind>, probe: &Value) -> Result<(), String> {
    let given = &probe["route"];
    let is_learned = given["origin"] == "bgp";
    let is_kernel = peer.is_none();
    let attributes = attributes(plan, given, is_learned, is_kernel);
    let next_hop = given["next_hop"].as_str().map(|address| address.parse().unwrap());
    let route = Route {
        prefix: given["net"].as_str().unwrap().parse().unwrap(),
        source: if is_learned { SourceMatch::Learned } else { SourceMatch::Local },
        peer,
        next_hop,
        interface: given["interface"].as_str(),
        attributes: &attributes,
    };
    let trace = policy.trace(&route);
    let evaluated = policy.evaluate(&route).map(|applied| policy.changes(&applied));
    assert_eq!(evaluated.is_some(), trace.verdict == Verdict::Accept);
    assert_eq!(evaluated.unwrap_or_default(), trace.changes);
    let set = match trace.verdict {
        Verdict::Accept => changes(given, &attributes, &trace.changes, is_kernel && is_learned),
        Verdict::Reject => json!({}),
    };
    let expected = normal(probe.get("set").cloned().unwrap_or(json!({})));
    if trace.verdict.to_string() != probe["verdict"].as_str().unwrap() || set != expected {
        let by = trace.decided_by.map_or("the default", |rule| &policy.rules[rule].name);
        let verdict = trace.verdict;
        return Err(format!(
            "{given}: {verdict} with {set} by {by}, not {} with {expected}",
            probe["verdict"]
        ));
    }
    Ok(())
}

/// A route of our own has the LOCAL_PREF of its metric, or of the normal one, before policies see it.
fn attributes(plan: &BgpPlan, given: &Value, is_learned: bool, is_kernel: bool) -> RouteAttributes {
    let number = |field: &str| given[field].as_u64().map(|number| u32::try_from(number).unwrap());
    let local_pref = match (is_learned, is_kernel) {
        (true, _) => number("local_pref"),
        (false, true) => None,
        (false, false) => {
            let v6 = given["net"].as_str().unwrap().contains(':');
            let normal = plan.normal_priorities[usize::from(v6)];
            Some(mirrored(number("metric").unwrap_or(normal)))
        }
    };
    let texts = |field: &str| list(&given[field]).map(|text| text.as_str().unwrap()).collect::<Vec<_>>();
    RouteAttributes {
        local_pref,
        med: None,
        communities: texts("communities").iter().map(|text| text.parse::<Community>().unwrap()).collect(),
        large_communities: texts("large_communities")
            .iter()
            .map(|text| text.parse::<LargeCommunity>().unwrap())
            .collect(),
        as_path: list(&given["as_path"]).map(|asn| Asn(asn.as_u64().unwrap().try_into().unwrap())).collect(),
    }
}

/// What differs from the route as it was given.
fn changes(given: &Value, before: &RouteAttributes, changes: &Actions, has_metric: bool) -> Value {
    let mut after = before.clone();
    after.apply(changes);
    let mut set = Map::new();
    let mut differs = |field: &str, value: Value| {
        if given.get(field).unwrap_or(&Value::Null) != &value {
            set.insert(field.to_owned(), value);
        }
    };
    if let Some(local_pref) = after.local_pref {
        differs("local_pref", json!(local_pref));
    }
    if !after.as_path.is_empty() {
        differs("as_path", json!(after.as_path.iter().map(|asn| asn.0).collect::<Vec<_>>()));
    }
    let communities: BTreeSet<_> = after.communities.iter().map(ToString::to_string).collect();
    let large: BTreeSet<_> = after.large_communities.iter().map(ToString::to_string).collect();
    if !changes.add_communities.is_empty() {
        differs("communities", json!(communities));
    }
    if !changes.add_large_communities.is_empty() {
        differs("large_communities", json!(large));
    }
    if let Some(preference) = changes.preference {
        differs("preference", json!(preference));
    }
    if let Some(tunnel) = &changes.tunnel {
        differs("tunnel", json!(tunnel.to_string()));
    }
    if let Some(local_pref) = after.local_pref.filter(|_| has_metric) {
        differs("metric", json!(mirrored(local_pref)));
    }
    normal(Value::Object(set))
}

/// Lists of communities are sets; no tunnel is no change.
fn normal(mut set: Value) -> Value {
    for field in ["communities", "large_communities"] {
        if let Some(list) = set.get_mut(field).and_then(Value::as_array_mut) {
            list.sort_by_key(ToString::to_string);
        }
    }
    if set["tunnel"] == "" || set["tunnel"].is_null() {
        set.as_object_mut().unwrap().remove("tunnel");
    }
    set
}
