use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A change of resources that is undone unless somebody confirms it: what it replaces. Tortie's own; Calico has no such row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Confirmation {
    /// By which it is confirmed; it is in the key.
    #[serde(skip)]
    pub id: String,
    /// When it is undone.
    pub deadline: Timestamp,
    /// How many seconds there are from the change to the deadline.
    pub allowed_secs: u32,
    /// Who made the change, for people.
    pub author: String,
    /// The connection over which it was made, as `SSH_CONNECTION` says it; empty if not known.
    #[serde(default)]
    pub connection: String,
    /// The rows that are changed, in the order in which they are.
    pub changes: Vec<ReplacedRow>,
    /// How far it is.
    pub phase: ConfirmationPhase,
}

/// A row that a change replaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplacedRow {
    /// Its key, as the datastore spells it.
    pub key: String,
    /// What it was; `None`: it did not exist.
    pub before: Option<String>,
    /// What the change makes of it.
    pub after: String,
}

/// How far a change is that waits for its confirmation. (One that was confirmed has no row any more.)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum ConfirmationPhase {
    /// It can be confirmed.
    Waiting,
    /// The time is over, and somebody undoes it.
    Undoing {
        /// Who: a node's name.
        by: String,
        /// Since when.
        since: Timestamp,
    },
    /// It was undone.
    Undone {
        /// By whom.
        by: String,
        /// When.
        at: Timestamp,
        /// What was not put back, because somebody had changed it since; the names of the resources.
        kept: Vec<String>,
    },
}
