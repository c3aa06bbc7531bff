//! A hundred pings a second, none of which may be lost.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::Process;

/// A running ping(8) and what it writes; ended when dropped.
#[derive(Debug)]
pub struct Pings {
    child: Process,
    log: PathBuf,
}

impl Pings {
    /// From one address to another, every 10 ms; `spawn` starts the command in the namespace of the first. What it writes is
    /// in `log`.
    ///
    /// # Panics
    /// The log cannot be made.
    pub fn start(from: &str, to: &str, log: PathBuf, spawn: impl FnOnce(Command) -> Child) -> Self {
        let mut ping = Command::new("ping");
        ping.args(["-n", "-i", "0.01", "-I", from, to]);
        let output = File::create(&log).expect("the folder is there");
        ping.stdin(Stdio::null()).stdout(output).stderr(Stdio::null());
        Self { child: spawn(ping).into(), log }
    }

    /// How many have been answered.
    pub fn answered(&self) -> usize {
        self.replies().len()
    }

    /// The sequence numbers of the replies so far.
    fn replies(&self) -> Vec<u64> {
        let log = fs::read_to_string(&self.log).expect("ping writes it");
        let of_line = |line: &str| {
            let (_, rest) = line.split_once("icmp_seq=")?;
            if !line.contains(" bytes from ") {
                return None;
            }
            rest.split(' ').next()?.parse().ok()
        };
        log.lines().filter_map(of_line).collect()
    }

    /// Stops them. Every ping before the last that was answered has been answered, once and in order: how many.
    ///
    /// # Errors
    /// One has not: what was lost, in words.
    pub fn finish(mut self) -> Result<usize, String> {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("it is our child");
        self.child.wait().expect("it is our child");
        let replies = self.replies();
        let log = self.log.display();
        match replies.iter().zip(1..).find(|(found, expected)| *found != expected) {
            Some((found, expected)) => {
                Err(format!("of {} in {log} reply {found} came where {expected} was due", replies.len()))
            }
            None if replies.is_empty() => Err(format!("not one ping was answered ({log})")),
            None => Ok(replies.len()),
        }
    }
}
