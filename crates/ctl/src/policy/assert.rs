//! `calicoctl policy assert`.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use calc::cluster::Cluster;
use calc::explain::{Explainer, Explanation, Ruling};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::Console;
use crate::bgp::{Format, show};
use crate::cli::Global;
use crate::cluster::ClusterArgs;
use crate::explain::{PacketArgs, answer, explanation_text};
use crate::files::FileArgs;

/// Check that packets pass, or do not, as a file of assertions says; for CI.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  calicoctl policy assert -f assertions.yaml                      against the datastore
  calicoctl policy assert -f assertions.yaml --file manifests/    against files alone
  calicoctl policy assert -f assertions.yaml --file manifests/ -o json

A file of assertions:
  assertions:
  - name: the shop reaches its database          # optional
    from: [shop/web, shop/worker]                # one end or several, as in calicoctl explain
    to: shop/db
    protocol: TCP
    port: 5432
    expect: allow
  - {from: 192.0.2.7, to: shop/db, protocol: TCP, port: 5432, expect: deny}
  - {from: shop/web, to: 8.8.8.8, expect: deny}  # without a protocol: a ping

More fields: sourcePort; icmp, as in icmp: 3/1. A service has to fulfil what is expected at all of
its backends. Every assertion is checked, and each that fails is explained.

Exit codes: 0 all hold, 1 some do not or cannot be checked, 2 wrong usage.")]
pub(crate) struct AssertArgs {
    /// File of assertions, or - for standard input (repeatable)
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    filename: Vec<PathBuf>,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// table, json or yaml
    #[arg(short, long, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    output: Format,
}

/// What a file holds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AssertionFile {
    assertions: Vec<Assertion>,
}

/// One of its entries.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Assertion {
    #[serde(default)]
    name: String,
    from: Ends,
    to: Ends,
    protocol: Option<serde_json::Value>,
    port: Option<u16>,
    source_port: Option<u16>,
    icmp: Option<serde_json::Value>,
    expect: Expected,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Ends {
    One(String),
    Several(Vec<String>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
enum Expected {
    Allow,
    Deny,
}

/// How one pair of ends of an assertion came out.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Checked {
    /// The assertion, and its ends.
    assertion: String,
    expect: Expected,
    holds: bool,
    /// Why it cannot be checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Each packet that does not do what is expected.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failures: Vec<Explanation>,
}

pub(crate) fn run(args: &AssertArgs, global: &Global, console: &mut Console<'_>) -> Result<()> {
    let mut assertions = Vec::new();
    for (source, text) in FileArgs::of(args.filename.clone()).texts(console)? {
        let file: AssertionFile = serde_saphyr::from_str(&text).with_context(|| {
            format!("{source} is not a file of assertions (see calicoctl policy assert --help)")
        })?;
        ensure!(!file.assertions.is_empty(), "{source}: assertions is empty; there is nothing to check");
        assertions.extend(file.assertions);
    }
    let cluster = args.cluster.load(global, console)?;
    let mut explainer = Explainer::new(&cluster);
    let numbered = assertions.iter().enumerate();
    let checked: Vec<Checked> =
        numbered.flat_map(|(index, of)| of.check(index, &cluster, &mut explainer)).collect();
    show(&checked, args.output, console, |checked| text(checked))?;
    let failed = checked.iter().filter(|checked| !checked.holds).count();
    if failed > 0 {
        bail!("{failed} of {} assertions do not hold", checked.len());
    }
    Ok(())
}

impl Assertion {
    fn check(&self, index: usize, cluster: &Cluster, explainer: &mut Explainer<'_>) -> Vec<Checked> {
        let mut checked = Vec::new();
        for from in self.from.list() {
            for to in self.to.list() {
                checked.push(self.check_pair(index, (from, to), cluster, explainer));
            }
        }
        checked
    }

    fn check_pair(
        &self,
        index: usize,
        ends: (&str, &str),
        cluster: &Cluster,
        explainer: &mut Explainer<'_>,
    ) -> Checked {
        let outcome = answer(cluster, explainer, ends, &self.packet());
        let is_other =
            |answer: &Explanation| (answer.verdict == Ruling::Deny) != (self.expect == Expected::Deny);
        let (failures, error) = match outcome {
            Ok(answer) => (answer.answers.into_iter().filter(is_other).collect(), None),
            Err(error) => (Vec::new(), Some(format!("{error:#}").replace("--", ""))),
        };
        Checked {
            assertion: self.title(index, ends),
            expect: self.expect,
            holds: failures.is_empty() && error.is_none(),
            error,
            failures,
        }
    }

    fn packet(&self) -> PacketArgs {
        PacketArgs {
            protocol: self.protocol.as_ref().map(scalar),
            port: self.port,
            source_port: self.source_port.unwrap_or(PacketArgs::SOURCE_PORT),
            icmp: self.icmp.as_ref().map(scalar),
        }
    }

    /// `the shop reaches its database: shop/web -> shop/db TCP 5432`.
    fn title(&self, index: usize, (from, to): (&str, &str)) -> String {
        let name = if self.name.is_empty() { format!("assertions[{index}]") } else { self.name.clone() };
        let protocol = self.protocol.as_ref().map_or_else(|| "ping".to_owned(), scalar);
        let port = self.port.map(|port| format!(" {port}")).unwrap_or_default();
        format!("{name}: {from} -> {to} {protocol}{port}")
    }
}

impl Ends {
    fn list(&self) -> Vec<&str> {
        match self {
            Self::One(end) => vec![end],
            Self::Several(ends) => ends.iter().map(String::as_str).collect(),
        }
    }
}

/// A text, or a number as it was written.
fn scalar(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn text(checked: &[Checked]) -> String {
    let mut text = String::new();
    for one in checked {
        let expected = if one.expect == Expected::Allow { "allow" } else { "deny" };
        if one.holds {
            let _ = writeln!(text, "ok     {} ({expected})", one.assertion);
            continue;
        }
        let _ = writeln!(text, "FAILED {} (expected {expected})", one.assertion);
        if let Some(error) = &one.error {
            let _ = writeln!(text, "       cannot be checked: {error}");
        }
        for failure in &one.failures {
            for line in explanation_text(failure).lines() {
                let _ = writeln!(text, "{}", format!("       {line}").trim_end());
            }
        }
    }
    text
}
