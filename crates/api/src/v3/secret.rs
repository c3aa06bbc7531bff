use serde::{Deserialize, Serialize};

use super::object;
use crate::rules::Place;

object! {
    /// A BGP password, kept elsewhere.
    #[derive(Default)]
    pub struct BGPPassword {
        /// Where it is.
        secret_key_ref: Option<SecretKeySelector>,
    }
}

/// A key of a Kubernetes Secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "SecretKeySelectorInput")]
pub struct SecretKeySelector {
    /// The Secret's name.
    pub name: String,
    /// The key in it.
    pub key: String,
    /// Whether it may be missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

/// As documents have it: with the name at hand, or nested the way that Go's field names suggest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct SecretKeySelectorInput {
    name: String,
    local_object_reference: LocalObjectReference,
    key: String,
    optional: Option<bool>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LocalObjectReference {
    name: String,
}

impl From<SecretKeySelectorInput> for SecretKeySelector {
    fn from(input: SecretKeySelectorInput) -> Self {
        let name = if input.name.is_empty() { input.local_object_reference.name } else { input.name };
        Self { name, key: input.key, optional: input.optional }
    }
}

/// Checks that a password, if any, says where it is.
pub(crate) fn check_password(password: Option<&BGPPassword>, at: &Place<'_>) {
    let Some(reference) = password.and_then(|password| password.secret_key_ref.as_ref()) else { return };
    let at = at.field("secretKeyRef");
    for (text, field) in [(&reference.name, "name"), (&reference.key, "key")] {
        if text.is_empty() {
            at.field(field).refuse_all("is required");
        }
    }
}
