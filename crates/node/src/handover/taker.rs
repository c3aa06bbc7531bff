//! The new process: asks for the place of one that runs.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bgp::ConnectionId;
use bgp::bfd::HandedPaths;
use bgp::handover::{Handover, HandoverError, VERSION};

use super::limits::MESSAGE;
use super::protocol::{Files, Reply, Request, What, hear, say};
use super::{Owner, path};
use crate::bfd::GivenPaths;
use crate::speaker::Inheritance;

/// How long the old process may take to end where it does not hand over.
const ENDING: Duration = Duration::from_secs(30);

/// A process that runs, and whose place is to be taken.
#[derive(Debug)]
pub(crate) struct Predecessor {
    path: PathBuf,
    owner: Owner,
}

/// What a process starts with.
#[derive(Default)]
pub(crate) struct Taken {
    /// The speaker's state and sockets.
    pub(crate) speaker: Option<Inheritance>,
    /// Where requests come in.
    pub(crate) requests: Option<OwnedFd>,
    /// The servers of HTTP, by their names.
    pub(crate) http: BTreeMap<String, OwnedFd>,
    /// The lock on the node's name.
    pub(crate) name: Option<OwnedFd>,
}

/// How asking ended.
enum Answer {
    Taken(Box<Taken>),
    Refused(String),
}

impl Predecessor {
    /// The process that answers beside the socket for requests, if there is one.
    ///
    /// # Errors
    /// There may be one, but it cannot be reached.
    pub(crate) fn find(requests: &Path, owner: Owner) -> Result<Option<Self>> {
        let path = path(requests);
        match UnixStream::connect(&path) {
            Ok(_) => Ok(Some(Self { path, owner })),
            Err(error) if is_nobody(&error) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("--take-over: {}", path.display())),
        }
    }

    /// Takes its place, or, where the two do not understand each other, has it end as for a restart. Nothing has been written
    /// anywhere before, and everything is ready to go on at once.
    ///
    /// # Errors
    /// Neither was possible; the other process goes on.
    pub(crate) fn take(self) -> Result<Taken> {
        match self.ask()? {
            Answer::Taken(taken) => Ok(*taken),
            Answer::Refused(reason) => {
                tracing::warn!(reason, "the sessions cannot be taken over; they are restarted gracefully");
                self.restart()?;
                Ok(Taken::default())
            }
        }
    }

    fn connect(&self) -> Result<UnixStream> {
        let socket = UnixStream::connect(&self.path)
            .with_context(|| format!("{}: the process to take over from is gone", self.path.display()))?;
        socket.set_read_timeout(Some(MESSAGE))?;
        socket.set_write_timeout(Some(MESSAGE))?;
        Ok(socket)
    }

    fn ask(&self) -> Result<Answer> {
        let socket = self.connect()?;
        say(&socket, &Request::Sessions { version: VERSION, owner: self.owner.clone() }, &[], &[])?;
        let (reply, octets, files) =
            hear::<Reply>(&socket).context("the process to take over from went silent")?;
        let files: Files = match reply {
            Reply::Offer { files: whats } => whats.into_iter().zip(files).collect(),
            Reply::Refused { reason } => return Ok(Answer::Refused(reason)),
            other => bail!("{other:?} instead of an offer"),
        };
        let handover = match octets.is_empty() {
            true => None,
            false => match Handover::decode(&octets) {
                Ok(handover) => Some(handover),
                Err(error @ HandoverError::Version(_)) => return Ok(Answer::Refused(error.to_string())),
                Err(error) => bail!(
                    "--take-over: {error}; the other process goes on (stop it and start without --take-over for a graceful restart)"
                ),
            },
        };
        let mut taken = Taken::default();
        let (mut sessions, mut listeners) = (BTreeMap::new(), BTreeMap::new());
        for (what, file) in files {
            match what {
                What::Session(number) => drop(sessions.insert(ConnectionId(number), file)),
                What::Listener(address) => drop(listeners.insert(address, file)),
                What::Requests => taken.requests = Some(file),
                What::Http(name) => drop(taken.http.insert(name, file)),
                What::Name => taken.name = Some(file),
                What::PathSender | What::PathReceiver => bail!("a socket of BFD in the offer"),
            }
        }
        say(&socket, &Request::Accept, &[], &[])?;
        let (reply, octets, files) =
            hear::<Reply>(&socket).context("the process to take over from went silent")?;
        let Reply::Commit { files: whats } = reply else { bail!("{reply:?} instead of the rest") };
        let paths = inherited_paths(&octets, whats.into_iter().zip(files).collect())?;
        taken.speaker = handover.map(|handover| Inheritance { handover, sessions, listeners, paths });
        // From the moment that this is under way everything is ours.
        say(&socket, &Request::Taken, &[], &[])?;
        Ok(Answer::Taken(Box::new(taken)))
    }

    /// Has it end, and waits for that.
    fn restart(&self) -> Result<()> {
        let mut socket = self.connect()?;
        socket.set_read_timeout(Some(ENDING))?;
        say(&socket, &Request::Restart { owner: self.owner.clone() }, &[], &[])?;
        let (reply, ..) = hear::<Reply>(&socket).context("the process to take over from does not end")?;
        if reply != Reply::Ending {
            bail!("{reply:?} instead of the end");
        }
        // Its last open file of this connection is closed with it.
        let ended = socket.read_to_end(&mut Vec::new());
        ended.map(drop).context("the process to take over from does not end")
    }
}

fn inherited_paths(octets: &[u8], files: Files) -> Result<GivenPaths> {
    if octets.is_empty() {
        return Ok(GivenPaths::default());
    }
    let paths = HandedPaths::decode(octets)?;
    let (senders, receivers): (Files, Files) =
        files.into_iter().partition(|(what, _)| *what == What::PathSender);
    let files = |files: Files| files.into_iter().map(|(_, file)| file).collect();
    Ok(GivenPaths { paths, senders: files(senders), receivers: files(receivers) })
}

fn is_nobody(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
}
