//! calicoctl as a process: what only a process has.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const POOL: &str =
    "apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata:\n  name: a\nspec:\n  cidr: 10.0.0.0/16\n";

fn calicoctl(datastore: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tortie"));
    command.arg0("calicoctl").args(arguments).env("TORTIE_DATASTORE", datastore).env_remove("DATASTORE_TYPE");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(mut command: Command, input: &str) -> Output {
    let mut child = command.spawn().expect("the binary runs");
    // It may end without reading.
    let _ = child.stdin.take().expect("it is piped").write_all(input.as_bytes());
    child.wait_with_output().expect("it ends")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

#[test]
fn results_go_to_standard_output_and_errors_to_standard_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let datastore = folder.path().join("x.db");
    let applied = run(calicoctl(&datastore, &["apply", "-f", "-"]), POOL);
    assert_eq!(applied.status.code(), Some(0), "{applied:?}");
    assert_eq!(text(&applied.stdout), "Successfully applied 1 'IPPool' resource(s)\n");
    assert!(applied.stderr.is_empty(), "{applied:?}");
    let missing = run(calicoctl(&datastore, &["get", "ippool", "b"]), "");
    assert_eq!(missing.status.code(), Some(1), "{missing:?}");
    assert_eq!((text(&missing.stdout), text(&missing.stderr)), ("", "IPPool b does not exist\n"));
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let datastore = folder.path().join("x.db");
    run(calicoctl(&datastore, &["apply", "-f", "-"]), POOL);
    for arguments in [&["get", "ippools"][..], &["completion", "bash"], &["version", "--client"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = calicoctl(&datastore, arguments);
        command.stdout(writer);
        let output = run(command, "");
        assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""), "{arguments:?}");
    }
}

#[test]
fn a_full_disk_for_the_output_is_an_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut command = calicoctl(&folder.path().join("x.db"), &["completion", "bash"]);
    command.stdout(fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full"));
    let output = run(command, "");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(text(&output.stderr).contains("No space left"), "{output:?}");
}

#[test]
fn a_datastore_that_the_user_may_not_write_is_refused_and_left_alone() {
    testkit::require_root();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let datastore = folder.path().join("x.db");
    run(calicoctl(&datastore, &["apply", "-f", "-"]), POOL);
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).expect("it is ours");
    fs::set_permissions(&datastore, Permissions::from_mode(0o444)).expect("it is ours");
    // Other users may not be let into the build's folder.
    let binary = folder.path().join("calicoctl");
    // By another process: what a test beside this one forks would hold the file open for writing, so that it does not run yet.
    let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_tortie")).arg(&binary).status();
    assert!(copied.expect("cp runs").success());
    let before = fs::read(&datastore).expect("it is there");
    for arguments in [&["get", "ippools"][..], &["delete", "ippool", "a"], &["apply", "-f", "-"]] {
        let mut command = Command::new(&binary);
        command.args(arguments).env("TORTIE_DATASTORE", &datastore).uid(65534).gid(65534);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = run(command, POOL);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(text(&output.stderr).contains("x.db: it is read-only"), "{output:?}");
    }
    assert_eq!(fs::read(&datastore).expect("it is there"), before);
}

#[test]
fn logs_go_to_standard_error_when_asked_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let datastore = folder.path().join("x.db");
    run(calicoctl(&datastore, &["apply", "-f", "-"]), POOL);
    let quiet = run(calicoctl(&datastore, &["get", "ippools"]), "");
    let chatty = run(calicoctl(&datastore, &["get", "ippools", "-l", "debug"]), "");
    assert_eq!(text(&quiet.stdout), text(&chatty.stdout));
    assert_eq!(text(&quiet.stderr), "");
    assert!(text(&chatty.stderr).contains("x.db"), "{chatty:?}");
    let unknown = run(calicoctl(&datastore, &["get", "ippools", "-l", "loud"]), "");
    assert_eq!(unknown.status.code(), Some(2), "{unknown:?}");
}
