//! The programs of iptables and ipset, run in the network namespace of the calling thread.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// Runs the programs. [`HostTools`] does; tests have others.
pub trait Tools: fmt::Debug + Send + Sync {
    /// What a program says when it is called with these arguments and this input.
    ///
    /// # Errors
    /// See [`ToolError`]; what the program has done up to then stays done.
    fn run(&self, program: &str, arguments: &[&str], input: &str) -> Result<String, ToolError>;

    /// Whether the kernel may have tables of iptables-legacy of a family (`ip` or `ip6`). True when that cannot be told.
    fn may_have_legacy_tables(&self, family: &str) -> bool;
}

/// A program of iptables or ipset did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It is not on this host.
    #[error(
        "{program} is not installed: install the packages iptables and ipset, or set nftablesMode to Enabled"
    )]
    Missing {
        /// The program.
        program: String,
    },
    /// It could not be started, or not be spoken to.
    #[error("{program}: {source}")]
    Io {
        /// The program.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// It said no.
    #[error("{program} {arguments}: {said}{}", line_text(line.as_deref()))]
    Failed {
        /// The program.
        program: String,
        /// Its arguments.
        arguments: String,
        /// What it wrote to its standard error.
        said: String,
        /// The line of its input that it names.
        line: Option<String>,
    },
    /// It did not end, and was killed.
    #[error("{program} did not end within {} s, and was killed", after.as_secs())]
    TimedOut {
        /// The program.
        program: String,
        /// The time it had.
        after: Duration,
    },
}

fn line_text(line: Option<&str>) -> String {
    line.map(|line| format!(" (`{line}`)")).unwrap_or_default()
}

impl ToolError {
    /// The program is not there, so nothing of its making can be expected.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }
}

/// A host without the programs, such as a kernel in memory.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTools;

impl Tools for NoTools {
    fn run(&self, program: &str, _: &[&str], _: &str) -> Result<String, ToolError> {
        Err(ToolError::Missing { program: program.to_owned() })
    }

    fn may_have_legacy_tables(&self, _: &str) -> bool {
        false
    }
}

/// The programs of this host.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostTools;

/// A program that takes longer is killed. It waits up to [`LOCK_SECONDS`] for others that hold the lock of iptables.
const LONGEST: Duration = Duration::from_secs(60);

/// `-w` of the programs of iptables.
pub(super) const LOCK_SECONDS: &str = "10";

impl Tools for HostTools {
    fn run(&self, program: &str, arguments: &[&str], input: &str) -> Result<String, ToolError> {
        let io = |source| ToolError::Io { program: program.to_owned(), source };
        // The child begins in the namespaces of the thread that makes it.
        let child = Command::new(program)
            .args(arguments)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let child = child.map_err(|error| match error.kind() {
            ErrorKind::NotFound => ToolError::Missing { program: program.to_owned() },
            _ => io(error),
        })?;
        let Some(ended) = converse(child, input, LONGEST).map_err(io)? else {
            return Err(ToolError::TimedOut { program: program.to_owned(), after: LONGEST });
        };
        if ended.success {
            return Ok(ended.out);
        }
        Err(ToolError::Failed {
            program: program.to_owned(),
            arguments: arguments.join(" "),
            line: named_line(&ended.said, input),
            said: ended.said,
        })
    }

    fn may_have_legacy_tables(&self, family: &str) -> bool {
        let path = format!("/proc/thread-self/net/{family}_tables_names");
        std::fs::read_to_string(path)
            .map_or_else(|error| error.kind() != ErrorKind::NotFound, |names| !names.is_empty())
    }
}

struct Ended {
    success: bool,
    out: String,
    said: String,
}

/// Feeds the input and takes the output in at the same time; `None`: it did not end in time, and was killed.
fn converse(mut child: Child, input: &str, longest: Duration) -> std::io::Result<Option<Ended>> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let finished = std::thread::scope(|scope| {
        let (done, all_done) = mpsc::channel::<()>();
        let mark = done.clone();
        let out = scope.spawn(move || (read(stdout), drop(mark)).0);
        let said = scope.spawn(move || (read(stderr), drop(done)).0);
        // One that ends early does not read the rest; its own words say why.
        scope.spawn(move || stdin.map(|mut pipe| pipe.write_all(input.as_bytes())));
        let in_time = !matches!(all_done.recv_timeout(longest), Err(mpsc::RecvTimeoutError::Timeout));
        if !in_time {
            // The pipes end with it.
            child.kill()?;
        }
        let text = |thread: std::thread::ScopedJoinHandle<'_, String>| thread.join().unwrap_or_default();
        Ok::<_, std::io::Error>((in_time, text(out), text(said)))
    })?;
    let status = child.wait()?;
    let (in_time, out, said) = finished;
    Ok(in_time.then_some(Ended { success: status.success(), out, said: said.trim().to_owned() }))
}

fn read(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    // What was read until the pipe broke is what there is.
    let _ = pipe.map(|mut pipe| pipe.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The line of the input that an error names: `line 7`, `Error in line 7:`.
fn named_line(said: &str, input: &str) -> Option<String> {
    let after = said.split("line ").nth(1)?;
    let digits: String = after.chars().skip_while(|c| *c == ':').take_while(char::is_ascii_digit).collect();
    let number: usize = digits.parse().ok()?;
    input.lines().nth(number.checked_sub(1)?).map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_says_and_the_line_it_names_are_in_the_error() {
        assert_eq!(HostTools.run("cat", &[], "a\nb\n").unwrap(), "a\nb\n");
        let script = "cat >/dev/null; echo 'Error in line 2: no' >&2; exit 1";
        let error = HostTools.run("sh", &["-c", script], "one\ntwo\n").unwrap_err();
        assert!(error.to_string().ends_with("Error in line 2: no (`two`)"), "{error}");
        assert!(HostTools.run("no-such-program-here", &[], "").unwrap_err().is_missing());
    }

    #[test]
    fn a_program_that_does_not_end_is_killed() {
        let mut command = Command::new("sleep");
        let child = command.arg("600").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let ended = converse(child.spawn().unwrap(), "", Duration::from_millis(10)).unwrap();
        assert!(ended.is_none());
    }
}
