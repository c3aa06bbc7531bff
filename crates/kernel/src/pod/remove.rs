use std::fmt;
use std::io;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::JoinHandle;

use super::find;
use crate::link::LinkId;
use crate::netns::Netns;
use crate::{InterfaceName, Rtnetlink, netlink, netns};

/// What is to be taken away of a workload's plumbing. What is gone already is no error.
#[derive(Debug, Clone)]
pub struct Removal<'a> {
    /// The host's end. Its routes, neighbours and settings go with it, and so does the other end.
    pub host_interface: InterfaceName,
    /// The workload's namespace and its interface, if the namespace still exists: looked at only if the host's end is
    /// gone, in case the pair was given another name on the host.
    pub inside: Option<(&'a Netns, InterfaceName)>,
}

/// All that went wrong in a [`Removal`]; whatever could be removed is gone. Retryable.
#[derive(Debug)]
pub struct RemovalErrors(pub Vec<Error>);

/// One thing that went wrong in a [`Removal`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a deletion.
    #[error(transparent)]
    Netlink(#[from] netlink::Error),
    /// The workload's namespace cannot be entered.
    #[error(transparent)]
    Namespace(#[from] netns::Error),
    /// The thread that deletes is gone.
    #[error("interface {0}: not deleted, the thread that deletes interfaces has ended")]
    NoThread(InterfaceName),
}

impl fmt::Display for RemovalErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            write!(formatter, "{}{error}", if index == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

impl std::error::Error for RemovalErrors {}

impl Removal<'_> {
    /// Takes it away. Gives whether there was anything.
    ///
    /// # Errors
    /// [`RemovalErrors`], each with what could not be removed.
    pub fn run(&self, host: &mut Rtnetlink) -> Result<bool, RemovalErrors> {
        self.run_with(|name| Ok(host.delete_link(name)?))
    }

    fn run_with(
        &self,
        delete: impl FnOnce(&InterfaceName) -> Result<bool, Error>,
    ) -> Result<bool, RemovalErrors> {
        let mut errors = Vec::new();
        let deleted = delete(&self.host_interface).unwrap_or_else(|error| {
            errors.push(error);
            false
        });
        let inside = if deleted { Ok(false) } else { self.delete_inside() };
        let deleted = deleted
            | inside.unwrap_or_else(|error| {
                errors.push(error);
                false
            });
        if errors.is_empty() { Ok(deleted) } else { Err(RemovalErrors(errors)) }
    }

    fn delete_inside(&self) -> Result<bool, Error> {
        let Some((namespace, interface)) = &self.inside else { return Ok(false) };
        let deleted = namespace.run(|| {
            let mut socket = Rtnetlink::open()?;
            let found = find(&mut socket, interface)?;
            // An interface of another kind is not of our making.
            if found.is_none_or(|link| link.kind.as_deref() != Some("veth")) {
                return Ok(false);
            }
            socket.delete_link(interface)
        })?;
        Ok(deleted?)
    }
}

/// Deletes interfaces on a thread of its own: those that are asked for while a deletion is under way are deleted
/// together afterwards. Each deletion waits tens of milliseconds for RCU grace periods, which a batch waits for once.
#[derive(Debug)]
pub struct Remover {
    requests: Option<SyncSender<Request>>,
    thread: Option<JoinHandle<()>>,
}

/// An interface to be deleted and who waits for it; none to delete what was condemned.
type Request = Option<Deletion>;

#[derive(Debug)]
struct Deletion {
    interface: InterfaceName,
    reply: SyncSender<Result<bool, netlink::Error>>,
}

/// More requests than this wait in their callers.
const QUEUE: usize = 1024;

impl Remover {
    /// Starts the thread. `host` is its own socket in the host's namespace.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(mut host: Rtnetlink) -> io::Result<Self> {
        let (requests, queue) = mpsc::sync_channel(QUEUE);
        let work = move || delete_all(&mut host, &queue);
        let thread = std::thread::Builder::new().name("remover".to_owned()).spawn(work)?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    /// As [`Removal::run`], together with what others remove at the same time.
    ///
    /// # Errors
    /// [`RemovalErrors`].
    pub fn remove(&self, removal: &Removal<'_>) -> Result<bool, RemovalErrors> {
        removal.run_with(|interface| self.delete(interface))
    }

    /// As [`Remover::remove`], but returns when the interface is marked for deletion; it is deleted soon after. Until
    /// then it still exists, so its routes and its policy have to be gone before. `host` is a socket in the host's
    /// namespace.
    ///
    /// The mark is on the interface itself: an ADD under the same name does not reuse it, and should this process end
    /// too early, the next one finds it ([`Rtnetlink::delete_condemned`]).
    ///
    /// # Errors
    /// [`RemovalErrors`].
    pub fn condemn(&self, host: &mut Rtnetlink, removal: &Removal<'_>) -> Result<bool, RemovalErrors> {
        removal.run_with(|interface| {
            let condemned = host.condemn_link(interface)?;
            let requests = self.requests.as_ref().filter(|_| condemned);
            if requests.is_some_and(|requests| requests.send(None).is_err()) {
                return Err(Error::NoThread(interface.clone()));
            }
            Ok(condemned)
        })
    }

    fn delete(&self, interface: &InterfaceName) -> Result<bool, Error> {
        let gone = || Error::NoThread(interface.clone());
        let (reply, answer) = mpsc::sync_channel(1);
        let requests = self.requests.as_ref().ok_or_else(gone)?;
        requests.send(Some(Deletion { interface: interface.clone(), reply })).map_err(|_| gone())?;
        Ok(answer.recv().map_err(|_| gone())??)
    }
}

impl Drop for Remover {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn delete_all(host: &mut Rtnetlink, queue: &Receiver<Request>) {
    while let Ok(first) = queue.recv() {
        let requests: Vec<Request> = std::iter::once(first).chain(queue.try_iter().take(QUEUE)).collect();
        let condemned = requests.iter().any(Option::is_none);
        let batch: Vec<Deletion> = requests.into_iter().flatten().collect();
        let links: Vec<LinkId> = batch.iter().map(|deletion| LinkId::from(&deletion.interface)).collect();
        let deleted = if condemned { host.delete_condemned_and(&links) } else { host.delete_links(&links) };
        match deleted {
            Ok(deleted) => {
                for (deletion, deleted) in batch.into_iter().zip(deleted) {
                    let _ = deletion.reply.send(Ok(deleted));
                }
            }
            // Something in the batch is amiss: then each for itself.
            Err(error) => {
                tracing::warn!(%error, "cannot delete interfaces together");
                for deletion in batch {
                    let _ = deletion.reply.send(host.delete_link(&deletion.interface));
                }
            }
        }
    }
}
