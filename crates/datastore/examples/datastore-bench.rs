//! Figures of the embedded datastore: `cargo run --release -p datastore --example datastore-bench [FOLDER]`.
//!
//! Prints p50, p99 and the worst of: a commit, a compare-and-swap by two processes at once, the three writes of a CNI
//! ADD, a write until a watch in another process has it, get, and lists, in a folder that is made in FOLDER (default:
//! the temporary folder) and removed.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use api::{Key, Kind};
use datastore::{Entry, Event, Revision, Scope, Sqlite, Store};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// About the length of a WorkloadEndpoint.
const VALUE_BYTES: usize = 1_000;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, file] = &arguments[..] {
        return play(role, Path::new(file));
    }
    let folder = match arguments.first() {
        Some(parent) => tempfile::tempdir_in(parent)?,
        None => tempfile::tempdir()?,
    };
    let file = folder.path().join("tortie.db");
    measure_open(&file)?;
    let store = Sqlite::open(&file)?;
    measure_writes(&store)?;
    measure_adds(&store)?;
    measure_watch(&store)?;
    measure_contention(&store)?;
    measure_reads(&store)
}

/// What a child process does: on each line that it is given, one write (or a burst).
fn play(role: &str, file: &Path) -> Outcome {
    let store = Sqlite::open(file)?;
    println!("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match role {
            "burst" => {
                for n in 0..5_000 {
                    store.create(&Key::Handle(format!("burst-child-{n}")), &value())?;
                }
                println!("done");
            }
            _ => {
                store.create(&Key::Handle(format!("watched-{line}")), &monotonic().as_nanos().to_string())?;
            }
        }
    }
    Ok(())
}

struct Player {
    child: Child,
    orders: ChildStdin,
    reports: BufReader<std::process::ChildStdout>,
}

impl Player {
    fn start(role: &str, file: &Path) -> Outcome<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([role.as_ref(), file.as_os_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let orders = child.stdin.take().ok_or("no pipe")?;
        let reports = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        let mut player = Self { child, orders, reports };
        player.await_report()?;
        Ok(player)
    }

    fn order(&mut self, n: usize) -> Outcome {
        Ok(writeln!(self.orders, "{n}")?)
    }

    fn await_report(&mut self) -> Outcome {
        let mut line = String::new();
        match self.reports.read_line(&mut line)? {
            0 => Err("the other process has ended".into()),
            _ => Ok(()),
        }
    }

    fn end(mut self) -> Outcome {
        drop(self.orders);
        self.child.wait()?;
        Ok(())
    }
}

fn value() -> String {
    "v".repeat(VALUE_BYTES)
}

fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::try_from(now).unwrap_or_default()
}

fn timed<T>(times: &mut Vec<Duration>, work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    let begun = Instant::now();
    let result = work()?;
    times.push(begun.elapsed());
    Ok(result)
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |percent: usize| times[(times.len() * percent / 100).min(times.len() - 1)];
    println!(
        "{what:<58} n {:>5}  p50 {:>10.1?}  p99 {:>10.1?}  max {:>10.1?}",
        times.len(),
        at(50),
        at(99),
        at(100)
    );
}

fn measure_open(file: &Path) -> Outcome {
    let mut times = Vec::new();
    timed(&mut times, || Ok(Sqlite::open(file)?))?;
    print("open a new file", std::mem::take(&mut times));
    for _ in 0..100 {
        timed(&mut times, || Ok(Sqlite::open(file)?.get(&Key::IpamConfig).is_err()))?;
    }
    print("open, get, close", times);
    Ok(())
}

fn measure_writes(store: &Sqlite) -> Outcome {
    let (mut creates, mut updates, mut deletes) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..5_000 {
        let key = Key::Handle(format!("h{n}"));
        let entry = timed(&mut creates, || Ok(store.create(&key, &value())?))?;
        timed(&mut updates, || Ok(store.update(&key, &value(), Some(&entry.revision))?))?;
        timed(&mut deletes, || Ok(store.delete(&key, None)?))?;
    }
    print("create, 1,000 bytes", creates);
    print("update by revision, 1,000 bytes", updates);
    print("delete", deletes);
    Ok(())
}

/// What IPAM and the node write for one ADD: handle, block (by revision), endpoint.
fn measure_adds(store: &Sqlite) -> Outcome {
    let block = Key::Block("10.0.0.0/26".parse()?);
    let mut latest: Entry = store.create(&block, &"b".repeat(4_000))?;
    let mut times = Vec::new();
    for n in 0..2_000 {
        let begun = Instant::now();
        store.create(&Key::Handle(format!("add-{n}")), &value())?;
        latest = store.update(&block, &"b".repeat(4_000), Some(&latest.revision))?;
        store.create(&Key::namespaced(Kind::WorkloadEndpoint, "default", format!("w{n}")), &value())?;
        times.push(begun.elapsed());
    }
    print("handle, block (4,000 bytes) and endpoint, one after another", times);
    Ok(())
}

fn measure_watch(store: &Sqlite) -> Outcome {
    let from = store.list(&Scope::IpamConfig)?.revision;
    let mut watch = store.watch(&[Scope::Handles], &from)?;
    let mut writer = Player::start("watched", store.path())?;
    let mut times = Vec::new();
    for n in 0..2_000 {
        writer.order(n)?;
        let events = watch.next(Duration::from_secs(10))?;
        let seen = monotonic();
        let Some(Event::Put(entry)) = events.first() else { return Err("no event".into()) };
        times.push(seen - Duration::from_nanos(entry.value.parse()?));
    }
    print("before a write until another process's watch has it", times);
    writer.end()
}

fn measure_contention(store: &Sqlite) -> Outcome {
    let from = store.list(&Scope::IpamConfig)?.revision;
    let mut writer = Player::start("burst", store.path())?;
    let begun = Instant::now();
    writer.order(0)?;
    let mut times = Vec::new();
    for n in 0..5_000 {
        timed(&mut times, || Ok(store.create(&Key::Handle(format!("burst-{n}")), &value())?))?;
    }
    writer.await_report()?;
    let both = begun.elapsed();
    print("create while another process writes as fast as it can", times);
    println!("two processes: {:.0} writes/s together", 10_000.0 / both.as_secs_f64());
    writer.end()?;
    let begun = Instant::now();
    let events = replay(store, &from)?;
    println!("replay of {events} events by a watch: {:.1?}", begun.elapsed());
    Ok(())
}

fn replay(store: &Sqlite, from: &Revision) -> Outcome<usize> {
    let mut watch = store.watch(&[Scope::Handles], from)?;
    let mut events = 0;
    loop {
        match watch.next(Duration::ZERO)?.len() {
            0 => return Ok(events),
            more => events += more,
        }
    }
}

fn measure_reads(store: &Sqlite) -> Outcome {
    let (mut gets, mut lists) = (Vec::new(), Vec::new());
    for n in 0..5_000 {
        timed(&mut gets, || Ok(store.get(&Key::Handle(format!("burst-{n}")))?))?;
    }
    print("get", gets);
    let mut rows = 0;
    for _ in 0..50 {
        rows = timed(&mut lists, || Ok(store.list(&Scope::Handles)?.entries.len()))?;
    }
    print(&format!("list {rows} rows of 1,000 bytes"), std::mem::take(&mut lists));
    for _ in 0..2_000 {
        timed(&mut lists, || Ok(store.list(&Scope::Blocks)?))?;
    }
    print("list one row", lists);
    let size = std::fs::metadata(store.path())?.len() / 1024;
    println!("file: {size} KiB");
    Ok(())
}
