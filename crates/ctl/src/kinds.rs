//! Kinds as users write them.

use anyhow::{Result, anyhow};
use api::Kind;

/// The kind that a word names, in whatever spelling.
pub(crate) fn parse(word: &str) -> Result<Kind> {
    Kind::from_word(word).ok_or_else(|| {
        let plurals: Vec<_> = Kind::ALL.iter().map(|kind| kind.plural()).collect();
        anyhow!("there is no kind of resource {word:?}; known are {}", plurals.join(", "))
    })
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
