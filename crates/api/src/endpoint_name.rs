//! Names of workload endpoints: `node-orchestrator-workload-endpoint`, where a dash inside a part is doubled.

use std::fmt;

/// The parts of a workload endpoint's name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadEndpointName {
    /// The host.
    pub node: String,
    /// What runs there.
    pub workload: Workload,
    /// The interface's name inside.
    pub endpoint: String,
}

/// What runs on a host, by the field with which its orchestrator identifies it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Workload {
    /// A pod of Kubernetes: `k8s`.
    Pod(String),
    /// A container that was wired through CNI without Kubernetes, by its id: `cni`.
    Container(String),
    /// A container of Docker's libnetwork, which has no other identity than its endpoint.
    Libnetwork,
    /// A workload of another orchestrator.
    Other {
        /// The orchestrator.
        orchestrator: String,
        /// The workload's name there.
        workload: String,
    },
}

/// A text that is not the name of a workload endpoint, or parts that make none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointNameError {
    /// The number of parts is wrong.
    #[error(
        "{0:?} is not the name of a workload endpoint: NODE-ORCHESTRATOR-WORKLOAD-ENDPOINT, with dashes inside a part doubled"
    )]
    Parts(String),
    /// A part is empty.
    #[error("the {0} of a workload endpoint must not be empty")]
    Empty(&'static str),
    /// A part cannot be told from the dashes around it.
    #[error("the {field} of a workload endpoint must not begin or end with a dash: {value:?}")]
    Dash {
        /// Which part.
        field: &'static str,
        /// Its value.
        value: String,
    },
}

impl Workload {
    /// The orchestrator's word in names and in `spec.orchestrator`.
    pub fn orchestrator(&self) -> &str {
        match self {
            Self::Pod(_) => "k8s",
            Self::Container(_) => "cni",
            Self::Libnetwork => "libnetwork",
            Self::Other { orchestrator, .. } => orchestrator,
        }
    }

    /// The part of names that identifies it.
    pub fn identity(&self) -> &str {
        match self {
            Self::Pod(name) | Self::Container(name) => name,
            Self::Libnetwork => "libnetwork",
            Self::Other { workload, .. } => workload,
        }
    }
}

impl WorkloadEndpointName {
    /// The name.
    ///
    /// # Errors
    /// A part is empty, or begins or ends with a dash.
    pub fn to_name(&self) -> Result<String, EndpointNameError> {
        let parts = [
            ("node", self.node.as_str()),
            ("orchestrator", self.workload.orchestrator()),
            ("workload", self.workload.identity()),
            ("endpoint", self.endpoint.as_str()),
        ];
        for (field, value) in parts {
            if value.is_empty() {
                return Err(EndpointNameError::Empty(field));
            }
            if value.starts_with('-') || value.ends_with('-') {
                return Err(EndpointNameError::Dash { field, value: value.to_owned() });
            }
        }
        Ok(parts.map(|(_, value)| value.replace('-', "--")).join("-"))
    }

    /// Takes a name apart.
    ///
    /// # Errors
    /// It has not four parts, or a part begins or ends with a dash.
    pub fn parse(name: &str) -> Result<Self, EndpointNameError> {
        let wrong = || EndpointNameError::Parts(name.to_owned());
        let [node, orchestrator, identity, endpoint] =
            <[String; 4]>::try_from(parts(name).ok_or_else(wrong)?).map_err(|_| wrong())?;
        let workload = match orchestrator.as_str() {
            "k8s" => Workload::Pod(identity),
            "cni" => Workload::Container(identity),
            "libnetwork" => Workload::Libnetwork,
            _ => Workload::Other { orchestrator, workload: identity },
        };
        Ok(Self { node, workload, endpoint })
    }
}

/// The parts between single dashes, with double ones undone.
fn parts(name: &str) -> Option<Vec<String>> {
    const DOUBLED: &str = "\0";
    // A run of three dashes would leave a part that begins or ends with one.
    if name.contains(DOUBLED) {
        return None;
    }
    let marked = name.replace("--", DOUBLED);
    let parts: Vec<String> = marked.split('-').map(|part| part.replace(DOUBLED, "-")).collect();
    let whole = |part: &String| !part.is_empty() && !part.starts_with('-') && !part.ends_with('-');
    parts.iter().all(whole).then_some(parts)
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.orchestrator(), self.identity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(node: &str, pod: &str) -> WorkloadEndpointName {
        WorkloadEndpointName {
            node: node.to_owned(),
            workload: Workload::Pod(pod.to_owned()),
            endpoint: "eth0".to_owned(),
        }
    }

    #[test]
    fn dashes_inside_parts_are_doubled() {
        assert_eq!(pod("n-1", "a-b").to_name().unwrap(), "n--1-k8s-a--b-eth0");
        assert_eq!(WorkloadEndpointName::parse("n--1-k8s-a--b-eth0"), Ok(pod("n-1", "a-b")));
        assert_eq!(WorkloadEndpointName::parse("n-k8s-a----b-eth0"), Ok(pod("n", "a--b")));
    }

    #[test]
    fn every_orchestrator_is_told_apart() {
        let parse = |name: &str| WorkloadEndpointName::parse(name).unwrap();
        assert_eq!(parse("n-cni-abc-eth0").workload, Workload::Container("abc".to_owned()));
        assert_eq!(parse("n-libnetwork-libnetwork-eth0").workload, Workload::Libnetwork);
        let other = parse("n-nomad-task-eth0");
        assert_eq!(other.workload.orchestrator(), "nomad");
        assert_eq!(other.to_name().unwrap(), "n-nomad-task-eth0");
    }

    #[test]
    fn ambiguous_names_are_refused() {
        for name in [
            "",
            "n-k8s-p",
            "n-k8s-p-eth0-x",
            "n---k8s-p-eth0",
            "-n-k8s-p-eth0",
            "n-k8s--p-eth0",
            "n-k8s-\0-eth0",
        ] {
            assert!(WorkloadEndpointName::parse(name).is_err(), "{name}");
        }
        assert_eq!(
            pod("n-", "p").to_name(),
            Err(EndpointNameError::Dash { field: "node", value: "n-".to_owned() })
        );
        assert_eq!(pod("n", "").to_name(), Err(EndpointNameError::Empty("workload")));
    }
}
