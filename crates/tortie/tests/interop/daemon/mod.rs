//! What the harness has to know of a daemon.

mod bird;
mod frr;
mod gobgp;
mod openbgpd;

use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) use bird::Bird;
pub(crate) use frr::Frr;
pub(crate) use gobgp::GoBgp;
pub(crate) use openbgpd::OpenBgpd;

use crate::matrix::Feature;
use crate::side::{Ip, Side};

/// A BGP daemon of somebody else's.
pub(crate) trait Daemon: Sync {
    /// As its makers write it.
    fn name(&self) -> &'static str;

    /// The program, and the Debian package that has it.
    fn program(&self) -> (&'static str, &'static str);

    /// Why it cannot do something, in words; `None`: it can.
    fn refuses(&self, feature: Feature) -> Option<&'static str>;

    /// Whether what it learns goes into the kernel.
    fn has_kernel(&self) -> bool;

    /// Whether its own routes in the kernel stay over its restart.
    fn keeps_kernel_routes(&self) -> bool {
        self.has_kernel()
    }

    /// Its configuration.
    fn configuration(&self, side: &Side, folder: &Path) -> String;

    /// The processes to start, in order; all of them stay in the foreground. The configuration is the file of that name in
    /// the folder. `recovering`: as after a restart, with graceful restart (RFC 4724).
    fn processes(&self, side: &Side, folder: &Path, recovering: bool) -> Vec<Process>;

    /// Commands that belong to the configuration; run until they succeed, before anybody can reach the daemon.
    fn afterwards(&self, _side: &Side, _folder: &Path) -> Vec<Command> {
        Vec::new()
    }

    /// Prints all routes of a family.
    fn routes(&self, folder: &Path, ip: Ip) -> Command;

    /// Prints everything about the routes for a prefix.
    fn route(&self, folder: &Path, prefix: &str) -> Command;

    /// What [`Daemon::route`] shows of a route that is marked: a text for each kind of community.
    fn marks(&self) -> [String; 3];

    /// Asks a neighbour for its routes again (RFC 2918).
    fn refresh(&self, folder: &Path, host: u8, ip: Ip) -> Command;

    /// Prints how many IPv4 prefixes it has from a neighbour.
    fn count(&self, folder: &Path, host: u8) -> Command;

    /// Reads what [`Daemon::count`] prints.
    fn counted(&self, text: &str, host: u8) -> Option<usize>;
}

/// A process of a daemon.
pub(crate) struct Process {
    pub(crate) command: Command,
    /// It has no part in BGP, and goes on when the speaker is killed. What comes after it waits for this file of its.
    pub(crate) before_the_speaker: Option<PathBuf>,
}

/// The speaker itself.
fn speaker(command: Command) -> Process {
    Process { command, before_the_speaker: None }
}

/// A command from words.
fn command(program: &str, words: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(words);
    command
}
