//! What can go wrong, and what to do about it.

use std::fmt;
use std::net::IpAddr;

use api::{AffinityOwner, IPPoolAllowedUse, Key};
use datastore::StoreError;
use ipnet::IpNet;

/// Why an operation of IPAM was not done. Unless a variant says otherwise nothing was allocated or released, and the
/// same call will fail again until someone acts on the remedy that the message names.
#[derive(Debug, thiserror::Error)]
pub enum IpamError {
    /// No pool may be used for the request: not one of the family is enabled, selects the node and the namespace, and
    /// allows the use.
    #[error(
        "no qualified {family} pool for {usage} addresses of {host}: {}; create an IPPool, or change the named pool's nodeSelector, namespaceSelector, allowedUses or assignmentMode",
        listed(.rejected)
    )]
    NoQualifiedPool {
        /// IPv4 or IPv6.
        family: Family,
        /// For which node.
        host: String,
        /// For what.
        usage: IPPoolAllowedUse,
        /// For each pool of the family why it does not qualify.
        rejected: Vec<RejectedPool>,
    },
    /// A requested pool is not there, or is disabled.
    #[error(
        "IPPool {cidr} does not exist, or is not enabled; ask for another pool, or enable it (spec.disabled: false)"
    )]
    PoolNotEnabled {
        /// What was asked for.
        cidr: IpNet,
    },
    /// A requested pool is of the other family.
    #[error(
        "IPPool {cidr} was asked for as {family} pool but is not; list it among the pools of its own family"
    )]
    WrongFamily {
        /// What was asked for.
        cidr: IpNet,
        /// As what.
        family: Family,
    },
    /// A selector of a pool cannot be read.
    #[error("IPPool {pool}: spec.{field}: {source}")]
    BadSelector {
        /// Name of the pool.
        pool: String,
        /// `nodeSelector` or `namespaceSelector`.
        field: &'static str,
        /// What is wrong with it.
        source: api::selector::SelectorError,
    },
    /// A pool selects nodes by label, and the node that asks has no row.
    #[error("IPPool {pool} selects nodes by label, but Node {host} does not exist; register the node first")]
    NodeNotFound {
        /// The node.
        host: String,
        /// Name of the pool.
        pool: String,
    },
    /// The address is outside of all enabled pools.
    #[error("{0} is in no enabled IPPool; choose an address inside a pool, or create a pool around it")]
    NotInPool(IpNet),
    /// The address's pool is not for this use.
    #[error(
        "IPPool {pool} is not for {usage} addresses; add {usage} to spec.allowedUses, or choose another pool"
    )]
    UseNotAllowed {
        /// Name of the pool.
        pool: String,
        /// What it was to be used for.
        usage: IPPoolAllowedUse,
    },
    /// The address is taken.
    #[error(
        "{address} is already assigned{}; release it first, or choose another",
        .handle.as_deref().map(|handle| format!(" to handle {handle}")).unwrap_or_default()
    )]
    AlreadyAssigned {
        /// The address.
        address: IpAddr,
        /// Whose it is; none if it was assigned without a handle.
        handle: Option<String>,
    },
    /// The address was released a moment ago and rests.
    #[error(
        "{address} was released less than {cooldown_seconds} s ago and rests (ipCooldownSeconds); try again later"
    )]
    Cooling {
        /// The address.
        address: IpAddr,
        /// The configured time.
        cooldown_seconds: u32,
    },
    /// The block belongs to another host, and strict affinity forbids to borrow.
    #[error(
        "block {block} belongs to {}, and strict affinity forbids {host} to borrow from it; choose an address in a block of {host}, or set strictAffinity to false",
        .owner.as_ref().map_or_else(|| "nobody".to_owned(), ToString::to_string)
    )]
    StrictAffinity {
        /// The block.
        block: IpNet,
        /// Whose it is.
        owner: Option<AffinityOwner>,
        /// Who asked.
        host: String,
    },
    /// Blocks of another size, from before the pool was made anew, are in the way.
    #[error(
        "block {0} would overlap blocks of another size, from before its IPPool was made anew; release their addresses first"
    )]
    Overlap(IpNet),
    /// The host has all the blocks that it may have.
    #[error("{host} has reached its limit of {limit} blocks; raise maxBlocksPerHost, or release addresses")]
    BlockLimit {
        /// The host.
        host: String,
        /// The limit that holds.
        limit: u32,
    },
    /// The handle has all the addresses that it may have, or crashed operations have left it counting too many.
    #[error(
        "handle {handle} counts {counted} {family} addresses of at most {limit}, though it holds none; run the IPAM recovery"
    )]
    HandleLimit {
        /// The handle.
        handle: String,
        /// The family.
        family: Family,
        /// What the handle counts.
        counted: usize,
        /// The limit of the request.
        limit: usize,
    },
    /// Fewer addresses than asked for; only of [`crate::Ipam::auto_assign_all`], which keeps none of them.
    #[error("{assigned} of {requested} {family} addresses could be assigned to {host}: {}", listed(.reasons))]
    Short {
        /// The family.
        family: Family,
        /// Who asked.
        host: String,
        /// How many.
        requested: usize,
        /// How many there were.
        assigned: usize,
        /// Why not more.
        reasons: Vec<Shortfall>,
    },
    /// The host has no block in the pools, and cannot claim one.
    #[error("{host} cannot have an {family} block: {}", listed(.reasons))]
    NoBlock {
        /// The family.
        family: Family,
        /// Who asked.
        host: String,
        /// Why not.
        reasons: Vec<Shortfall>,
    },
    /// Nothing has this handle.
    #[error("IPAM handle {0} does not exist: it holds no address")]
    HandleNotFound(String),
    /// Nobody has this address.
    #[error("{0} is not assigned")]
    NotAssigned(IpAddr),
    /// The address belongs to another handle than the release says. The address stays.
    #[error(
        "{address} belongs to {}, not to handle {expected}; it was not released",
        .actual.as_deref().map_or_else(|| "no handle".to_owned(), |handle| format!("handle {handle}"))
    )]
    HandleMismatch {
        /// The address.
        address: IpAddr,
        /// Whose the release says it is.
        expected: String,
        /// Whose it is.
        actual: Option<String>,
    },
    /// The address has been assigned anew since the release was decided on. The address stays.
    #[error(
        "{address} was assigned with sequence number {actual}, not {expected}: it has a new owner and was not released; decide again"
    )]
    SequenceMismatch {
        /// The address.
        address: IpAddr,
        /// What the release was decided on.
        expected: u64,
        /// What the block says.
        actual: u64,
    },
    /// The block still has addresses, and the caller wanted it only if empty. The affinity stays.
    #[error("block {block} of {host} still has {in_use} addresses in use or resting; release them first")]
    BlockNotEmpty {
        /// The block.
        block: IpNet,
        /// Whose it is.
        host: String,
        /// How many addresses.
        in_use: usize,
    },
    /// The block does not belong to the host.
    #[error(
        "block {block} belongs to {}, not to {host}",
        .owner.as_ref().map_or_else(|| "nobody".to_owned(), ToString::to_string)
    )]
    NotAffine {
        /// The block.
        block: IpNet,
        /// Who was thought to have it.
        host: String,
        /// Who has it.
        owner: Option<AffinityOwner>,
    },
    /// A range to claim or release is smaller than the pool's blocks, or holds too many of them.
    #[error("{cidr} does not hold between 1 and {most} blocks (/{block_prefix_len}) of IPPool {pool}")]
    BadRange {
        /// The range.
        cidr: IpNet,
        /// Name of the pool.
        pool: String,
        /// The pool's block size.
        block_prefix_len: u8,
        /// Most blocks in one call.
        most: u32,
    },
    /// The settings contradict each other or are out of range. Nothing was written.
    #[error("IPAM configuration: {field}: {reason}")]
    InvalidConfig {
        /// Which setting.
        field: &'static str,
        /// Why, and what is allowed.
        reason: &'static str,
    },
    /// The owner of an address is not who the caller thought. Nothing was changed.
    #[error("{address}: its {slot} owner is {actual}, not {expected}")]
    OwnerMismatch {
        /// The address.
        address: IpAddr,
        /// `active` or `alternate`.
        slot: &'static str,
        /// Who the caller thought.
        expected: String,
        /// Who it is.
        actual: String,
    },
    /// Others changed the row at each of many attempts. Retryable; nothing is left behind that
    /// [`crate::Ipam::recover`] does not mend.
    #[error("{key} was changed by others at each of {attempts} attempts; try again")]
    Contention {
        /// Which row.
        key: Box<Key>,
        /// How many.
        attempts: usize,
    },
    /// The datastore failed. Retryable if that is temporary; a write may have been done.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why fewer addresses were assigned than asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shortfall {
    /// The host has as many blocks as it may, and they are full.
    BlockLimit {
        /// The host.
        host: String,
        /// The limit that holds: of the request, of the configuration, or 20.
        limit: u32,
    },
    /// The host may not claim blocks by itself (`autoAllocateBlocks: false`), and those it has are full.
    NoAutoAllocate {
        /// The host.
        host: String,
    },
    /// Every block of the pools belongs to someone.
    NoFreeBlocks {
        /// The pools.
        pools: Vec<IpNet>,
    },
    /// There may be free addresses in other hosts' blocks, but strict affinity keeps them there.
    StrictAffinity {
        /// The host.
        host: String,
    },
    /// No address is free in any block of the pools.
    NoAddresses {
        /// The pools.
        pools: Vec<IpNet>,
    },
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BlockLimit { host, limit } => {
                write!(
                    f,
                    "{host} has reached its limit of {limit} blocks (maxBlocksPerHost), and they are full"
                )
            }
            Self::NoAutoAllocate { host } => {
                write!(f, "the blocks of {host} are full, and autoAllocateBlocks is false")
            }
            Self::NoFreeBlocks { pools } => write!(f, "no free blocks in pools: {}", listed(pools)),
            Self::StrictAffinity { host } => {
                write!(f, "strict affinity keeps {host} from borrowing in other hosts' blocks")
            }
            Self::NoAddresses { pools } => {
                write!(f, "No IPs available in pools: {}; add an IPPool", listed(pools))
            }
        }
    }
}

/// A pool that a request cannot use, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedPool {
    /// Name of the pool.
    pub pool: String,
    /// Why.
    pub reason: Rejection,
}

/// Why a pool cannot be used for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// `disabled: true`.
    Disabled,
    /// `assignmentMode: Manual`, and it was not asked for.
    Manual,
    /// `allowedUses` lacks the use.
    Use,
    /// `nodeSelector` does not match the node.
    Node,
    /// `namespaceSelector` does not match the namespace, or there is no such namespace.
    Namespace,
}

impl fmt::Display for RejectedPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self.reason {
            Rejection::Disabled => "is disabled",
            Rejection::Manual => "is only used when asked for",
            Rejection::Use => "is not for this use",
            Rejection::Node => "does not select the node",
            Rejection::Namespace => "does not select the namespace",
        };
        write!(f, "{} {reason}", self.pool)
    }
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of a network.
    pub fn of(net: &IpNet) -> Self {
        if net.addr().is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

fn listed<T: fmt::Display>(items: &[T]) -> String {
    if items.is_empty() {
        return "there is none".to_owned();
    }
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
