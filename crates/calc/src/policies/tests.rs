use super::*;
use crate::contract::{PolicyKind, TierDefault};

fn id(name: &str) -> PolicyId {
    PolicyId { kind: PolicyKind::GlobalNetworkPolicy, namespace: None, name: name.into() }
}

fn policy(tier: &str, order: Option<f64>, selector: &str) -> Option<CompiledPolicy> {
    Some(CompiledPolicy {
        order,
        selector: Selector::parse(selector).unwrap(),
        types: [Direction::Ingress].into(),
        is_always_active: false,
        policy: Arc::new(Policy {
            tier: tier.into(),
            inbound: vec![],
            outbound: vec![],
            untracked: false,
            pre_dnat: false,
            apply_on_forward: false,
            rechecks: false,
        }),
        sets: vec![Definition::Selector(Selector::parse("peer == 'x'").unwrap())],
    })
}

fn rule() -> crate::contract::Rule {
    use crate::contract::{Action, Rule, RuleId, RuleOwner};
    let id = RuleId { owner: RuleOwner::Policy(id("p")), direction: Direction::Egress, index: 0 };
    Rule::new(id, Action::Allow)
}

fn names(tiers: &[crate::contract::Tier]) -> Vec<String> {
    let policies = tiers.iter().flat_map(|tier| &tier.ingress);
    policies.map(|policy| policy.name.to_string()).collect()
}

#[derive(Default)]
struct Fixture {
    policies: Policies,
    sets: IpSets,
}

impl Fixture {
    fn set(&mut self, name: &str, policy: Option<CompiledPolicy>) {
        self.policies.set_policy(id(name), policy, &mut self.sets);
    }

    fn endpoint(&mut self, number: u32, labels: &[(&'static str, &'static str)]) {
        self.policies.set_endpoint(number, labels.iter().copied(), [], &mut self.sets);
    }

    fn normal(&mut self) -> Vec<(u32, Vec<String>)> {
        let dirty = self.policies.take_dirty_endpoints();
        dirty.into_iter().map(|(number, tiers)| (number, names(&tiers.normal))).collect()
    }
}

#[test]
fn tiers_and_policies_are_ordered_and_ties_go_by_name() {
    let mut fixture = Fixture::default();
    let deny = TierFact { order: Some(10.0), default_action: TierDefault::Deny };
    fixture.policies.set_tier("first", Some(deny));
    fixture.set("a", policy("default", None, "all()"));
    fixture.set("b", policy("default", Some(5.0), "all()"));
    fixture.set("d", policy("first", Some(9.0), "all()"));
    fixture.set("c", policy("first", Some(9.0), "all()"));
    fixture.endpoint(0, &[]);
    assert_eq!(fixture.normal(), [(0, ["c", "d", "b", "a"].map(str::to_owned).to_vec())]);
    fixture.policies.set_tier("first", Some(TierFact { order: Some(2e6), ..deny }));
    assert_eq!(fixture.normal(), [(0, ["b", "a", "c", "d"].map(str::to_owned).to_vec())]);
}

#[test]
fn a_policy_is_active_while_it_matches_a_local_endpoint() {
    let mut fixture = Fixture::default();
    fixture.set("p", policy("default", None, "app == 'web'"));
    fixture.endpoint(0, &[("app", "db")]);
    assert!(fixture.policies.flush().updates.is_empty());
    fixture.endpoint(0, &[("app", "web")]);
    assert_eq!(fixture.policies.flush().updates.len(), 1);
    assert_eq!(fixture.sets.flush().0.len(), 1);
    fixture.policies.remove_endpoint(0, &mut fixture.sets);
    assert_eq!(fixture.policies.flush().removals, [id("p")]);
    assert_eq!(fixture.sets.flush().1.len(), 1);
}

#[test]
fn new_rules_alone_leave_the_endpoints_alone() {
    let mut fixture = Fixture::default();
    fixture.endpoint(0, &[]);
    fixture.set("p", policy("default", None, "all()"));
    fixture.normal();
    fixture.policies.flush();
    let mut changed = policy("default", None, "all()").unwrap();
    changed.policy = Arc::new(Policy { outbound: vec![rule()], ..(*changed.policy).clone() });
    fixture.set("p", Some(changed));
    assert_eq!(fixture.normal(), []);
    fixture.set("p", policy("default", Some(1.0), "all()"));
    assert_eq!(fixture.normal().len(), 1);
}

#[test]
fn it_is_empty_when_everything_has_been_removed() {
    let mut fixture = Fixture::default();
    fixture.policies.set_tier("t", Some(TierFact { order: None, default_action: TierDefault::Pass }));
    fixture.endpoint(0, &[("a", "b")]);
    fixture.set("p", policy("t", None, "a == 'b' && pcns.x == 'y'"));
    fixture.policies.set_profile_labels("kns.n", [("pcns.x", "y")], &mut fixture.sets);
    fixture.policies.set_endpoint(0, [("a", "b")], ["kns.n"], &mut fixture.sets);
    assert_eq!(fixture.policies.flush().updates.len(), 1);
    fixture.set("p", None);
    fixture.policies.remove_endpoint(0, &mut fixture.sets);
    fixture.policies.set_profile_labels("kns.n", [], &mut fixture.sets);
    fixture.policies.set_tier("t", None);
    fixture.policies.flush();
    fixture.sets.flush();
    assert_eq!((fixture.policies.size(), fixture.sets.size()), (0, 0));
}
