//! What a plugin answered.

use std::process::Output;

use api::cni::CniResult;
use serde_json::Value;

/// A plugin's exit code and output.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    /// 0, or not.
    pub(crate) exit: i32,
    /// Standard output, trimmed.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Outcome {
    pub(crate) fn new(output: &Output) -> Self {
        Self {
            exit: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Standard output as JSON; `Null` if it is not.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_default()
    }

    /// The result of an ADD.
    pub(crate) fn result(&self) -> Result<CniResult, String> {
        if self.exit != 0 {
            return Err(format!("it failed: {}{}", self.stdout, self.stderr));
        }
        CniResult::from_json(&self.json()).map_err(|error| format!("{error}: {}", self.stdout))
    }

    /// The error's code.
    pub(crate) fn code(&self) -> Option<u64> {
        self.json()["code"].as_u64()
    }

    /// The error's message.
    pub(crate) fn message(&self) -> String {
        self.json()["msg"].as_str().unwrap_or_default().to_owned()
    }

    /// The result of an ADD that has to succeed.
    #[track_caller]
    pub(crate) fn expect_result(&self) -> CniResult {
        self.result().unwrap_or_else(|error| panic!("{error}"))
    }

    /// The addresses of an ADD that has to succeed.
    #[track_caller]
    pub(crate) fn expect_addresses(&self) -> Vec<std::net::IpAddr> {
        self.expect_result().ips.iter().map(|ip| ip.address.addr()).collect()
    }

    /// A call that has to succeed without a word.
    #[track_caller]
    pub(crate) fn expect_silence(&self) {
        assert!(self.exit == 0 && self.stdout.is_empty(), "{self:?}");
    }

    /// The error of a call that has to fail: code and message.
    #[track_caller]
    pub(crate) fn expect_error(&self) -> (u64, String) {
        assert_ne!(self.exit, 0, "{self:?}");
        (self.code().unwrap_or_else(|| panic!("{self:?}")), self.message())
    }
}
