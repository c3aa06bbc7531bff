//! `calicoctl apply --confirm` and `calicoctl confirm`.

use anyhow::{Context, Result, bail, ensure};
use api::documents::Document;
use api::scalars::GoDuration;
use api::{Confirmation, ConfirmationPhase, Kind, Resource, Timestamp};
use clap::Args;
use datastore::StoreError;
use datastore::confirmation::{self, Change, ConfirmError, Terms};
use datastore::resources::ResourceError;

use crate::cli::Global;
use crate::session::{Access, Session};
use crate::tally::{self, Done, Words};
use crate::{Console, filter_tests, table};

/// Confirm a change that was made with apply --confirm, so that it stays; or show what waits.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  calicoctl apply -f host-endpoint.yaml --confirm 60s     says the ID
  calicoctl confirm 5f3a91c2                              over a new connection: it stays
  calicoctl confirm 5f3a91c2 --undo                       put back what was there, now
  calicoctl confirm                                       what waits, and what was undone lately

What is not confirmed in time is put back by the nodes, whatever becomes of this host's calicoctl.
Confirm over a connection that was opened after the change: one from before may live on although
no new one gets through. Over SSH that is checked (SSH_CONNECTION).")]
pub(crate) struct ConfirmArgs {
    /// Which change
    id: Option<String>,
    /// Put back what was there before, now
    #[arg(long, requires = "id", conflicts_with = "same_connection")]
    undo: bool,
    /// Confirm although it is over the connection over which the change was made
    #[arg(long, requires = "id")]
    same_connection: bool,
}

pub(crate) fn run(args: &ConfirmArgs, global: &Global, console: &mut Console<'_>) -> Result<()> {
    let session = Session::open(global, console, Access::Existing)?;
    let Some(id) = &args.id else { return show(&session, console) };
    if args.undo {
        return undo(id, &session, console);
    }
    let connection = if args.same_connection { String::new() } else { connection(console) };
    let row = confirmation::confirm(session.store(), id, &connection)?;
    writeln!(console.output, "Confirmed {id}: {} change(s) stay", row.changes.len())?;
    Ok(())
}

fn undo(id: &str, session: &Session, console: &mut Console<'_>) -> Result<()> {
    match confirmation::undo(session.store(), id, AUTHOR, Timestamp::now)? {
        Some(undone) => {
            for pool in undone.deleted_pools() {
                session.ipam().release_pool_affinities(pool)?;
            }
            writeln!(console.output, "Undone {id}: put back {} resource(s)", undone.restored.len())?;
            for key in &undone.kept {
                writeln!(console.output, "{key} stays: somebody else has changed it since")?;
            }
            Ok(())
        }
        // Somebody was faster, or there is none: what it says of a confirmation says which.
        None => match confirmation::list(session.store())?.into_iter().find(|row| row.id == id) {
            Some(Confirmation { phase: ConfirmationPhase::Undoing { by, .. }, .. }) => {
                bail!("change {id} is being undone by {by}")
            }
            Some(_) => bail!("change {id} was undone already; calicoctl confirm {id} says by whom"),
            None => Err(ConfirmError::Unknown(id.to_owned()).into()),
        },
    }
}

fn show(session: &Session, console: &mut Console<'_>) -> Result<()> {
    let rows: Vec<Vec<String>> = confirmation::list(session.store())?.iter().map(cells).collect();
    write!(console.output, "{}", table::plain(&["ID", "STATE", "TIME", "AUTHOR", "CHANGES"], &rows))?;
    Ok(())
}

fn cells(row: &Confirmation) -> Vec<String> {
    let (state, time) = match &row.phase {
        ConfirmationPhase::Waiting => ("waiting until".to_owned(), row.deadline),
        ConfirmationPhase::Undoing { by, since } => (format!("{by} undoes it since"), *since),
        ConfirmationPhase::Undone { by, at, .. } => (format!("undone by {by} at"), *at),
    };
    let name =
        |key: &String| datastore::layout::decode(key).map_or_else(|| key.clone(), |key| key.to_string());
    let changes: Vec<String> = row.changes.iter().map(|change| name(&change.key)).collect();
    vec![row.id.clone(), state, seconds(time), row.author.clone(), changes.join(", ")]
}

fn seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

/// Who undoes what calicoctl undoes.
const AUTHOR: &str = "calicoctl";
/// Shorter, and nobody gets to confirm; longer, and everybody has forgotten.
const ALLOWED_SECS: std::ops::RangeInclusive<u64> = 5..=86_400;
/// Most attempts of a write that others keep getting in the way of.
const MAX_ATTEMPTS: usize = 100;

/// The time that there is to confirm a change, in seconds: `60s`, `5m`.
pub(crate) fn allowed(text: &str) -> Result<u32, String> {
    let duration: GoDuration = text.parse().map_err(|_| "is not a time such as 60s or 5m".to_owned())?;
    let secs = duration.to_duration().map(|duration| duration.as_secs()).unwrap_or_default();
    match u32::try_from(secs).ok().filter(|_| ALLOWED_SECS.contains(&secs)) {
        Some(secs) => Ok(secs),
        None => Err("is out of range: 5s to 24h".to_owned()),
    }
}

/// Applies what has to be confirmed.
pub(crate) fn apply(
    documents: &[Document],
    allowed_secs: u32,
    global: &Global,
    console: &mut Console<'_>,
) -> Result<()> {
    let session = Session::open(global, console, Access::Existing)?;
    ensure!(
        !session.resources().list(Kind::Node, None)?.items.is_empty(),
        "--confirm: there is no Node in this datastore, so nobody would undo the change; start `tortie node` first"
    );
    let id = confirmation::new_id();
    let author = (console.variable)("SUDO_USER").or_else(|| (console.variable)("USER")).unwrap_or_default();
    let terms = Terms { id: id.clone(), allowed_secs, author, connection: connection(console) };
    let mut change = Change::new(session.store(), terms);
    let words = Words { infinitive: "apply", past: "applied" };
    let outcome = tally::each(documents, tally::kind_of, words, console, |document| {
        filter_tests::check(document.resource())?;
        apply_one(document.resource(), &session, &mut change)?;
        Ok(Done::Yes)
    });
    match (outcome, change.row()) {
        (Ok(()), None) => writeln!(console.output, "Nothing has changed, so there is nothing to confirm")?,
        (Ok(()), Some(row)) => writeln!(
            console.output,
            "Undone at {} by the nodes, unless you confirm it over a new connection: calicoctl confirm {id}",
            seconds(row.deadline)
        )?,
        (Err(error), None) => return Err(error),
        (Err(error), Some(_)) => {
            confirmation::undo(session.store(), &id, AUTHOR, Timestamp::now).with_context(|| {
                format!(
                    "{error:#}\nWhat was applied before that cannot be undone from here; the nodes undo it"
                )
            })?;
            return Err(error.context("what was applied before the error is undone"));
        }
    }
    Ok(())
}

fn apply_one(resource: &Resource, session: &Session, change: &mut Change<'_>) -> Result<()> {
    let pinned = resource.metadata().resource_version.is_some();
    for attempt in 0..MAX_ATTEMPTS {
        let Some(planned) = session.resources().plan(resource)? else { return Ok(()) };
        change.note(planned.replaced(), attempt > 0, Timestamp::now())?;
        match session.resources().carry_out(planned) {
            Ok(_) => return Ok(change.written()?),
            Err(error) if pinned || !is_race(&error) => return Err(error.into()),
            Err(_) => {}
        }
    }
    bail!("{}: others keep changing it", resource.key())
}

fn is_race(error: &ResourceError) -> bool {
    matches!(
        error,
        ResourceError::Store(
            StoreError::Conflict { .. } | StoreError::AlreadyExists(_) | StoreError::NotFound(_)
        )
    )
}

/// The connection over which calicoctl is used, if it is one of SSH's.
fn connection(console: &Console<'_>) -> String {
    (console.variable)("SSH_CONNECTION").unwrap_or_default()
}
