//! Those who asked for flows: a connection each, written to without waiting. One that reads too slowly misses lines, and is told how
//! many; nobody else waits for it.

use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use api::wire::flows::{Flow, FlowsQuestion, Unseen};
use api::wire::{Answer, WireError};

/// Connections at a time.
const MOST: usize = 32;
/// Octets that wait for one that follows.
const BACKLOG: usize = 256 * 1024;

#[derive(Debug)]
struct Follower {
    stream: UnixStream,
    question: FlowsQuestion,
    waiting: Vec<u8>,
    skipped: u64,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Followers(Vec<Follower>);

impl Followers {
    /// One more; what is remembered is for one that does not follow, which then is done.
    pub(super) fn add(
        &mut self,
        stream: UnixStream,
        question: FlowsQuestion,
        remembered: impl FnOnce() -> (Vec<Flow>, Unseen),
    ) {
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        let mut follower = Follower { stream, question, waiting: Vec::new(), skipped: 0 };
        if self.0.len() >= MOST {
            let msg = format!("{MOST} others ask for flows already; end one of them");
            let error = WireError { code: api::cni::code::TRY_AGAIN_LATER, msg, details: String::new() };
            follower.push(&Answer::Error(error));
            // What does not fit the socket's buffer at once is not worth a place.
            let _ = follower.write();
            return;
        }
        if !follower.question.follow {
            let (flows, unseen) = remembered();
            for flow in flows {
                if follower.question.wants(&flow) {
                    follower.push(&Answer::Flow(Box::new(flow)));
                }
            }
            if unseen != Unseen::default() {
                follower.push(&Answer::Unseen(unseen));
            }
            follower.push(&Answer::Done);
        }
        self.0.push(follower);
    }

    /// These have changed.
    pub(super) fn tell(&mut self, flows: &[Flow]) {
        for follower in self.0.iter_mut().filter(|follower| follower.question.follow) {
            flows.iter().for_each(|flow| follower.offer(flow));
        }
    }

    /// Something was not seen.
    pub(super) fn tell_unseen(&mut self, unseen: Unseen) {
        for follower in self.0.iter_mut().filter(|follower| follower.question.follow) {
            follower.push(&Answer::Unseen(unseen));
        }
    }

    /// Writes what can be written, and forgets who has all or has gone.
    pub(super) fn write(&mut self) {
        self.0.retain_mut(|follower| {
            follower.own_up();
            let alive = follower.write().is_ok();
            alive && (follower.question.follow || !follower.waiting.is_empty())
        });
    }

    /// Whether somebody follows what is allowed.
    pub(super) fn want_allowed(&self) -> bool {
        self.0.iter().any(|follower| follower.question.follow && !follower.question.denied)
    }

    /// Each with whether something waits for it, to be polled.
    pub(super) fn files(&self) -> impl Iterator<Item = (BorrowedFd<'_>, bool)> {
        self.0.iter().map(|follower| (follower.stream.as_fd(), !follower.waiting.is_empty()))
    }

    /// Forgets those whose other end is gone, in the order of [`Followers::files`].
    pub(super) fn drop_gone(&mut self, mut gone: impl Iterator<Item = bool>) {
        self.0.retain(|_| !gone.next().unwrap_or_default());
    }
}

impl Follower {
    fn offer(&mut self, flow: &Flow) {
        if !self.question.wants(flow) {
            return;
        }
        if self.waiting.len() > BACKLOG {
            self.skipped += 1;
            return;
        }
        self.push(&Answer::Flow(Box::new(flow.clone())));
    }

    /// Says what was left out, once there is room again.
    fn own_up(&mut self) {
        if self.skipped > 0 && self.waiting.is_empty() {
            let skipped_lines = std::mem::take(&mut self.skipped);
            self.push(&Answer::Unseen(Unseen { skipped_lines, ..Unseen::default() }));
        }
    }

    fn push(&mut self, answer: &Answer) {
        // Our own types can always be written down.
        if serde_json::to_writer(&mut self.waiting, answer).is_ok() {
            self.waiting.push(b'\n');
        }
    }

    fn write(&mut self) -> io::Result<()> {
        while !self.waiting.is_empty() {
            match self.stream.write(&self.waiting) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => drop(self.waiting.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};

    use api::wire::flows::{FlowAction, FlowEnd};

    use super::*;

    fn flow(action: FlowAction, last: u8) -> Flow {
        let end = |last| FlowEnd { address: [10, 0, 0, last].into(), port: Some(1), name: None };
        Flow {
            node: "n".repeat(200),
            first_seen: 0,
            last_seen: 0,
            action,
            protocol: 6,
            icmp: None,
            source: end(1),
            destination: end(last),
            packets: 1,
            denied_packets: 0,
            policies: Vec::new(),
        }
    }

    fn follower(followers: &mut Followers, question: FlowsQuestion) -> UnixStream {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let unseen = Unseen { skipped_connections: u64::from(question.connections), ..Unseen::default() };
        followers
            .add(ours, question, || (vec![flow(FlowAction::Allow, 2), flow(FlowAction::Deny, 3)], unseen));
        theirs
    }

    fn lines(stream: UnixStream) -> Vec<Answer> {
        let lines = BufReader::new(stream).lines();
        lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
    }

    #[test]
    fn who_does_not_follow_gets_what_is_remembered_and_an_end() {
        let mut followers = Followers::default();
        let stream = follower(&mut followers, FlowsQuestion { denied: true, ..FlowsQuestion::default() });
        followers.write();
        let expected = [Answer::Flow(Box::new(flow(FlowAction::Deny, 3))), Answer::Done];
        assert_eq!(lines(stream), expected);
        assert!(followers.0.is_empty());
    }

    #[test]
    fn what_is_left_out_of_the_connections_is_told_before_the_end() {
        let mut followers = Followers::default();
        let stream = follower(&mut followers, FlowsQuestion { connections: true, ..Default::default() });
        followers.write();
        let told = lines(stream);
        assert!(matches!(&told[2..], [Answer::Unseen(Unseen { skipped_connections: 1, .. }), Answer::Done]));
    }

    #[test]
    fn each_follower_gets_what_it_asked_for() {
        let mut followers = Followers::default();
        let address =
            FlowsQuestion { follow: true, addresses: vec![[10, 0, 0, 3].into()], ..Default::default() };
        let stream = follower(&mut followers, address);
        let all = follower(&mut followers, FlowsQuestion { follow: true, ..Default::default() });
        followers.tell(&[flow(FlowAction::Allow, 2), flow(FlowAction::Allow, 3)]);
        followers.write();
        assert!(followers.want_allowed());
        drop(followers);
        assert_eq!(lines(stream), [Answer::Flow(Box::new(flow(FlowAction::Allow, 3)))]);
        assert_eq!(lines(all).len(), 2);
    }

    #[test]
    fn who_reads_too_slowly_misses_lines_and_is_told_how_many() {
        let mut followers = Followers::default();
        let stream = follower(&mut followers, FlowsQuestion { follow: true, ..Default::default() });
        const TOLD: u64 = 5000;
        for _ in 0..TOLD {
            followers.tell(&[flow(FlowAction::Deny, 2)]);
            followers.write();
        }
        assert!(followers.0[0].waiting.len() <= BACKLOG + 2048);
        let reader = std::thread::spawn(move || lines(stream));
        while followers.0[0].skipped > 0 || !followers.0[0].waiting.is_empty() {
            followers.write();
            std::thread::yield_now();
        }
        drop(followers);
        let (mut flows, mut skipped) = (0, 0);
        for answer in reader.join().unwrap() {
            match answer {
                Answer::Flow(_) => flows += 1,
                Answer::Unseen(unseen) => skipped += unseen.skipped_lines,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(flows + skipped, TOLD);
        assert!(skipped > 0);
    }

    #[test]
    fn who_has_gone_is_forgotten_and_there_are_not_too_many() {
        let mut followers = Followers::default();
        let question = FlowsQuestion { follow: true, ..Default::default() };
        let streams: Vec<_> = (0..MOST).map(|_| follower(&mut followers, question.clone())).collect();
        let refused = lines(follower(&mut followers, question));
        assert!(matches!(&refused[..], [Answer::Error(_)]), "{refused:?}");
        drop(streams);
        followers.tell(&[flow(FlowAction::Deny, 2)]);
        followers.write();
        assert!(followers.0.is_empty());
    }
}
