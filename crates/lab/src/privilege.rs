//! Who may make a lab: root, or anyone in a user namespace of their own.
//!
//! Without root the process that makes a lab moves into a user, mount and network namespace first, and the lab's processes
//! keep these alive. Whoever works with the lab later moves into them.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use kernel::userns;

use crate::process::{self, LAB_VARIABLE};
use crate::state::{DEFAULT_DIRECTORY, LabDir, LabState};

/// The folder of a lab unless one is given: fixed for root, the user's own otherwise.
pub(crate) fn default_directory() -> PathBuf {
    let user = rustix::process::geteuid();
    match std::env::var_os("XDG_RUNTIME_DIR") {
        _ if user.is_root() => DEFAULT_DIRECTORY.into(),
        Some(folder) => PathBuf::from(folder).join("tortie-lab"),
        None => format!("/tmp/tortie-lab-{user}").into(),
    }
}

/// Gets what making a lab needs. Comes before any thread is started. Whether it took a user namespace.
///
/// # Errors
/// Neither root nor a system that lets others have user namespaces.
pub(crate) fn for_a_new_lab() -> Result<bool> {
    if rustix::process::geteuid().is_root() {
        return Ok(false);
    }
    userns::enter_new().context(
        "a lab needs root (run it with sudo) or a user namespace of your own, which this system does not let you have",
    )?;
    Ok(true)
}

/// Gets what working inside a lab's namespaces needs. Comes before any thread is started.
///
/// # Errors
/// The lab is root's, or nothing of it runs any more.
pub(crate) fn for_the_lab(lab: &LabDir, state: &LabState) -> Result<()> {
    if !state.user_namespace {
        return root_for(lab);
    }
    let ours = fs::read_link("/proc/self/ns/user").context("cannot read the own user namespace")?;
    let numbers = process::running(lab).into_iter().map(|process| process.number());
    let mut others = numbers.filter(|number| {
        fs::read_link(format!("/proc/{number}/ns/user")).is_ok_and(|namespace| namespace != ours)
    });
    let Some(inside) = others.next() else {
        bail!(
            "nothing of the lab in {} runs any more, and its namespaces went with it; take it down with: tortie lab down{}",
            lab.path().display(),
            lab.option()
        );
    };
    Ok(userns::enter_of(inside)?)
}

/// Gets what taking a lab down needs, even one that was cut off in the middle.
///
/// # Errors
/// The lab is root's.
pub(crate) fn for_taking_down(lab: &LabDir) -> Result<()> {
    match lab.load() {
        Ok(state) if !state.user_namespace => root_for(lab),
        _ => Ok(()),
    }
}

fn root_for(lab: &LabDir) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("the lab in {} was made by root: run this with sudo", lab.path().display());
    }
    Ok(())
}

/// Starts a process that does nothing but keep the namespaces while no node runs.
///
/// # Errors
/// The binary cannot be run.
pub(crate) fn hold(lab: &LabDir) -> Result<()> {
    let mut command = Command::new(lab.bin().join("tortie"));
    command.args(["lab", "hold"]).env(LAB_VARIABLE, lab.path()).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().context("cannot start the process that keeps the lab's namespaces").map(drop)
}
