//! The unix socket: one JSON request and one JSON answer per connection, a short thread for each.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use api::cni::code;
use api::wire::{Answer, CniCommand, CniRequest, MAX_MESSAGE_BYTES, NodeStatus, Request};

use super::{Cni, deferred, refuse};
use crate::telemetry;

/// Requests at a time; more wait in the socket's queue.
const MAX_REQUESTS: usize = 128;
/// A client sends its request at once; one that does not is not waited for.
const CLIENT_LIMIT: Duration = Duration::from_secs(10);

/// Answers `calicoctl node status`.
pub(crate) trait StatusSource: Send + Sync + 'static {
    /// The node's state now.
    fn node_status(&self) -> NodeStatus;
}

/// Binds the socket, replays deferred requests and serves on a thread of its own until the process ends. A socket that an
/// earlier process left behind is replaced; one that a running process answers on is not.
///
/// # Errors
/// Another node runs with this folder, or the socket cannot be made.
pub(crate) fn serve(socket: &Path, cni: Arc<Cni>, status: Arc<dyn StatusSource>) -> io::Result<()> {
    let listener = bind(socket)?;
    let run_dir = socket.parent().unwrap_or(Path::new("/")).to_owned();
    let accept = move || {
        deferred::replay(&cni, &run_dir);
        accept_all(&listener, &cni, &status);
    };
    std::thread::Builder::new().name("cni".to_owned()).spawn(accept)?;
    Ok(())
}

fn bind(socket: &Path) -> io::Result<UnixListener> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", socket.display()));
    if UnixStream::connect(socket).is_ok() {
        let text = format!(
            "{}: another node answers here; a host runs one node, or each needs its own TORTIE_RUN_DIR",
            socket.display()
        );
        return Err(io::Error::new(io::ErrorKind::AddrInUse, text));
    }
    if let Some(folder) = socket.parent() {
        fs::create_dir_all(folder).map_err(named)?;
    }
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(named(error)),
        _ => {}
    }
    let listener = UnixListener::bind(socket).map_err(named)?;
    // Root's only: who can write here can attach to the network.
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600)).map_err(named)?;
    Ok(listener)
}

fn accept_all(listener: &UnixListener, cni: &Arc<Cni>, status: &Arc<dyn StatusSource>) {
    let active = Arc::new(AtomicUsize::new(0));
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        while active.load(Ordering::Acquire) >= MAX_REQUESTS {
            std::thread::sleep(Duration::from_millis(1));
        }
        active.fetch_add(1, Ordering::AcqRel);
        let (cni, status, counter) = (cni.clone(), status.clone(), active.clone());
        let work = move || {
            serve_one(stream, &cni, status.as_ref());
            counter.fetch_sub(1, Ordering::AcqRel);
        };
        if let Err(error) = std::thread::Builder::new().name("cni-request".to_owned()).spawn(work) {
            active.fetch_sub(1, Ordering::AcqRel);
            tracing::error!(%error, "cannot start a thread for a CNI request; the runtime will try again");
        }
    }
}

fn serve_one(mut stream: UnixStream, cni: &Cni, status: &dyn StatusSource) {
    let answer = match read_request(&mut stream) {
        Ok(Request::Cni(request)) => measured(&request, || cni.handle(&request)),
        Ok(Request::Ipam(request)) => measured(&request, || cni.handle_ipam(&request)),
        Ok(Request::Delegate(request)) => cni.prepare_delegation(&request),
        Ok(Request::NodeStatus) => Answer::NodeStatus(status.node_status()),
        Err(error) => Answer::Error(refuse(code::DECODING_FAILURE, format!("not a request: {error}"))),
    };
    let text = serde_json::to_vec(&answer).unwrap_or_default();
    // A client that has gone away cannot be told; DEL or GC will follow an ADD whose answer was lost.
    let _ = stream.write_all(&text);
}

/// Counts a call and its time.
fn measured(request: &CniRequest, handle: impl FnOnce() -> Answer) -> Answer {
    let start = Instant::now();
    let answer = handle();
    let command = match request.command {
        CniCommand::Add => "ADD",
        CniCommand::Del => "DEL",
        CniCommand::Check => "CHECK",
        CniCommand::Status => "STATUS",
        CniCommand::Gc => "GC",
    };
    telemetry::cni_call(command, start.elapsed(), matches!(answer, Answer::Error(_)));
    answer
}

fn read_request(stream: &mut UnixStream) -> io::Result<Request> {
    stream.set_read_timeout(Some(CLIENT_LIMIT))?;
    stream.set_write_timeout(Some(CLIENT_LIMIT))?;
    let mut text = Vec::new();
    stream.take(MAX_MESSAGE_BYTES as u64).read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}
