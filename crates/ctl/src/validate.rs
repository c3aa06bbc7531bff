//! `calicoctl validate`.

use anyhow::Result;
use clap::Args;

use crate::Console;
use crate::files::FileArgs;
use crate::filter_tests;
use crate::tally::{self, Done, Words};

/// Check a file without writing anything, and without a datastore.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  calicoctl validate -f policies/ -R

Rules that need the datastore (overlapping pools, tiers that do not exist) are checked by create,
apply and replace.")]
pub(crate) struct ValidateArgs {
    #[command(flatten)]
    files: FileArgs,
}

pub(crate) fn run(args: &ValidateArgs, console: &mut Console<'_>) -> Result<()> {
    let documents = args.files.load(console)?;
    let words = Words { infinitive: "validate", past: "validated" };
    tally::each(&documents, tally::kind_of, words, console, |document| {
        filter_tests::check(document.resource())?;
        Ok(Done::Yes)
    })
}
