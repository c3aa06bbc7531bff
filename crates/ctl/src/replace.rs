//! `calicoctl replace`.

use anyhow::{Result, bail};
use clap::Args;

use crate::Console;
use crate::cli::Global;
use crate::files::FileArgs;
use crate::filter_tests;
use crate::session::{Access, Session};
use crate::tally::{self, Done, Words};

/// Replace existing resources by what a file says. What does not exist is an error.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  calicoctl replace -f pool.yaml

A file with metadata.resourceVersion only replaces that version: if someone else changed the
resource since, it is a conflict.
Resources are replaced one after the other, up to the first that fails.")]
pub(crate) struct ReplaceArgs {
    #[command(flatten)]
    files: FileArgs,
}

pub(crate) fn run(args: &ReplaceArgs, global: &Global, console: &mut Console<'_>) -> Result<()> {
    let documents = args.files.load(console)?;
    let session = Session::open(global, console, Access::Existing)?;
    let words = Words { infinitive: "replace", past: "replaced" };
    tally::each(&documents, tally::kind_of, words, console, |document| {
        filter_tests::check(document.resource())?;
        match session.resources().update(document.resource().clone()) {
            Ok(_) => Ok(Done::Yes),
            Err(error) if error.is_not_found() => bail!("{error}; make it with calicoctl create or apply"),
            Err(error) => Err(error.into()),
        }
    })
}
