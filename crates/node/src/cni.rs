//! The CNI server: attaches pods for the plugins, which are thin clients of the node's unix socket.
//!
//! ADD is a short transaction: addresses, link, endpoint, and then a wait until the kernel has the endpoint's policy and
//! routes. Each step knows its undo; when one fails, those before it are undone in reverse, and the error goes to the
//! runtime. A link whose endpoint the dataplane does not know yet carries nothing, so the order is safe at every moment.
//!
//! - [`sandbox`] reads what a call says of the pod, [`admission`] refuses what cannot be served; [`addresses`] (from
//!   [`pools`], or by [`delegation`]) and [`endpoint`] (with its [`profile`]) are what an attachment consists of.
//! - [`attach`], [`detach`] and [`check`] are the commands, [`ipam_plugin`] those of `calico-ipam`; [`server`] is the
//!   socket, [`deferred`] what came while nobody listened there.
//! - Requests for one sandbox are handled one after the other ([`locks`]); those for others at the same time.

mod addresses;
mod admission;
mod attach;
mod check;
mod deferred;
mod delegation;
mod detach;
mod endpoint;
mod gates;
mod ipam_plugin;
mod locks;
pub(crate) mod mtu;
mod pools;
mod profile;
mod sandbox;
mod server;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::cni::code;
use api::wire::{Answer, CniCommand, CniRequest, WireError};
use datastore::Store;
use ipam::Ipam;
use kernel::Rtnetlink;
use kernel::pod::{Removal, Remover};

use crate::agent::AgentHandle;
use crate::health::Health;

pub(crate) use server::{Requests, StatusSource, listen_privately, serve};

/// How long the kernel may take to have an endpoint's policy and routes before ADD gives up.
pub(crate) const PROGRAMMING_LIMIT: Duration = Duration::from_secs(20);
/// The same when an ADD that failed is undone: the runtime waits for its error.
const UNDO_LIMIT: Duration = Duration::from_secs(5);

/// What a CNI server is made of.
pub(crate) struct Parts {
    /// This node's name.
    pub node_name: String,
    /// File that a configuration without `nodename` relies on.
    pub nodename_file: PathBuf,
    /// Prefixes of workload interfaces, comma-separated.
    pub interface_prefixes: String,
    /// MTU of pods whose configuration does not say.
    pub mtu: Option<u32>,
    /// The datastore.
    pub store: Arc<dyn Store>,
    /// Addresses.
    pub ipam: Ipam,
    /// Tells when the kernel has an endpoint.
    pub agent: AgentHandle,
    /// For STATUS.
    pub health: Health,
    /// Deletes links in batches.
    pub remover: Remover,
    /// How long ADD and DEL wait for the kernel's state.
    pub programming_limit: Duration,
}

/// Serves the plugins.
pub(crate) struct Cni {
    parts: Parts,
    sockets: SocketPool,
    locks: locks::Locks,
}

impl std::ops::Deref for Cni {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl Cni {
    /// A server over these parts.
    pub(crate) fn new(parts: Parts) -> Self {
        Self { parts, sockets: SocketPool::default(), locks: locks::Locks::default() }
    }

    /// Handles a call of the `calico` plugin.
    pub(crate) fn handle(&self, request: &CniRequest) -> Answer {
        let outcome = match request.command {
            CniCommand::Add => attach::add(self, request).map(Answer::Result),
            CniCommand::Del => detach::delete(self, request).map(|()| Answer::Done),
            CniCommand::Check => check::check(self, request).map(|()| Answer::Done),
            CniCommand::Gc => detach::collect_garbage(self, request).map(|()| Answer::Done),
            CniCommand::Status => self.status(),
        };
        finish(request, outcome)
    }

    /// Handles a call of the `calico-ipam` plugin: addresses only.
    pub(crate) fn handle_ipam(&self, request: &CniRequest) -> Answer {
        let outcome = match request.command {
            CniCommand::Add => ipam_plugin::assign(self, request).map(Answer::Result),
            CniCommand::Del => ipam_plugin::release(self, request).map(|()| Answer::Done),
            CniCommand::Check => ipam_plugin::check(self, request).map(|()| Answer::Done),
            CniCommand::Gc => ipam_plugin::collect_garbage(self, request).map(|()| Answer::Done),
            CniCommand::Status => self.status(),
        };
        finish(request, outcome)
    }

    /// Says with what the plugin is to execute another IPAM plugin.
    pub(crate) fn prepare_delegation(&self, request: &CniRequest) -> Answer {
        finish(request, delegation::prepare(self, request).map(Answer::Delegation))
    }

    /// Marks a link for deletion, which follows at once on a thread of its own: it waits tens of milliseconds for the kernel,
    /// and deletions that come together share that wait. The link's policy and routes are gone by now, so nothing passes it.
    fn condemn(&self, removal: &Removal<'_>) -> Result<(), WireError> {
        self.sockets.with(|socket| self.remover.condemn(socket, removal).map(drop).map_err(failed))
    }

    fn status(&self) -> Result<Answer, WireError> {
        match &self.health.not_ready()[..] {
            [] => Ok(Answer::Done),
            causes => {
                Err(refuse(code::NOT_AVAILABLE, format!("the node is not ready: {}", causes.join("; "))))
            }
        }
    }
}

fn finish(request: &CniRequest, outcome: Result<Answer, WireError>) -> Answer {
    outcome.unwrap_or_else(|error| {
        tracing::warn!(
            command = ?request.command,
            container = request.container_id,
            code = error.code,
            error = error.msg,
            "CNI call refused"
        );
        Answer::Error(error)
    })
}

/// An error for the runtime.
fn refuse(code: u32, msg: impl Into<String>) -> WireError {
    WireError { code, msg: msg.into(), details: String::new() }
}

/// An error of the work itself.
fn failed(error: impl std::fmt::Display) -> WireError {
    refuse(code::FAILED, error.to_string())
}

/// An error that goes away by itself: the runtime should try again.
fn later(error: impl std::fmt::Display) -> WireError {
    refuse(code::TRY_AGAIN_LATER, error.to_string())
}

/// rtnetlink sockets in the host's namespace that are kept open between requests.
#[derive(Debug, Default)]
struct SocketPool(Mutex<Vec<Rtnetlink>>);

impl SocketPool {
    /// Runs something with a socket of the host's namespace.
    fn with<T>(&self, work: impl FnOnce(&mut Rtnetlink) -> Result<T, WireError>) -> Result<T, WireError> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut socket = match kept {
            Some(socket) => socket,
            None => Rtnetlink::open().map_err(failed)?,
        };
        let outcome = work(&mut socket);
        // A socket that took part in a failure may have an answer still coming; it is not used again.
        if outcome.is_ok() {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(socket);
        }
        outcome
    }
}
