//! Namespaces and service accounts as profiles.

use std::collections::BTreeMap;

use super::objects::{Namespace, ServiceAccount};
use super::{FieldError, derived_metadata, namespace_or_default};
use crate::Metadata;
use crate::v3::{Action, Profile, ProfileSpec, Rule};

/// Prefix of a namespace's labels where its endpoints inherit them.
pub const NAMESPACE_LABEL_PREFIX: &str = "pcns.";
/// Prefix of a service account's labels where its endpoints inherit them.
pub const SERVICE_ACCOUNT_LABEL_PREFIX: &str = "pcsa.";

const NAMESPACE_PROFILE_PREFIX: &str = "kns.";
const SERVICE_ACCOUNT_PROFILE_PREFIX: &str = "ksa.";
/// With a prefix, the label that holds the name of the namespace or service account itself.
const NAME_LABEL: &str = "projectcalico.org/name";

/// The profile of a namespace: `kns.NAME`.
pub fn namespace_profile_name(namespace: &str) -> String {
    format!("{NAMESPACE_PROFILE_PREFIX}{namespace}")
}

/// The namespace whose profile this is.
pub fn namespace_of_profile(profile: &str) -> Option<&str> {
    profile.strip_prefix(NAMESPACE_PROFILE_PREFIX)
}

/// The profile of a service account: `ksa.NAMESPACE.NAME`.
pub fn service_account_profile_name(namespace: &str, name: &str) -> String {
    format!("{SERVICE_ACCOUNT_PROFILE_PREFIX}{namespace}.{name}")
}

/// The namespace and name of the service account whose profile this is. A namespace has no dots, an account may.
pub fn service_account_of_profile(profile: &str) -> Option<(&str, &str)> {
    profile.strip_prefix(SERVICE_ACCOUNT_PROFILE_PREFIX)?.split_once('.')
}

/// Annotations of a namespace that its profile keeps: what it says to the CNI plugin (pools), which knows a namespace by its
/// profile alone.
const CNI_ANNOTATION_PREFIX: &str = "cni.projectcalico.org/";

/// A namespace as a profile, which allows what no policy decided and lends the namespace's labels, prefixed `pcns.`. Its
/// revision is that of the namespace and a slash.
///
/// # Errors
/// The UID is malformed.
pub fn namespace_profile(namespace: &Namespace) -> Result<Profile, FieldError> {
    let source = &namespace.metadata;
    let mut metadata = derived_metadata(source, namespace_profile_name(&source.name))?;
    metadata.resource_version = source.resource_version.as_deref().map(|own| join_profile_revisions(own, ""));
    let kept = source.annotations.iter().filter(|(name, _)| name.starts_with(CNI_ANNOTATION_PREFIX));
    metadata.annotations = kept.map(|(name, value)| (name.clone(), value.clone())).collect();
    let spec = ProfileSpec {
        ingress: vec![Rule::new(Action::Allow)],
        egress: vec![Rule::new(Action::Allow)],
        labels_to_apply: lent_labels(source, NAMESPACE_LABEL_PREFIX),
    };
    Ok(Profile::new(metadata, spec))
}

/// A service account as a profile, which has no rules and lends the account's labels, prefixed `pcsa.`. Its revision is
/// a slash and that of the account.
///
/// # Errors
/// The UID is malformed.
pub fn service_account_profile(account: &ServiceAccount) -> Result<Profile, FieldError> {
    let source = &account.metadata;
    let name = service_account_profile_name(namespace_or_default(source), &source.name);
    let mut metadata = derived_metadata(source, name)?;
    metadata.resource_version = source.resource_version.as_deref().map(|own| join_profile_revisions("", own));
    let labels_to_apply = lent_labels(source, SERVICE_ACCOUNT_LABEL_PREFIX);
    Ok(Profile::new(metadata, ProfileSpec { labels_to_apply, ..ProfileSpec::default() }))
}

fn lent_labels(source: &Metadata, prefix: &str) -> BTreeMap<String, String> {
    let own = source.labels.iter().map(|(label, value)| (format!("{prefix}{label}"), value.clone()));
    own.chain([(format!("{prefix}{NAME_LABEL}"), source.name.clone())]).collect()
}

/// The revision of a list of profiles made from namespaces at one revision and service accounts at another.
pub fn join_profile_revisions(namespaces: &str, service_accounts: &str) -> String {
    format!("{namespaces}/{service_accounts}")
}

/// The revisions of namespaces and of service accounts in a joined one; either may be empty. `0` and the empty text,
/// which ask for "any" and "the latest", stand for both.
pub fn split_profile_revision(revision: &str) -> Option<(&str, &str)> {
    match revision {
        "" | "0" => Some((revision, revision)),
        joined => joined.split_once('/').filter(|(_, second)| !second.contains('/')),
    }
}
