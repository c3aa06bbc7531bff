use super::object;
use crate::{Kind, NoStatus, Object, Spec};

/// The cluster's identity and readiness; only `default` exists.
pub type ClusterInformation = Object<ClusterInformationSpec>;

object! {
    /// `spec` of a [`ClusterInformation`].
    #[derive(Default)]
    pub struct ClusterInformationSpec {
        /// 32 hexadecimal digits, made once.
        #[serde(rename = "clusterGUID")]
        cluster_guid: String,
        /// Words with commas between, such as `k8s,bgp`.
        cluster_type: String,
        /// Version of the software that last started.
        calico_version: String,
        /// Everyone waits while this is false.
        datastore_ready: Option<bool>,
        /// Edition of the software.
        variant: String,
    }
}

impl Spec for ClusterInformationSpec {
    const KIND: Kind = Kind::ClusterInformation;
    type Status = NoStatus;
}
