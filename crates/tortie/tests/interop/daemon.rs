//! What the harness has to know of a daemon.

use std::path::Path;
use std::process::Command;

use crate::scenario::Scenario;

/// A BGP daemon of somebody else's.
pub(crate) trait Daemon {
    /// The program, and the Debian package that has it.
    fn program(&self) -> (&'static str, &'static str);

    /// Its configuration.
    fn configuration(&self, scenario: &Scenario, folder: &Path) -> String;

    /// The processes to start, in order; all of them stay in the foreground. `configuration` is the file's path.
    fn processes(&self, configuration: &Path, folder: &Path) -> Vec<Command>;

    /// Commands to run until all of them have succeeded, once the processes run.
    fn afterwards(&self, folder: &Path) -> Vec<Command>;

    /// Commands that print its routes of both families.
    fn routes(&self, folder: &Path) -> Vec<Command>;
}

/// A command from words.
pub(crate) fn command(program: &str, words: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(words);
    command
}
