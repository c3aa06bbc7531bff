use super::{Condition, object};
use crate::Metadata;
use crate::rules::{Place, Rules, check_label_name};
use crate::scalars::words;
use crate::{Kind, Object, Spec};

/// An ordered group of policies.
pub type Tier = Object<TierSpec>;

/// `order` of a tier that says none.
pub const DEFAULT_TIER_ORDER: f64 = 1_000_000.0;

object! {
    /// `spec` of a [`Tier`].
    #[derive(Default)]
    pub struct TierSpec {
        /// Lower first, ties by name; [`DEFAULT_TIER_ORDER`] if absent.
        #[serde(serialize_with = "crate::v3::go_number::serialize")]
        order: Option<f64>,
        /// What becomes of traffic that a policy of the tier selects but no rule decides; `Deny` if absent.
        default_action: Option<TierDefaultAction>,
    }
}

object! {
    /// `status` of a [`Tier`].
    #[derive(Default)]
    pub struct TierStatus {
        /// `Ready`.
        conditions: Vec<Condition>,
    }
}

words! {
    /// What a tier does with what its policies leave undecided.
    #[derive(Default)]
    TierDefaultAction {
        /// Drop it.
        #[default]
        Deny = "Deny",
        /// Leave it to the next tier.
        Pass = "Pass",
    }
}

impl Spec for TierSpec {
    const KIND: Kind = Kind::Tier;
    type Status = TierStatus;
}

/// The tiers that always exist, with what they are fixed to.
const BUILT_IN: [(&str, f64, TierDefaultAction); 3] = [
    ("kube-admin", 1_000.0, TierDefaultAction::Pass),
    ("default", DEFAULT_TIER_ORDER, TierDefaultAction::Deny),
    ("kube-baseline", 10_000_000.0, TierDefaultAction::Pass),
];

/// The tiers of Calico 3.29 to 3.31 for AdminNetworkPolicies, which an old datastore may have policies in.
const OF_OLDER_VERSIONS: [(&str, f64, TierDefaultAction); 2] = [
    ("adminnetworkpolicy", 1_000.0, TierDefaultAction::Pass),
    ("baselineadminnetworkpolicy", 10_000_000.0, TierDefaultAction::Pass),
];

impl TierSpec {
    /// What a tier that Calico itself knows is as long as nobody has made it: a built-in one, or one that older versions
    /// made for AdminNetworkPolicies.
    pub fn well_known(name: &str) -> Option<Self> {
        let mut known = BUILT_IN.into_iter().chain(OF_OLDER_VERSIONS);
        let (_, order, action) = known.find(|(known, ..)| *known == name)?;
        Some(Self { order: Some(order), default_action: Some(action) })
    }

    /// The order, the default filled in.
    pub fn effective_order(&self) -> f64 {
        self.order.unwrap_or(DEFAULT_TIER_ORDER)
    }
}

/// The tiers that exist in every cluster; they cannot be deleted.
pub fn built_in_tiers() -> impl Iterator<Item = Tier> {
    BUILT_IN.into_iter().map(|(name, order, action)| {
        Tier::new(Metadata::named(name), TierSpec { order: Some(order), default_action: Some(action) })
    })
}

impl Rules for TierSpec {
    fn apply_defaults(object: &mut Object<Self>) {
        object.spec.default_action.get_or_insert_default();
    }

    fn check_name(name: &str, at: &Place<'_>) {
        check_label_name(name, at);
    }

    fn check(object: &Object<Self>, at: &Place<'_>) {
        let (spec, at) = (&object.spec, at.field("spec"));
        if let Some(order) = spec.order.filter(|order| !order.is_finite()) {
            at.field("order").refuse(order, "is no finite number");
        }
        let Some((name, order, action)) =
            BUILT_IN.into_iter().find(|(name, ..)| *name == object.metadata.name)
        else {
            return;
        };
        if spec.effective_order() != order {
            at.field("order").refuse(spec.effective_order(), format!("has to be {order} in the tier {name}"));
        }
        if spec.default_action.unwrap_or_default() != action {
            let found = spec.default_action.unwrap_or_default();
            at.field("defaultAction").refuse(found, format!("has to be {action} in the tier {name}"));
        }
    }
}
