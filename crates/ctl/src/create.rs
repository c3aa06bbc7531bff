//! `calicoctl create`.

use anyhow::Result;
use clap::Args;

use crate::Console;
use crate::cli::Global;
use crate::files::FileArgs;
use crate::filter_tests;
use crate::session::{Access, Session};
use crate::tally::{self, Done, Words};

/// Create resources from a file. What exists already is an error, and stays as it is.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  calicoctl create -f pool.yaml
  calicoctl create -f policies/ -R --skip-exists
  cat pool.yaml | calicoctl create -f -

Resources are created one after the other, up to the first that fails.")]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Leave what exists already as it is, without an error
    #[arg(long)]
    skip_exists: bool,
}

pub(crate) fn run(args: &CreateArgs, global: &Global, console: &mut Console<'_>) -> Result<()> {
    let documents = args.files.load(console)?;
    let session = Session::open(global, console, Access::MayCreate)?;
    let words = Words { infinitive: "create", past: "created" };
    tally::each(&documents, tally::kind_of, words, console, |document| {
        filter_tests::check(document.resource())?;
        match session.resources().create(document.resource().clone()) {
            Ok(_) => Ok(Done::Yes),
            Err(error) if error.is_already_exists() && args.skip_exists => {
                Ok(Done::Skipped("that exist already"))
            }
            Err(error) if error.is_already_exists() => {
                anyhow::bail!("{error}; change it with calicoctl apply, or leave it with --skip-exists")
            }
            Err(error) => Err(error.into()),
        }
    })
}
