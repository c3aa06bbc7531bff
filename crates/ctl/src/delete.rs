//! `calicoctl delete`.

use anyhow::{Result, anyhow, bail, ensure};
use api::documents::Document;
use api::{Key, Kind};
use clap::Args;
use datastore::{Revision, StoreError};

use crate::cli::Global;
use crate::files::FileArgs;
use crate::session::{Access, Session};
use crate::tally::{self, Done, Words};
use crate::{Console, kinds, removal};

/// Delete resources, by name or by file.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  calicoctl delete ippool pool-1 pool-2
  calicoctl delete networkpolicy allow-web -n production
  calicoctl delete -f policy.yaml -s

Deleting an IPPool disables it first and takes its blocks from their nodes; addresses in use stay
with their workloads. Deleting a Node deletes its WorkloadEndpoints, releases their addresses and
its blocks, and deletes the BGPPeers that are its alone.
Resources are deleted one after the other, up to the first that fails.")]
pub(crate) struct DeleteArgs {
    /// Kind, such as ippool
    #[arg(value_name = "KIND", conflicts_with = "filename", required_unless_present = "filename")]
    kind: Option<String>,
    /// Names
    #[arg(value_name = "NAME", requires = "kind")]
    names: Vec<String>,
    #[command(flatten)]
    files: FileArgs,
    /// Pass over what does not exist, without an error
    #[arg(short, long)]
    skip_not_exists: bool,
}

/// What is to be deleted, and as what the user knows it.
struct Target {
    word: String,
    kind: Kind,
    namespace: Option<String>,
    name: String,
    revision: Option<Revision>,
}

pub(crate) fn run(args: &DeleteArgs, global: &Global, console: &mut Console<'_>) -> Result<()> {
    let targets = match &args.kind {
        Some(kind) => by_name(args, kind)?,
        None => args.files.load(console)?.iter().map(by_document).collect::<Result<_>>()?,
    };
    let session = Session::open(global, console, Access::Existing)?;
    let words = Words { infinitive: "delete", past: "deleted" };
    tally::each(
        &targets,
        |target| &target.word,
        words,
        console,
        |target| match delete(&session, target) {
            Ok(()) => Ok(Done::Yes),
            Err(error) if args.skip_not_exists && is_not_found(&error) => {
                Ok(Done::Skipped("that do not exist"))
            }
            Err(error) if is_not_found(&error) => {
                Err(anyhow!("{error:#}; --skip-not-exists passes over what is not there"))
            }
            Err(error) => Err(error),
        },
    )
}

fn by_name(args: &DeleteArgs, kind: &str) -> Result<Vec<Target>> {
    let kind = kinds::parse(kind)?;
    ensure!(
        !args.names.is_empty(),
        "which {kind}? Give one or more names; calicoctl get {} lists them",
        kind.plural()
    );
    let namespace = kinds::namespace(kind, args.files.namespace.as_deref())?;
    let target = |name: &String| Target {
        word: kind.name().to_owned(),
        kind,
        namespace: namespace.clone(),
        name: name.clone(),
        revision: None,
    };
    Ok(args.names.iter().map(target).collect())
}

fn by_document(document: &Document) -> Result<Target> {
    let metadata = document.resource().metadata();
    let Key::Resource { kind, namespace, name } = document.key() else {
        bail!("{} is no resource", document.key())
    };
    let revision = metadata.resource_version.as_deref().map(Revision::from);
    Ok(Target { word: tally::kind_of(document).to_owned(), kind, namespace, name, revision })
}

fn delete(session: &Session, target: &Target) -> Result<()> {
    let resources = session.resources();
    let (namespace, name) = (target.namespace.as_deref(), &*target.name);
    let before = resources.get(target.kind, namespace, name)?;
    let revision = before.metadata().resource_version.as_deref().map(Revision::from);
    if let Some(expected) = target.revision.clone().filter(|expected| Some(expected) != revision.as_ref()) {
        return Err(StoreError::Conflict { key: before.key(), expected }.into());
    }
    removal::prepare(&before, session)?;
    // Preparing a pool writes it, so what was asked for was checked before.
    resources.delete(target.kind, namespace, name, None)?;
    Ok(())
}

fn is_not_found(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        matches!(cause.downcast_ref::<StoreError>(), Some(StoreError::NotFound(_)))
            || cause
                .downcast_ref::<datastore::resources::ResourceError>()
                .is_some_and(|error| error.is_not_found())
    })
}
