use std::collections::BTreeMap;

use super::rule_checks::check_rules;
use super::{Rule, object};
use crate::rules::{Place, Rules, check_labels};
use crate::{Kind, NoStatus, Object, Spec};

/// Rules and labels that endpoints inherit; the rules hold after all tiers.
pub type Profile = Object<ProfileSpec>;

object! {
    /// `spec` of a [`Profile`].
    #[derive(Default)]
    pub struct ProfileSpec {
        /// Rules for traffic to the endpoint, in order.
        ingress: Vec<Rule>,
        /// Rules for traffic from the endpoint, in order.
        egress: Vec<Rule>,
        /// Labels for the endpoints; their own win.
        labels_to_apply: BTreeMap<String, String>,
    }
}

impl Spec for ProfileSpec {
    const KIND: Kind = Kind::Profile;
    type Status = NoStatus;
}

impl Rules for ProfileSpec {
    fn check(object: &Object<Self>, at: &Place<'_>) {
        let (spec, at) = (&object.spec, at.field("spec"));
        check_rules(&spec.ingress, &spec.egress, false, &at);
        check_labels(&spec.labels_to_apply, &at.field("labelsToApply"));
    }
}
