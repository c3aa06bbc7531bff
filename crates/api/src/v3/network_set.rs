use super::object;
use crate::scalars::Net;
use crate::{Kind, NoStatus, Object, Spec};

/// Networks that selectors of one namespace can name.
pub type NetworkSet = Object<NetworkSetSpec>;
/// Networks that selectors can name everywhere.
pub type GlobalNetworkSet = Object<GlobalNetworkSetSpec>;

object! {
    /// `spec` of a [`NetworkSet`].
    #[derive(Default)]
    pub struct NetworkSetSpec {
        /// The networks; addresses too.
        nets: Vec<Net>,
    }
}

object! {
    /// `spec` of a [`GlobalNetworkSet`].
    #[derive(Default)]
    pub struct GlobalNetworkSetSpec {
        /// The networks; addresses too.
        nets: Vec<Net>,
    }
}

impl Spec for NetworkSetSpec {
    const KIND: Kind = Kind::NetworkSet;
    type Status = NoStatus;
}

impl Spec for GlobalNetworkSetSpec {
    const KIND: Kind = Kind::GlobalNetworkSet;
    type Status = NoStatus;
}
