use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use datastore::{FaultStore, Memory, Moment, Outcome as Verdict, Store};
use ipam::Ipam;

use super::operation::{Operation, Outcome};
use super::{Clock, Rules, Setup};

/// What the scheduler tells a host.
enum Order {
    /// Begin an operation.
    Begin(Operation),
    /// Make the call that you wait before.
    Step,
    /// You die before the call that you wait before.
    Crash,
    /// Make the call that you wait before, but never learn what came of it.
    LoseAnswer,
    /// There is nothing more to do.
    End,
}

/// What a host tells the scheduler, once for each order.
#[derive(Debug)]
pub enum Progress {
    /// It waits before a call to the store.
    Waiting,
    /// The operation is over.
    Finished(Outcome),
}

struct Host {
    name: String,
    orders: Sender<Order>,
    progress: Receiver<Progress>,
    running: Option<Operation>,
    thread: Option<JoinHandle<()>>,
}

/// Hosts that take turns, and the rules that hold after every turn.
pub struct Hosts {
    hosts: Vec<Host>,
    pub memory: Memory,
    pub clock: Clock,
    pub rules: Rules,
}

impl Hosts {
    pub fn new(setup: &Setup) -> Self {
        let (memory, clock) = (setup.store(), Clock::new());
        let host = |name: &String| Host::start(name, &memory, &clock);
        let hosts = setup.hosts.iter().map(host).collect();
        let rules = Rules::new(setup, &memory);
        Self { hosts, memory, clock, rules }
    }

    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    pub fn name(&self, host: usize) -> &str {
        &self.hosts[host].name
    }

    pub fn is_idle(&self, host: usize) -> bool {
        self.hosts[host].running.is_none()
    }

    pub fn all_idle(&self) -> bool {
        self.hosts.iter().all(|host| host.running.is_none())
    }

    /// Someone who looks on: not scheduled, sees the store as it is.
    pub fn observer(&self) -> Ipam {
        let clock = self.clock.clone();
        Ipam::new(Arc::new(self.memory.clone())).with_clock(move || clock.tick())
    }

    pub fn begin(&mut self, host: usize, operation: Operation) -> Progress {
        self.rules.begin(host, &operation);
        self.hosts[host].running = Some(operation.clone());
        self.order(host, Order::Begin(operation))
    }

    pub fn step(&mut self, host: usize) -> Progress {
        self.order(host, Order::Step)
    }

    pub fn crash(&mut self, host: usize) -> Progress {
        self.order(host, Order::Crash)
    }

    /// The call is made, but the host is told that the store cannot be reached. It goes on.
    pub fn lose_answer(&mut self, host: usize) -> Progress {
        self.rules.loses_answer(host);
        self.order(host, Order::LoseAnswer)
    }

    fn order(&mut self, host: usize, order: Order) -> Progress {
        self.hosts[host].orders.send(order).expect("the host is there");
        let progress = self.hosts[host].progress.recv().expect("the host did not panic");
        let operation = self.hosts[host].running.clone().expect("only running hosts get orders");
        self.rules.check(&self.memory, self.clock.now(), host, &self.hosts[host].name, &operation);
        if let Progress::Finished(outcome) = &progress {
            self.rules.finish(host, &operation, outcome);
            self.hosts[host].running = None;
        }
        progress
    }

    /// Lets one host run its operation to the end, alone.
    pub fn run(&mut self, host: usize, operation: Operation) -> Outcome {
        let mut progress = self.begin(host, operation);
        loop {
            match progress {
                Progress::Finished(outcome) => return outcome,
                Progress::Waiting => progress = self.step(host),
            }
        }
    }

    /// Lets hosts begin these operations and take turns as the generator says; returns what came of each.
    pub fn race(&mut self, rng: &mut fastrand::Rng, operations: &[Operation]) -> Vec<Outcome> {
        let mut outcomes = vec![None; operations.len()];
        for (host, operation) in operations.iter().enumerate() {
            if let Progress::Finished(outcome) = self.begin(host, operation.clone()) {
                outcomes[host] = Some(outcome);
            }
        }
        loop {
            let running: Vec<usize> =
                (0..operations.len()).filter(|host| outcomes[*host].is_none()).collect();
            let Some(host) = rng.choice(running) else { break };
            if let Progress::Finished(outcome) = self.step(host) {
                outcomes[host] = Some(outcome);
            }
        }
        outcomes.into_iter().flatten().collect()
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for host in &mut self.hosts {
            // A host in the middle of an operation dies first; one that has panicked is gone already.
            if host.running.is_some() {
                let _ = host.orders.send(Order::Crash);
            }
            let _ = host.orders.send(Order::End);
            if let Some(thread) = host.thread.take() {
                let _ = thread.join();
            }
        }
    }
}

impl Host {
    fn start(name: &str, memory: &Memory, clock: &Clock) -> Self {
        let (orders, inbox) = channel();
        let (outbox, progress) = channel();
        let (name, memory, clock) = (name.to_owned(), memory.clone(), clock.clone());
        let thread = std::thread::spawn({
            let name = name.clone();
            move || live(&name, &memory, &clock, inbox, outbox)
        });
        Self { name, orders, progress, running: None, thread: Some(thread) }
    }
}

/// The life of a host: it begins operations when told, and when it has died, begins anew.
fn live(name: &str, memory: &Memory, clock: &Clock, inbox: Receiver<Order>, outbox: Sender<Progress>) {
    let inbox = Arc::new(std::sync::Mutex::new(inbox));
    let mut process = Process::new(memory, clock, &inbox, &outbox);
    loop {
        let order = inbox.lock().unwrap().recv();
        let Ok(Order::Begin(operation)) = order else { return };
        let outcome = operation.run(&process.ipam, name);
        let is_dead = process.is_dead.load(Ordering::SeqCst);
        if is_dead {
            process = Process::new(memory, clock, &inbox, &outbox);
        }
        let outcome = if is_dead { Outcome::Crashed } else { outcome };
        if outbox.send(Progress::Finished(outcome)).is_err() {
            return;
        }
    }
}

struct Process {
    ipam: Ipam,
    is_dead: Arc<AtomicBool>,
}

impl Process {
    fn new(
        memory: &Memory,
        clock: &Clock,
        inbox: &Arc<std::sync::Mutex<Receiver<Order>>>,
        outbox: &Sender<Progress>,
    ) -> Self {
        let is_dead = Arc::new(AtomicBool::new(false));
        let (inbox, outbox) = (inbox.clone(), std::sync::Mutex::new(outbox.clone()));
        let dead = is_dead.clone();
        let loses = AtomicBool::new(false);
        let store = FaultStore::new(memory.clone(), move |call| {
            if call.moment == Moment::After {
                return if loses.swap(false, Ordering::SeqCst) { Verdict::Fail } else { Verdict::Go };
            }
            if dead.load(Ordering::SeqCst) {
                return Verdict::Fail;
            }
            let told = outbox.lock().unwrap().send(Progress::Waiting);
            let order = told.ok().and_then(|()| inbox.lock().unwrap().recv().ok());
            if let Some(Order::Step | Order::LoseAnswer) = order {
                loses.store(matches!(order, Some(Order::LoseAnswer)), Ordering::SeqCst);
                return Verdict::Go;
            }
            dead.store(true, Ordering::SeqCst);
            Verdict::Fail
        });
        let clock = clock.clone();
        let store: Arc<dyn Store> = Arc::new(store);
        Self { ipam: Ipam::new(store).with_clock(move || clock.tick()), is_dead }
    }
}
