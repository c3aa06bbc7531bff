//! `calicoctl bgp dump`.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use api::wire::bgp::{DumpQuestion, Question, Reply};
use clap::Args;

use super::ask::{ask, other_question};
use crate::Console;

/// Write the routes that BGP has on this host into a file that other tools read (MRT, RFC 6396).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  calicoctl bgp dump -o rib.mrt                         all routes of all peers, and our own
  calicoctl bgp dump -o - | bgpdump -m -                as text, a route a line

Routes are as import filters leave them. The time of each is that at which its session came up.
The file gets its name when it is whole.")]
pub(crate) struct DumpArgs {
    /// The file; - for standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
}

pub(crate) fn run(args: &DumpArgs, console: &mut Console<'_>) -> Result<()> {
    if args.output == Path::new("-") {
        let mut question = Some(DumpQuestion::default());
        while let Some(page) = next_page(&mut question, console)? {
            console.output.write_all(&page.octets)?;
        }
        return Ok(());
    }
    let unfinished = unfinished(&args.output);
    let routes = write(&unfinished, console).and_then(|routes| {
        let named = fs::rename(&unfinished, &args.output);
        named.with_context(|| format!("cannot make {}", args.output.display()))?;
        Ok(routes)
    });
    let routes = routes.inspect_err(|_| drop(fs::remove_file(&unfinished)))?;
    writeln!(console.output, "{routes} routes are in {}.", args.output.display())?;
    Ok(())
}

/// The file's name while it is not whole.
fn unfinished(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".unfinished");
    name.into()
}

/// How many routes were written.
fn write(path: &Path, console: &mut Console<'_>) -> Result<u64> {
    let cause = || format!("cannot write {}", path.display());
    let mut file = File::create(path).with_context(cause)?;
    let (mut question, mut routes) = (Some(DumpQuestion::default()), 0);
    while let Some(page) = next_page(&mut question, console)? {
        file.write_all(&page.octets).with_context(cause)?;
        routes += page.routes;
    }
    Ok(routes)
}

/// The next page, if there is one; then the question is for the one behind it.
fn next_page(
    question: &mut Option<DumpQuestion>,
    console: &Console<'_>,
) -> Result<Option<api::wire::bgp::DumpPage>> {
    let Some(asked) = question.take() else { return Ok(None) };
    let Reply::Dump(page) = ask(Question::Dump(asked), console)? else {
        return Err(other_question(&console.node_socket()));
    };
    *question = page.next.clone().map(|from| DumpQuestion { from: Some(from) });
    Ok(Some(page))
}
