//! A call as the runtime makes it: environment variables and standard input, read and checked (CNI SPEC, section 2).

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use api::cni::{CalicoConfig, SpecVersion, code};
use api::wire::{CniCommand, CniRequest, DEFAULT_SOCKET};
use serde_json::Value;

use crate::Failure;

/// Which of the two plugins runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plugin {
    /// Links, addresses, routes and policy.
    Calico,
    /// Addresses only, for another plugin.
    CalicoIpam,
}

impl Plugin {
    /// As the binary is called.
    pub fn name(self) -> &'static str {
        match self {
            Self::Calico => "calico",
            Self::CalicoIpam => "calico-ipam",
        }
    }
}

/// The environment variables of a call.
#[derive(Debug, Clone, Default)]
pub struct Environment(pub BTreeMap<String, String>);

impl Environment {
    /// This process's own. Variables that are not UTF-8 are none of CNI's.
    pub fn of_process() -> Self {
        Self(
            std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
                .collect(),
        )
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// What a call asks for.
#[derive(Debug)]
pub(crate) enum Call {
    /// No command: say who we are.
    About,
    /// VERSION.
    Version,
    /// For the node.
    Forward(Box<Forwarded>),
}

/// A call for the node.
#[derive(Debug, Clone)]
pub(crate) struct Forwarded {
    /// As it goes over the socket.
    pub(crate) request: CniRequest,
    /// The configuration, typed.
    pub(crate) config: CalicoConfig,
    /// Version to answer in.
    pub(crate) version: SpecVersion,
    /// The node's socket.
    pub(crate) socket: PathBuf,
}

/// The variables that each command needs.
const REQUIRED: [(&str, &[CniCommand]); 4] = {
    use CniCommand::{Add, Check, Del, Gc, Status};
    [
        ("CNI_CONTAINERID", &[Add, Del, Check]),
        ("CNI_NETNS", &[Add, Check]),
        ("CNI_IFNAME", &[Add, Del, Check]),
        ("CNI_PATH", &[Add, Del, Check, Gc, Status]),
    ]
};

/// Reads a call. Standard input is not touched for VERSION, nor when there is no command.
pub(crate) fn read(
    environment: &Environment,
    input: impl FnOnce() -> io::Result<Vec<u8>>,
) -> Result<Call, Failure> {
    let Some(word) = environment.get("CNI_COMMAND") else { return Ok(Call::About) };
    if word == "VERSION" {
        return Ok(Call::Version);
    }
    let refuse = |code, msg: String| Failure::new(SpecVersion::NEWEST, code, msg);
    let command = command(word).ok_or_else(|| {
        let msg =
            format!("CNI_COMMAND={word:?} is not a command; use ADD, DEL, CHECK, STATUS, GC or VERSION");
        refuse(code::INVALID_ENVIRONMENT, msg)
    })?;
    let missing = missing(environment, command);
    if !missing.is_empty() {
        let msg = format!("{word} needs {}, which the environment does not have", missing.join(", "));
        // The version to answer in stands in the configuration, if that can be read at all.
        let version = input().ok().and_then(|text| CalicoConfig::parse(&text).ok());
        let version = version.and_then(|(config, _)| config.version().ok()).unwrap_or(SpecVersion::NEWEST);
        return Err(Failure::new(version, code::INVALID_ENVIRONMENT, msg));
    }
    let text = input().map_err(|error| {
        refuse(
            code::IO_FAILURE,
            format!("the network configuration cannot be read from standard input: {error}"),
        )
    })?;
    let (config, raw) = CalicoConfig::parse(&text).map_err(|error| refuse(error.code, error.reason))?;
    let version = config.version().map_err(|error| refuse(code::INCOMPATIBLE_VERSION, error.to_string()))?;
    check_version(command, word, version)?;
    check_names(environment, command).map_err(|msg| Failure::new(version, code::INVALID_ENVIRONMENT, msg))?;
    let socket = config.node_socket.clone().unwrap_or_else(|| socket_without_config(environment));
    let request = request(command, environment, raw);
    Ok(Call::Forward(Box::new(Forwarded { request, config, version, socket })))
}

/// The node's socket when no configuration says otherwise: `TORTIE_NODE_SOCKET`, else the default.
pub(crate) fn socket_without_config(environment: &Environment) -> PathBuf {
    environment.get("TORTIE_NODE_SOCKET").unwrap_or(DEFAULT_SOCKET).into()
}

fn command(word: &str) -> Option<CniCommand> {
    Some(match word {
        "ADD" => CniCommand::Add,
        "DEL" => CniCommand::Del,
        "CHECK" => CniCommand::Check,
        "STATUS" => CniCommand::Status,
        "GC" => CniCommand::Gc,
        _ => return None,
    })
}

fn missing(environment: &Environment, command: CniCommand) -> Vec<&'static str> {
    REQUIRED
        .into_iter()
        .filter(|(name, commands)| commands.contains(&command) && environment.get(name).is_none())
        .map(|(name, _)| name)
        .collect()
}

/// CHECK came with 0.4.0, STATUS and GC with 1.1.0.
fn check_version(command: CniCommand, word: &str, version: SpecVersion) -> Result<(), Failure> {
    let since = match command {
        CniCommand::Add | CniCommand::Del => SpecVersion::V0_1_0,
        CniCommand::Check => SpecVersion::V0_4_0,
        CniCommand::Status | CniCommand::Gc => SpecVersion::V1_1_0,
    };
    if version >= since {
        return Ok(());
    }
    let msg = format!("{word} needs cniVersion {since} or later; the configuration says {version}");
    Err(Failure::new(version, code::INCOMPATIBLE_VERSION, msg))
}

fn check_names(environment: &Environment, command: CniCommand) -> Result<(), String> {
    if !matches!(command, CniCommand::Add | CniCommand::Del | CniCommand::Check) {
        return Ok(());
    }
    let container = environment.get("CNI_CONTAINERID").unwrap_or_default();
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    if !container.starts_with(|first: char| first.is_ascii_alphanumeric()) || !container.bytes().all(legal) {
        return Err(format!(
            "CNI_CONTAINERID={container:?}: an identifier begins with a letter or digit and has letters, digits, _ . - only"
        ));
    }
    check_interface(environment.get("CNI_IFNAME").unwrap_or_default())
}

/// What the kernel takes as a link's name (dev_valid_name in net/core/dev.c).
fn check_interface(name: &str) -> Result<(), String> {
    let reason = if name.len() > 15 {
        "a link's name has at most 15 bytes"
    } else if matches!(name, "." | "..") {
        "a link cannot be called that"
    } else if name.contains(|character: char| matches!(character, '/' | ':') || character.is_whitespace()) {
        "a link's name has no /, : or blank"
    } else {
        return Ok(());
    };
    Err(format!("CNI_IFNAME={name:?}: {reason}"))
}

fn request(command: CniCommand, environment: &Environment, config: Value) -> CniRequest {
    let text = |name| environment.get(name).unwrap_or_default().to_owned();
    let args = text("CNI_ARGS");
    CniRequest {
        command,
        container_id: text("CNI_CONTAINERID"),
        netns: environment.get("CNI_NETNS").map(str::to_owned),
        interface: text("CNI_IFNAME"),
        args: args
            .split(';')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
            .collect(),
        config,
        delegated: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{"cniVersion":"1.0.0","name":"n","ipam":{"type":"calico-ipam"}}"#;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        let base =
            [("CNI_CONTAINERID", "c"), ("CNI_NETNS", "/n"), ("CNI_IFNAME", "eth0"), ("CNI_PATH", "/p")];
        Environment(base.iter().chain(pairs).map(|(key, value)| ((*key).into(), (*value).into())).collect())
    }

    fn code_of(pairs: &[(&str, &str)], config: &str) -> Option<u32> {
        read(&environment(pairs), || Ok(config.as_bytes().to_vec())).err().map(|failure| failure.error.code)
    }

    #[test]
    fn a_call_is_taken_apart() {
        let pairs = [("CNI_COMMAND", "ADD"), ("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=p")];
        let call = read(&environment(&pairs), || Ok(CONFIG.as_bytes().to_vec())).unwrap();
        let Call::Forward(call) = call else { panic!("{call:?}") };
        assert_eq!(call.request.command, CniCommand::Add);
        assert_eq!(call.request.args["K8S_POD_NAME"], "p");
        assert_eq!(call.socket, PathBuf::from(DEFAULT_SOCKET));
        assert_eq!(call.config.ipam.delegate(), None);
    }

    #[test]
    fn all_missing_variables_are_named_and_the_error_speaks_the_configurations_version() {
        let environment = Environment(BTreeMap::from([("CNI_COMMAND".into(), "ADD".into())]));
        let failure = read(&environment, || Ok(CONFIG.as_bytes().to_vec())).unwrap_err();
        for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"] {
            assert!(failure.error.msg.contains(name), "{}", failure.error.msg);
        }
        assert_eq!((failure.version, failure.error.code), (SpecVersion::V1_0_0, 4));
    }

    #[test]
    fn names_the_kernel_or_the_specification_refuses_are_refused() {
        for (name, value) in [
            ("CNI_IFNAME", "1234567890123456"),
            ("CNI_IFNAME", ".."),
            ("CNI_IFNAME", "a/b"),
            ("CNI_IFNAME", "a\tb"),
            ("CNI_CONTAINERID", "-abc"),
            ("CNI_COMMAND", "add"),
        ] {
            assert_eq!(code_of(&[("CNI_COMMAND", "DEL"), (name, value)], CONFIG), Some(4), "{value:?}");
        }
    }

    #[test]
    fn a_command_newer_than_the_configuration_is_incompatible() {
        let old = r#"{"cniVersion":"0.3.1","name":"n"}"#;
        assert_eq!(code_of(&[("CNI_COMMAND", "CHECK")], old), Some(1));
        assert_eq!(code_of(&[("CNI_COMMAND", "STATUS")], CONFIG), Some(1));
        assert_eq!(code_of(&[("CNI_COMMAND", "CHECK")], CONFIG), None);
    }

    #[test]
    fn unreadable_input_is_an_io_failure_but_version_does_not_read_it() {
        let fail = || Err(io::Error::other("broken"));
        let failure = read(&environment(&[("CNI_COMMAND", "ADD")]), fail).unwrap_err();
        assert_eq!(failure.error.code, 5);
        assert!(matches!(read(&environment(&[("CNI_COMMAND", "VERSION")]), fail), Ok(Call::Version)));
    }
}
