//! One stage: a run of the evaluator, in the shape of tiers, policies and rules.

use std::collections::BTreeSet;

use api::{Kind, Resource};

use super::{Decider, OtherPolicy, PolicyView, RuleView, Ruling, TierView, words};
use crate::cluster::{Cluster, NodeModel};
use crate::compile::policy_kind;
use crate::contract::{self, Direction, PolicyId, ProfileId, RuleId, RuleOwner, Tier, TierDefault};
use crate::evaluator::{Considered, Decision, Evaluator, Explained, Packet};
use crate::program::{ChainId, Match, Origin, Program, Verdict};

/// Makes views of one run.
pub(super) struct Judge<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) model: &'a NodeModel,
    pub(super) program: &'a Program,
    pub(super) packet: &'a Packet,
    pub(super) direction: Direction,
    pub(super) run: &'a Explained,
}

impl Judge<'_> {
    pub(super) fn decider(&self) -> Decider {
        let outcome = &self.run.outcome;
        let Some(origin) = outcome.deciding.as_ref() else {
            return match outcome.decision {
                Decision::Deny => Decider {
                    text: "the interface has no program, so it drops".to_owned(),
                    ..Decider::default()
                },
                _ => Decider { text: "no rule matched".to_owned(), ..Decider::default() },
            };
        };
        let rule = match origin {
            Origin::Rule(id) => Some(id),
            _ => None,
        };
        Decider {
            text: match rule {
                Some(id) => format!("{} ({})", words::origin(origin), self.action(id)),
                None => words::origin(origin),
            },
            object: rule.map(|id| words::owner(&id.owner)),
            field: rule.map(words::field),
            origin: origin.to_string(),
            conditions: self.held(),
        }
    }

    fn action(&self, id: &RuleId) -> &'static str {
        let rules = match &id.owner {
            RuleOwner::Policy(policy) => self.model.policies.get(policy).map(|of| rules_of(of, id.direction)),
            RuleOwner::Profile(profile) => {
                self.model.profiles.get(profile).map(|of| profile_rules(of, id.direction))
            }
        };
        let rule = rules.and_then(|rules| rules.iter().find(|rule| rule.id == *id));
        rule.map_or("", |rule| words::action(rule.action))
    }

    /// The conditions of the rule that decided, which is the last one that matched.
    fn held(&self) -> Vec<String> {
        let last = self.run.considered.iter().rev().find(|entry| entry.failed.is_empty());
        let rule = last.and_then(|entry| self.program.chain(&entry.chain)?.rules.get(entry.index));
        let conditions = rule.into_iter().flat_map(|rule| &rule.matches);
        let told = conditions.filter(|condition| !matches!(condition, Match::Passed(_)));
        told.map(|condition| words::condition(condition, true, self.packet, self.model)).collect()
    }

    pub(super) fn tiers(&self, tiers: &[Tier]) -> Vec<TierView> {
        tiers.iter().filter_map(|tier| self.tier(tier)).collect()
    }

    fn tier(&self, tier: &Tier) -> Option<TierView> {
        let ids = match self.direction {
            Direction::Ingress => &tier.ingress,
            Direction::Egress => &tier.egress,
        };
        if ids.is_empty() {
            return None;
        }
        let policies: Vec<PolicyView> = ids.iter().map(|id| self.policy(id)).collect();
        let end = self.end(tier, policies.iter().all(|policy| policy.staged), &policies);
        Some(TierView { name: tier.name.to_string(), policies, end })
    }

    fn end(&self, tier: &Tier, only_staged: bool, policies: &[PolicyView]) -> String {
        let decided =
            policies.iter().filter(|policy| !policy.staged).find_map(|policy| match policy.verdict {
                Ruling::Allow | Ruling::Deny => Some("not reached: a policy decided"),
                Ruling::Pass => Some("not reached: a policy passed to the next tier"),
                Ruling::NotReached => Some("not reached: decided before"),
                Ruling::NoMatch => None,
            });
        match (only_staged, decided, tier.default_action) {
            (true, _, _) => "skipped: all its policies for the endpoint are staged".to_owned(),
            (false, Some(why), _) => why.to_owned(),
            (false, None, TierDefault::Deny) if self.reached_end(tier) => "Deny (defaultAction)".to_owned(),
            (false, None, TierDefault::Deny) => "none: tiers of this hook only pick out traffic".to_owned(),
            (false, None, TierDefault::Pass) => "Pass (defaultAction)".to_owned(),
        }
    }

    fn reached_end(&self, tier: &Tier) -> bool {
        self.run
            .outcome
            .trace
            .iter()
            .any(|step| matches!(&step.origin, Origin::EndOfTier { tier: name, .. } if *name == tier.name))
    }

    fn policy(&self, id: &PolicyId) -> PolicyView {
        let chain = ChainId::Policy(id.clone(), self.direction);
        let rules = self.model.policies.get(id).map(|policy| rules_of(policy, self.direction));
        let staged = id.kind.is_staged();
        // A staged policy is not on the packet's way: what it would say is a run of its own.
        let own =
            staged.then(|| Evaluator::new(self.program, &self.model.sets).explain_chain(&chain, self.packet));
        let view = self.view(&chain, rules.unwrap_or_default(), own.as_ref().unwrap_or(self.run), staged);
        PolicyView { object: words::policy(id), problems: self.problems(id), ..view }
    }

    pub(super) fn profiles(&self, profiles: &[ProfileId]) -> Vec<PolicyView> {
        let view = |id: &ProfileId| {
            let chain = ChainId::Profile(id.clone(), self.direction);
            let rules = self.model.profiles.get(id).map(|profile| profile_rules(profile, self.direction));
            let view = self.view(&chain, rules.unwrap_or_default(), self.run, false);
            PolicyView { object: format!("Profile {id}"), ..view }
        };
        profiles.iter().map(view).collect()
    }

    fn view(&self, chain: &ChainId, rules: &[contract::Rule], run: &Explained, staged: bool) -> PolicyView {
        let entries: Vec<&Considered> = run.considered.iter().filter(|entry| entry.chain == *chain).collect();
        let is_empty = self.program.chain(chain).is_none_or(|chain| chain.rules.is_empty());
        let verdict = self.verdict(&entries, is_empty && self.would_reach(chain, run));
        let rules = rules.iter().map(|rule| self.rule(chain, rule, &entries)).collect();
        PolicyView { object: String::new(), staged, verdict, rules, problems: Vec::new() }
    }

    /// A chain without rules is not walked; it is passed by unless the packet was decided before.
    fn would_reach(&self, chain: &ChainId, run: &Explained) -> bool {
        let deciding = run.outcome.deciding.as_ref();
        match (chain, deciding) {
            (_, None) => true,
            (ChainId::Policy(id, _), Some(Origin::EndOfTier { tier, .. })) => {
                self.model.policies.get(id).is_some_and(|policy| policy.tier == *tier)
            }
            (_, Some(Origin::NoProfile(_))) => true,
            (ChainId::Policy(..), Some(Origin::Rule(RuleId { owner: RuleOwner::Profile(_), .. }))) => true,
            _ => false,
        }
    }

    fn verdict(&self, entries: &[&Considered], passed_by: bool) -> Ruling {
        if entries.is_empty() {
            return if passed_by { Ruling::NoMatch } else { Ruling::NotReached };
        }
        let matched = entries.iter().rev().filter(|entry| entry.failed.is_empty());
        let verdicts = matched.filter_map(|entry| self.rendered(entry).map(|rule| &rule.verdict));
        let rulings = verdicts.filter_map(|verdict| match verdict {
            Verdict::Accept | Verdict::AcceptUntracked => Some(Ruling::Allow),
            Verdict::Drop | Verdict::Discard | Verdict::Reset => Some(Ruling::Deny),
            Verdict::Pass => Some(Ruling::Pass),
            Verdict::Log | Verdict::ClearPass | Verdict::Jump(_) => None,
        });
        rulings.into_iter().next().unwrap_or(Ruling::NoMatch)
    }

    fn rendered(&self, entry: &Considered) -> Option<&crate::program::Rule> {
        self.program.chain(&entry.chain)?.rules.get(entry.index)
    }

    fn rule(&self, chain: &ChainId, rule: &contract::Rule, entries: &[&Considered]) -> RuleView {
        let origin = Origin::Rule(rule.id.clone());
        let is_rendered = self
            .program
            .chain(chain)
            .is_some_and(|chain| chain.rules.iter().any(|rendered| rendered.origin == origin));
        let of_rule: Vec<&&Considered> = entries
            .iter()
            .filter(|entry| self.rendered(entry).is_some_and(|rendered| rendered.origin == origin))
            .collect();
        let matched = of_rule.iter().any(|entry| entry.failed.is_empty());
        let failed = match (is_rendered, of_rule.is_empty(), matched) {
            (_, _, true) => Vec::new(),
            (false, ..) => vec![other_family(self.packet)],
            (true, true, _) => vec!["not reached: decided before".to_owned()],
            (true, false, _) => self.reasons(&of_rule),
        };
        RuleView { field: words::field(&rule.id), action: words::action(rule.action), matched, failed }
    }

    /// What failed in every alternative, then what failed in some.
    fn reasons(&self, alternatives: &[&&Considered]) -> Vec<String> {
        let mut reasons = Vec::new();
        for condition in alternatives.iter().flat_map(|entry| &entry.failed) {
            let text = words::condition(condition, false, self.packet, self.model);
            if !reasons.contains(&text) {
                reasons.push(text);
            }
        }
        reasons
    }

    fn problems(&self, id: &PolicyId) -> Vec<String> {
        let of_policy = self.model.problems.iter().filter(|problem| match &problem.key {
            api::Key::Resource { kind, namespace, name } => {
                policy_kind(*kind) == Some(id.kind)
                    && *name == *id.name
                    && (!kind.is_namespaced() || namespace.as_deref() == id.namespace.as_deref())
            }
            _ => false,
        });
        of_policy.map(|problem| problem.error.to_string()).collect()
    }

    /// The policies that could have had a say (cluster-wide, or of the endpoint's namespace) and have none.
    pub(super) fn others(&self, namespace: Option<&str>, tiers: &[Tier]) -> Vec<OtherPolicy> {
        let here: BTreeSet<&PolicyId> = tiers
            .iter()
            .flat_map(|tier| match self.direction {
                Direction::Ingress => &tier.ingress,
                Direction::Egress => &tier.egress,
            })
            .collect();
        let other_direction: BTreeSet<&PolicyId> =
            tiers.iter().flat_map(|tier| tier.ingress.iter().chain(&tier.egress)).collect();
        let kinds = Cluster::KINDS.into_iter().filter_map(|kind| Some((kind, policy_kind(kind)?)));
        let mut others = Vec::new();
        for (kind, policy_kind) in kinds {
            for resource in self.cluster.resources(kind) {
                let of = resource.metadata().namespace.as_deref().filter(|_| kind.is_namespaced());
                if kind.is_namespaced() && of != namespace {
                    continue;
                }
                let name = resource.metadata().name.as_str().into();
                let id = PolicyId { kind: policy_kind, namespace: of.map(Into::into), name };
                if !here.contains(&id) {
                    let reason = reason(resource, kind, other_direction.contains(&id), self.direction);
                    others.push(OtherPolicy { object: words::policy(&id), reason });
                }
            }
        }
        others
    }
}

fn other_family(packet: &Packet) -> String {
    let family = if packet.source.is_ipv4() { "IPv4" } else { "IPv6" };
    format!("no {family} packet can match it (its ipVersion, networks or ICMP are of the other family)")
}

fn rules_of(policy: &contract::Policy, direction: Direction) -> &[contract::Rule] {
    match direction {
        Direction::Ingress => &policy.inbound,
        Direction::Egress => &policy.outbound,
    }
}

fn profile_rules(profile: &contract::Profile, direction: Direction) -> &[contract::Rule] {
    match direction {
        Direction::Ingress => &profile.inbound,
        Direction::Egress => &profile.outbound,
    }
}

fn reason(resource: &Resource, _kind: Kind, selects: bool, direction: Direction) -> String {
    if selects {
        return format!("selects the endpoint, but spec.types does not have {direction}");
    }
    let value = resource.to_value();
    let spec = &value["spec"];
    if let Some(action @ ("Delete" | "Ignore")) = spec["stagedAction"].as_str() {
        return format!("stagedAction is {action}, so it has no rules");
    }
    let fields = ["selector", "namespaceSelector", "serviceAccountSelector"];
    let selectors: Vec<String> = fields
        .into_iter()
        .filter_map(|field| Some((field, spec[field].as_str()?)).filter(|(_, text)| !text.is_empty()))
        .map(|(field, text)| format!("spec.{field} `{text}`"))
        .collect();
    if selectors.is_empty() {
        return "does not apply at this point of the packet's way".to_owned();
    }
    format!("does not select it: {}", selectors.join(", "))
}
