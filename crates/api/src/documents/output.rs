use serde_json::{Value, json};

use crate::{API_VERSION, Kind, Resource};

/// A list as calicoctl prints it: `kind: IPPoolList` with `items`.
pub fn list_value(kind: Kind, resource_version: Option<&str>, items: &[Resource]) -> Value {
    let metadata = match resource_version {
        Some(version) => json!({ "resourceVersion": version }),
        None => json!({}),
    };
    json!({
        "apiVersion": API_VERSION,
        "kind": format!("{kind}List"),
        "metadata": metadata,
        "items": items.iter().map(Resource::to_value).collect::<Vec<_>>(),
    })
}

/// YAML with sorted keys, as calicoctl prints it; ends with a line break. Texts that YAML could take for something else
/// are quoted.
pub fn to_yaml(value: &Value) -> String {
    serde_saphyr::to_string(value).expect("JSON values hold nothing that YAML lacks")
}

/// JSON, indented by two, as calicoctl prints it; ends with a line break.
pub fn to_json(value: &Value) -> String {
    let text = serde_json::to_string_pretty(value).expect("a JSON value is JSON");
    format!("{text}\n")
}
