//! DEL requests that came while no node ran: the plugin left them in a folder, the node replays them when it starts.

use std::fs;
use std::path::Path;

use api::wire::{Answer, DEFERRED_DIRECTORY, Request};

use super::Cni;

/// Replays and removes every request of the folder beside the socket. One that fails stays for the next start, and one
/// that cannot be read is put aside, so that neither is lost nor in the way of others.
pub(super) fn replay(cni: &Cni, run_dir: &Path) {
    let Ok(entries) = fs::read_dir(run_dir.join(DEFERRED_DIRECTORY)) else { return };
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    for file in files.filter(|file| file.extension().is_some_and(|extension| extension == "json")) {
        match read(&file).map(|request| perform(cni, request)) {
            Ok(Answer::Error(error)) => {
                tracing::warn!(file = %file.display(), error = error.msg, "a deferred DEL failed; it stays for the next start");
            }
            Ok(_) => {
                tracing::info!(file = %file.display(), "did a DEL that came while no node ran");
                remove(&file);
            }
            Err(error) => {
                tracing::warn!(file = %file.display(), error, "not a deferred request; put aside");
                let _ = fs::rename(&file, file.with_extension("unreadable"));
            }
        }
    }
}

/// The plugin has removed the link in the pod's namespace; by now the same path may lead to somebody else's.
fn perform(cni: &Cni, request: Request) -> Answer {
    match request {
        Request::Cni(mut request) => {
            request.netns = None;
            cni.handle(&request)
        }
        Request::Ipam(request) => cni.handle_ipam(&request),
        Request::Delegate(_)
        | Request::NodeStatus
        | Request::Bgp(_)
        | Request::Flows(_)
        | Request::Packet(_) => Answer::Done,
    }
}

fn read(file: &Path) -> Result<Request, String> {
    let text = fs::read(file).map_err(|error| error.to_string())?;
    serde_json::from_slice(&text).map_err(|error| error.to_string())
}

fn remove(file: &Path) {
    if let Err(error) = fs::remove_file(file) {
        tracing::warn!(file = %file.display(), %error, "cannot remove a deferred request; it will be done again, which is harmless");
    }
}
