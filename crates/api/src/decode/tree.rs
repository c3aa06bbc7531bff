//! A document before it is typed: what the author wrote, with its lines.

use serde_json::Value;

/// A node of a document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tree {
    /// Where it begins, from 1; 0 if that is not known.
    pub(crate) line: u32,
    pub(crate) content: Content,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Content {
    Null,
    /// Written without quotes: whether it is a number, a truth value or a text depends on who asks.
    Plain(String),
    /// Written as a text.
    Text(String),
    List(Vec<Tree>),
    /// In the author's order; keys are unique.
    Map(Vec<(String, Tree)>),
}

impl Tree {
    /// The value of a key, if this is a map that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Tree> {
        match &self.content {
            Content::Map(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, tree)| tree),
            _ => None,
        }
    }

    /// The line of a field such as `spec.ingress[0].action`, or of what is nearest to it.
    pub(crate) fn line_of(&self, path: &str) -> u32 {
        let Some((part, rest)) = first_part(path) else { return self.line };
        let child = match &self.content {
            Content::List(items) => part.parse().ok().and_then(|index: usize| items.get(index)),
            _ => self.get(part),
        };
        child.map_or(self.line, |child| child.line_of(rest))
    }

    /// The text of a scalar, as written.
    pub(crate) fn scalar(&self) -> Option<&str> {
        match &self.content {
            Content::Plain(text) | Content::Text(text) => Some(text),
            Content::Null | Content::List(_) | Content::Map(_) => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        self.content == Content::Null
    }
}

/// The first part of a path, and what follows it. Keys with dots in them are in brackets: `metadata.labels[a.b/c]`.
fn first_part(path: &str) -> Option<(&str, &str)> {
    let path = path.strip_prefix('.').unwrap_or(path);
    if let Some(bracketed) = path.strip_prefix('[') {
        return bracketed.split_once(']');
    }
    let end = path.find(['.', '[']).unwrap_or(path.len());
    (end > 0).then(|| path.split_at(end))
}

impl From<&Value> for Tree {
    fn from(value: &Value) -> Self {
        let content = match value {
            Value::Null => Content::Null,
            Value::Bool(truth) => Content::Plain(truth.to_string()),
            Value::Number(number) => Content::Plain(number.to_string()),
            Value::String(text) => Content::Text(text.clone()),
            Value::Array(items) => Content::List(items.iter().map(Self::from).collect()),
            Value::Object(entries) => {
                Content::Map(entries.iter().map(|(key, value)| (key.clone(), Self::from(value))).collect())
            }
        };
        Self { line: 0, content }
    }
}

/// What an unquoted scalar is when nobody says what it should be (YAML 1.2 core schema, but for numbers that have
/// another meaning in YAML 1.1 or lose digits: those stay texts).
#[derive(Debug, PartialEq)]
pub(crate) enum Untyped {
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text,
}

pub(crate) fn untyped(plain: &str) -> Untyped {
    match plain {
        "true" | "True" | "TRUE" => return Untyped::Bool(true),
        "false" | "False" | "FALSE" => return Untyped::Bool(false),
        _ => {}
    }
    if let Some(number) = unsigned(plain) {
        return Untyped::Unsigned(number);
    }
    if let Some(number) = signed(plain) {
        return Untyped::Signed(number);
    }
    float(plain).map_or(Untyped::Text, Untyped::Float)
}

/// Decimal digits without leading zeros.
pub(crate) fn unsigned(plain: &str) -> Option<u64> {
    let is_decimal = plain.bytes().all(|byte| byte.is_ascii_digit());
    let is_ambiguous = plain.len() > 1 && plain.starts_with('0');
    (is_decimal && !is_ambiguous).then(|| plain.parse().ok()).flatten()
}

/// The same, perhaps below zero.
pub(crate) fn signed(plain: &str) -> Option<i64> {
    match plain.strip_prefix('-') {
        Some(digits) => unsigned(digits).and_then(|_| plain.parse().ok()),
        None => unsigned(plain).and_then(|number| i64::try_from(number).ok()),
    }
}

/// A finite decimal number.
pub(crate) fn float(plain: &str) -> Option<f64> {
    let digits = plain.strip_prefix(['-', '+']).unwrap_or(plain);
    let looks_like_one = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.bytes().all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte));
    let is_ambiguous = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
    (looks_like_one && !is_ambiguous)
        .then(|| plain.parse().ok())
        .flatten()
        .filter(|number: &f64| number.is_finite())
}

/// A truth value where one is wanted; YAML 1.1 knows more words for it than 1.2.
pub(crate) fn truth(plain: &str) -> Option<bool> {
    match plain.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "y" => Some(true),
        "false" | "no" | "off" | "n" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unquoted_scalars_are_guessed_without_losing_anything() {
        assert_eq!(untyped("true"), Untyped::Bool(true));
        assert_eq!(untyped("yes"), Untyped::Text);
        assert_eq!(untyped("80"), Untyped::Unsigned(80));
        assert_eq!(untyped("-80"), Untyped::Signed(-80));
        assert_eq!(untyped("1.5"), Untyped::Float(1.5));
        assert_eq!(untyped("1e3"), Untyped::Float(1000.0));
        for text in ["0755", "0x1f", "1_000", "10.0.0.1", "1:2", ".", "e", "1e999", "", "-"] {
            assert_eq!(untyped(text), Untyped::Text, "{text}");
        }
    }
}
