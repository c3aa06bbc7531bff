//! Random operations of many hosts, interleaved at every call to the store, with crashes and recoveries, against simple
//! rules ([`support`]). `IPAM_MODEL_SEED=n` runs one seed again; `IPAM_MODEL_TIMES=n` runs n times as many as usual.

mod support;

use std::net::IpAddr;

use api::{AffinityOwner, BlockAffinityState, IpamConfig};
use ipam::block::Block;
use ipam::{Ipam, IpamError, Release};
use support::{Hosts, Operation, Outcome, Rows, Setup};

/// One random history.
struct Run {
    setup: Setup,
    hosts: Hosts,
    rng: fastrand::Rng,
    /// Assignments that were seen at some time, for releases that come too late.
    seen: Vec<Release>,
    /// In how many turns a host dies, or does not get an answer, on average; 0 for never.
    fault_in: usize,
}

impl Run {
    fn new(seed: u64, setup: Setup, fault_in: usize) -> Self {
        let hosts = Hosts::new(&setup);
        Self { setup, hosts, rng: fastrand::Rng::with_seed(seed), seen: Vec::new(), fault_in }
    }

    fn turns(&mut self, turns: usize) {
        for _ in 0..turns {
            let host = self.rng.usize(..self.hosts.len());
            if self.hosts.is_idle(host) {
                let operation = self.operation();
                self.hosts.begin(host, operation);
            } else if self.fault_in > 0 && self.rng.usize(..self.fault_in) == 0 {
                if self.rng.bool() {
                    self.hosts.crash(host)
                } else {
                    self.hosts.lose_answer(host)
                };
            } else {
                self.hosts.step(host);
            }
            if self.rng.usize(..50) == 0 {
                self.hosts.clock.advance(self.rng.i64(1..40));
            }
            if self.rng.usize(..8) == 0 {
                self.look();
            }
        }
        while let Some(host) = (0..self.hosts.len()).find(|host| !self.hosts.is_idle(*host)) {
            self.hosts.step(host);
        }
    }

    /// Remembers an assignment that there is now.
    fn look(&mut self) {
        let all = self.hosts.observer().assignments().unwrap();
        if let Some(found) = self.rng.choice(all) {
            self.seen.push(Release {
                address: found.address,
                handle: found.handle.filter(|_| self.rng.bool()),
                sequence: Some(found.sequence),
            });
        }
    }

    fn operation(&mut self) -> Operation {
        let handle = format!("h{}", self.rng.u8(..6));
        let of = self.hosts.name(self.rng.usize(..self.hosts.len())).to_owned();
        let max_blocks_per_host = self.setup.max_blocks_per_host;
        match self.rng.u8(..100) {
            0..38 => Operation::AutoAssign {
                num4: self.rng.usize(..4),
                num6: self.rng.usize(..2),
                handle: (self.rng.u8(..10) > 0).then_some(handle),
                max_blocks_per_host,
            },
            38..48 => Operation::AssignIp { ip: self.address(), handle: Some(handle) },
            48..68 => Operation::ReleaseByHandle { handle },
            68..80 => Operation::ReleaseIps { releases: self.releases() },
            80..84 => Operation::EnsureBlock,
            // A claim by hand may exceed limits.
            84..88 if max_blocks_per_host == 0 && self.setup.config.max_blocks_per_host == 0 => {
                Operation::ClaimAffinity { cidr: "10.0.0.8/29".parse().unwrap() }
            }
            88..94 => Operation::ReleaseAffinity {
                cidr: self.rng.choice(["10.0.0.0/29", "10.0.0.0/28", "fd00::/125"]).unwrap().parse().unwrap(),
                of,
                must_be_empty: self.rng.bool(),
            },
            94..97 => Operation::ReleaseHost { of },
            // What looks unfinished while others are at it must not be touched: that is what the grace is for.
            _ if self.hosts.all_idle() => {
                Operation::Recover { leaks: self.hosts.observer().leaks().unwrap() }
            }
            _ => Operation::EnsureBlock,
        }
    }

    fn address(&mut self) -> IpAddr {
        match self.rng.bool() {
            true => format!("10.0.0.{}", self.rng.u8(..16)).parse().unwrap(),
            false => format!("fd00::{}", self.rng.u8(..8)).parse().unwrap(),
        }
    }

    fn releases(&mut self) -> Vec<Release> {
        let mut releases: Vec<Release> =
            (0..self.rng.usize(1..4)).filter_map(|_| self.rng.choice(self.seen.iter().cloned())).collect();
        if self.rng.u8(..5) == 0 {
            releases.push(Release::of(self.address()));
        }
        releases
    }

    /// Releases everything, recovers, and looks whether anything is left.
    fn settle(&mut self) {
        let ipam = self.hosts.observer();
        if self.fault_in == 0 {
            assert_eq!(ipam.leaks().unwrap(), [], "nothing has died, so nothing is unfinished");
        }
        release_all(&ipam);
        self.hosts.clock.advance(i64::from(self.setup.config.ip_cooldown_seconds) + 1);
        let leaks = ipam.leaks().unwrap();
        ipam.recover(&leaks).unwrap();
        assert_eq!(ipam.leaks().unwrap(), [], "recovery leaves nothing");

        self.hosts.rules.resync(&self.hosts.memory);
        let rows = Rows::read(&self.hosts.memory);
        assert!(rows.handles.is_empty(), "{:?}", rows.handles);
        for row in rows.blocks.into_values() {
            let mut block = Block::from(row);
            block.collect(self.hosts.clock.now(), self.setup.config.ip_cooldown_seconds);
            assert_eq!(block.free(), block.size(), "{block:?}");
            let owner = block.owner().expect("an empty block of nobody is deleted");
            let claims = |affinity: &&api::IpamBlockAffinity| affinity.cidr == block.cidr();
            let claims: Vec<_> = rows.affinities.iter().filter(claims).collect();
            assert!(
                matches!(claims[..], [claim] if claim.owner == *owner && claim.state == BlockAffinityState::Confirmed),
                "{claims:?} for {block:?}"
            );
        }
    }
}

/// Gives back every address that anyone has.
fn release_all(ipam: &Ipam) {
    for assignment in ipam.assignments().unwrap() {
        match &assignment.handle {
            Some(handle) => match ipam.release_by_handle(handle) {
                Ok(_) | Err(IpamError::HandleNotFound(_)) => {}
                Err(error) => panic!("{error}"),
            },
            None => drop(ipam.release_ips(&[Release::of(assignment.address)]).unwrap()),
        }
    }
}

fn seeds(number: u64) -> std::ops::Range<u64> {
    let variable = |name: &str| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    match variable("IPAM_MODEL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number * variable("IPAM_MODEL_TIMES").unwrap_or(1),
    }
}

/// Whether all seeds run, so that it can be asked how much has happened.
fn is_whole() -> bool {
    std::env::var_os("IPAM_MODEL_SEED").is_none()
}

/// Runs histories, and says how much happened in them.
fn histories(number: u64, setup: &Setup, fault_in: usize) -> (usize, usize) {
    let (mut total, mut borrowed) = (0, 0);
    for seed in seeds(number) {
        println!("IPAM_MODEL_SEED={seed}");
        let mut run = Run::new(seed, setup.clone(), fault_in);
        for _ in 0..4 {
            run.turns(300);
            run.settle();
        }
        total += run.hosts.rules.total;
        borrowed += run.hosts.rules.borrowed;
    }
    println!("{total} addresses assigned, {borrowed} of them borrowed");
    (total, borrowed)
}

#[test]
fn no_address_is_shared_or_lost_among_racing_hosts() {
    let (total, borrowed) = histories(12, &Setup::small(4), 0);
    assert!(!is_whole() || total > 500 && borrowed > 20, "the histories are too tame: {total}, {borrowed}");
}

#[test]
fn no_address_is_shared_or_lost_when_hosts_crash_between_any_two_calls() {
    let (total, borrowed) = histories(12, &Setup::small(4), 12);
    assert!(!is_whole() || total > 500 && borrowed > 20, "the histories are too tame: {total}, {borrowed}");
}

#[test]
fn strict_affinity_reservations_and_limits_hold_in_all_histories() {
    let config = IpamConfig { strict_affinity: true, max_blocks_per_host: 2, ..IpamConfig::default() };
    let reserved = vec!["10.0.0.1/32".parse().unwrap(), "10.0.0.12/30".parse().unwrap()];
    let setup = Setup { config, reserved, max_blocks_per_host: 3, ..Setup::small(3) };
    let (total, borrowed) = histories(10, &setup, 15);
    assert!(!is_whole() || total > 300, "the histories are too tame: {total}");
    assert_eq!(borrowed, 0);
}

#[test]
fn released_addresses_rest_in_all_histories() {
    let config = IpamConfig { ip_cooldown_seconds: 30, ..IpamConfig::default() };
    let setup = Setup { config, ..Setup::small(3) };
    let (total, _) = histories(10, &setup, 20);
    assert!(!is_whole() || total > 200, "the histories are too tame: {total}");
}

/// Claims, uses and releases of one block, each with its own schedule: what random histories meet too rarely.
#[test]
fn races_for_one_block_end_with_one_owner() {
    let one_block = Setup { pools: Setup::small(0).pools[..1].to_vec(), ..Setup::small(3) };
    let mut setup = one_block.clone();
    setup.pools[0].cidr = "10.0.0.0/30".parse().unwrap();
    let cidr = "10.0.0.0/30".parse().unwrap();
    for seed in seeds(1_500) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut hosts = Hosts::new(&setup);
        let operation = |rng: &mut fastrand::Rng| match rng.u8(..5) {
            0 => Operation::EnsureBlock,
            1 => Operation::ClaimAffinity { cidr },
            2 => Operation::AssignIp { ip: "10.0.0.2".parse().unwrap(), handle: None },
            other => Operation::ReleaseAffinity {
                cidr,
                of: format!("node-{}", rng.u8(1..3)),
                must_be_empty: other == 3,
            },
        };
        if rng.bool() {
            hosts.run(0, operation(&mut rng));
            // Old enough to be reclaimed.
            hosts.clock.advance(rng.i64(0..2) * 100);
        }
        let operations = [operation(&mut rng), operation(&mut rng), operation(&mut rng)];
        hosts.race(&mut rng, &operations);
        let leaks = hosts.observer().leaks().unwrap();
        assert_eq!(leaks, [], "IPAM_MODEL_SEED={seed}: {operations:?}");
    }
}

#[test]
fn the_same_seed_is_the_same_history() {
    let history = |seed| {
        let mut run = Run::new(seed, Setup::small(3), 15);
        run.turns(300);
        Rows::read(&run.hosts.memory)
    };
    assert_eq!(history(7), history(7));
}

#[test]
fn a_host_that_dies_at_each_step_of_its_first_assignment_can_start_again() {
    for survived in 0.. {
        let mut hosts = Hosts::new(&Setup::small(2));
        let assign = Operation::AutoAssign {
            num4: 1,
            num6: 0,
            handle: Some("pod".to_owned()),
            max_blocks_per_host: 0,
        };
        hosts.begin(0, assign.clone());
        let is_over = (0..survived).any(|_| matches!(hosts.step(0), support::Progress::Finished(_)));
        if is_over {
            assert!(survived > 8, "a first assignment has to claim a block");
            return;
        }
        hosts.crash(0);
        let Outcome::Addresses(addresses) = hosts.run(0, assign) else {
            panic!("dead after {survived} steps")
        };
        assert_eq!(addresses.len(), 1);
        let ipam = hosts.observer();
        let own = ipam.affinities().unwrap();
        assert_eq!(own.len(), 1, "it goes on with the block that it had begun to claim");
        assert_eq!(own[0].owner, AffinityOwner::Host("node-1".to_owned()));
        ipam.release_by_handle("pod").unwrap();
        ipam.recover(&ipam.leaks().unwrap()).unwrap();
        assert_eq!((ipam.leaks().unwrap().len(), ipam.assignments().unwrap().len()), (0, 0));
    }
}
