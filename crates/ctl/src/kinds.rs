//! Kinds as users write them.

use anyhow::{Result, anyhow};
use api::Kind;

/// The kind that a word names, in whatever spelling.
pub(crate) fn parse(word: &str) -> Result<Kind> {
    Kind::from_word(word).ok_or_else(|| {
        if let Some((kind, kept_as, name)) = of_kubernetes(word) {
            return anyhow!("{kind} NAME is kept as {kept_as} {name}: calicoctl get {}", kept_as.plural());
        }
        let plurals: Vec<_> = Kind::ALL.iter().map(|kind| kind.plural()).collect();
        anyhow!("there is no kind of resource {word:?}; known are {}", plurals.join(", "))
    })
}

/// Kinds of Kubernetes that are kept under another name: the kind, as what it is kept, and how that is called.
const OF_KUBERNETES: [(&str, Kind, &str); 5] = [
    ("ClusterNetworkPolicy", Kind::GlobalNetworkPolicy, "kcnp.NAME"),
    ("AdminNetworkPolicy", Kind::GlobalNetworkPolicy, "kanp.NAME"),
    ("BaselineAdminNetworkPolicy", Kind::GlobalNetworkPolicy, "kbanp.NAME"),
    ("Namespace", Kind::Profile, "kns.NAME"),
    ("ServiceAccount", Kind::Profile, "ksa.NAMESPACE.NAME"),
];

fn of_kubernetes(word: &str) -> Option<(&'static str, Kind, &'static str)> {
    let word = word.to_ascii_lowercase();
    let plurals =
        |kind: &str| [kind.to_owned(), format!("{kind}s"), kind.trim_end_matches('y').to_owned() + "ies"];
    OF_KUBERNETES.into_iter().find(|(kind, ..)| plurals(&kind.to_ascii_lowercase()).contains(&word))
}

/// The namespace for a resource of a kind: what was asked for, or `default`; none for kinds that have none.
pub(crate) fn namespace(kind: Kind, asked_for: Option<&str>) -> Result<Option<String>> {
    match (kind.is_namespaced(), asked_for) {
        (true, namespace) => Ok(Some(namespace.unwrap_or("default").to_owned())),
        (false, None) => Ok(None),
        (false, Some(namespace)) => {
            Err(anyhow!("{kind} has no namespace; leave out --namespace {namespace}"))
        }
    }
}
