//! `calicoctl get`.

use anyhow::{Result, ensure};
use api::documents::Document;
use api::{DEFAULT_AS_NUMBER, Key, Kind, Resource};
use clap::Args;

use crate::cli::Global;
use crate::columns::Context;
use crate::files::FileArgs;
use crate::output::{self, Format, Group, Options};
use crate::session::{Access, Session};
use crate::{Console, kinds};

/// Show resources: all of a kind, by name, or those that a file names.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  calicoctl get nodes -o wide
  calicoctl get networkpolicies -A
  calicoctl get ippool pool-1 -o yaml
  calicoctl get ippools -o custom-columns=NAME,CIDR,BLOCKSIZE
  calicoctl get globalnetworkpolicies -o yaml --export > policies.yaml

Kinds are named in singular, plural or short form, such as ippool, ippools or pool.")]
pub(crate) struct GetArgs {
    /// Kind, such as ippools
    #[arg(value_name = "KIND", conflicts_with = "filename", required_unless_present = "filename")]
    kind: Option<String>,
    /// Names; all of the kind if none
    #[arg(value_name = "NAME", requires = "kind")]
    names: Vec<String>,
    #[command(flatten)]
    files: FileArgs,
    /// ps, wide, yaml, json, name or custom-columns=COLUMN,…
    #[arg(short, long, value_name = "FORMAT", default_value = "ps", value_parser = str::parse::<Format>)]
    output: Format,
    /// From all namespaces
    #[arg(short = 'A', long, short_alias = 'a', conflicts_with_all = ["namespace", "names"])]
    all_namespaces: bool,
    /// Leave out uid, resourceVersion, creationTimestamp and namespace (with yaml and json)
    #[arg(long)]
    export: bool,
}

pub(crate) fn run(args: &GetArgs, global: &Global, console: &mut Console<'_>) -> Result<()> {
    let documents = match &args.kind {
        Some(_) => Vec::new(),
        None => args.files.load(console)?,
    };
    let session = Session::open(global, console, Access::Existing)?;
    let mut errors = Vec::new();
    let groups = match &args.kind {
        Some(word) => vec![by_kind(args, kinds::parse(word)?, &session, &mut errors)?],
        None => by_document(&documents, &session, &mut errors),
    };
    let context = context(&groups, &session);
    let options =
        Options { format: args.output.clone(), namespaces: args.all_namespaces, export: args.export };
    let some = groups.iter().any(|group| !group.items.is_empty());
    if some || errors.is_empty() {
        output::print(&groups, &options, &context, console)?;
    }
    ensure!(errors.is_empty(), "{}", errors.join("\n"));
    Ok(())
}

/// What was asked for by kind and names. What cannot be read is added to the errors, and the rest is shown.
fn by_kind(args: &GetArgs, kind: Kind, session: &Session, errors: &mut Vec<String>) -> Result<Group> {
    let asked_for = args.files.namespace.as_deref();
    let namespace = match args.all_namespaces {
        true => None,
        false => kinds::namespace(kind, asked_for)?,
    };
    if args.names.is_empty() {
        let list = session.resources().list(kind, namespace.as_deref())?;
        errors.extend(list.unreadable.iter().map(ToString::to_string));
        let list_revision = Some(list.revision.to_string());
        return Ok(Group { kind, items: list.items, list_revision, is_list: true });
    }
    let mut items = Vec::new();
    for name in &args.names {
        match session.resources().get(kind, namespace.as_deref(), name) {
            Ok(resource) => items.push(resource),
            Err(error) => errors.push(error.to_string()),
        }
    }
    Ok(Group { kind, items, list_revision: None, is_list: args.names.len() > 1 })
}

/// What a file names, grouped by kind in the order of the file.
fn by_document(documents: &[Document], session: &Session, errors: &mut Vec<String>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for document in documents {
        let Key::Resource { kind, namespace, name } = document.key() else { continue };
        let resource = match session.resources().get(kind, namespace.as_deref(), &name) {
            Ok(resource) => resource,
            Err(error) => {
                errors.push(error.to_string());
                continue;
            }
        };
        match groups.iter_mut().find(|group| group.kind == kind) {
            Some(group) => {
                group.items.push(resource);
                group.is_list = true;
            }
            None => groups.push(Group { kind, items: vec![resource], list_revision: None, is_list: false }),
        }
    }
    groups
}

fn context(groups: &[Group], session: &Session) -> Context {
    if !groups.iter().any(|group| group.kind == Kind::Node) {
        return Context::default();
    }
    let configured = match session.resources().get(Kind::BGPConfiguration, None, "default") {
        Ok(Resource::BGPConfiguration(configuration)) => configuration.spec.as_number,
        // Without it the built-in number holds; if it cannot be read, `get bgpconfigurations` says why.
        _ => None,
    };
    Context { default_as: configured.unwrap_or(DEFAULT_AS_NUMBER).to_string() }
}
