use std::collections::BTreeMap;

use super::{Rule, object};
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
