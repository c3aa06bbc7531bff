//! From v3 policies and profiles to rules over IP sets (resources.md 2.2 to 2.4).
//!
//! Selectors of a rule become one selector over flat labels (`api::selector::PeerSelector`), and that becomes an IP set;
//! so do named ports and services. A rule that cannot be compiled never opens anything: allow and log rules are left out,
//! deny and pass rules become "deny everything".

mod entity;
mod policy;

use api as v3;
use api::selector::SelectorError;

use crate::contract::{Action, Direction, IcmpMatch, IpVersion, Rule, RuleId, RuleOwner};
use crate::ip_sets::Definition;
use entity::{Side, compile_entity};
pub(crate) use policy::{compile_policy, compile_profile, policy_kind};

/// Why a rule, or a policy as a whole, means nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// A selector is not one.
    #[error("{field} {text:?}: {source}")]
    Selector {
        /// The field that holds it.
        field: &'static str,
        /// Its text.
        text: String,
        /// What is wrong with it.
        source: SelectorError,
    },
    /// A number does not fit its field of the ICMP header.
    #[error("{field} {value} is not within 0..=255")]
    Icmp {
        /// The field that holds it.
        field: &'static str,
        /// The number.
        value: i64,
    },
    /// A service without a namespace, in a policy that has none to lend.
    #[error("services.namespace is required in a policy without a namespace (service {name:?})")]
    ServiceNamespace {
        /// The service.
        name: String,
    },
    /// The policy's word on established connections is none; they are kept.
    #[error("metadata.annotations[{}] {value:?} {source}", api::ESTABLISHED_ANNOTATION)]
    Established {
        /// What it says.
        value: String,
        /// What is wrong with it.
        source: api::InvalidEstablished,
    },
    /// A rule that another version wrote and this one cannot read.
    #[error("{reason}")]
    Unreadable {
        /// The field, and what is wrong with it.
        reason: String,
    },
    /// A staged Kubernetes policy, or a rule of one, that cannot be converted.
    #[error("cannot be converted: {reason}")]
    Conversion {
        /// What stands in the way.
        reason: String,
    },
}

/// Parses a selector field; an empty one is no criterion.
fn selector(field: &'static str, text: &str) -> Result<Option<api::selector::Selector>, CompileError> {
    if text.is_empty() {
        return Ok(None);
    }
    let parsed = api::selector::Selector::parse(text);
    parsed.map(Some).map_err(|source| CompileError::Selector { field, text: text.to_owned(), source })
}

/// Compiles the rules of one policy or profile.
struct RuleCompiler<'a> {
    owner: &'a RuleOwner,
    /// The policy's namespace, if it has one.
    namespace: Option<&'a str>,
    sets: Vec<Definition>,
    errors: Vec<CompileError>,
}

impl<'a> RuleCompiler<'a> {
    fn new(owner: &'a RuleOwner, namespace: Option<&'a str>) -> Self {
        Self { owner, namespace, sets: Vec::new(), errors: Vec::new() }
    }

    fn rules(&mut self, direction: Direction, rules: &[v3::Rule]) -> Vec<Rule> {
        // A rule is large and most policies have one or two: `collect` would make room for four.
        let mut compiled = Vec::with_capacity(rules.len());
        compiled.extend((0..).zip(rules).filter_map(|(index, rule)| self.rule(direction, index, rule)));
        compiled
    }

    fn rule(&mut self, direction: Direction, index: u32, source: &v3::Rule) -> Option<Rule> {
        let id = RuleId { owner: self.owner.clone(), direction, index };
        let action = action(source.action);
        match compile_rule(id.clone(), action, source, self.namespace) {
            Ok((rule, sets)) => {
                self.sets.extend(sets);
                Some(rule)
            }
            Err(error) => {
                self.errors.push(error);
                match action {
                    Action::Allow | Action::Log => None,
                    Action::Deny | Action::Pass => Some(Rule::new(id, Action::Deny)),
                }
            }
        }
    }
}

fn compile_rule(
    id: RuleId,
    action: Action,
    rule: &v3::Rule,
    namespace: Option<&str>,
) -> Result<(Rule, Vec<Definition>), CompileError> {
    if let Some(reason) = &rule.unreadable {
        return Err(CompileError::Unreadable { reason: reason.clone() });
    }
    let mut sets = Vec::new();
    let protocol = rule.protocol.map(|protocol| protocol.number());
    let mut compile =
        |side, entity| compile_entity(side, entity, protocol, namespace, &mut |set| sets.push(set));
    let source = compile(Side::Source, &rule.source)?;
    let destination = compile(Side::Destination, &rule.destination)?;
    let compiled = Rule {
        ip_version: rule.ip_version.map(ip_version),
        protocol,
        not_protocol: rule.not_protocol.map(|protocol| protocol.number()),
        icmp: rule.icmp.as_ref().map_or(Ok(None), icmp)?,
        not_icmp: rule.not_icmp.as_ref().map_or(Ok(None), icmp)?,
        source,
        destination,
        annotations: rule.metadata.as_ref().map(|metadata| metadata.annotations.clone()).unwrap_or_default(),
        ..Rule::new(id, action)
    };
    Ok((compiled, sets))
}

fn action(action: v3::Action) -> Action {
    match action {
        v3::Action::Allow => Action::Allow,
        v3::Action::Deny => Action::Deny,
        v3::Action::Log => Action::Log,
        v3::Action::Pass => Action::Pass,
    }
}

fn ip_version(version: api::scalars::IpVersion) -> IpVersion {
    match version {
        api::scalars::IpVersion::V4 => IpVersion::V4,
        api::scalars::IpVersion::V6 => IpVersion::V6,
    }
}

/// Without a type there is no condition (validation refuses a code without one).
fn icmp(fields: &v3::IcmpFields) -> Result<Option<IcmpMatch>, CompileError> {
    let byte = |field, value: i64| u8::try_from(value).map_err(|_| CompileError::Icmp { field, value });
    let code = fields.code.map(|code| byte("icmp.code", code)).transpose()?;
    let icmp_type = fields.icmp_type.map(|icmp_type| byte("icmp.type", icmp_type)).transpose()?;
    Ok(icmp_type.map(|icmp_type| IcmpMatch { icmp_type, code }))
}

#[cfg(test)]
mod tests;
