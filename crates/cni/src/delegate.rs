//! Another IPAM plugin (`host-local`), executed as the specification's section "Plugin delegation" says.
//!
//! The node knows the sandbox and the node's own CIDRs, the plugin sees the host as the runtime does: so an ADD asks the node
//! with what to execute the IPAM plugin, executes it, hands its answer to the node, and takes the addresses back when
//! either fails. A DEL is the reverse, and needs the node for nothing that `host-local` has to know.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use api::cni::{PodCidrs, SpecVersion, code, replace_pod_cidrs};
use api::wire::{Answer, CniCommand, Delegation, Request, WireError};
use serde_json::Value;

use crate::invocation::{Environment, Forwarded};
use crate::{Failure, offline, roundtrip};

/// Handles a call whose configuration names another IPAM plugin.
pub(crate) fn handle(call: Forwarded, environment: &Environment) -> Result<Answer, Failure> {
    let delegate = Delegate { call: &call, environment };
    match call.request.command {
        CniCommand::Add => delegate.add(),
        CniCommand::Del => {
            let answer = delegate.ask_node();
            // Not while an endpoint still has the addresses.
            answer.and_then(|answer| delegate.execute("DEL", &delegate.any_cidr()).map(|_| answer))
        }
        CniCommand::Check => {
            let answer = delegate.ask_node()?;
            delegate.execute("CHECK", &delegate.any_cidr()).map(|_| answer)
        }
        CniCommand::Gc => {
            let answer = delegate.ask_node();
            delegate.execute_if_known("GC")?;
            answer
        }
        CniCommand::Status => {
            delegate.execute_if_known("STATUS")?;
            delegate.ask_node()
        }
    }
}

struct Delegate<'a> {
    call: &'a Forwarded,
    environment: &'a Environment,
}

impl Delegate<'_> {
    fn add(&self) -> Result<Answer, Failure> {
        let mut request = self.call.request.clone();
        let config = match roundtrip(self.call, &Request::Delegate(request.clone())) {
            Ok(Answer::Delegation(Delegation::Attached)) => return self.ask_node(),
            Ok(Answer::Delegation(Delegation::Run(config))) => config,
            Ok(other) => return Ok(other),
            Err(unreachable) => {
                return offline::answer(self.call, &Request::Cni(request), &unreachable.to_string());
            }
        };
        request.delegated = Some(self.assign(&config)?);
        let request = Request::Cni(request);
        let answer = match roundtrip(self.call, &request) {
            Ok(answer) => Ok(answer),
            Err(unreachable) => offline::answer(self.call, &request, &unreachable.to_string()),
        };
        if !matches!(answer, Ok(Answer::Result(_))) {
            // The error of the ADD itself is what the runtime has to see.
            self.give_back(&config);
        }
        answer
    }

    /// The node says that the sandbox is not attached; what an ADD that was killed has left to it would make the IPAM plugin
    /// refuse. So a refusal is followed by a DEL, as the specification asks, and by another try.
    fn assign(&self, config: &Value) -> Result<Value, Failure> {
        let output = self.execute("ADD", config).or_else(|_| {
            self.give_back(config);
            self.execute("ADD", config).inspect_err(|_| self.give_back(config))
        })?;
        serde_json::from_slice(&output).map_err(|error| {
            self.give_back(config);
            self.failure(format!("its answer is not JSON: {error}"))
        })
    }

    fn give_back(&self, config: &Value) {
        if let Err(failure) = self.execute("DEL", config) {
            eprintln!("calico: {}", failure.error.msg);
        }
    }

    fn ask_node(&self) -> Result<Answer, Failure> {
        let request = Request::Cni(self.call.request.clone());
        match roundtrip(self.call, &request) {
            Ok(Answer::Error(error)) => Err(Failure { version: self.call.version, error }),
            Ok(answer) => Ok(answer),
            Err(unreachable) => offline::answer(self.call, &request, &unreachable.to_string()),
        }
    }

    /// The configuration for a command that looks at assigned addresses only.
    fn any_cidr(&self) -> Value {
        let mut config = self.call.request.config.clone();
        if self.kind() == "host-local" {
            let is_pod = self.call.request.args.contains_key("K8S_POD_NAME");
            // All addresses are of both families, so nothing is missing.
            let _ = replace_pod_cidrs(&mut config, is_pod, &PodCidrs::any());
        }
        config
    }

    fn kind(&self) -> &str {
        self.call.config.ipam.delegate().unwrap_or_default()
    }

    fn failure(&self, msg: impl std::fmt::Display) -> Failure {
        Failure::new(self.call.version, code::FAILED, format!("ipam {}: {msg}", self.kind()))
    }

    /// STATUS and GC came with version 1.1.0 of the specification; a plugin that is older has nothing to say to them.
    fn execute_if_known(&self, command: &str) -> Result<(), Failure> {
        let versions: Value =
            serde_json::from_slice(&self.execute("VERSION", &self.any_cidr())?).unwrap_or_default();
        let versions = versions["supportedVersions"].as_array();
        match versions.is_some_and(|versions| versions.contains(&SpecVersion::V1_1_0.name().into())) {
            true => self.execute(command, &self.any_cidr()).map(drop),
            false => Ok(()),
        }
    }

    fn execute(&self, command: &str, config: &Value) -> Result<Vec<u8>, Failure> {
        let program = self.find()?;
        let mut child = Command::new(&program)
            .env("CNI_COMMAND", command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(|error| self.failure(format!("cannot run {}: {error}", program.display())))?;
        // A plugin that does not read its input is not an error of ours; its answer tells.
        if let Some(mut input) = child.stdin.take() {
            let _ = input.write_all(config.to_string().as_bytes());
        }
        let output = child.wait_with_output().map_err(|error| self.failure(error))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let mut error: WireError = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| WireError {
            code: code::FAILED,
            msg: format!("ended with {} and no error document", output.status),
            details: String::new(),
        });
        error.msg = format!("ipam {} {command}: {}", self.kind(), error.msg);
        Err(Failure { version: self.call.version, error })
    }

    /// The plugin in one of the folders of CNI_PATH.
    fn find(&self) -> Result<PathBuf, Failure> {
        let path = self.environment.get("CNI_PATH").unwrap_or_default();
        let name = self.kind();
        let fail = |msg: String| Failure::new(self.call.version, code::INVALID_CONFIG, msg);
        if name.contains('/') {
            return Err(fail(format!("ipam.type {name:?} is not the name of a plugin")));
        }
        std::env::split_paths(path)
            .map(|folder| folder.join(name))
            .find(|candidate| candidate.is_file())
            .ok_or_else(|| fail(format!("ipam.type {name:?}: no such plugin in CNI_PATH={path}")))
    }
}
