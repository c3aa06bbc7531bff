//! Kubernetes objects, and what they are in Calico's model.

/// Prefix of a namespace's labels where its endpoints inherit them.
pub const NAMESPACE_LABEL_PREFIX: &str = "pcns.";
/// Prefix of a service account's labels where its endpoints inherit them.
pub const SERVICE_ACCOUNT_LABEL_PREFIX: &str = "pcsa.";
