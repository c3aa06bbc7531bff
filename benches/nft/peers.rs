//! The same ruleset for the peers' programs, which are started and fed as a user or Felix does it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::shape::{BASE, SETS, chain, chain_name, dispatch, lookups, members};

/// Runs a program with a script on its standard input.
///
/// # Errors
/// It cannot be run (which package has it is said), or fails.
pub(super) fn feed(line: &str, script: &str) -> Result<()> {
    let mut words = line.split(' ');
    let program = words.next().unwrap_or_default();
    let mut child = Command::new(program)
        .args(words)
        .stdin(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program}; run scripts/install-test-packages"))?;
    if let Some(mut input) = child.stdin.take() {
        input.write_all(script.as_bytes())?;
    }
    ensure!(child.wait()?.success(), "{line} failed");
    Ok(())
}

/// For `nft -f`.
pub(super) fn nft(pods: u32) -> String {
    let mut text = String::from("table ip bench {\n");
    for set in 0..SETS {
        let elements: Vec<String> = members(set).map(|member| member.to_string()).collect();
        let _ = writeln!(text, "set s{set} {{ type ipv4_addr; elements = {{ {} }} }}", elements.join(", "));
    }
    for pod in 0..pods {
        text += &nft_chain(pod);
    }
    let entries: Vec<String> = (0..pods).map(nft_entry).collect();
    let _ =
        writeln!(text, "map dispatch {{ type ifname : verdict; elements = {{ {} }} }}", entries.join(", "));
    let _ = writeln!(text, "chain filter-FORWARD {{ {BASE}\n{}\n}}\n}}", dispatch());
    text
}

/// One more pod, for `nft -f`.
pub(super) fn nft_pod(pod: u32) -> String {
    let map = format!("map dispatch {{ type ifname : verdict; elements = {{ {} }} }}", nft_entry(pod));
    format!("table ip bench {{\n{}{map}\n}}", nft_chain(pod))
}

fn nft_entry(pod: u32) -> String {
    format!("\"cali{pod}\" : goto {}", chain_name(pod))
}

fn nft_chain(pod: u32) -> String {
    let rules: Vec<String> = chain(pod).iter().map(ToString::to_string).collect();
    format!("chain {} {{\n{}\n}}\n", chain_name(pod), rules.join("\n"))
}

/// For `ipset restore`.
pub(super) fn ipset() -> String {
    let mut text = String::new();
    for set in 0..SETS {
        let _ = writeln!(text, "create s{set} hash:ip");
        members(set).for_each(|member| _ = writeln!(text, "add s{set} {member}"));
    }
    text
}

/// `ipset add` of one member.
pub(super) fn ipset_add(set: u32, member: Ipv4Addr) -> String {
    format!("ipset add s{set} {member}")
}

/// For `iptables-restore` of either kind.
pub(super) fn iptables(pods: u32) -> String {
    let mut text = String::from("*filter\n:dispatch - [0:0]\n");
    (0..pods).for_each(|pod| _ = writeln!(text, ":{} - [0:0]", chain_name(pod)));
    (0..pods).for_each(|pod| iptables_rules(&mut text, pod));
    text + "-A FORWARD -j dispatch\nCOMMIT\n"
}

/// One more pod, for `iptables-restore --noflush`.
pub(super) fn iptables_pod(pod: u32) -> String {
    let mut text = format!("*filter\n:{} - [0:0]\n", chain_name(pod));
    iptables_rules(&mut text, pod);
    text + "COMMIT\n"
}

fn iptables_rules(text: &mut String, pod: u32) {
    let chain = chain_name(pod);
    let mut rule = |of: &str, rest: &str| _ = writeln!(text, "-A {of} {rest}");
    rule(&chain, "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT");
    rule(&chain, "-m conntrack --ctstate INVALID -j DROP");
    for (set, port) in lookups(pod) {
        rule(&chain, &format!("-p tcp -m set --match-set s{set} src -m tcp --dport {port} -j ACCEPT"));
    }
    rule(&chain, "-j DROP");
    rule("dispatch", &format!("-o cali{pod} -g {chain}"));
}
