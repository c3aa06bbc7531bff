use super::{Condition, object};
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
