use std::collections::BTreeMap;

use super::Place;
use super::names::{is_dns_label, is_label_value, is_qualified_name};
use crate::v3::check_established;
use crate::{Kind, Metadata};

/// How much all annotations of an object may be together, in bytes.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// Checks everything of the metadata but the name.
pub(crate) fn check_metadata(kind: Kind, metadata: &Metadata, at: &Place<'_>) {
    check_namespace(kind, metadata.namespace.as_deref().unwrap_or_default(), &at.field("namespace"));
    check_labels(&metadata.labels, &at.field("labels"));
    let annotations = at.field("annotations");
    check_annotation_keys(&metadata.annotations, &annotations);
    check_established(kind, metadata, &annotations);
    let size: usize = metadata.annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    if size > MAX_ANNOTATIONS {
        annotations.refuse_all(format!("are {size} bytes together, but may be {MAX_ANNOTATIONS} at most"));
    }
}

fn check_namespace(kind: Kind, namespace: &str, at: &Place<'_>) {
    match (kind.is_namespaced(), namespace) {
        (true, "") => at.refuse_all("is required"),
        (true, namespace) if !is_dns_label(namespace) => at.refuse(
            namespace,
            "is not a namespace: at most 63 lower-case letters, digits and '-', with a letter or digit at both ends",
        ),
        (false, namespace) if !namespace.is_empty() => {
            at.refuse(namespace, format!("does not belong here: {kind} has no namespace"));
        }
        _ => {}
    }
}

/// Checks labels, keys and values.
pub(crate) fn check_labels(labels: &BTreeMap<String, String>, at: &Place<'_>) {
    for (key, value) in labels {
        if !is_qualified_name(key) {
            at.refuse(key, NOT_A_KEY);
        }
        if !is_label_value(value) {
            at.key(key).refuse(
                value,
                "is not a label's value: at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends",
            );
        }
    }
}

/// Checks the keys of annotations; their case does not matter.
pub(crate) fn check_annotation_keys(annotations: &BTreeMap<String, String>, at: &Place<'_>) {
    for key in annotations.keys().filter(|key| !is_qualified_name(&key.to_ascii_lowercase())) {
        at.refuse(key, NOT_A_KEY);
    }
}

const NOT_A_KEY: &str = "is not a key: at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends, \
                         perhaps after a lower-case domain and '/'";
