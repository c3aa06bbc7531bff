use std::net::IpAddr;

use api::AffinityOwner;
use ipam::{AssignIp, Attributes, AutoAssign, Ipam, IpamError, Leak, Release};
use ipnet::IpNet;

/// What a host does.
#[derive(Debug, Clone)]
pub enum Operation {
    AutoAssign { num4: usize, num6: usize, handle: Option<String>, max_blocks_per_host: u32 },
    AssignIp { ip: IpAddr, handle: Option<String> },
    ReleaseIps { releases: Vec<Release> },
    ReleaseByHandle { handle: String },
    EnsureBlock,
    ClaimAffinity { cidr: IpNet },
    ReleaseAffinity { cidr: IpNet, of: String, must_be_empty: bool },
    ReleaseHost { of: String },
    Recover { leaks: Vec<Leak> },
}

/// What came of it.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// These were assigned, or released.
    Addresses(Vec<IpAddr>),
    /// It was done; for releases, these were refused.
    Done { refused: Vec<String> },
    /// It was not done.
    Failed { reason: String, is_contention: bool, is_store: bool },
    /// The host died meanwhile.
    Crashed,
}

impl Outcome {
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Addresses(_) | Self::Done { .. })
    }
}

impl Operation {
    pub fn run(&self, ipam: &Ipam, host: &str) -> Outcome {
        match self.try_run(ipam, host) {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Failed {
                reason: error.to_string(),
                is_contention: matches!(error, IpamError::Contention { .. }),
                is_store: matches!(error, IpamError::Store(_)),
            },
        }
    }

    fn try_run(&self, ipam: &Ipam, host: &str) -> Result<Outcome, IpamError> {
        let owner = |host: &str| AffinityOwner::Host(host.to_owned());
        let attributes = || Attributes::from([("node".to_owned(), host.to_owned())]);
        let done = || Ok(Outcome::Done { refused: Vec::new() });
        match self {
            Self::AutoAssign { num4, num6, handle, max_blocks_per_host } => {
                let request = AutoAssign {
                    num4: *num4,
                    num6: *num6,
                    handle: handle.clone(),
                    attributes: attributes(),
                    max_blocks_per_host: *max_blocks_per_host,
                    ..AutoAssign::new(host)
                };
                Ok(Outcome::Addresses(ipam.auto_assign(&request)?.addresses().collect()))
            }
            Self::AssignIp { ip, handle } => {
                let request =
                    AssignIp { handle: handle.clone(), attributes: attributes(), ..AssignIp::new(*ip, host) };
                Ok(Outcome::Addresses(vec![ipam.assign_ip(&request)?.addr()]))
            }
            Self::ReleaseIps { releases } => {
                let released = ipam.release_ips(releases)?;
                Ok(Outcome::Done { refused: released.refused.iter().map(ToString::to_string).collect() })
            }
            Self::ReleaseByHandle { handle } => {
                ipam.release_by_handle(handle)?;
                done()
            }
            Self::EnsureBlock => {
                ipam.ensure_block(&AutoAssign { num4: 1, ..AutoAssign::new(host) })?;
                done()
            }
            Self::ClaimAffinity { cidr } => {
                ipam.claim_affinity(*cidr, &owner(host))?;
                done()
            }
            Self::ReleaseAffinity { cidr, of, must_be_empty } => {
                ipam.release_affinity(*cidr, &owner(of), *must_be_empty)?;
                done()
            }
            Self::ReleaseHost { of } => {
                ipam.remove_host(of)?;
                done()
            }
            Self::Recover { leaks } => {
                ipam.recover(leaks)?;
                done()
            }
        }
    }

    pub fn is_assignment_to(&self, handle: Option<&str>) -> bool {
        match self {
            Self::AutoAssign { handle: own, .. } | Self::AssignIp { handle: own, .. } => {
                own.as_deref() == handle
            }
            _ => false,
        }
    }
}
