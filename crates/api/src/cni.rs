//! The Container Network Interface's own words: versions, results, error codes, and the plugin's configuration.
//!
//! Source: CNI SPEC 1.1.0. Results are kept in one newest form ([`CniResult`]) and written in the version that the
//! configuration asks for, as section "Result types" lays down for each version.

mod config;
mod pod_cidr;
mod result;

use std::fmt;
use std::str::FromStr;

pub use config::{Attachment, CalicoConfig, ConfigError, FeatureControl, IpamConfig, IpamRoute};
pub use pod_cidr::{NoPodCidr, PodCidrs, replace_pod_cidrs, wants_pod_cidr};
pub use result::{CniResult, Dns, Interface, Ip, ResultError, Route};

/// Error codes of CNI SPEC, section "Error".
pub mod code {
    /// The version of the configuration is not supported.
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    /// The configuration has a field that is not supported.
    pub const UNSUPPORTED_FIELD: u32 = 2;
    /// The container is unknown or does not exist.
    pub const UNKNOWN_CONTAINER: u32 = 3;
    /// An environment variable is missing or wrong.
    pub const INVALID_ENVIRONMENT: u32 = 4;
    /// Input could not be read.
    pub const IO_FAILURE: u32 = 5;
    /// Input could not be decoded.
    pub const DECODING_FAILURE: u32 = 6;
    /// The configuration is not valid.
    pub const INVALID_CONFIG: u32 = 7;
    /// Something is not there yet: the runtime should try again later.
    pub const TRY_AGAIN_LATER: u32 = 11;
    /// STATUS: an ADD would not succeed now.
    pub const NOT_AVAILABLE: u32 = 50;
    /// Ours: the work itself failed, and was undone.
    pub const FAILED: u32 = 100;
    /// Ours: CHECK found a difference from what ADD had made.
    pub const CHECK_FAILED: u32 = 101;
}

/// A version of the specification that the plugin speaks, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpecVersion {
    /// 0.1.0
    V0_1_0,
    /// 0.2.0
    V0_2_0,
    /// 0.3.0
    V0_3_0,
    /// 0.3.1
    V0_3_1,
    /// 0.4.0: CHECK.
    V0_4_0,
    /// 1.0.0: no `version` in results' addresses.
    V1_0_0,
    /// 1.1.0: STATUS, GC, MTU in results.
    V1_1_0,
}

impl SpecVersion {
    /// Every version.
    pub const ALL: [Self; 7] =
        [Self::V0_1_0, Self::V0_2_0, Self::V0_3_0, Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];
    /// The newest.
    pub const NEWEST: Self = Self::V1_1_0;
    /// What a configuration without `cniVersion` means to Calico's plugin (control-plane.md 2.1).
    pub const WHEN_ABSENT: Self = Self::V0_2_0;

    /// As written in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }
}

impl fmt::Display for SpecVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A version that the plugin does not speak.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "CNI version {0:?} is not supported; supported are 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0 and 1.1.0"
)]
pub struct UnsupportedVersion(pub String);

impl FromStr for SpecVersion {
    type Err = UnsupportedVersion;

    fn from_str(text: &str) -> Result<Self, UnsupportedVersion> {
        Self::ALL
            .into_iter()
            .find(|version| version.name() == text)
            .ok_or_else(|| UnsupportedVersion(text.to_owned()))
    }
}
