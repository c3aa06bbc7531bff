//! The limit: a program that copies every UPDATE from each session to all others, and looks at nothing else in it.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use anyhow::Result;

use super::session::LONG;
use super::speaker::{ADDRESS, ASN};
use super::stream::{Poller, Stream};
use super::wire;

/// How many sessions there will be.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[arg(long)]
    neighbours: usize,
}

/// It is ended by whoever started it; without that, after this long without a word.
const IDLE_LIMIT: Duration = Duration::from_secs(120);
const UPDATE: u8 = 2;

pub(crate) fn run(options: &Options) -> Result<()> {
    let listener = TcpListener::bind(ADDRESS)?;
    let poller = Poller::new()?;
    let mut streams = Vec::new();
    for number in 0..options.neighbours {
        let mut stream = Stream::new(listener.accept()?.0)?;
        let id = Ipv4Addr::from(u32::from(*ADDRESS.ip()) + number as u32 + 1);
        stream.queue(&wire::open(ASN, id, LONG));
        stream.queue(&wire::keepalive());
        stream.flush()?;
        poller.add(number, &mut stream)?;
        streams.push(Some(stream));
    }
    loop {
        let ready = poller.wait(IDLE_LIMIT)?;
        if ready.is_empty() {
            return Ok(());
        }
        let mut updates: Vec<(usize, Vec<u8>)> = Vec::new();
        for ready in ready {
            let Some(stream) = &mut streams[ready.number] else { continue };
            if ready.readable {
                let mut taken = Vec::new();
                stream.receive(|octets| copy_updates(octets, &mut taken))?;
                updates.push((ready.number, taken));
            }
            if stream.closed {
                poller.remove(stream)?;
                streams[ready.number] = None;
            }
        }
        for (from, octets) in updates.iter().filter(|(_, octets)| !octets.is_empty()) {
            let others = streams.iter_mut().enumerate().filter(|(number, _)| number != from);
            others.filter_map(|(_, stream)| stream.as_mut()).for_each(|stream| stream.queue(octets));
        }
        for (number, stream) in streams.iter_mut().enumerate() {
            let Some(stream) = stream.as_mut().filter(|stream| stream.has_output()) else { continue };
            stream.flush()?;
            poller.update(number, stream)?;
        }
    }
}

/// Gives how many octets are whole messages.
fn copy_updates(octets: &[u8], updates: &mut Vec<u8>) -> usize {
    let mut at = 0;
    while let Some(header) = octets.get(at..at + wire::HEADER) {
        let length = usize::from(u16::from_be_bytes([header[16], header[17]]));
        let Some(message) = octets.get(at..at + length) else { break };
        if header[18] == UPDATE {
            updates.extend_from_slice(message);
        }
        at += length;
    }
    at
}
