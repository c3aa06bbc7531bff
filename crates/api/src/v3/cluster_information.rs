use super::object;
use crate::rules::{Place, Rules, check_singleton_name};
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

impl Rules for ClusterInformationSpec {
    fn check_name(name: &str, at: &Place<'_>) {
        check_singleton_name(name, at);
    }

    fn check(object: &Object<Self>, at: &Place<'_>) {
        let guid = &object.spec.cluster_guid;
        let is_guid = guid.len() == 32 && guid.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !guid.is_empty() && !is_guid {
            at.field("spec").field("clusterGUID").refuse(guid, "is not 32 hexadecimal digits");
        }
    }
}
