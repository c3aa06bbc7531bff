//! What the plugin can do when no node answers: ADD has to be tried again, DEL cleans up what it can.
//!
//! A DEL must succeed, or the runtime keeps a dead pod. It removes the link (and with it the routes through it) from
//! inside the pod's namespace, and leaves its request in the node's `deferred` folder; the next node that starts
//! releases the address and deletes the endpoint from there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use api::cni::code;
use api::wire::{Answer, CniCommand, CniRequest, DEFERRED_DIRECTORY, Request};
use kernel::netns::Netns;
use kernel::{InterfaceName, Rtnetlink};

use crate::Failure;
use crate::invocation::Forwarded;

/// The answer to a request that no node took.
pub(crate) fn answer(call: &Forwarded, request: &Request, reason: &str) -> Result<Answer, Failure> {
    let fail = |code, msg: String| Err(Failure::new(call.version, code, msg));
    match call.request.command {
        CniCommand::Add | CniCommand::Check => {
            fail(code::TRY_AGAIN_LATER, format!("{reason} Try again later."))
        }
        CniCommand::Status => fail(code::NOT_AVAILABLE, reason.to_owned()),
        // The next GC, or the node's own start, finds what this one would have.
        CniCommand::Gc => fail(code::TRY_AGAIN_LATER, reason.to_owned()),
        CniCommand::Del => {
            eprintln!("calico: {reason} The node will do what is left when it starts.");
            if let Request::Cni(request) = request {
                remove_link(request);
            }
            defer(&call.socket, &call.request, request).map(|()| Answer::Done).or_else(|error| {
                let msg = format!("{reason} The request cannot be left for it either: {error}");
                fail(code::TRY_AGAIN_LATER, msg)
            })
        }
    }
}

/// Removes the container's link. A namespace or link that is gone is what DEL is for.
fn remove_link(request: &CniRequest) {
    let Some(path) = &request.netns else { return };
    let remove = || -> Result<(), String> {
        let interface = InterfaceName::new(&request.interface).map_err(|error| error.to_string())?;
        let namespace = match Netns::open(path) {
            Err(error) if error.is_gone() => return Ok(()),
            opened => opened.map_err(|error| error.to_string())?,
        };
        let mut links = Rtnetlink::open_in(&namespace).map_err(|error| error.to_string())?;
        links.delete_link(&interface).map(drop).map_err(|error| error.to_string())
    };
    if let Err(error) = remove() {
        eprintln!("calico: {}: {error}", request.interface);
    }
}

/// Leaves the request for the node, whole or not at all. The two plugins of one sandbox leave one each.
fn defer(socket: &Path, call: &CniRequest, request: &Request) -> io::Result<()> {
    let folder = socket.parent().unwrap_or(Path::new("/")).join(DEFERRED_DIRECTORY);
    fs::create_dir_all(&folder)?;
    let kind = if matches!(request, Request::Ipam(_)) { "ipam-" } else { "" };
    let name = format!("{kind}{}-{}.json", call.container_id, call.interface);
    let unfinished: PathBuf = folder.join(format!(".{name}.{}", std::process::id()));
    fs::write(&unfinished, serde_json::to_vec(request)?)?;
    fs::rename(unfinished, folder.join(name))
}
