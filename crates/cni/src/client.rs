//! The client side of the node's socket: one blocking request, with a bounded wait for a node that is just restarting.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use api::wire::{Answer, CniCommand, MAX_MESSAGE_BYTES, Request};

/// No node answered, and why. Nothing was done; worth another try.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unreachable(pub(crate) String);

/// How long the node may take to answer; the runtime's own limit is longer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);
/// Pause between attempts to connect.
const RETRY: Duration = Duration::from_millis(20);

/// Room for an answer as they usually are, so that it is read in one go.
const USUAL_BYTES: usize = 4 * 1024;

/// How long to wait for a socket to appear: a node restarts within a second, and a runtime retries ADD by itself.
pub(crate) fn patience(command: CniCommand) -> Duration {
    match command {
        CniCommand::Add | CniCommand::Check => Duration::from_secs(3),
        CniCommand::Del | CniCommand::Gc => Duration::from_secs(1),
        CniCommand::Status => Duration::ZERO,
    }
}

/// Sends a request to the node and waits for its answer; for a node that is not there yet, as long as `patience`.
///
/// # Errors
/// No node listens, or it broke off.
pub fn ask(socket: &Path, request: &Request, patience: Duration) -> Result<Answer, Unreachable> {
    let unreachable = |error: io::Error| {
        Unreachable(format!(
            "the node does not answer on {}: {error}; is `tortie node` running on this host?",
            socket.display()
        ))
    };
    let stream = connect(socket, patience).map_err(unreachable)?;
    exchange(stream, request).map_err(unreachable)
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

fn exchange(mut stream: UnixStream, request: &Request) -> io::Result<Answer> {
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
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
