//! Somebody between the old process and the new one, who makes the old one wait and can change what it says.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use bgp::handover::{Handover, VERSION};
use kernel::passing;

use crate::world::World;

/// The old process has made its offer to us, and holds still.
pub(crate) struct Between {
    old: UnixStream,
    offer: (Vec<u8>, Vec<OwnedFd>),
    /// Where the new one is to ask.
    listener: UnixListener,
}

impl Between {
    pub(crate) fn begin(world: &World) -> Self {
        let place = world.file("node.handover");
        fs::rename(&place, world.file("old.handover")).expect("the folder is ours");
        let listener = UnixListener::bind(&place).expect("the folder is ours");
        let old = UnixStream::connect(world.file("old.handover")).expect("it answers");
        limit(&old);
        let request = serde_json::json!({
            "Sessions": {"version": VERSION, "owner": {"node": "ours", "source": world.source()}}
        });
        send(&old, &[request.to_string().as_bytes(), b"\n"].concat(), &[]);
        let offer = passing::receive(&old).expect("it offers");
        Self { old, offer, listener }
    }

    /// Changes what the speaker hands over.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Handover)) {
        let octets = &mut self.offer.0;
        let end = 1 + octets.iter().position(|octet| *octet == b'\n').expect("a first line");
        let mut handover = Handover::decode(&octets[end..]).expect("it is of this version");
        change(&mut handover);
        octets.truncate(end);
        octets.extend(handover.encode());
    }

    /// Makes the offer to the new process, and passes on what the two say after it; what the new one said, a word each.
    pub(crate) fn pass_on(self) -> Vec<String> {
        let (new, request) = self.asked();
        send(&new, &self.offer.0, &self.offer.1);
        let mut said = vec![request];
        while let Ok((octets, files)) = passing::receive(&new) {
            send(&self.old, &octets, &files);
            said.push(word(&octets));
            let Ok((octets, files)) = passing::receive(&self.old) else { break };
            send(&new, &octets, &files);
        }
        said
    }

    /// The new process, and its request.
    fn asked(&self) -> (UnixStream, String) {
        loop {
            let (new, _) = self.listener.accept().expect("it connects");
            limit(&new);
            // The first connection only looks whether anybody is there.
            if let Ok((octets, _)) = passing::receive(&new) {
                return (new, word(&octets));
            }
        }
    }
}

fn limit(socket: &UnixStream) {
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a limit");
}

fn send(socket: &UnixStream, octets: &[u8], files: &[OwnedFd]) {
    let files: Vec<BorrowedFd<'_>> = files.iter().map(AsFd::as_fd).collect();
    passing::send(socket, &[octets], &files).expect("it listens");
}

/// The first word of a message.
fn word(octets: &[u8]) -> String {
    let text = String::from_utf8_lossy(octets);
    text.split(|c: char| !c.is_alphabetic()).find(|word| !word.is_empty()).unwrap_or_default().to_owned()
}
