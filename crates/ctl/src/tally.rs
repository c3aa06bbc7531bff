//! Doing something with several resources, and saying how far it got.

use anyhow::{Result, bail};
use api::documents::Document;

use crate::Console;

/// A verb as outcomes word it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Words {
    /// `apply`.
    pub(crate) infinitive: &'static str,
    /// `applied`.
    pub(crate) past: &'static str,
}

/// What became of one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    /// It was done.
    Yes,
    /// It was left as it is, and the user said that this is fine: `that exist already`.
    Skipped(&'static str),
}

/// The kind as the user named it.
pub(crate) fn kind_of(document: &Document) -> &str {
    match document {
        Document::Calico(resource) => resource.kind().name(),
        Document::Kubernetes(object) => &object.kind,
    }
}

/// Does it with one after the other, up to the first that fails. Says how many were done.
pub(crate) fn each<T>(
    items: &[T],
    kind: impl Fn(&T) -> &str,
    words: Words,
    console: &mut Console<'_>,
    mut act: impl FnMut(&T) -> Result<Done>,
) -> Result<()> {
    let total = items.len();
    let single = items.first().map(&kind).filter(|first| items.iter().all(|item| kind(item) == *first));
    let quoted = single.map(|kind| format!("'{kind}' ")).unwrap_or_default();
    let (mut done, mut skipped) = (0, Vec::new());
    for item in items {
        let outcome = act(item);
        tracing::debug!(kind = kind(item), verb = words.infinitive, ?outcome);
        match outcome {
            Ok(Done::Yes) => done += 1,
            Ok(Done::Skipped(why)) => skipped.push(why),
            Err(error) if done == 0 => {
                bail!("Failed to {} any {quoted}resources: {error:#}", words.infinitive)
            }
            Err(error) => bail!(
                "Partial success: {} the first {} out of {total} {quoted}resources:\nHit error: {error:#}",
                words.past,
                done + skipped.len()
            ),
        }
    }
    if done > 0 || skipped.is_empty() {
        writeln!(console.output, "Successfully {} {done} {quoted}resource(s)", words.past)?;
    }
    if let Some(why) = skipped.first() {
        writeln!(console.output, "Skipped {} {quoted}resource(s) {why}", skipped.len())?;
    }
    Ok(())
}
