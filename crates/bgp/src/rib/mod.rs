//! Routes: what peers sent, what is best, and who is told of what.
//!
//! ```text
//!  UPDATEs ──▶ import policy ──▶ Rib (Adj-RIBs-In and Loc-RIB in one table) ──▶ changes of a round
//!                                                                                 │
//!                                   BestRoute for the kernel ◀────────────────────┤
//!                                                                                 ▼
//!              UPDATEs, encoded once per group, to every member ◀── update groups (export policy)
//! ```
//!
//! Three decisions keep it small and fast. Attributes are interned. A prefix has one entry with the routes of all
//! peers. And Adj-RIB-Out is not stored: what a peer has been told follows from the route that was best before, so a
//! round needs only the changed prefixes and their old best routes. A peer that lags behind keeps those for itself.

mod attributes;
pub mod best_path;
mod export;
mod groups;
mod net;
mod pack;
mod table;

pub use attributes::{AttributeId, AttributeSet, DEFAULT_LOCAL_PREF, Interner};
pub(crate) use attributes::{prepend, put};
pub use export::{GroupKey, MemberKind};
pub(crate) use groups::{Emit, Groups};
pub use net::Net;
pub(crate) use table::key;
pub use table::{Best, Count, Path, PeerNumber, Rib, Sources};
