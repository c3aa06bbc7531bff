//! The old process: answers who wants its place.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use bgp::handover::VERSION;
use kernel::passing;

use super::limits::{FREEZE, MESSAGE, REQUESTS, SETTLE};
use super::protocol::{Files, Reply, Request, What, hear, say, whats};
use super::{Owner, path};
use crate::cni::{Requests, listen_privately};
use crate::http;
use crate::speaker::{Freezer, Frozen};

/// How a process ends when another one has asked for its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Everything is the other's.
    HandedOver,
    /// The other one starts when this one has ended.
    Restart,
}

/// What there is to give away.
pub(crate) struct Parts {
    /// Who we are.
    pub(crate) owner: Owner,
    /// BGP, unless it is off.
    pub(crate) speaker: Option<Freezer>,
    /// Who writes routes and rules: `true` has it stop, `false` go on. Says whether it did.
    pub(crate) hold: Box<dyn Fn(bool) -> bool + Send>,
    /// Where requests come in.
    pub(crate) requests: Requests,
    /// The servers of HTTP.
    pub(crate) http: Vec<http::Server>,
    /// The lock on the node's name.
    pub(crate) name: Option<OwnedFd>,
}

/// The running thread.
pub(crate) struct Giver {
    /// With the connection to the other process, which sees by it that this one has ended.
    ending: Arc<Mutex<Option<(Ending, UnixStream)>>>,
}

impl Giver {
    /// Answers beside the socket for requests.
    ///
    /// # Errors
    /// The socket or the thread cannot be had.
    pub(crate) fn start(requests: &Path, parts: Parts) -> Result<Self> {
        let path = path(requests);
        // Who can connect here can have every session.
        let listener =
            listen_privately(&path).with_context(|| format!("cannot listen on {}", path.display()))?;
        let ending = Arc::new(Mutex::new(None));
        let told = ending.clone();
        let work = move || {
            loop {
                match parts.answer_next(&listener) {
                    Ok((None, _)) => {}
                    Ok((Some(ending), socket)) => {
                        *told.lock().unwrap_or_else(PoisonError::into_inner) = Some((ending, socket));
                        return;
                    }
                    Err(error) => tracing::warn!("hand-over: {error:#}; this process goes on"),
                }
            }
        };
        std::thread::Builder::new().name("handover".to_owned()).spawn(work)?;
        Ok(Self { ending })
    }

    /// Whether this process has to end, and how.
    pub(crate) fn ending(&self) -> Option<Ending> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|(ending, _)| *ending)
    }
}

impl Parts {
    fn answer_next(&self, listener: &UnixListener) -> Result<(Option<Ending>, UnixStream)> {
        let (socket, _) = listener.accept()?;
        socket.set_read_timeout(Some(MESSAGE))?;
        socket.set_write_timeout(Some(MESSAGE))?;
        Ok((self.answer(&socket)?, socket))
    }

    fn answer(&self, socket: &UnixStream) -> Result<Option<Ending>> {
        let other = passing::credentials(socket)?;
        if other.user != rustix::process::geteuid().as_raw() {
            bail!(
                "process {} of user {} asked for the sessions: not the user of this one",
                other.process,
                other.user
            );
        }
        let request = match hear::<Request>(socket) {
            // Somebody has only looked whether anybody answers.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            heard => heard?.0,
        };
        match request {
            Request::Sessions { version, owner } => {
                if let Err(error) = self.check(&owner).and_then(|()| check_version(version)) {
                    say(socket, &Reply::Refused { reason: format!("{error:#}") }, &[], &[])?;
                    bail!("process {} wants to take over: {error:#}", other.process);
                }
                tracing::info!(process = other.process, "another process takes over");
                self.give(socket).context("not taken over")?;
                tracing::info!(process = other.process, "everything is that process's now; this one ends");
                Ok(Some(Ending::HandedOver))
            }
            Request::Restart { owner } => {
                self.check(&owner)?;
                tracing::info!(process = other.process, "another process starts in this one's place");
                say(socket, &Reply::Ending, &[], &[])?;
                Ok(Some(Ending::Restart))
            }
            Request::Accept | Request::Taken => {
                bail!("process {} accepts what it was not offered", other.process)
            }
        }
    }

    fn check(&self, owner: &Owner) -> Result<()> {
        let ours = &self.owner;
        if owner != ours {
            bail!(
                "this is node {} with {}, not {} with {}",
                ours.node,
                ours.source.display(),
                owner.node,
                owner.source.display()
            );
        }
        Ok(())
    }

    /// Gives everything away; on an error everything goes on.
    fn give(&self, socket: &UnixStream) -> Result<()> {
        // Peers may take long, and nobody is to wait for them but who asks.
        if self.speaker.as_ref().is_some_and(|speaker| !speaker.settle(SETTLE)) {
            bail!("BGP cannot hold still");
        }
        let still = Still::new(self)?;
        let frozen = self.speaker.as_ref().map(|speaker| speaker.freeze(FREEZE));
        let frozen = frozen.map(|frozen| frozen.context("BGP does not hold still"));
        let frozen = frozen.transpose()?;
        self.offer(socket, frozen.as_ref())?;
        match hear(socket)?.0 {
            Request::Accept => {}
            other => bail!("{other:?} instead of an answer to the offer"),
        }
        let stopped = Instant::now();
        commit(socket, frozen.as_ref())?;
        match hear(socket)?.0 {
            Request::Taken => {}
            other => bail!("{other:?} instead of the end"),
        }
        tracing::info!(
            bgp_ms = frozen.as_ref().map_or(0, |frozen| frozen.since.elapsed().as_millis()),
            bfd_us = stopped.elapsed().as_micros(),
            "handed over; so long nobody served"
        );
        still.for_good();
        frozen.into_iter().for_each(Frozen::end);
        self.http.iter().for_each(http::Server::stop);
        Ok(())
    }

    fn offer(&self, socket: &UnixStream, frozen: Option<&Frozen>) -> Result<()> {
        let mut files: Files = vec![(What::Requests, self.requests.share()?)];
        for server in &self.http {
            files.push((What::Http(server.name().to_owned()), server.share()?));
        }
        if let Some(name) = &self.name {
            files.push((What::Name, name.try_clone()?));
        }
        let mut octets = &[][..];
        if let Some(frozen) = frozen {
            octets = &frozen.octets;
            for (connection, socket) in &frozen.sessions {
                files.push((What::Session(connection.0), socket.try_clone()?));
            }
            for (address, socket) in &frozen.listeners {
                files.push((What::Listener(*address), socket.try_clone()?));
            }
        }
        Ok(say(socket, &Reply::Offer { files: whats(&files) }, octets, &files)?)
    }
}

fn commit(socket: &UnixStream, frozen: Option<&Frozen>) -> Result<()> {
    let mut octets = Vec::new();
    let mut files: Files = Vec::new();
    if let Some(frozen) = frozen {
        let given = frozen.paths().context("BFD does not hold still")?;
        octets = given.paths.encode();
        files.extend(given.senders.into_iter().map(|socket| (What::PathSender, socket)));
        files.extend(given.receivers.into_iter().map(|socket| (What::PathReceiver, socket)));
    }
    Ok(say(socket, &Reply::Commit { files: whats(&files) }, &octets, &files)?)
}

fn check_version(version: u16) -> Result<()> {
    if version != VERSION {
        bail!("it takes version {version} of what is handed over, this process gives version {VERSION}");
    }
    Ok(())
}

/// Requests wait, and nobody writes routes and rules. Dropped, both go on.
struct Still<'a>(Option<&'a Parts>);

impl<'a> Still<'a> {
    fn new(parts: &'a Parts) -> Result<Self> {
        if !parts.requests.pause(REQUESTS) {
            tracing::warn!("some CNI requests take long; they have to be repeated");
        }
        let still = Self(Some(parts));
        if !(parts.hold)(true) {
            bail!("the thread that writes routes does not hold still");
        }
        Ok(still)
    }

    fn for_good(mut self) {
        self.0 = None;
    }
}

impl Drop for Still<'_> {
    fn drop(&mut self) {
        if let Some(parts) = self.0 {
            (parts.hold)(false);
            parts.requests.go_on();
        }
    }
}
