//! `calicoctl bgp record`.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::Scope;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use bgp::observe::bmp::Message;
use bgp::observe::{Recorder, Timestamp};
use clap::Args;

use crate::Console;

/// How long anything is waited for before it is looked whether this is over.
const PAUSE: Duration = Duration::from_millis(50);
/// Nodes that are listened to at once; others are turned away.
const MOST_NODES: usize = 64;
/// Pieces that may wait to be written; then nodes wait.
const WAITING: usize = 64;

/// Record what peers say into a file that other tools read (MRT, RFC 6396), as a monitoring station.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  calicoctl bgp record --listen 172.30.0.9:11019 -o updates.mrt
  calicoctl bgp record -o - --seconds 60 | bgpdump -m -

The station (BMP) has to be in bmpStations of BGPConfiguration. Each node that connects is
recorded from what it has on: OPENs, UPDATEs and NOTIFICATIONs of its peers, changes of state.
Without --seconds or --once it goes on until it is interrupted.")]
pub(crate) struct RecordArgs {
    /// Where nodes find it
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:11019")]
    listen: SocketAddr,
    /// The file, which is made anew; - for standard output
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Record routes behind import filters (the view PostPolicy), not before them
    #[arg(long)]
    post_policy: bool,
    /// End after so many seconds
    #[arg(long, value_name = "NUMBER")]
    seconds: Option<u64>,
    /// End when the first node breaks off
    #[arg(long)]
    once: bool,
}

pub(crate) fn run(args: &RecordArgs, console: &mut Console<'_>) -> Result<()> {
    let listener = TcpListener::bind(args.listen);
    let listener = listener.with_context(|| format!("cannot listen on {}", args.listen))?;
    listener.set_nonblocking(true)?;
    let mut file = match args.output == Path::new("-") {
        true => None,
        false => {
            let made = File::create(&args.output);
            Some(made.with_context(|| format!("cannot write {}", args.output.display()))?)
        }
    };
    let until = args.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let station = Station { post_policy: args.post_policy, once: args.once, ..Station::default() };
    let (sender, pieces) = sync_channel(WAITING);
    let written = std::thread::scope(|scope| {
        scope.spawn(|| station.accept(&listener, sender, scope));
        let output: &mut dyn Write = match &mut file {
            Some(file) => file,
            None => console.output,
        };
        let written = write(&pieces, output, until);
        station.over.store(true, Ordering::Relaxed);
        written
    });
    written.with_context(|| format!("cannot write {}", args.output.display()))?;
    let failure = station.failure.into_inner().unwrap_or_default();
    ensure!(failure.is_none(), "{}", failure.unwrap_or_default());
    Ok(())
}

/// Writes what comes, piece by piece, until the time is over or nobody is left who could say anything.
fn write(pieces: &Receiver<Vec<u8>>, output: &mut dyn Write, until: Option<Instant>) -> io::Result<()> {
    loop {
        let left = until.map_or(PAUSE, |until| until.saturating_duration_since(Instant::now()).min(PAUSE));
        match pieces.recv_timeout(left) {
            Ok(piece) => output.write_all(&piece).and_then(|()| output.flush())?,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) if until.is_some_and(|until| until <= Instant::now()) => {
                return Ok(());
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// What the threads share.
#[derive(Default)]
struct Station {
    post_policy: bool,
    once: bool,
    over: AtomicBool,
    nodes: AtomicUsize,
    /// What a node said that is not BMP.
    failure: std::sync::Mutex<Option<String>>,
}

impl Station {
    fn accept<'scope>(
        &'scope self,
        listener: &TcpListener,
        sender: SyncSender<Vec<u8>>,
        scope: &'scope Scope<'scope, '_>,
    ) {
        while !self.over.load(Ordering::Relaxed) {
            match listener.accept() {
                Ok((stream, from)) if self.nodes.load(Ordering::Relaxed) < MOST_NODES => {
                    self.nodes.fetch_add(1, Ordering::Relaxed);
                    let sender = sender.clone();
                    scope.spawn(move || self.node(stream, from, &sender));
                }
                Ok(_) => {}
                Err(_) => std::thread::sleep(PAUSE),
            }
        }
    }

    /// Hears a node out.
    fn node(&self, stream: TcpStream, from: SocketAddr, sender: &SyncSender<Vec<u8>>) {
        if let Err(error) = self.hear(stream, sender) {
            let text = format!("{from} does not speak BMP: {error}");
            let _ = self.failure.lock().map(|mut failure| failure.get_or_insert(text).clone());
        }
        self.nodes.fetch_sub(1, Ordering::Relaxed);
        if self.once {
            self.over.store(true, Ordering::Relaxed);
        }
    }

    fn hear(
        &self,
        mut stream: TcpStream,
        sender: &SyncSender<Vec<u8>>,
    ) -> Result<(), bgp::observe::DecodeError> {
        let _ = stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(Some(PAUSE)));
        let (mut recorder, mut octets) = (Recorder::new(self.post_policy), Vec::new());
        let mut buffer = vec![0; 64 * 1024];
        while !self.over.load(Ordering::Relaxed) {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => octets.extend_from_slice(&buffer[..length]),
                Err(error) if may_pass(&error) => continue,
                Err(_) => break,
            }
            let records = records(&mut recorder, &mut octets)?;
            // Nobody writes any more.
            if !records.is_empty() && sender.send(records).is_err() {
                break;
            }
        }
        Ok(())
    }
}

fn may_pass(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// The records of all messages that are whole; those are taken off the octets.
fn records(recorder: &mut Recorder, octets: &mut Vec<u8>) -> Result<Vec<u8>, bgp::observe::DecodeError> {
    let (mut out, mut done) = (Vec::new(), 0);
    while let Some((message, length)) = Message::decode(&octets[done..])? {
        done += length;
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        for record in recorder.records(message, Timestamp::since_epoch(since_epoch)) {
            record.encode(&mut out).expect("a message of BGP fits into a record");
        }
    }
    octets.drain(..done);
    Ok(out)
}
