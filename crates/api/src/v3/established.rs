//! What a policy means for connections that were allowed before it denied them.

use crate::rules::Place;
use crate::{Kind, Metadata};

/// The annotation of a policy that says what becomes of established connections; ours, Calico has none and ignores it.
pub const ESTABLISHED_ANNOTATION: &str = "tortie.dev/established";

/// What becomes of an established connection that policy would no longer let begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Established {
    /// It goes on, as in Calico.
    #[default]
    Keep,
    /// It is cut: its packets are judged again, as if each began it.
    Recheck,
}

/// The annotation's value is neither `keep` nor `recheck`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is neither keep nor recheck")]
pub struct InvalidEstablished;

impl Metadata {
    /// What the object's annotation [`ESTABLISHED_ANNOTATION`] asks for; [`Established::Keep`] without it.
    ///
    /// # Errors
    /// The value is another word.
    pub fn established(&self) -> Result<Established, InvalidEstablished> {
        match self.annotations.get(ESTABLISHED_ANNOTATION).map(String::as_str) {
            None | Some("keep") => Ok(Established::Keep),
            Some("recheck") => Ok(Established::Recheck),
            Some(_) => Err(InvalidEstablished),
        }
    }
}

/// Checks the annotation of a policy; on other kinds it would do nothing.
pub(crate) fn check_established(kind: Kind, metadata: &Metadata, at: &Place<'_>) {
    let Some(value) = metadata.annotations.get(ESTABLISHED_ANNOTATION) else { return };
    let at = at.key(ESTABLISHED_ANNOTATION);
    if !kind.name().ends_with("Policy") {
        at.refuse(value, format!("does nothing on a {kind}; it belongs to policies"));
    } else if let Err(error) = metadata.established() {
        at.refuse(value, error.to_string());
    }
}
