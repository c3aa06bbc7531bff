//! Rows that a newer version wrote, as a node takes them: what cannot be read never opens anything, and the rest of the
//! row counts.
//!
//! | what cannot be read | is taken as |
//! |---|---|
//! | a rule: its action, a value, or a field that this version does not know | nothing matches it, if it allows or logs; else (also for an unknown action) it denies everything |
//! | another field of a policy or profile | a policy that denies everything to those that it selects, first in its tier if `order` cannot be read; no label lent |
//! | whom a policy is about (`selector`, …) | a row that does not exist |
//! | a tier's order or default action | absent: 1,000,000, `Deny` |
//! | a network of a set | not in it |
//! | `profiles` or another field of a host endpoint | absent: without profiles it is closed; but its `node` and `interfaceName` have to be read |

use serde_json::{Value, json};

use super::{Row, RowError, named};
use crate::decode::{self, Problem, Tree};
use crate::scalars::Net;
use crate::{Key, Kind, Resource, Rule, Violation};

/// The fields that say whom a policy or a host endpoint is about.
const SUBJECT: [&str; 5] =
    ["selector", "namespaceSelector", "serviceAccountSelector", "node", "interfaceName"];
const DIRECTIONS: [&str; 2] = ["ingress", "egress"];

impl Row {
    /// Reads a row for those who enforce it. What cannot be read of a policy, profile, tier, network set or host
    /// endpoint is replaced by something that opens nothing, and is told; a rule in which that happened says so ([`Rule::unreadable`]).
    ///
    /// # Errors
    /// When there is nothing left that could be enforced. The row counts as not there.
    pub fn decode_closed(key: &Key, text: &str) -> Result<(Self, Vec<Violation>), RowError> {
        let whole = || Self::decode(key, text).map(|row| (row, Vec::new()));
        let Key::Resource { kind, namespace, name } = key else { return whole() };
        if let Some(resource) = Resource::from_known_row(*kind, text) {
            return Ok((Self::Resource(named(resource, namespace.as_deref(), name)), Vec::new()));
        }
        let (true, Ok(value)) = (can_be_closed(*kind), serde_json::from_str::<Value>(text)) else {
            return whole();
        };
        let mut closing = Closing { kind: *kind, value, problems: Vec::new(), rules: Vec::new() };
        let resource = closing
            .resource()
            .map_err(|violation| RowError { key: key.clone(), violation: Box::new(violation) })?;
        Ok((Self::Resource(named(resource, namespace.as_deref(), name)), closing.problems))
    }
}

fn can_be_closed(kind: Kind) -> bool {
    let others = [Kind::Tier, Kind::HostEndpoint, Kind::NetworkSet, Kind::GlobalNetworkSet];
    has_rules(kind) || others.contains(&kind)
}

fn has_rules(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::NetworkPolicy
            | Kind::GlobalNetworkPolicy
            | Kind::StagedNetworkPolicy
            | Kind::StagedGlobalNetworkPolicy
            | Kind::Profile
    )
}

/// A row on its way to something that can be read.
struct Closing {
    kind: Kind,
    value: Value,
    problems: Vec<Violation>,
    /// Direction, index, and why the rule cannot be read.
    rules: Vec<(&'static str, usize, String)>,
}

impl Closing {
    fn resource(&mut self) -> Result<Resource, Violation> {
        self.check_shape()?;
        if has_rules(self.kind) {
            self.close_rules();
        }
        if matches!(self.kind, Kind::NetworkSet | Kind::GlobalNetworkSet) {
            self.drop_networks();
        }
        let mut resource = match self.decoded() {
            Ok(resource) => resource,
            Err(_) => {
                self.drop_fields()?;
                self.decoded()?
            }
        };
        for (direction, index, reason) in &self.rules {
            let rule = rules_mut(&mut resource, direction).and_then(|rules| rules.get_mut(*index));
            if let Some(rule) = rule {
                rule.unreadable = Some(reason.clone());
            }
        }
        Ok(resource)
    }

    /// Of what is no object nothing can be closed, nor said whom it is about.
    fn check_shape(&self) -> Result<(), Violation> {
        let is_object = |value: &Value| value.is_null() || value.is_object();
        match (self.value.is_object(), is_object(&self.value["spec"])) {
            (true, true) => Ok(()),
            (false, _) => Err(no_object("")),
            (true, false) => Err(no_object("spec")),
        }
    }

    fn decoded(&self) -> Result<Resource, Violation> {
        Resource::from_lenient_tree(self.kind, &Tree::from(&self.value)).map_err(first)
    }

    /// Puts something that can be read in the place of each rule that cannot.
    fn close_rules(&mut self) {
        for direction in DIRECTIONS {
            let Some(rules) = self.value["spec"][direction].as_array_mut() else { continue };
            for (index, rule) in rules.iter_mut().enumerate() {
                let Err(problems) = decode::strict::<Rule>(&Tree::from(&*rule)) else { continue };
                let violation = first(problems).within(&format!("spec.{direction}[{index}]"));
                self.rules.push((direction, index, violation.to_string()));
                self.problems.push(violation);
                let action = rule["action"].as_str();
                let action = action.filter(|word| ["Allow", "Log", "Pass"].contains(word)).unwrap_or("Deny");
                *rule = json!({ "action": action });
            }
        }
    }

    fn drop_networks(&mut self) {
        let Some(nets) = self.value["spec"]["nets"].as_array_mut() else { return };
        let mut index = 0;
        nets.retain(|net| {
            let place = format!("spec.nets[{index}]");
            index += 1;
            let problem = decode::strict::<Net>(&Tree::from(net)).err();
            let is_good = problem.is_none();
            self.problems.extend(problem.map(|problems| first(problems).within(&place)));
            is_good
        });
    }

    /// Drops the fields of the spec that cannot be read; a policy then denies everything in the directions that it is about.
    fn drop_fields(&mut self) -> Result<(), Violation> {
        let fields = match self.value["spec"].take() {
            Value::Object(fields) => fields,
            _ => return Err(no_object("spec")),
        };
        self.value["spec"] = json!({});
        self.decoded()?;
        let mut dropped = Vec::new();
        for (field, content) in fields {
            self.value["spec"][&field] = content;
            let Err(problem) = self.decoded() else { continue };
            if SUBJECT.contains(&field.as_str()) {
                return Err(problem);
            }
            if let Value::Object(spec) = &mut self.value["spec"] {
                spec.remove(&field);
            }
            self.problems.push(problem);
            dropped.push(field);
        }
        if has_rules(self.kind) {
            self.deny_everything(&dropped);
        }
        Ok(())
    }

    /// A policy whose place is lost comes before all others of its tier, and to forwarded traffic too: what it might have denied,
    /// none of them may allow.
    fn deny_everything(&mut self, dropped: &[String]) {
        let reason = self.problems.last().map(ToString::to_string).unwrap_or_default();
        let spec = &mut self.value["spec"];
        let foremost = [("order", json!(f64::MIN)), ("applyOnForward", json!(true))];
        for (field, value) in
            foremost.into_iter().filter(|(field, _)| dropped.iter().any(|name| name == field))
        {
            spec[field] = value;
        }
        // Before destination NAT, packets only come in.
        let directions = if spec["preDNAT"] == json!(true) { &DIRECTIONS[..1] } else { &DIRECTIONS[..] };
        self.rules.clear();
        for direction in DIRECTIONS {
            let rules =
                if directions.contains(&direction) { json!([{ "action": "Deny" }]) } else { json!([]) };
            spec[direction] = rules;
            self.rules.push((direction, 0, reason.clone()));
        }
    }
}

fn rules_mut<'a>(resource: &'a mut Resource, direction: &str) -> Option<&'a mut Vec<Rule>> {
    let [ingress, egress] = match resource {
        Resource::NetworkPolicy(policy) => [&mut policy.spec.ingress, &mut policy.spec.egress],
        Resource::GlobalNetworkPolicy(policy) => [&mut policy.spec.ingress, &mut policy.spec.egress],
        Resource::StagedNetworkPolicy(policy) => [&mut policy.spec.ingress, &mut policy.spec.egress],
        Resource::StagedGlobalNetworkPolicy(policy) => [&mut policy.spec.ingress, &mut policy.spec.egress],
        Resource::Profile(profile) => [&mut profile.spec.ingress, &mut profile.spec.egress],
        _ => return None,
    };
    Some(if direction == DIRECTIONS[0] { ingress } else { egress })
}

fn no_object(field: &str) -> Violation {
    Violation { field: field.into(), value: None, reason: "is no object".into() }
}

fn first(problems: Vec<Problem>) -> Violation {
    super::first(problems)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Action;

    fn closed(kind: Kind, spec: Value) -> (Value, Resource, Vec<String>) {
        let namespace = kind.is_namespaced().then(|| "ns".to_owned());
        let key = Key::Resource { kind, namespace, name: "x".to_owned() };
        let text = json!({ "metadata": {}, "spec": spec }).to_string();
        let (row, problems) = Row::decode_closed(&key, &text).expect("something is left");
        let Row::Resource(resource) = row else { panic!("{row:?}") };
        assert_eq!(resource.key(), key);
        let problems = problems.iter().map(ToString::to_string).collect();
        (resource.to_value()["spec"].clone(), resource, problems)
    }

    fn refused(kind: Kind, text: &str) -> String {
        Row::decode_closed(&Key::cluster(kind, "x"), text).expect_err("nothing is left").to_string()
    }

    #[test]
    fn an_action_from_a_newer_version_denies_in_its_place() {
        let spec = json!({ "selector": "a == 'b'", "ingress": [
            { "action": "Allow", "protocol": "TCP" },
            { "action": "Audit", "source": { "nets": ["10.0.0.0/8"] } },
            { "action": "Allow" },
        ] });
        let (_, resource, problems) = closed(Kind::NetworkPolicy, spec);
        let Resource::NetworkPolicy(policy) = resource else { panic!("{resource:?}") };
        let rules = policy.spec.ingress;
        assert_eq!(
            rules.iter().map(|rule| rule.action).collect::<Vec<_>>(),
            [Action::Allow, Action::Deny, Action::Allow]
        );
        let unreadable: Vec<bool> = rules.iter().map(|rule| rule.unreadable.is_some()).collect();
        assert_eq!(unreadable, [false, true, false]);
        assert_eq!(policy.spec.selector, "a == 'b'");
        assert_eq!(problems, ["spec.ingress[1].action: \"Audit\" is not one of Allow, Deny, Log, Pass"]);
    }

    #[test]
    fn a_condition_that_is_not_known_is_not_left_out() {
        for rule in [
            json!({ "action": "Allow", "destination": { "domains": ["example.com"] } }),
            json!({ "action": "Allow", "schedule": "nights" }),
            json!({ "action": "Allow", "source": { "serviceAccounts": { "uids": ["1"] } } }),
            json!({ "action": "Allow", "protocol": "QUIC" }),
            json!({ "action": "Allow", "destination": { "nets": ["10.0.0.0/64"] } }),
        ] {
            let (_, resource, problems) = closed(Kind::GlobalNetworkPolicy, json!({ "egress": [rule] }));
            let Resource::GlobalNetworkPolicy(policy) = resource else { panic!("{resource:?}") };
            assert_eq!(policy.spec.egress.len(), 1);
            assert!(policy.spec.egress[0].unreadable.is_some(), "{rule}");
            assert_eq!(
                (problems.len(), problems[0].starts_with("spec.egress[0]")),
                (1, true),
                "{problems:?}"
            );
        }
    }

    #[test]
    fn a_policy_with_another_field_that_cannot_be_read_denies_those_that_it_selects() {
        let spec = json!({ "selector": "a == 'b'", "tier": "t", "order": "first", "types": ["Egress"],
            "egress": [{ "action": "Allow" }] });
        let (spec, resource, problems) = closed(Kind::GlobalNetworkPolicy, spec);
        assert_eq!(
            spec,
            json!({ "selector": "a == 'b'", "tier": "t", "order": f64::MIN, "types": ["Egress"],
                "ingress": [{ "action": "Deny" }], "egress": [{ "action": "Deny" }] })
        );
        let Resource::GlobalNetworkPolicy(policy) = resource else { panic!("{resource:?}") };
        assert!(policy.spec.egress[0].unreadable.is_some());
        assert_eq!(problems, ["spec.order: \"first\" is a string, but has to be a number without quotes"]);
        let (spec, ..) = closed(
            Kind::GlobalNetworkPolicy,
            json!({ "preDNAT": true, "applyOnForward": true, "types": ["Ingress", "Sideways"] }),
        );
        assert_eq!(
            spec,
            json!({ "preDNAT": true, "applyOnForward": true, "ingress": [{ "action": "Deny" }] })
        );
    }

    #[test]
    fn a_policy_of_which_nobody_can_tell_whom_it_is_about_does_not_exist() {
        let error = refused(Kind::GlobalNetworkPolicy, r#"{"metadata":{},"spec":{"selector":{"cel":"x"}}}"#);
        assert!(error.contains("spec.selector is an object, but has to be a string"), "{error}");
        assert!(refused(Kind::GlobalNetworkPolicy, "{").contains("EOF"));
    }

    #[test]
    fn tiers_deny_and_sets_lack_what_cannot_be_read() {
        let (spec, _, problems) = closed(Kind::Tier, json!({ "order": 5, "defaultAction": "Ask" }));
        assert_eq!((spec, problems.len()), (json!({ "order": 5 }), 1));
        let nets = json!({ "nets": ["10.0.0.0/8", "example.com", "fd00::/8", 7] });
        let (spec, _, problems) = closed(Kind::GlobalNetworkSet, nets);
        assert_eq!(spec, json!({ "nets": ["10.0.0.0/8", "fd00::/8"] }));
        assert!(
            problems[0].starts_with("spec.nets[1]") && problems[1].starts_with("spec.nets[3]"),
            "{problems:?}"
        );
    }

    #[test]
    fn a_host_endpoint_loses_only_what_cannot_be_read() {
        let host = json!({ "node": "n", "interfaceName": "eth0", "profiles": { "any": ["p"] },
            "ports": [{ "name": "a", "protocol": "QUIC", "port": 1 }] });
        let (spec, _, problems) = closed(Kind::HostEndpoint, host);
        assert_eq!((spec, problems.len()), (json!({ "node": "n", "interfaceName": "eth0" }), 2));
        refused(Kind::HostEndpoint, r#"{"metadata":{},"spec":{"node":"n","interfaceName":["eth0"]}}"#);
    }

    #[test]
    fn nulls_and_other_kinds_are_read_as_ever() {
        let text = r#"{"metadata":{"labels":null},"spec":{"ingress":[{"action":"Allow","source":null,"http":null}],"egress":null}}"#;
        let (row, problems) =
            Row::decode_closed(&Key::namespaced(Kind::NetworkPolicy, "n", "x"), text).expect("it is");
        assert_eq!(problems, []);
        let Row::Resource(Resource::NetworkPolicy(policy)) = row else { panic!("{row:?}") };
        assert_eq!(policy.spec.ingress, [Rule::new(Action::Allow)]);
        assert!(
            refused(Kind::IPPool, r#"{"metadata":{},"spec":{"cidr":"10.0.0.0/16","blockSize":"big"}}"#)
                .contains("blockSize")
        );
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["[]", "1", "null", r#"{"metadata":{},"spec":"x"}"#, r#"{"spec":[]}"#, r#"{"spec":true}"#]
        {
            for kind in Kind::ALL.iter().filter(|kind| can_be_closed(**kind)) {
                let key = Key::cluster(*kind, "a");
                assert!(Row::decode_closed(&key, text).is_err(), "{kind:?} {text}");
            }
        }
    }

    #[test]
    fn a_policy_whose_place_cannot_be_read_comes_first_and_on_forwarded_traffic() {
        let spec =
            json!({ "order": "first", "applyOnForward": "often", "selector": "all()", "types": ["Ingress"] });
        let (_, resource, problems) = closed(Kind::GlobalNetworkPolicy, spec);
        let Resource::GlobalNetworkPolicy(policy) = resource else { panic!("{resource:?}") };
        assert_eq!((policy.spec.order, policy.spec.apply_on_forward), (Some(f64::MIN), true));
        assert_eq!(problems.len(), 2, "{problems:?}");
    }
}
