//! Merge patches: RFC 7386, and Kubernetes' strategic kind as far as v3 resources have it. Their lists have no merge
//! keys, so what is left of the strategy is `$patch`.

use anyhow::{Result, bail};
use serde_json::{Map, Value};

/// RFC 7386: objects are merged, null removes, everything else replaces.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        target.clone_from(patch);
        return;
    };
    let fields = as_object(target);
    for (name, value) in patch {
        match value {
            Value::Null => drop(fields.remove(name)),
            value => merge(fields.entry(name.clone()).or_insert(Value::Null), value),
        }
    }
}

/// As [`merge`], and obeys `$patch: replace` (the rest of the object is all there is), `delete` (nothing is left) and
/// `merge` in objects.
pub(crate) fn merge_strategically(target: &mut Value, patch: &Value) -> Result<()> {
    let Value::Object(patch) = patch else {
        if let Value::Array(items) = patch {
            items.iter().try_for_each(check_item)?;
        }
        target.clone_from(patch);
        return Ok(());
    };
    check_directives(patch)?;
    match patch.get("$patch").map(|directive| directive.as_str().unwrap_or_default()) {
        None | Some("merge") => {}
        Some("replace") => *as_object(target) = Map::new(),
        Some("delete") => {
            *as_object(target) = Map::new();
            return Ok(());
        }
        Some(other) => bail!("$patch: {other:?} is not one of replace, delete, merge"),
    }
    let fields = as_object(target);
    for (name, value) in patch.iter().filter(|(name, _)| *name != "$patch") {
        match value {
            Value::Null => drop(fields.remove(name)),
            value => merge_strategically(fields.entry(name.clone()).or_insert(Value::Null), value)?,
        }
    }
    Ok(())
}

fn check_directives(patch: &Map<String, Value>) -> Result<()> {
    match patch.keys().find(|name| name.starts_with('$') && *name != "$patch") {
        Some(name) => bail!(
            "{name} is for lists that merge by key, which v3 resources do not have; write the whole list"
        ),
        None => Ok(()),
    }
}

fn check_item(item: &Value) -> Result<()> {
    match item.as_object().and_then(|fields| fields.keys().find(|name| name.starts_with('$'))) {
        Some(name) => {
            bail!("{name} in a list: lists of v3 resources are replaced as a whole; write the whole list")
        }
        None => Ok(()),
    }
}

fn as_object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().expect("it was just made one")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(target: Value, patch: Value, expected: Value) {
        let mut merged = target.clone();
        merge(&mut merged, &patch);
        assert_eq!(merged, expected, "merge");
        let mut merged = target;
        merge_strategically(&mut merged, &patch).unwrap();
        assert_eq!(merged, expected, "strategic");
    }

    /// From the table in RFC 7386, appendix A.
    #[test]
    fn objects_merge_null_removes_and_the_rest_replaces() {
        check(json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"}));
        check(json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"}));
        check(json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"}));
        check(json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"}));
        check(json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}}));
        check(json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]}));
        check(json!(["a"]), json!({"a": "b"}), json!({"a": "b"}));
        check(json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}}));
    }

    #[test]
    fn directives_replace_and_delete_objects() {
        let mut value = json!({"a": {"b": 1, "c": 2}});
        merge_strategically(&mut value, &json!({"a": {"$patch": "replace", "d": 3}})).unwrap();
        assert_eq!(value, json!({"a": {"d": 3}}));
        merge_strategically(&mut value, &json!({"a": {"$patch": "delete"}})).unwrap();
        assert_eq!(value, json!({"a": {}}));
    }

    #[test]
    fn directives_that_mean_nothing_here_are_refused() {
        for patch in [
            json!({"a": {"$patch": "frobnicate"}}),
            json!({"$deleteFromPrimitiveList/a": [1]}),
            json!({"a": [{"$patch": "delete", "name": "x"}]}),
        ] {
            assert!(merge_strategically(&mut json!({}), &patch).is_err(), "{patch}");
        }
    }
}
