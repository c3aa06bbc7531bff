//! Messages with open files from one process to another, over a unix socket (unix(7), `SCM_RIGHTS`).
//!
//! A message is its length and its number of files, the files, and the octets. The receiver's descriptors are its own, and
//! closed when it runs another program; what they stand for is shared, so that nothing ends while either has it open.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use crate::tcp;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

/// Files that go together with one octet; the kernel takes up to 253 (`SCM_MAX_FD` in `net/scm.h`).
const AT_ONCE: usize = 128;
/// The longest message that is taken: a full table has some tens of MiB.
const MOST_OCTETS: u64 = 4 << 30;
/// The most files that are taken with a message.
const MOST_FILES: u32 = 65_536;

/// Who is at the other end of a unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    /// The number of its process when it connected or listened; 0 when it is in another PID namespace.
    pub process: u32,
    /// Its effective user then.
    pub user: u32,
}

/// Who is at the other end.
///
/// # Errors
/// As getsockopt(2).
pub fn credentials(socket: &UnixStream) -> io::Result<Credentials> {
    // `struct ucred`: the numbers of process, user and group. (The type of rustix has no room for a process 0.)
    let mut found = [0; 12];
    let length = tcp::get(socket, libc::SOL_SOCKET, libc::SO_PEERCRED, &mut found)?;
    let ([process, user, _], []) = found[..length].as_chunks::<4>() else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    Ok(Credentials { process: u32::from_ne_bytes(*process), user: u32::from_ne_bytes(*user) })
}

/// Sends a message, whose octets come in parts.
///
/// # Errors
/// The other end is gone, does not read for as long as the socket's time limit, or has too many open files under way.
pub fn send(socket: &UnixStream, parts: &[&[u8]], files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let count = u32::try_from(files.len()).ok().filter(|count| *count <= MOST_FILES);
    let count = count.ok_or(io::ErrorKind::InvalidInput)?;
    let mut stream = socket;
    let length: usize = parts.iter().map(|part| part.len()).sum();
    stream.write_all(&(length as u64).to_be_bytes())?;
    stream.write_all(&count.to_be_bytes())?;
    for some in files.chunks(AT_ONCE) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fits = control.push(SendAncillaryMessage::ScmRights(some));
        debug_assert!(fits, "there is room for as many");
        rustix::net::sendmsg(socket, &[IoSlice::new(&[0])], &mut control, SendFlags::NOSIGNAL)?;
    }
    parts.iter().try_for_each(|part| stream.write_all(part))
}

/// Receives a message.
///
/// # Errors
/// The other end is gone (`UnexpectedEof`), says nothing for as long as the socket's time limit, or sends what is no message
/// (`InvalidData`).
pub fn receive(socket: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut stream = socket;
    let (mut length, mut count) = ([0; 8], [0; 4]);
    stream.read_exact(&mut length)?;
    stream.read_exact(&mut count)?;
    let (length, count) = (u64::from_be_bytes(length), u32::from_be_bytes(count));
    if length > MOST_OCTETS || count > MOST_FILES {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut files = Vec::new();
    while files.len() < count as usize {
        let before = files.len();
        receive_files(socket, &mut files)?;
        if files.len() == before || files.len() > count as usize {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "not the files that were announced"));
        }
    }
    let mut octets = Vec::new();
    stream.take(length).read_to_end(&mut octets)?;
    match octets.len() as u64 == length {
        true => Ok((octets, files)),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn receive_files(socket: &UnixStream, files: &mut Vec<OwnedFd>) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(AT_ONCE))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut octet = [0];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let got = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut octet)], &mut control, flags)?;
    if got.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(some) = message {
            files.extend(some);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn files_and_octets_arrive_together_in_order() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let pairs: Vec<_> = (0..300).map(|_| UnixStream::pair().unwrap()).collect();
        let sender = std::thread::spawn(move || {
            let files: Vec<_> = pairs.iter().map(|(_, far)| far.as_fd()).collect();
            send(&ours, &[&[7; 400_000], &[7; 600_000]], &files).unwrap();
            send(&ours, &[b"and so on"], &[]).unwrap();
            pairs.into_iter().map(|(near, _)| near).collect::<Vec<_>>()
        });
        let (octets, files) = receive(&theirs).unwrap();
        assert_eq!((octets.len(), files.len()), (1_000_000, 300));
        assert_eq!(receive(&theirs).unwrap().0, b"and so on");
        let near = sender.join().unwrap();
        for (index, (mut near, far)) in near.into_iter().zip(files).enumerate() {
            let mut far = UnixStream::from(far);
            near.write_all(&(index as u32).to_be_bytes()).unwrap();
            let mut word = [0; 4];
            far.read_exact(&mut word).unwrap();
            assert_eq!(u32::from_be_bytes(word) as usize, index);
        }
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        for octets in [&[0xff; 12][..], &[0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0], &[0; 5]] {
            let (mut ours, theirs) = UnixStream::pair().unwrap();
            ours.write_all(octets).unwrap();
            drop(ours);
            assert!(receive(&theirs).is_err(), "{octets:?}");
        }
    }

    #[test]
    fn the_other_end_is_known() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let found = credentials(&ours).unwrap();
        assert_eq!(found.process, std::process::id());
        assert_eq!(found.user, rustix::process::geteuid().as_raw());
    }
}
