//! A lab for a test: made by `tortie lab up`, taken down when dropped.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::net::{IpAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use kernel::netns::Netns;

/// Time for anything that should happen soon, on a machine that has much else to do.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A running lab.
pub(crate) struct Lab {
    folder: tempfile::TempDir,
}

/// `tortie` with these arguments.
pub(crate) fn tortie<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tortie"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Standard output of a command that has to succeed.
#[track_caller]
pub(crate) fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}: {}{}", output.status, text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Standard error of a command that has to fail with this exit code.
#[track_caller]
pub(crate) fn failed(output: &Output, code: i32) -> String {
    assert_eq!(output.status.code(), Some(code), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stderr)
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Asks until the answer is good; the last bad one is the panic's message.
#[track_caller]
pub(crate) fn eventually<T>(limit: Duration, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(bad) => assert!(Instant::now() < deadline, "after {} s still: {bad}", limit.as_secs()),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The text if the condition holds, else what to complain about.
pub(crate) fn when(holds: bool, text: &str) -> Result<String, String> {
    if holds { Ok(text.to_owned()) } else { Err(text.to_owned()) }
}

impl Lab {
    /// Makes one with these hosts and further options of `lab up`.
    #[track_caller]
    pub(crate) fn up(hosts: u8, options: &[&str]) -> Self {
        testkit::require_root();
        let lab = Self { folder: tempfile::tempdir().expect("a folder") };
        let hosts = hosts.to_string();
        let arguments = [&["up", "--hosts", &hosts], options].concat();
        succeeded(&lab.lab(&arguments));
        lab
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn datastore(&self) -> PathBuf {
        self.folder().join("datastore.db")
    }

    pub(crate) fn log(&self, host: &str) -> String {
        std::fs::read_to_string(self.folder().join(host).join("node.log")).unwrap_or_default()
    }

    /// `tortie lab --dir …` with these arguments.
    pub(crate) fn lab(&self, arguments: &[&str]) -> Output {
        tortie(["lab", "--dir"]).arg(self.folder()).args(arguments).output().expect("tortie runs")
    }

    /// A command inside a host or pod, which has to succeed; a line split at spaces.
    #[track_caller]
    pub(crate) fn exec(&self, target: &str, line: &str) -> String {
        let words: Vec<_> = line.split_whitespace().collect();
        succeeded(&self.lab(&[&["exec", target, "--"], &words[..]].concat()))
    }

    /// `calicoctl`, which has to succeed.
    #[track_caller]
    pub(crate) fn ctl(&self, line: &str) -> String {
        let words: Vec<_> = line.split_whitespace().collect();
        succeeded(&self.lab(&[&["ctl", "--"], &words[..]].concat()))
    }

    /// `calicoctl apply` of a document.
    #[track_caller]
    pub(crate) fn apply(&self, document: &str) {
        let file = self.folder().join("document.yaml");
        std::fs::write(&file, document).expect("a file");
        self.ctl(&format!("apply -f {}", file.display()));
    }

    #[track_caller]
    pub(crate) fn fault(&self, fault: &str, host: &str) {
        succeeded(&self.lab(&["fault", fault, host]));
    }

    pub(crate) fn host(&self, name: &str) -> Netns {
        Netns::open(self.folder().join("netns").join(format!("host_{name}"))).expect("the host is there")
    }

    /// A pod of the namespace `default`.
    pub(crate) fn pod(&self, name: &str) -> Netns {
        Netns::open(self.folder().join("netns").join(format!("pod_default_{name}")))
            .expect("the pod is there")
    }

    /// The addresses of a pod of the namespace `default`, IPv4 first.
    #[track_caller]
    pub(crate) fn addresses(&self, pod: &str) -> Vec<IpAddr> {
        let list = succeeded(&self.lab(&["pod", "list"]));
        let name = format!("default/{pod}");
        let line = list.lines().find(|line| line.split_whitespace().next() == Some(&name));
        let line = line.unwrap_or_else(|| panic!("no pod {name} in {list}"));
        let cell = line.split_whitespace().nth(2).expect("a pod has addresses");
        cell.split(',').map(|address| address.parse().expect("an address")).collect()
    }

    #[track_caller]
    pub(crate) fn address(&self, pod: &str) -> IpAddr {
        self.addresses(pod)[0]
    }

    /// GET on a host's loopback: the status line's code and the body.
    pub(crate) fn http(&self, host: &str, port: u16, path: &str) -> Result<(u16, String), String> {
        let fetch = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.set_read_timeout(Some(SOON))?;
            write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer =
            self.host(host).run(fetch).expect("the host is there").map_err(|error| error.to_string())?;
        let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or(answer.clone())?;
        let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
        Ok((code, body))
    }

    /// Waits until a host's node says that it is ready.
    #[track_caller]
    pub(crate) fn await_ready(&self, host: &str) {
        eventually(SOON, || match self.http(host, 9099, "/readiness")? {
            (200, _) => Ok(()),
            (_, body) => Err(body),
        });
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let output = self.lab(&["down"]);
        if !std::thread::panicking() {
            assert!(output.status.success(), "{}", text(&output.stderr));
            assert!(!self.folder().exists(), "{} is left", self.folder().display());
        }
    }
}
