//! Traffic from our side to an address behind BIRD, which answers.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use testkit::TestNamespace;

/// An address that only BIRD's route leads to.
pub(crate) const BEHIND: &str = "10.65.2.1";
const PORT: u16 = 7000;

/// Traffic that is answered.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Vec<String>>>,
}

impl Traffic {
    pub(crate) fn start(ours: Arc<TestNamespace>, theirs: &TestNamespace) -> Self {
        let (stop, sent) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let packets = theirs.run(|| UdpSocket::bind((BEHIND, PORT)).expect("the address is there"));
        let stream = theirs.run(|| TcpListener::bind((BEHIND, PORT)).expect("the address is there"));
        packets.set_read_timeout(Some(Duration::from_millis(200))).expect("a limit");
        let done = stop.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while !done.load(Ordering::Relaxed) {
                if let Ok((length, from)) = packets.recv_from(&mut buffer) {
                    let _ = packets.send_to(&buffer[..length], from);
                }
            }
        });
        std::thread::spawn(move || {
            let Ok((mut stream, _)) = stream.accept() else { return };
            let mut buffer = [0; 64];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                if stream.write_all(&buffer[..length]).is_err() {
                    return;
                }
            }
        });
        let (first, counted, namespace) = (stop.clone(), sent.clone(), ours.clone());
        let ping = std::thread::spawn(move || namespace.run(|| ping(&first, &counted)));
        let second = stop.clone();
        let talk = std::thread::spawn(move || ours.run(|| talk(&second)));
        Self { stop, sent, threads: vec![ping, talk] }
    }

    /// How many packets there have been.
    pub(crate) fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    /// Stops, and says how many packets there were and what went wrong.
    pub(crate) fn finish(mut self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let wrong = self.threads.drain(..).flat_map(|thread| thread.join().expect("no panic")).collect();
        (self.sent.load(Ordering::Relaxed), wrong)
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Each packet has to come back before the next second is over.
fn ping(stop: &AtomicBool, sent: &AtomicUsize) -> Vec<String> {
    let socket = UdpSocket::bind("10.0.0.1:0").expect("our address");
    socket.connect((BEHIND, PORT)).expect("a route");
    socket.set_read_timeout(Some(Duration::from_secs(1))).expect("a limit");
    let mut lost = Vec::new();
    let mut next = Instant::now();
    for number in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let mut word = [0; 8];
        let answered = socket.send(&number.to_be_bytes()).and_then(|_| socket.recv(&mut word));
        sent.fetch_add(1, Ordering::Relaxed);
        match answered {
            Ok(_) if u64::from_be_bytes(word) == number => {}
            Ok(_) => lost.push(format!("packet {number}: an answer to another one")),
            Err(error) => lost.push(format!("packet {number}: {error}")),
        }
        next += Duration::from_millis(10);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    lost
}

fn talk(stop: &AtomicBool) -> Vec<String> {
    let mut stream = TcpStream::connect((BEHIND, PORT)).expect("somebody listens");
    stream.set_read_timeout(Some(Duration::from_secs(1))).expect("a limit");
    let mut wrong = Vec::new();
    while !stop.load(Ordering::Relaxed) && wrong.len() < 10 {
        let echoed = stream.write_all(b"there?").and_then(|()| stream.read_exact(&mut [0; 6]));
        match echoed {
            Ok(()) => std::thread::sleep(Duration::from_millis(5)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => wrong.push(format!("stream: {error}")),
        }
    }
    wrong
}
