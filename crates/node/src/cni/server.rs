//! The unix socket: one JSON request and one JSON answer per connection.

use std::fs;
use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use api::cni::code;
use api::wire::bgp::Question;
use api::wire::flows::FlowsQuestion;
use api::wire::packet::PacketQuestion;
use api::wire::{Answer, CniCommand, CniRequest, MAX_MESSAGE_BYTES, NodeStatus, Request};

use super::{Cni, deferred, refuse};
use crate::telemetry;

/// Requests at a time; more wait in the socket's queue.
const MAX_REQUESTS: usize = 128;
/// Threads that wait for the next burst; others end with their request.
const KEPT: usize = 8;
/// A client sends its request at once; one that does not is not waited for.
const CLIENT_LIMIT: Duration = Duration::from_secs(10);

/// Room that a thread keeps for its requests and answers: as they usually are, so that one is read in one go.
const USUAL_BYTES: usize = 8 * 1024;

/// Answers `calicoctl node status`, `calicoctl bgp` and `calicoctl flows`.
pub(crate) trait StatusSource: Send + Sync + 'static {
    /// The node's state now.
    fn node_status(&self) -> NodeStatus;
    /// The answer to a question about BGP.
    fn bgp(&self, question: Question) -> Answer;
    /// Has a question about flows answered on this connection by whoever watches them, which can take as long as whoever asks
    /// likes; or gives the answer, if nobody does.
    fn flows(&self, question: FlowsQuestion, stream: &UnixStream) -> Option<Answer>;
    /// What the kernel holds for a packet.
    fn packet(&self, question: &PacketQuestion) -> Answer;
}

/// Binds the socket, replays deferred requests and serves on a thread of its own until the process ends. A socket that an
/// earlier process left behind is replaced; one that a running process answers on is not, unless that process has given it
/// away (`inherited`). Without a `cni` (a reflector has no workloads), its calls are refused.
///
/// # Errors
/// Another node runs with this folder, or the socket cannot be made.
pub(crate) fn serve(
    socket: &Path,
    inherited: Option<OwnedFd>,
    cni: Option<Arc<Cni>>,
    status: Arc<dyn StatusSource>,
) -> io::Result<Requests> {
    let listener = inherited.map(|socket| Ok(socket.into())).unwrap_or_else(|| bind(socket))?;
    let run_dir = socket.parent().unwrap_or(Path::new("/")).to_owned();
    let threads = Mutex::new(Threads { waiting: 1, all: 1, paused: false });
    let pool = Arc::new(Pool { listener, cni, status, threads, ended: Condvar::new() });
    let requests = Requests { pool: pool.clone(), socket: socket.to_owned() };
    spawn(move || {
        if let Some(cni) = &pool.cni {
            deferred::replay(cni, &run_dir);
        }
        pool.accept_all();
    })?;
    Ok(requests)
}

/// The running server.
pub(crate) struct Requests {
    pool: Arc<Pool>,
    socket: PathBuf,
}

impl Requests {
    /// Takes no more requests, which wait in the socket's queue, and waits for those that are under way. False: some take
    /// longer than the limit.
    pub(crate) fn pause(&self, limit: Duration) -> bool {
        let mut threads = self.pool.threads();
        threads.paused = true;
        let waiting = threads.waiting;
        drop(threads);
        // Each thread that waits for a connection gets one: one of these, which says nothing, or a request that came before.
        for _ in 0..waiting {
            drop(UnixStream::connect(&self.socket));
        }
        let ended = self.pool.ended.wait_timeout_while(self.pool.threads(), limit, |threads| threads.all > 0);
        ended.unwrap_or_else(PoisonError::into_inner).0.all == 0
    }

    /// Takes requests again.
    pub(crate) fn go_on(&self) {
        let mut threads = self.pool.threads();
        threads.paused = false;
        self.pool.keep_one_waiting(&mut threads);
    }

    /// The listening socket, for another process.
    ///
    /// # Errors
    /// Out of file descriptors.
    pub(crate) fn share(&self) -> io::Result<OwnedFd> {
        self.pool.listener.try_clone().map(OwnedFd::from)
    }
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
    // Who can write here can attach to the network.
    listen_privately(socket).map_err(named)
}

/// Listens in the place of whoever had the socket, for the process' own user only.
///
/// # Errors
/// As unlink(2), bind(2) and chmod(2).
pub(crate) fn listen_privately(socket: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// The threads that accept and serve. There is always one that waits for the next connection, unless all are busy; a few
/// more stay for the next burst, because a thread that is warm answers sooner than a new one.
struct Pool {
    listener: UnixListener,
    cni: Option<Arc<Cni>>,
    status: Arc<dyn StatusSource>,
    threads: Mutex<Threads>,
    /// A thread has ended.
    ended: Condvar,
}

#[derive(Debug)]
struct Threads {
    waiting: usize,
    all: usize,
    /// No thread waits for more.
    paused: bool,
}

impl Pool {
    /// Adds a thread, if there may be one more.
    fn grow(self: &Arc<Self>, threads: &mut Threads) -> io::Result<()> {
        if threads.all < MAX_REQUESTS {
            let pool = self.clone();
            spawn(move || pool.accept_all())?;
            threads.all += 1;
            threads.waiting += 1;
        }
        Ok(())
    }

    fn accept_all(self: Arc<Self>) {
        let mut text = Vec::with_capacity(USUAL_BYTES);
        loop {
            let accepted = self.listener.accept();
            self.begin();
            let busy = Busy(&self);
            // What goes wrong with one connection is over with it.
            if let Ok((stream, _)) = accepted {
                serve_one(stream, &mut text, self.cni.as_deref(), self.status.as_ref());
            }
            if busy.end().is_break() {
                return;
            }
        }
    }

    fn begin(self: &Arc<Self>) {
        let mut threads = self.threads();
        threads.waiting -= 1;
        self.keep_one_waiting(&mut threads);
    }

    fn keep_one_waiting(self: &Arc<Self>, threads: &mut Threads) {
        if threads.waiting == 0
            && !threads.paused
            && let Err(error) = self.grow(threads)
        {
            tracing::error!(%error, "cannot start a thread for CNI requests; they wait for one that is busy");
        }
    }

    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that serves a request. A panic ends the thread, and no other.
struct Busy<'a>(&'a Pool);

impl Busy<'_> {
    /// Whether the thread stays.
    fn end(self) -> ControlFlow<()> {
        let mut threads = self.0.threads();
        if threads.waiting >= KEPT || threads.paused {
            threads.all -= 1;
            self.0.ended.notify_all();
            return ControlFlow::Break(());
        }
        threads.waiting += 1;
        ControlFlow::Continue(())
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.threads().all -= 1;
            self.0.ended.notify_all();
        }
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name("cni-request".to_owned()).spawn(work).map(drop)
}

fn serve_one(mut stream: UnixStream, text: &mut Vec<u8>, cni: Option<&Cni>, status: &dyn StatusSource) {
    let by_cni = |handle: &dyn Fn(&Cni) -> Answer| cni.map_or_else(no_workloads, handle);
    let answer = match read_request(&mut stream, text) {
        Ok(Request::Cni(request)) => by_cni(&|cni| measured(&request, || cni.handle(&request))),
        Ok(Request::Ipam(request)) => by_cni(&|cni| measured(&request, || cni.handle_ipam(&request))),
        Ok(Request::Delegate(request)) => by_cni(&|cni| cni.prepare_delegation(&request)),
        Ok(Request::NodeStatus) => Answer::NodeStatus(status.node_status()),
        Ok(Request::Bgp(question)) => status.bgp(question),
        Ok(Request::Flows(question)) => match status.flows(question, &stream) {
            None => return,
            Some(answer) => answer,
        },
        Ok(Request::Packet(question)) => status.packet(&question),
        Err(error) => Answer::Error(refuse(code::DECODING_FAILURE, format!("not a request: {error}"))),
    };
    text.clear();
    let written = serde_json::to_writer(&mut *text, &answer).map_err(io::Error::from);
    // A client that has gone away cannot be told; DEL or GC will follow an ADD whose answer was lost.
    let _ = written.and_then(|()| stream.write_all(text));
    text.shrink_to(USUAL_BYTES);
}

fn no_workloads() -> Answer {
    let text =
        "a reflector answers here, which has no workloads; let the plugin ask the socket of `tortie node`";
    Answer::Error(refuse(code::TRY_AGAIN_LATER, text.to_owned()))
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

fn read_request(stream: &mut UnixStream, text: &mut Vec<u8>) -> io::Result<Request> {
    stream.set_read_timeout(Some(CLIENT_LIMIT))?;
    stream.set_write_timeout(Some(CLIENT_LIMIT))?;
    text.clear();
    stream.take(MAX_MESSAGE_BYTES as u64).read_to_end(text)?;
    Ok(serde_json::from_slice(text)?)
}
