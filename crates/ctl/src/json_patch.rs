//! JSON patches (RFC 6902) with JSON pointers (RFC 6901).

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

/// An operation (RFC 6902, section 4).
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase", deny_unknown_fields)]
enum Operation {
    Add { path: String, value: Value },
    Remove { path: String },
    Replace { path: String, value: Value },
    Move { from: String, path: String },
    Copy { from: String, path: String },
    Test { path: String, value: Value },
}

/// Applies all operations of a patch, in order.
pub(crate) fn apply(document: &mut Value, patch: &Value) -> Result<()> {
    ensure!(patch.is_array(), "a patch of type json is a list of operations (RFC 6902)");
    let operations: Vec<Operation> = serde_json::from_value(patch.clone())
        .context("the patch is not a list of operations add, remove, replace, move, copy, test (RFC 6902)")?;
    for (index, operation) in operations.into_iter().enumerate() {
        operate(document, operation).with_context(|| format!("operation {} of the patch", index + 1))?;
    }
    Ok(())
}

fn operate(document: &mut Value, operation: Operation) -> Result<()> {
    match operation {
        Operation::Add { path, value } => add(document, &path, value),
        Operation::Remove { path } => remove(document, &path).map(drop),
        Operation::Replace { path, value } => {
            *find(document, &path)? = value;
            Ok(())
        }
        Operation::Move { from, path } => {
            ensure!(!path.starts_with(&format!("{from}/")), "{from} cannot move into itself");
            let value = remove(document, &from)?;
            add(document, &path, value)
        }
        Operation::Copy { from, path } => {
            let value = find(document, &from)?.clone();
            add(document, &path, value)
        }
        Operation::Test { path, value } => {
            let found = find(document, &path)?;
            ensure!(*found == value, "{path} is {found}, not {value}");
            Ok(())
        }
    }
}

fn find<'a>(document: &'a mut Value, path: &str) -> Result<&'a mut Value> {
    check(path)?;
    document.pointer_mut(path).ok_or_else(|| anyhow!("there is nothing at {path}"))
}

fn add(document: &mut Value, path: &str, value: Value) -> Result<()> {
    let Some((parent, last)) = split(path)? else {
        *document = value;
        return Ok(());
    };
    match find(document, parent)? {
        Value::Object(fields) => drop(fields.insert(last, value)),
        Value::Array(items) if last == "-" => items.push(value),
        Value::Array(items) => {
            let index = index(&last, items.len() + 1).with_context(|| path.to_owned())?;
            items.insert(index, value);
        }
        _ => bail!("{parent} is neither an object nor a list"),
    }
    Ok(())
}

fn remove(document: &mut Value, path: &str) -> Result<Value> {
    let Some((parent, last)) = split(path)? else { bail!("the whole resource cannot be removed") };
    match find(document, parent)? {
        Value::Object(fields) => fields.remove(&last).ok_or_else(|| anyhow!("there is nothing at {path}")),
        Value::Array(items) => {
            let index = index(&last, items.len()).with_context(|| path.to_owned())?;
            Ok(items.remove(index))
        }
        _ => bail!("{parent} is neither an object nor a list"),
    }
}

/// The pointer to the parent and the unescaped last part; `None` for the document as a whole.
fn split(path: &str) -> Result<Option<(&str, String)>> {
    check(path)?;
    Ok(path.rsplit_once('/').map(|(parent, last)| (parent, last.replace("~1", "/").replace("~0", "~"))))
}

fn check(path: &str) -> Result<()> {
    ensure!(path.is_empty() || path.starts_with('/'), "{path:?} is not a JSON pointer: it begins with /");
    Ok(())
}

/// An array index below a bound; leading zeros are not allowed (RFC 6901, section 4).
fn index(text: &str, bound: usize) -> Result<usize> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    let index = text.parse().ok().filter(|index| is_number && *index < bound);
    index.ok_or_else(|| anyhow!("{text:?} is not a place in a list of {bound}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn patched(mut document: Value, patch: Value) -> Value {
        apply(&mut document, &patch).unwrap();
        document
    }

    /// After the examples of RFC 6902, appendix A.
    #[test]
    fn every_operation_does_what_the_rfc_says() {
        let add = |path: &str, value: Value| json!([{"op": "add", "path": path, "value": value}]);
        assert_eq!(
            patched(json!({"foo": "bar"}), add("/baz", json!("qux"))),
            json!({"foo": "bar", "baz": "qux"})
        );
        assert_eq!(patched(json!({"foo": [1, 3]}), add("/foo/1", json!(2))), json!({"foo": [1, 2, 3]}));
        assert_eq!(patched(json!({"foo": [1]}), add("/foo/-", json!(2))), json!({"foo": [1, 2]}));
        let remove = json!([{"op": "remove", "path": "/foo/1"}]);
        assert_eq!(patched(json!({"foo": [1, 2, 3]}), remove), json!({"foo": [1, 3]}));
        let replace = json!([{"op": "replace", "path": "/a~1b/m~0n", "value": 2}]);
        assert_eq!(patched(json!({"a/b": {"m~n": 1}}), replace), json!({"a/b": {"m~n": 2}}));
        let relocate = json!([{"op": "move", "from": "/foo/0", "path": "/foo/1"}]);
        assert_eq!(patched(json!({"foo": [1, 2]}), relocate), json!({"foo": [2, 1]}));
        let copy =
            json!([{"op": "copy", "from": "/a", "path": "/b"}, {"op": "test", "path": "/b", "value": 1}]);
        assert_eq!(patched(json!({"a": 1}), copy), json!({"a": 1, "b": 1}));
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        for patch in [
            json!({"op": "add"}),
            json!([{"op": "frobnicate", "path": "/a"}]),
            json!([{"op": "remove", "path": "/b"}]),
            json!([{"op": "replace", "path": "/b", "value": 1}]),
            json!([{"op": "add", "path": "/b/c", "value": 1}]),
            json!([{"op": "add", "path": "/list/9", "value": 1}]),
            json!([{"op": "remove", "path": "/list/01"}]),
            json!([{"op": "test", "path": "/a", "value": 2}]),
            json!([{"op": "add", "path": "a", "value": 1}]),
            json!([{"op": "move", "from": "/a", "path": "/a/b"}]),
            json!([{"op": "remove", "path": ""}]),
        ] {
            let mut document = json!({"a": 1, "list": [1, 2]});
            assert!(apply(&mut document, &patch).is_err(), "{patch}");
        }
    }
}
