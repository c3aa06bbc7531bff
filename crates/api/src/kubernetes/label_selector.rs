//! Kubernetes label selectors as texts of the selector language. The texts are exact: users see them, and the names of IP
//! sets are made from them.

use super::error::FieldError;
use super::objects::{LabelSelector, LabelSelectorRequirement};

/// What every pod's labels satisfy.
pub(super) const IS_POD: &str = "projectcalico.org/orchestrator == 'k8s'";

/// The pods that a selector selects; without one, all.
pub(super) fn of_pods(selector: Option<&LabelSelector>) -> Result<String, FieldError> {
    let mut terms = vec![IS_POD.to_owned()];
    if let Some(selector) = selector {
        terms.extend(conditions(selector)?);
    }
    Ok(terms.join(" && "))
}

/// The namespaces that a selector selects.
pub(super) fn of_namespaces(selector: &LabelSelector) -> Result<String, FieldError> {
    let terms = conditions(selector)?;
    Ok(if terms.is_empty() { "all()".to_owned() } else { terms.join(" && ") })
}

fn conditions(selector: &LabelSelector) -> Result<Vec<String>, FieldError> {
    let labels = selector.match_labels.iter().map(|(key, value)| equality(key, value));
    let expressions = selector.match_expressions.iter().enumerate().map(|(index, requirement)| {
        condition(requirement).map_err(|error| error.within(format_args!("matchExpressions[{index}]")))
    });
    labels.chain(expressions).collect()
}

fn equality(key: &str, value: &str) -> Result<String, FieldError> {
    let path = format!("matchLabels[{key}]");
    checked_key(key, &path)?;
    checked_value(value, &path)?;
    Ok(format!("{key} == '{value}'"))
}

fn condition(requirement: &LabelSelectorRequirement) -> Result<String, FieldError> {
    let LabelSelectorRequirement { key, operator, values } = requirement;
    checked_key(key, "key")?;
    match operator.as_str() {
        "In" => Ok(format!("{key} in {}", set(values)?)),
        "NotIn" => Ok(format!("{key} not in {}", set(values)?)),
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            Err(FieldError::new("values", format!("must be empty for the operator {operator}")))
        }
        "Exists" => Ok(format!("has({key})")),
        "DoesNotExist" => Ok(format!("! has({key})")),
        other => {
            Err(FieldError::bad_value("operator", other, "is not one of In, NotIn, Exists, DoesNotExist"))
        }
    }
}

fn set(values: &[String]) -> Result<String, FieldError> {
    if values.is_empty() {
        return Err(FieldError::new("values", "must not be empty for the operators In and NotIn"));
    }
    for (index, value) in values.iter().enumerate() {
        checked_value(value, &format!("values[{index}]"))?;
    }
    Ok(format!("{{ '{}' }}", values.join("', '")))
}

/// A key that the selector language cannot write would change the meaning of the text.
fn checked_key(key: &str, path: &str) -> Result<(), FieldError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'/' | b'-');
    match !key.is_empty() && key.bytes().all(allowed) {
        true => Ok(()),
        false => Err(FieldError::bad_value(path, key, "is not a label name")),
    }
}

/// A label's value in Kubernetes: at most 63 of letters, digits, `-`, `_` and `.`, alphanumeric at both ends.
fn checked_value(value: &str, path: &str) -> Result<(), FieldError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    let ends = |byte: Option<u8>| byte.is_none_or(|byte| byte.is_ascii_alphanumeric());
    let bytes = value.as_bytes();
    let is_value = bytes.len() <= 63
        && bytes.iter().copied().all(allowed)
        && ends(bytes.first().copied())
        && ends(bytes.last().copied());
    let reason = "at most 63 of letters, digits, '-', '_' and '.', with a letter or digit at both ends";
    match is_value {
        true => Ok(()),
        false => Err(FieldError::bad_value(path, value, format!("is not the value of a label: {reason}"))),
    }
}
