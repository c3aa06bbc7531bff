//! `calicoctl`: the command line that Calico users know.
//!
//! One module a verb, each with its arguments, their help and what it does. What they share: [`Console`] is all that
//! they touch of the process, `session` opens the datastore, `files` reads what users wrote, `tally` counts what was done
//! and words the outcome, `table` and `columns` lay out what is shown. The rules of resources are not here but in `api`
//! and `datastore::resources`.
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 failed, 2 wrong usage.

mod apply;
mod bgp;
mod cli;
mod cluster;
mod columns;
mod completion;
mod confirm;
mod console;
mod create;
mod delete;
mod explain;
mod files;
mod filter_tests;
mod flows;
mod get;
mod ipam;
mod json_patch;
mod kinds;
mod label;
mod merge_patch;
mod node;
mod output;
mod patch;
mod policy;
mod removal;
mod replace;
mod session;
mod table;
mod tally;
mod validate;
mod version;

pub use cli::{CtlArgs, main, run, run_in};
pub use console::Console;
