//! The output formats of `calicoctl get`.

use std::str::FromStr;

use anyhow::Result;
use api::{Kind, Resource, documents};
use serde_json::Value;

use crate::Console;
use crate::columns::{self, Choice, Context};
use crate::table;

/// How resources are shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Format {
    Table(Choice),
    Yaml,
    Json,
    Name,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const KNOWN: &str = "ps, wide, yaml, json, name, custom-columns=COLUMN,…";
        match text.split_once('=').unwrap_or((text, "")) {
            ("ps", "") => Ok(Self::Table(Choice::Ps)),
            ("wide", "") => Ok(Self::Table(Choice::Wide)),
            ("yaml", "") => Ok(Self::Yaml),
            ("json", "") => Ok(Self::Json),
            ("name", "") => Ok(Self::Name),
            ("custom-columns", "") => Err("custom-columns needs columns, as in custom-columns=NAME,CIDR".to_owned()),
            ("custom-columns", columns) => {
                let names = columns.split(',').map(|name| name.trim().to_owned()).collect();
                Ok(Self::Table(Choice::Custom(names)))
            }
            ("go-template" | "go-template-file", _) => Err(
                "Go templates need the Go language, which is not here; use custom-columns=COLUMN,… for columns, or \
                 json with a tool such as jq"
                    .to_owned(),
            ),
            _ => Err(format!("there is no such format; use one of {KNOWN}")),
        }
    }
}

/// Resources of one kind.
pub(crate) struct Group {
    pub(crate) kind: Kind,
    pub(crate) items: Vec<Resource>,
    /// Revision of the list that they are, if they are one.
    pub(crate) list_revision: Option<String>,
    /// Whether they are shown as a list even if there is only one.
    pub(crate) is_list: bool,
}

/// What else decides on how resources are shown.
pub(crate) struct Options {
    pub(crate) format: Format,
    /// Show namespaces.
    pub(crate) namespaces: bool,
    /// Leave out what only makes sense in this cluster.
    pub(crate) export: bool,
}

pub(crate) fn print(
    groups: &[Group],
    options: &Options,
    context: &Context,
    console: &mut Console<'_>,
) -> Result<()> {
    let output = &mut *console.output;
    match &options.format {
        Format::Table(choice) => {
            for (index, group) in groups.iter().enumerate() {
                if index > 0 {
                    writeln!(output)?;
                }
                output.write_all(table_of(group, choice, options, context)?.as_bytes())?;
            }
        }
        Format::Name => {
            for resource in groups.iter().flat_map(|group| &group.items) {
                writeln!(output, "{}", name_of(resource, options.namespaces))?;
            }
        }
        Format::Yaml => {
            let texts: Vec<_> =
                groups.iter().map(|group| documents::to_yaml(&value_of(group, options))).collect();
            output.write_all(texts.join("---\n").as_bytes())?;
        }
        Format::Json => {
            let mut values: Vec<_> = groups.iter().map(|group| value_of(group, options)).collect();
            let value = match values.len() {
                1 => values.remove(0),
                _ => Value::Array(values),
            };
            output.write_all(documents::to_json(&value).as_bytes())?;
        }
    }
    Ok(())
}

fn table_of(group: &Group, choice: &Choice, options: &Options, context: &Context) -> Result<String> {
    let columns = columns::chosen(group.kind, choice, options.namespaces)?;
    let headings: Vec<_> = columns.iter().map(|column| column.heading).collect();
    let row = |resource: &Resource| {
        let value = resource.to_value();
        columns.iter().map(|column| column.text(&value, context)).collect()
    };
    let rows: Vec<_> = group.items.iter().map(row).collect();
    Ok(table::plain(&headings, &rows))
}

/// `kind/name`, or `kind/namespace/name`.
fn name_of(resource: &Resource, namespaces: bool) -> String {
    let (kind, metadata) = (resource.kind().name().to_lowercase(), resource.metadata());
    match metadata.namespace.as_ref().filter(|_| namespaces) {
        Some(namespace) => format!("{kind}/{namespace}/{}", metadata.name),
        None => format!("{kind}/{}", metadata.name),
    }
}

fn value_of(group: &Group, options: &Options) -> Value {
    let mut value = match &group.items[..] {
        [single] if !group.is_list => single.to_value(),
        items => documents::list_value(group.kind, group.list_revision.as_deref(), items),
    };
    if options.export {
        let items = value.get_mut("items").and_then(Value::as_array_mut);
        match items {
            Some(items) => items.iter_mut().for_each(strip),
            None => strip(&mut value),
        }
    }
    value
}

/// Takes away what only makes sense in this cluster.
fn strip(resource: &mut Value) {
    if let Some(metadata) = resource.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["uid", "resourceVersion", "creationTimestamp", "namespace"] {
            metadata.remove(field);
        }
    }
}
