//! `calicoctl patch`.

use anyhow::{Context, Result, anyhow, bail, ensure};
use api::{Kind, Resource};
use clap::{Args, ValueEnum};
use serde_json::Value;

use crate::cli::Global;
use crate::filter_tests;
use crate::session::{Access, Session};
use crate::{Console, json_patch, kinds, merge_patch};

/// Change some fields of a resource.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  calicoctl patch node node-1 -p '{\"spec\": {\"bgp\": {\"routeReflectorClusterID\": \"224.0.0.1\"}}}'
  calicoctl patch ippool pool-1 -p 'spec: {disabled: true}'
  calicoctl patch felixconfig default -t json \\
    -p '[{\"op\": \"remove\", \"path\": \"/spec/logSeverityScreen\"}]'

In a strategic or merge patch null removes a field, and a list replaces the whole list.")]
pub(crate) struct PatchArgs {
    /// Kind, such as node
    kind: String,
    /// Name
    name: String,
    /// The patch, in JSON or YAML
    #[arg(short, long, value_name = "PATCH", allow_hyphen_values = true)]
    patch: String,
    /// How the patch is written
    #[arg(short = 't', long = "type", value_name = "TYPE", default_value = "strategic")]
    patch_type: PatchType,
    /// Namespace [default: default]
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PatchType {
    /// The fields to change; `$patch: replace` or `delete` in an object is obeyed
    Strategic,
    /// Operations of RFC 6902
    Json,
    /// The fields to change (RFC 7386)
    Merge,
}

/// JSON first: YAML takes some of its texts and numbers for something else.
fn parse(text: &str) -> Result<Value> {
    let json = match serde_json::from_str(text) {
        Ok(patch) => return Ok(patch),
        Err(error) => error,
    };
    serde_saphyr::from_str(text).map_err(|yaml| match text.trim_start().starts_with(['{', '[']) {
        true => anyhow!("the patch is not JSON: {json}; quote it whole: -p '{{…}}'"),
        // The first line says what and where; a drawing of the text follows.
        false => anyhow!("the patch is not YAML: {}", yaml.to_string().lines().next().unwrap_or_default()),
    })
}

pub(crate) fn run(args: &PatchArgs, global: &Global, console: &mut Console<'_>) -> Result<()> {
    let kind = kinds::parse(&args.kind)?;
    let namespace = kinds::namespace(kind, args.namespace.as_deref())?;
    let patch = parse(&args.patch)?;
    let session = Session::open(global, console, Access::Existing)?;
    session.resources().modify(kind, namespace.as_deref(), &args.name, |before| {
        patched(before, &patch, args.patch_type).with_context(|| format!("{} was not patched", before.key()))
    })?;
    writeln!(console.output, "Successfully patched 1 '{kind}' resource")?;
    Ok(())
}

fn patched(before: &Resource, patch: &Value, patch_type: PatchType) -> Result<Resource> {
    let mut value = before.to_value();
    match patch_type {
        PatchType::Merge => merge_patch::merge(&mut value, patch),
        PatchType::Strategic => merge_patch::merge_strategically(&mut value, patch)?,
        PatchType::Json => json_patch::apply(&mut value, patch)?,
    }
    let after = Resource::from_value(&value).map_err(|violations| {
        anyhow!(violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    })?;
    check_identity(before, &after)?;
    filter_tests::check(&after)?;
    Ok(after)
}

fn check_identity(before: &Resource, after: &Resource) -> Result<()> {
    let kind: fn(&Resource) -> Kind = Resource::kind;
    if kind(before) != kind(after) || before.key() != after.key() {
        bail!("a patch cannot change kind, name or namespace; it would make {} of it", after.key());
    }
    let (now, patched) = (&before.metadata().resource_version, &after.metadata().resource_version);
    ensure!(
        patched.is_none() || patched == now,
        "metadata.resourceVersion: {:?} is not its latest, which is {:?}",
        patched.as_deref().unwrap_or_default(),
        now.as_deref().unwrap_or_default()
    );
    Ok(())
}
