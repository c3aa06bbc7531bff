//! The client side of the node's socket ([`api::wire`]): one blocking request and its answer, each within a bounded time.
//!
//! The CNI plugins, `calicoctl` and `tortie lab` all ask the node through here. It starts no runtime and no thread, because
//! a CNI plugin lives for milliseconds.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use api::wire::{Answer, MAX_MESSAGE_BYTES, Request};

/// Pause between attempts to connect.
const RETRY: Duration = Duration::from_millis(20);

/// Room for an answer as they usually are, so that it is read in one go.
const USUAL_BYTES: usize = 4 * 1024;

/// How long a client waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For a socket to appear on which somebody listens: a node restarts within a second.
    pub connect: Duration,
    /// For the answer.
    pub answer: Duration,
}

impl Patience {
    /// Does not wait for a node that is not there, and ten seconds for its answer: for whoever sits before a terminal.
    pub const TERMINAL: Self = Self { connect: Duration::ZERO, answer: Duration::from_secs(10) };
}

/// No node answered, and why. Whether the request was carried out is not known when the node broke off; otherwise nothing
/// was done, and it is worth another try.
#[derive(Debug, thiserror::Error)]
#[error("the node does not answer on {}: {reason}; is `tortie node` running on this host?", socket.display())]
pub struct Unreachable {
    /// Where it was looked for.
    pub socket: PathBuf,
    /// What went wrong.
    pub reason: io::Error,
}

/// Sends a request to the node and waits for its answer.
///
/// # Errors
/// No node listens, it broke off, or its answer did not come in time or is none.
pub fn ask(socket: &Path, request: &Request, patience: Patience) -> Result<Answer, Unreachable> {
    let answer =
        connect(socket, patience.connect).and_then(|stream| exchange(stream, request, patience.answer));
    answer.map_err(|reason| Unreachable { socket: socket.to_owned(), reason })
}

/// Sends a request that is answered with any number of lines, and hands each to `take` until that has enough or the node ends
/// the answer. `limit` is for one line; `None` waits for as long as it takes.
///
/// # Errors
/// No node listens, it broke off in the middle of a line, or a line did not come in time or is none.
pub fn follow(
    socket: &Path,
    request: &Request,
    limit: Option<Duration>,
    mut take: impl FnMut(Answer) -> ControlFlow<()>,
) -> Result<(), Unreachable> {
    let mut lines = || -> io::Result<()> {
        let mut stream = connect(socket, Duration::ZERO)?;
        stream.set_read_timeout(limit)?;
        stream.set_write_timeout(Some(Patience::TERMINAL.answer))?;
        stream.write_all(&serde_json::to_vec(request)?)?;
        stream.shutdown(Shutdown::Write)?;
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        loop {
            line.clear();
            if reader.by_ref().take(MAX_MESSAGE_BYTES as u64).read_until(b'\n', &mut line)? == 0 {
                return Ok(());
            }
            if take(serde_json::from_slice(&line)?).is_break() {
                return Ok(());
            }
        }
    };
    lines().map_err(|reason| Unreachable { socket: socket.to_owned(), reason })
}

fn connect(socket: &Path, patience: Duration) -> io::Result<UnixStream> {
    let deadline = Instant::now() + patience;
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return Ok(stream),
            Err(error) if !may_pass(&error) || Instant::now() >= deadline => return Err(error),
            Err(_) => std::thread::sleep(RETRY),
        }
    }
}

/// A node that is not there yet, or whose queue is full.
fn may_pass(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, NotFound, WouldBlock};
    matches!(error.kind(), NotFound | ConnectionRefused | WouldBlock)
}

fn exchange(mut stream: UnixStream, request: &Request, limit: Duration) -> io::Result<Answer> {
    stream.set_read_timeout(Some(limit))?;
    stream.set_write_timeout(Some(limit))?;
    stream.write_all(&serde_json::to_vec(request)?)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::with_capacity(USUAL_BYTES);
    stream.take(MAX_MESSAGE_BYTES as u64).read_to_end(&mut answer)?;
    if answer.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "it closed the connection without an answer",
        ));
    }
    Ok(serde_json::from_slice(&answer)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn answering(listener: UnixListener, answer: &'static [u8]) -> std::thread::JoinHandle<String> {
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = String::new();
            stream.read_to_string(&mut request).unwrap();
            stream.write_all(answer).unwrap();
            request
        })
    }

    #[test]
    fn a_request_gets_its_answer() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let node = answering(UnixListener::bind(&socket).unwrap(), br#""done""#);
        let answer = ask(&socket, &Request::NodeStatus, Patience::TERMINAL).unwrap();
        assert_eq!((answer, node.join().unwrap().as_str()), (Answer::Done, r#""node-status""#));
    }

    #[test]
    fn a_node_that_comes_in_time_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let later = socket.clone();
        let node = std::thread::spawn(move || {
            // Not before the client has been refused once: there is no socket until this thread runs.
            answering(UnixListener::bind(later).unwrap(), br#""done""#).join().unwrap()
        });
        let patience = Patience { connect: Duration::from_secs(10), answer: Duration::from_secs(10) };
        assert_eq!(ask(&socket, &Request::NodeStatus, patience).unwrap(), Answer::Done);
        node.join().unwrap();
    }

    #[test]
    fn lines_are_handed_on_one_by_one_until_the_node_ends_or_there_were_enough() {
        for (enough, expected) in [(usize::MAX, 2), (1, 1)] {
            let folder = tempfile::tempdir().unwrap();
            let socket = folder.path().join("s");
            let node = answering(UnixListener::bind(&socket).unwrap(), b"\"done\"\n\"done\"\n");
            let mut seen = 0;
            follow(&socket, &Request::NodeStatus, Some(Duration::from_secs(10)), |answer| {
                assert_eq!(answer, Answer::Done);
                seen += 1;
                if seen < enough { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
            .unwrap();
            assert_eq!(seen, expected);
            node.join().unwrap();
        }
    }

    #[test]
    fn what_went_wrong_is_said_with_the_socket() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let text = ask(&socket, &Request::NodeStatus, Patience::TERMINAL).unwrap_err().to_string();
        assert!(text.contains(&socket.display().to_string()) && text.contains("tortie node"), "{text}");
        let node = answering(UnixListener::bind(&socket).unwrap(), b"");
        let text = ask(&socket, &Request::NodeStatus, Patience::TERMINAL).unwrap_err().to_string();
        assert!(text.contains("without an answer"), "{text}");
        node.join().unwrap();
    }
}
