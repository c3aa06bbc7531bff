//! Another IPAM plugin (`host-local`), executed as the specification's section "Plugin delegation" says.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use api::cni::code;
use api::wire::{CniCommand, WireError};
use serde_json::Value;

use crate::Failure;
use crate::invocation::{Environment, Forwarded};

/// Has the IPAM plugin assign addresses; its result.
pub(crate) fn add(call: &Forwarded, environment: &Environment) -> Result<Value, Failure> {
    let output = execute(call, environment, "ADD")?;
    serde_json::from_slice(&output).map_err(|error| {
        let msg = format!("ipam {}: its answer is not JSON: {error}", kind(call));
        Failure::new(call.version, code::FAILED, msg)
    })
}

/// After the node has answered: gives the addresses back for a DEL, or for an ADD that failed; passes CHECK on.
pub(crate) fn finish(call: &Forwarded, environment: &Environment, failed: bool) -> Result<(), Failure> {
    match (call.request.command, failed) {
        (CniCommand::Add, true) => {
            // The error of the ADD itself is what the runtime has to see.
            if let Err(failure) = execute(call, environment, "DEL") {
                eprintln!("calico: {}", failure.error.msg);
            }
            Ok(())
        }
        (CniCommand::Del, _) => execute(call, environment, "DEL").map(drop),
        (CniCommand::Check, false) => execute(call, environment, "CHECK").map(drop),
        _ => Ok(()),
    }
}

fn kind(call: &Forwarded) -> &str {
    call.config.ipam.kind.as_deref().unwrap_or_default()
}

fn execute(call: &Forwarded, environment: &Environment, command: &str) -> Result<Vec<u8>, Failure> {
    let fail = |msg: String| Failure::new(call.version, code::FAILED, msg);
    let program = find(call, environment)?;
    let mut child = Command::new(&program)
        .env("CNI_COMMAND", command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .map_err(|error| fail(format!("ipam {}: cannot run {}: {error}", kind(call), program.display())))?;
    // A plugin that does not read its input is not an error of ours; its answer tells.
    if let Some(mut input) = child.stdin.take() {
        let _ = input.write_all(call.request.config.to_string().as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| fail(format!("ipam {}: {error}", kind(call))))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let mut error: WireError = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| WireError {
        code: code::FAILED,
        msg: format!("ended with {} and no error document", output.status),
        details: String::new(),
    });
    error.msg = format!("ipam {} {command}: {}", kind(call), error.msg);
    Err(Failure { version: call.version, error })
}

/// The plugin in one of the folders of CNI_PATH.
fn find(call: &Forwarded, environment: &Environment) -> Result<PathBuf, Failure> {
    let path = environment.get("CNI_PATH").unwrap_or_default();
    let name = kind(call);
    let fail = |msg: String| Failure::new(call.version, code::INVALID_CONFIG, msg);
    if name.contains('/') {
        return Err(fail(format!("ipam.type {name:?} is not the name of a plugin")));
    }
    std::env::split_paths(path)
        .map(|folder| folder.join(name))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| fail(format!("ipam.type {name:?}: no such plugin in CNI_PATH={path}")))
}
