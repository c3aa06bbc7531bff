//! The `calico` and `calico-ipam` CNI plugins: thin clients of the node's unix socket.
//!
//! A call is read from the environment and standard input ([`invocation`]), checked as far as the specification lets a
//! plugin check without knowing the host, and handed whole to the node (the crate [`client`]), which has the datastore, the
//! kernel and the credentials. What remains here is what only the plugin can do: executing another IPAM plugin
//! ([`delegate`]), and cleaning up when no node answers ([`offline`]).
//!
//! Exactly one JSON document goes to standard output, or nothing; everything else goes to standard error.

mod delegate;
mod invocation;
mod offline;

use std::ffi::OsString;
use std::io::{Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use api::cni::{CniResult, SpecVersion, code};
use api::wire::{Answer, CniCommand, CniRequest, Request, WireError};
use client::{Patience, Unreachable};
use serde_json::json;

pub use invocation::{Environment, Plugin};

use invocation::{Call, Forwarded};

/// Runs a plugin as the runtime executes it and returns its exit code: 0, or 1 with an error document on standard output.
pub fn run(plugin: Plugin, arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let outcome = match flag(arguments) {
        Some("-v" | "--version") => {
            println!("{}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        Some("-t") => test_connection(),
        _ => execute(plugin, &Environment::of_process(), read_input),
    };
    match outcome {
        Ok(output) => print(&output),
        Err(failure) => {
            print(&failure.document());
            eprintln!("{}: {}", plugin.name(), failure.error.msg);
            ExitCode::FAILURE
        }
    }
}

fn flag(mut arguments: impl Iterator<Item = OsString>) -> Option<&'static str> {
    let argument = arguments.nth(1)?;
    ["-v", "--version", "-t"].into_iter().find(|flag| argument == *flag)
}

/// A failed call: the error, and the version to report it in.
#[derive(Debug)]
struct Failure {
    version: SpecVersion,
    error: WireError,
}

impl Failure {
    fn new(version: SpecVersion, code: u32, msg: impl Into<String>) -> Self {
        Self { version, error: WireError { code, msg: msg.into(), details: String::new() } }
    }

    /// CNI SPEC, section "Error".
    fn document(&self) -> String {
        let mut document = json!({
            "cniVersion": self.version.name(),
            "code": self.error.code,
            "msg": self.error.msg,
        });
        if !self.error.details.is_empty() {
            document["details"] = self.error.details.as_str().into();
        }
        document.to_string()
    }
}

fn read_input() -> std::io::Result<Vec<u8>> {
    let mut input = Vec::new();
    std::io::stdin().lock().take(api::wire::MAX_MESSAGE_BYTES as u64).read_to_end(&mut input)?;
    Ok(input)
}

/// One call, from its environment to what it prints.
fn execute(
    plugin: Plugin,
    environment: &Environment,
    read_input: impl FnOnce() -> std::io::Result<Vec<u8>>,
) -> Result<String, Failure> {
    match invocation::read(environment, read_input)? {
        Call::About => {
            eprintln!("CNI {} plugin {}", plugin.name(), env!("CARGO_PKG_VERSION"));
            eprintln!("CNI protocol versions supported: {}", version_names().join(", "));
            Ok(String::new())
        }
        Call::Version => {
            let newest = SpecVersion::NEWEST.name();
            Ok(json!({ "cniVersion": newest, "supportedVersions": version_names() }).to_string())
        }
        Call::Forward(call) => forward(plugin, *call, environment),
    }
}

fn version_names() -> Vec<&'static str> {
    SpecVersion::ALL.into_iter().map(SpecVersion::name).collect()
}

/// Hands a call to the node, by way of another IPAM plugin when the configuration names one.
fn forward(plugin: Plugin, call: Forwarded, environment: &Environment) -> Result<String, Failure> {
    let version = call.version;
    let answer = match plugin {
        Plugin::Calico if call.config.ipam.delegate().is_some() => delegate::handle(call, environment)?,
        Plugin::Calico => ask_node(&call, Request::Cni)?,
        Plugin::CalicoIpam => ask_node(&call, Request::Ipam)?,
    };
    match answer {
        Answer::Error(error) => Err(Failure { version, error }),
        Answer::Result(result) => written(&result, version),
        Answer::Done => Ok(String::new()),
        Answer::NodeStatus(_)
        | Answer::Delegation(_)
        | Answer::Bgp(_)
        | Answer::Packet(_)
        | Answer::Flow(_)
        | Answer::Unseen(_) => Err(Failure::new(version, code::FAILED, "the node answered another question")),
    }
}

fn ask_node(call: &Forwarded, question: fn(CniRequest) -> Request) -> Result<Answer, Failure> {
    let request = question(call.request.clone());
    roundtrip(call, &request).or_else(|unreachable| offline::answer(call, &request, &unreachable.to_string()))
}

fn roundtrip(call: &Forwarded, request: &Request) -> Result<Answer, Unreachable> {
    client::ask(&call.socket, request, patience(call.request.command))
}

/// How long to wait for the node: it restarts within a second, and a runtime retries ADD by itself. The runtime's own limit
/// for an answer is longer than ours.
fn patience(command: CniCommand) -> Patience {
    let connect = match command {
        CniCommand::Add | CniCommand::Check => Duration::from_secs(3),
        CniCommand::Del | CniCommand::Gc => Duration::from_secs(1),
        CniCommand::Status => Duration::ZERO,
    };
    Patience { connect, answer: Duration::from_secs(90) }
}

fn written(result: &serde_json::Value, version: SpecVersion) -> Result<String, Failure> {
    let result = CniResult::from_json(result)
        .map_err(|error| Failure::new(version, code::FAILED, format!("the node's answer is {error}")))?;
    Ok(result.to_json(version).to_string())
}

/// `-t`: can the datastore be reached? The node answers for it.
fn test_connection() -> Result<String, Failure> {
    let version = SpecVersion::NEWEST;
    let environment = Environment::of_process();
    let socket = invocation::socket_without_config(&environment);
    match client::ask(&socket, &Request::NodeStatus, patience(CniCommand::Status)) {
        Ok(Answer::NodeStatus(status)) => {
            match status.not_ready.iter().find(|cause| cause.starts_with("datastore")) {
                None => Ok(String::new()),
                Some(cause) => Err(Failure::new(version, code::TRY_AGAIN_LATER, cause.as_str())),
            }
        }
        Ok(other) => Err(Failure::new(version, code::FAILED, format!("the node answered {other:?}"))),
        Err(unreachable) => Err(Failure::new(version, code::TRY_AGAIN_LATER, unreachable.to_string())),
    }
}

/// Prints the document, if any. A runtime that has gone away is no failure of ours.
fn print(document: &str) -> ExitCode {
    if !document.is_empty() {
        let _ = writeln!(std::io::stdout(), "{document}");
    }
    ExitCode::SUCCESS
}
