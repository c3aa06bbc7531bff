//! The messages: a line of JSON that says what it is and what the files are, then octets that only some have.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use kernel::passing;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Owner;

/// From the new process. `Sessions` and `Restart` are understood by every version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Request {
    /// Hold still and offer everything.
    Sessions {
        /// The version of what is handed over.
        version: u16,
        /// Who asks.
        owner: Owner,
    },
    /// The offer can be used.
    Accept,
    /// Everything is ours.
    Taken,
    /// End as for a restart.
    Restart {
        /// Who asks.
        owner: Owner,
    },
}

/// From the old process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Reply {
    /// The speaker's state follows, if there is one.
    Offer {
        /// What the files are, in order.
        files: Vec<What>,
    },
    /// BFD's state follows, if there is any. From now on nothing moves.
    Commit {
        /// What the files are, in order.
        files: Vec<What>,
    },
    /// It cannot be done.
    Refused {
        /// Why.
        reason: String,
    },
    /// It ends.
    Ending,
}

/// What an open file is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum What {
    /// The connection of a session, by its number in the speaker's state.
    Session(u64),
    /// Where BGP listens.
    Listener(SocketAddr),
    /// Where requests come in.
    Requests,
    /// A server of HTTP, by its name.
    Http(String),
    /// The lock on the node's name.
    Name,
    /// A socket that BFD sends from.
    PathSender,
    /// A socket that BFD receives by.
    PathReceiver,
}

/// Files with what they are.
pub(super) type Files = Vec<(What, OwnedFd)>;

/// Sends a message.
///
/// # Errors
/// The other end is gone, or does not read.
pub(super) fn say(
    socket: &UnixStream,
    head: &impl Serialize,
    body: &[u8],
    files: &[(What, OwnedFd)],
) -> io::Result<()> {
    let mut line = serde_json::to_vec(head)?;
    line.push(b'\n');
    let files: Vec<BorrowedFd<'_>> = files.iter().map(|(_, file)| file.as_fd()).collect();
    passing::send(socket, &[&line, body], &files)
}

/// Receives a message.
///
/// # Errors
/// The other end is gone (`UnexpectedEof`), is silent for [`MESSAGE`](super::limits::MESSAGE), or says what is not understood (`InvalidData`).
pub(super) fn hear<T: DeserializeOwned>(socket: &UnixStream) -> io::Result<(T, Vec<u8>, Vec<OwnedFd>)> {
    let (mut octets, files) = passing::receive(socket)?;
    let end = octets.iter().position(|octet| *octet == b'\n').ok_or(io::ErrorKind::InvalidData)?;
    let head = serde_json::from_slice(&octets[..end])?;
    octets.drain(..=end);
    Ok((head, octets, files))
}

/// What the files of a message are.
pub(super) fn whats(files: &[(What, OwnedFd)]) -> Vec<What> {
    files.iter().map(|(what, _)| what.clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_message_arrives_as_it_was_said() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let files: Files = vec![(What::Requests, ours.try_clone().unwrap().into())];
        let head = Reply::Offer { files: whats(&files) };
        say(&ours, &head, b"a\nb", &files).unwrap();
        let (heard, body, files) = hear::<Reply>(&theirs).unwrap();
        assert_eq!((heard, &body[..], files.len()), (head, &b"a\nb"[..], 1));
    }

    /// A process of another version must be able to say that it is one.
    #[test]
    fn the_first_requests_stay_as_they_are() {
        let owner = Owner { node: "node-1".to_owned(), source: PathBuf::from("/db") };
        let text = serde_json::to_string(&Request::Sessions { version: 7, owner: owner.clone() }).unwrap();
        assert_eq!(text, r#"{"Sessions":{"version":7,"owner":{"node":"node-1","source":"/db"}}}"#);
        let text = serde_json::to_string(&Request::Restart { owner }).unwrap();
        assert_eq!(text, r#"{"Restart":{"owner":{"node":"node-1","source":"/db"}}}"#);
        let text = serde_json::to_string(&Reply::Refused { reason: "no".to_owned() }).unwrap();
        assert_eq!(text, r#"{"Refused":{"reason":"no"}}"#);
    }
}
