//! The binary under its several names.

use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};

fn run(name: &str, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tortie"))
        .arg0(name)
        .args(arguments)
        .stdin(Stdio::null())
        .env("CNI_COMMAND", "VERSION")
        .output()
        .expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[test]
fn called_by_the_name_of_a_plugin_it_is_that_plugin() {
    for name in ["calico", "/opt/cni/bin/calico-ipam"] {
        let output = run(name, &[]);
        assert!(output.status.success(), "{name}: {output:?}");
        assert!(text(&output.stdout).contains("supportedVersions"), "{name}: {output:?}");
    }
}

/// It is started for each pod, and what a loader does takes longer than the rest. (Where `libc.a` is missing, the build warns.)
#[test]
fn it_needs_no_loader_and_no_library() {
    let binary = std::fs::read(env!("CARGO_BIN_EXE_tortie")).expect("the binary can be read");
    let half = |at: usize| usize::from(u16::from_le_bytes([binary[at], binary[at + 1]]));
    // ELF64: the table of segments, the size and the number of its entries; a loader is a segment of type 3 (PT_INTERP).
    let table = u64::from_le_bytes(binary[32..40].try_into().expect("eight bytes"));
    let (start, size, count) = (usize::try_from(table).expect("a place in the file"), half(54), half(56));
    assert!(count > 0);
    assert!((0..count).all(|segment| half(start + segment * size) != 3), "it is linked to shared libraries");
}

#[test]
fn tortie_ctl_and_calicoctl_are_the_same() {
    let long = run("tortie", &["ctl", "version", "--help"]);
    let short = run("calicoctl", &["version", "--help"]);
    assert!(long.status.success() && short.status.success());
    assert_eq!(text(&long.stdout).replace("tortie ctl", "calicoctl"), text(&short.stdout));
}

#[test]
fn wrong_usage_is_exit_code_2_and_says_so_on_standard_error() {
    for (name, arguments) in
        [("tortie", vec!["lav"]), ("calicoctl", vec!["gett", "nodes"]), ("tortie", vec![])]
    {
        let output = run(name, &arguments);
        assert_eq!(output.status.code(), Some(2), "{name} {arguments:?}: {output:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{name} {arguments:?}: {output:?}");
    }
}

#[test]
fn help_and_version_go_to_standard_output() {
    for (name, word) in [("tortie", "tortie lab demo"), ("calicoctl", "Usage: calicoctl")] {
        assert!(text(&run(name, &["--help"]).stdout).contains(word), "{name}");
        assert!(text(&run(name, &["--version"]).stdout).contains(env!("CARGO_PKG_VERSION")), "{name}");
    }
}

#[test]
fn completion_knows_every_subcommand() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = text(&run("tortie", &["completion", shell]).stdout);
        for word in ["lab", "demo", "ctl"] {
            assert!(script.contains(word), "{shell} lacks {word}");
        }
    }
}
