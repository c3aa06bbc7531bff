use super::object;
use crate::Metadata;
use crate::rules::{Place, Rules};
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

/// The label that says which namespace something is in: it follows from the namespace, and nobody else may set it.
const NAMESPACE_LABEL: &str = "projectcalico.org/namespace";

fn check_reserved_label(metadata: &Metadata, at: &Place<'_>) {
    if let Some(value) = metadata.labels.get(NAMESPACE_LABEL) {
        let at = at.field("metadata").field("labels").key(NAMESPACE_LABEL);
        at.refuse(value, "cannot be set: the label follows from the namespace");
    }
}

impl Rules for NetworkSetSpec {
    fn check(object: &Object<Self>, at: &Place<'_>) {
        check_reserved_label(&object.metadata, at);
    }
}

impl Rules for GlobalNetworkSetSpec {
    fn check(object: &Object<Self>, at: &Place<'_>) {
        check_reserved_label(&object.metadata, at);
    }
}
