//! What the tests share.

use std::io::Write;
use std::process::{Command, Stdio};

use kernel::nft::{Family, NftSocket, NftTable};
use testkit::TestNamespace;

/// Runs `nft -f -` in the namespace; panics with nft's words when it fails.
pub(crate) fn nft(namespace: &TestNamespace, script: &str) -> String {
    let (status, out, errors) = try_nft(namespace, script);
    assert!(status, "nft: {errors}\n{script}");
    out
}

/// Runs `nft -f -`: whether it worked, its output, its errors.
pub(crate) fn try_nft(namespace: &TestNamespace, script: &str) -> (bool, String, String) {
    namespace.run(|| {
        let mut child = Command::new("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nft must be installed: apt-get install nftables");
        child.stdin.take().expect("it is piped").write_all(script.as_bytes()).expect("nft reads its input");
        let output = child.wait_with_output().expect("nft ends");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    })
}

/// The reconciler of `family calico` in the namespace.
pub(crate) fn table(namespace: &TestNamespace, family: Family) -> NftTable<NftSocket> {
    named_table(namespace, family, "calico")
}

/// The reconciler of a table of another name.
pub(crate) fn named_table(namespace: &TestNamespace, family: Family, name: &str) -> NftTable<NftSocket> {
    let socket = namespace.run(|| NftSocket::open().expect("root can open a netlink socket"));
    NftTable::new(socket, family, name)
}

/// The lines that nft lists inside a chain, without the base chain's own.
pub(crate) fn listed(namespace: &TestNamespace, family: Family, chain: &str) -> Vec<String> {
    let listing = nft(namespace, &format!("list chain {family} calico {chain}"));
    let inside = listing.lines().skip_while(|line| !line.contains(&format!("chain {chain} {{"))).skip(1);
    inside
        .take_while(|line| line.trim() != "}")
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.starts_with("type "))
        .collect()
}

/// The whole ruleset as nft lists it, but sets and chains by name: nft lists them in the order in which they were made.
pub(crate) fn ruleset(namespace: &TestNamespace) -> String {
    let listing = nft(namespace, "list ruleset");
    let mut tables: Vec<String> = Vec::new();
    for table in listing.split_inclusive("\n}\n") {
        let (head, body) = table.split_once('\n').unwrap_or((table, ""));
        let body = body.strip_suffix("}\n").unwrap_or(body);
        let mut blocks: Vec<&str> = body.split_inclusive("\n\t}\n").map(str::trim).collect();
        blocks.sort_unstable();
        tables.push(format!("{head}\n{}\n", blocks.join("\n")));
    }
    tables.concat()
}
