use super::Place;
use crate::selector::{Selector, SelectorError};

/// The longest selector, in characters.
const MAX_LENGTH: usize = 1024;

/// Checks a selector; empty is good. `global()` means nothing here.
pub(crate) fn check_selector(text: &str, at: &Place<'_>) {
    if let Some(selector) = parsed(text, at).filter(Selector::mentions_global) {
        at.refuse(selector.as_str(), "uses global(), which only the namespaceSelector of a rule may");
    }
}

/// Checks the namespace selector of a rule, which may be `global()` and nothing else.
pub(crate) fn check_namespace_selector(text: &str, at: &Place<'_>) {
    if let Some(selector) =
        parsed(text, at).filter(|selector| selector.mentions_global() && !selector.is_global())
    {
        at.refuse(selector.as_str(), "combines global() with something else; it has to stand alone");
    }
}

fn parsed(text: &str, at: &Place<'_>) -> Option<Selector> {
    if text.is_empty() {
        return None;
    }
    let length = text.chars().count();
    if length > MAX_LENGTH {
        at.refuse_all(format!("is {length} characters long, but may have {MAX_LENGTH} at most"));
        return None;
    }
    let refuse = |error: SelectorError| {
        at.refuse(text, format!("is not a selector: {error}\n{}", error.caret(text)));
    };
    Selector::parse(text).map_err(refuse).ok()
}
