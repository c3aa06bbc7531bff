//! `BGPFilter`s as rules of a policy (resources.md 5.3).

use std::net::IpAddr;

use api::{
    BGPFilterAction, BGPFilterMatchOperator, BGPFilterOperation, BGPFilterPeerType, BGPFilterRule,
    BGPFilterSource, BGPFilterSpec,
};
use bgp::Asn;
use bgp::packet::PeerKind;
use bgp::policy::{
    Actions, AnyCommunity, Match, PrefixCondition, PrefixMatch, PrefixSet, PriorityMatch, Rule, SourceMatch,
    Verdict, mirrored,
};
use ipnet::IpNet;

use super::problems::Problem;

/// Which way routes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Direction {
    Import,
    Export,
}

/// The rules of a filter in one direction and family, in order. A rule that cannot be read rejects everything: who wrote it
/// wanted to keep something out, or to let something in that is not known.
pub(super) fn rules(
    name: &str,
    spec: &BGPFilterSpec,
    direction: Direction,
    v6: bool,
) -> (Vec<Rule>, Vec<Problem>) {
    let (rules, field) = match (direction, v6) {
        (Direction::Import, false) => (&spec.import_v4, "importV4"),
        (Direction::Import, true) => (&spec.import_v6, "importV6"),
        (Direction::Export, false) => (&spec.export_v4, "exportV4"),
        (Direction::Export, true) => (&spec.export_v6, "exportV6"),
    };
    let mut problems = Vec::new();
    let converted = rules.iter().enumerate().map(|(index, rule)| {
        let label = format!("BGPFilter {name} {field}[{index}]");
        convert(rule, &label).unwrap_or_else(|reason| {
            let object = format!("BGPFilter {name}");
            let reason = format!("{reason}; the rule rejects every route");
            problems.push(Problem::new(object, format!("spec.{field}[{index}]"), reason, "correct the rule"));
            Rule::deciding(label, Match::any(), Verdict::Reject)
        })
    });
    (converted.collect(), problems)
}

fn convert(rule: &BGPFilterRule, label: &str) -> Result<Rule, String> {
    let mut set = Actions::default();
    for operation in rule.operations.iter().flatten() {
        operate(operation, &mut set)?;
    }
    let accepts = rule.action == BGPFilterAction::Accept;
    Ok(Rule {
        name: label.into(),
        when: conditions(rule)?,
        set: if accepts { set } else { Actions::default() },
        verdict: Some(if accepts { Verdict::Accept } else { Verdict::Reject }),
    })
}

fn conditions(rule: &BGPFilterRule) -> Result<Match, String> {
    let communities = rule.communities.iter().flat_map(|communities| &communities.values);
    let mut communities = communities.map(|text| community(text)).collect::<Result<Vec<_>, _>>()?;
    if communities.len() > 1 {
        return Err("communities has more than one value".to_owned());
    }
    let priority = rule.priority.map(|priority| u32::try_from(priority).map_err(|_| bad_priority(priority)));
    Ok(Match {
        family: None,
        prefix: prefix(rule)?,
        peer: rule.peer_type.map(|peer| match peer {
            BGPFilterPeerType::EBGP => PeerKind::External,
            BGPFilterPeerType::IBGP => PeerKind::Internal,
        }),
        source: rule.source.map(|BGPFilterSource::RemotePeers| SourceMatch::Learned),
        interfaces: Some(rule.interface.as_str())
            .filter(|name| !name.is_empty())
            .map(Into::into)
            .into_iter()
            .collect(),
        community: communities.pop(),
        as_path_prefix: rule.as_path_prefix.iter().map(|number| Asn(number.0)).collect(),
        priority: priority.transpose()?.map(PriorityMatch::Exactly),
        next_hop: None,
    })
}

/// `In` and `NotIn` take everything in the CIDR, or the lengths that are given; `Equal` and `NotEqual` the CIDR itself.
fn prefix(rule: &BGPFilterRule) -> Result<Option<PrefixCondition>, String> {
    let (cidr, operator) = match (rule.cidr, rule.match_operator) {
        (Some(cidr), Some(operator)) => (cidr.net().trunc(), operator),
        (None, None) => return Ok(None),
        _ => return Err("cidr and matchOperator belong together".to_owned()),
    };
    use BGPFilterMatchOperator::{Equal, In, NotEqual, NotIn};
    let range = match operator {
        Equal | NotEqual => PrefixMatch::exactly(cidr),
        In | NotIn => PrefixMatch::within(cidr),
    };
    let range = restricted(range, rule)?;
    let is_negated = matches!(operator, NotEqual | NotIn);
    let set: PrefixSet = range.into_iter().collect();
    Ok(Some(PrefixCondition { set, is_negated }))
}

/// The lengths that both the operator and `prefixLength` allow; nothing when there are none.
fn restricted(range: PrefixMatch, rule: &BGPFilterRule) -> Result<Option<PrefixMatch>, String> {
    let Some(lengths) = &rule.prefix_length else { return Ok(Some(range)) };
    let length = |number: Option<i32>| number.map(u8::try_from).transpose();
    let (Ok(min), Ok(max)) = (length(lengths.min), length(lengths.max)) else {
        return Err("prefixLength is not a length of a prefix".to_owned());
    };
    let min_len = min.map_or(range.min_len, |min| min.max(range.min_len));
    let max_len = max.map_or(range.max_len, |max| max.min(range.max_len));
    Ok((min_len <= max_len).then_some(PrefixMatch { min_len, max_len, ..range }))
}

fn operate(operation: &BGPFilterOperation, set: &mut Actions) -> Result<(), String> {
    if let Some(added) = &operation.add_community {
        match community(&added.value)? {
            AnyCommunity::Standard(community) => drop(set.add_communities.insert(community)),
            AnyCommunity::Large(community) => drop(set.add_large_communities.insert(community)),
        }
    }
    if let Some(path) = &operation.prepend_as_path {
        set.prepend.splice(0..0, path.prefix.iter().map(|number| Asn(number.0)));
    }
    if let Some(value) = operation.set_priority.as_ref().and_then(|priority| priority.value) {
        let priority = u32::try_from(value).map_err(|_| bad_priority(value))?;
        set.local_pref = Some(mirrored(priority));
    }
    Ok(())
}

fn bad_priority(priority: i64) -> String {
    format!("{priority} is not a priority: 1 to 2147483646")
}

/// `aa:nn` or `aa:nn:mm`.
pub(super) fn community(text: &str) -> Result<AnyCommunity, String> {
    let is_large = text.matches(':').count() == 2;
    let parsed = match is_large {
        true => text.parse().map(AnyCommunity::Large),
        false => text.parse().map(AnyCommunity::Standard),
    };
    parsed.map_err(|error| error.to_string())
}

/// Every prefix of a family.
pub(super) fn all_of(v6: bool) -> IpNet {
    let any: IpAddr = if v6 { [0u8; 16].into() } else { [0u8; 4].into() };
    IpNet::new(any, 0).expect("no prefix is shorter")
}
