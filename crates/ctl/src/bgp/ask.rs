//! Asking this host's node about BGP.

use std::path::Path;

use anyhow::{Result, anyhow};
use api::documents;
use api::wire::bgp::{Question, Reply};
use api::wire::{Answer, Request};
use client::Patience;
use serde::Serialize;

use super::plan_output::Format;
use crate::Console;

/// Asks a question.
///
/// # Errors
/// No node answers, or it says why it cannot.
pub(super) fn ask(question: Question, console: &Console<'_>) -> Result<Reply> {
    let socket = console.node_socket();
    match client::ask(Path::new(&socket), &Request::Bgp(question), Patience::TERMINAL)? {
        Answer::Bgp(reply) => Ok(reply),
        Answer::Error(error) => Err(anyhow!("{}", error.msg)),
        Answer::Result(_)
        | Answer::Done
        | Answer::Delegation(_)
        | Answer::NodeStatus(_)
        | Answer::Packet(_)
        | Answer::Flow(_)
        | Answer::Unseen(_) => Err(other_question(&socket)),
    }
}

/// The node did not answer what was asked.
pub(super) fn other_question(socket: &str) -> anyhow::Error {
    anyhow!("the node on {socket} answered another question: is it of the same version as this calicoctl?")
}

/// Shows a value as it is; `table` makes the text for people.
pub(crate) fn show<T: Serialize>(
    value: &T,
    format: Format,
    console: &mut Console<'_>,
    table: impl FnOnce(&T) -> String,
) -> Result<()> {
    let text = match format {
        Format::Table => table(value),
        Format::Json => documents::to_json(&serde_json::to_value(value)?),
        Format::Yaml => documents::to_yaml(&serde_json::to_value(value)?),
    };
    console.output.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        writeln!(console.output)?;
    }
    Ok(())
}
