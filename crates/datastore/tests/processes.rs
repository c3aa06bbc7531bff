//! Several processes on one embedded datastore: crashes, watches, compaction.
//!
//! A test runs itself again as a child process, with its part in the environment.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use api::Key;
use datastore::{Entry, Event, Retention, Revision, Scope, Sqlite, Store, StoreError};
use testkit::Process;

const PATIENCE: Duration = Duration::from_secs(30);
const ROLE: &str = "TORTIE_TEST_ROLE";
const FILE: &str = "TORTIE_TEST_FILE";

/// What marks a child's lines in the output of the test harness.
const MARK: &str = "child:";

/// A process that plays a part in a test.
struct Player {
    child: Process,
    orders: ChildStdin,
    reports: BufReader<ChildStdout>,
}

impl Player {
    fn start(test: &str, role: &str, file: &Path) -> Self {
        Self::run(Command::new(std::env::current_exe().expect("a test binary")), test, role, file)
    }

    /// As [`Player::start`], by a command that runs this binary in its own way.
    fn run(mut command: Command, test: &str, role: &str, file: &Path) -> Self {
        let mut child = command
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(FILE, file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this very binary can be run");
        let orders = child.stdin.take().expect("piped");
        let reports = BufReader::new(child.stdout.take().expect("piped"));
        Self { child: child.into(), orders, reports }
    }

    /// The next line that the child reported; `None` when it has ended.
    fn report(&mut self) -> Option<String> {
        let mut line = String::new();
        while self.reports.read_line(&mut line).expect("a pipe") > 0 {
            // A line that a kill cut short has no end.
            if let (Some(at), true) = (line.find(MARK), line.ends_with('\n')) {
                return Some(line[at + MARK.len()..].trim().to_owned());
            }
            line.clear();
        }
        None
    }

    fn order(&mut self) {
        self.orders.write_all(b"\n").expect("the child listens");
    }

    fn kill(&mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }
}

/// The part that this process plays, if it is a child.
fn role() -> Option<(String, Sqlite)> {
    let role = std::env::var(ROLE).ok()?;
    let file = std::env::var_os(FILE).expect("given with the role");
    Some((role, Sqlite::open(file).expect("the test has made it")))
}

fn report(line: &str) {
    let mut out = std::io::stdout().lock();
    // One write for the line, so that a kill does not split it.
    out.write_all(format!("{MARK}{line}\n").as_bytes()).expect("the test listens");
    out.flush().expect("the test listens");
}

fn await_order() {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("a pipe");
}

fn handle(id: &str) -> Key {
    Key::Handle(id.to_owned())
}

/// All events after a revision, up to the present.
fn history(store: &Sqlite, from: &str) -> Vec<Event> {
    let latest = store.list(&Scope::Handles).expect("a list").revision;
    let mut watch = store.watch(&[Scope::Handles], &Revision::from(from)).expect("nothing is compacted");
    let mut events: Vec<Event> = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while events.last().is_none_or(|event| *event.revision() != latest) {
        assert!(Instant::now() < deadline, "no end after {} events", events.len());
        events.extend(watch.next(Duration::from_secs(1)).expect("the watch goes on"));
    }
    events
}

fn number(revision: &Revision) -> u64 {
    revision.0.parse().expect("revisions of this engine are numbers")
}

/// Writes until killed; every third row is updated and deleted again. Reports each acknowledged create.
fn write_for_ever(role: &str, store: &Sqlite) {
    for n in 0.. {
        let id = format!("{role}-{n}");
        let entry = store.create(&handle(&id), &"v".repeat(n % 3_000)).expect("a new row");
        report(&format!("{id} {}", entry.revision));
        if n % 3 == 0 {
            store.update(&handle(&id), "updated", Some(&entry.revision)).expect("nobody else writes it");
            store.delete(&handle(&id), None).expect("it is there");
        }
    }
}

#[test]
fn killed_writers_lose_nothing_acknowledged_and_leave_no_gap() {
    if let Some((role, store)) = role() {
        return write_for_ever(&role, &store);
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("tortie.db");
    let store = Sqlite::open(&file).expect("a new datastore");
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut acknowledged = Vec::new();
    for round in 0..4 {
        let test = "killed_writers_lose_nothing_acknowledged_and_leave_no_gap";
        let mut writers = [0, 1].map(|writer| Player::start(test, &format!("{round}-{writer}"), &file));
        for writer in &mut writers {
            for _ in 0..random.usize(1..60) {
                acknowledged.push(writer.report().expect("it writes until it is killed"));
            }
        }
        // Both are in the middle of whatever they are doing.
        for writer in &mut writers {
            writer.kill();
            acknowledged.extend(std::iter::from_fn(|| writer.report()));
        }
    }

    let events = history(&store, "0");
    for (n, event) in events.iter().enumerate() {
        assert_eq!(number(event.revision()), n as u64 + 1, "a gap before {event:?}");
    }
    assert!(acknowledged.len() > 8, "the writers wrote: {acknowledged:?}");
    for line in acknowledged {
        let (id, revision) = line.split_once(' ').expect("an id and a revision");
        let event = &events[revision.parse::<usize>().expect("a number") - 1];
        assert!(
            matches!(event, Event::Put(entry) if entry.key == handle(id)),
            "{line} is not what the log says: {event:?}"
        );
    }
    assert_eq!(store.list(&Scope::Handles).expect("a list").entries, replay(events));
    let database = rusqlite::Connection::open(&file).expect("a database");
    let sound: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a pragma");
    assert_eq!(sound, "ok");
}

/// The rows that there are after these events.
fn replay(events: Vec<Event>) -> Vec<Entry> {
    let mut rows = std::collections::BTreeMap::new();
    for event in events {
        match event {
            Event::Put(entry) => rows.insert(entry.key.clone(), entry),
            Event::Delete { key, .. } => rows.remove(&key),
        };
    }
    rows.into_values().collect()
}

#[test]
fn a_write_reaches_a_watch_in_another_process_within_ten_milliseconds() {
    const ROUNDS: usize = 200;
    if let Some((_, store)) = role() {
        report("ready");
        for n in 0..ROUNDS {
            await_order();
            store.create(&handle(&format!("h{n}")), &monotonic().as_nanos().to_string()).expect("a new row");
        }
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Sqlite::open(folder.path().join("tortie.db")).expect("a new datastore");
    let mut watch = store.watch(&[Scope::Handles], &Revision::from("0")).expect("a new watch");
    let test = "a_write_reaches_a_watch_in_another_process_within_ten_milliseconds";
    let mut writer = Player::start(test, "writer", store.path());
    assert_eq!(writer.report().as_deref(), Some("ready"));
    let mut latencies: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            writer.order();
            let events = watch.next(PATIENCE).expect("the watch goes on");
            let seen = monotonic();
            let [Event::Put(entry)] = &events[..] else { panic!("one write, one event: {events:?}") };
            seen - Duration::from_nanos(entry.value.parse().expect("a time"))
        })
        .collect();
    latencies.sort();
    let median = latencies[ROUNDS / 2];
    println!("median {median:?}, p99 {:?}", latencies[ROUNDS * 99 / 100]);
    assert!(median < Duration::from_millis(10), "median {median:?} of {latencies:?}");
}

/// The clock that all processes of a machine share.
fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::try_from(now).expect("it counts from the machine's start")
}

#[test]
fn compaction_by_a_busy_writer_is_told_to_watchers_that_fall_behind() {
    const WRITES: usize = 6_000;
    if let Some((_, store)) = role() {
        let retention = Retention { age: Duration::from_secs(600), revisions: 1_000 };
        let store = Sqlite::open_with(store.path(), retention).expect("the test has made it");
        report("ready");
        await_order();
        for n in 0..WRITES {
            let key = handle(&format!("h{}", n % 10));
            let value = n.to_string();
            let answer = store.create(&key, &value);
            if matches!(answer, Err(StoreError::AlreadyExists(_))) {
                store.update(&key, &value, None).expect("it is there");
            }
            if n % 7 == 0 {
                store.delete(&key, None).expect("it is there");
            }
        }
        return report("done");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Sqlite::open(folder.path().join("tortie.db")).expect("a new datastore");
    let start = Revision::from("0");
    let mut behind = store.watch(&[Scope::Handles], &start).expect("a new watch");
    let test = "compaction_by_a_busy_writer_is_told_to_watchers_that_fall_behind";
    let mut writer = Player::start(test, "writer", store.path());
    assert_eq!(writer.report().as_deref(), Some("ready"));
    writer.order();
    assert_eq!(writer.report().as_deref(), Some("done"));

    let error = behind.next(PATIENCE).expect_err("its history is gone");
    let StoreError::Compacted { requested, oldest } = error else { panic!("{error:?}") };
    assert_eq!(requested, start);
    let listing = store.list(&Scope::Handles).expect("a list");
    let kept = number(&listing.revision) - number(&oldest);
    assert!((1_000..=2_000).contains(&kept), "{kept} revisions of history are kept");
    let events = history(&store, &oldest.0);
    assert_eq!(events.len() as u64, kept, "the history that is kept has no gap");
    let database = rusqlite::Connection::open(store.path()).expect("a database");
    let lines: u32 = database.query_row("SELECT count(*) FROM log", [], |row| row.get(0)).expect("a log");
    assert!(u64::from(lines) <= kept + 10, "{lines} lines for {kept} revisions and at most 10 older rows");
}

#[test]
fn a_watch_without_inotify_still_sees_writes() {
    const TEST: &str = "a_watch_without_inotify_still_sees_writes";
    if let Some((_, store)) = role() {
        // The limit of the user namespace that the test has made for this process.
        std::fs::write("/proc/sys/user/max_inotify_instances", "0").expect("root of the namespace may");
        let mut watch = store.watch(&[Scope::Handles], &Revision::from("0")).expect("a new watch");
        report("watching");
        let events = watch.next(PATIENCE).expect("the watch goes on");
        return report(&format!("saw {}", events[0].key()));
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Sqlite::open(folder.path().join("tortie.db")).expect("a new datastore");
    let mut namespaced = Command::new("unshare");
    namespaced.args(["--user", "--map-root-user", "--"]).arg(std::env::current_exe().expect("a test binary"));
    let mut watcher = Player::run(namespaced, TEST, "watcher", store.path());
    assert_eq!(watcher.report().as_deref(), Some("watching"), "unshare (util-linux) makes a user namespace");
    store.create(&handle("h"), "{}").expect("a new row");
    assert_eq!(watcher.report().as_deref(), Some("saw IPAM handle h"));
}
