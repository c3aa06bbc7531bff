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
//! Three decisions keep it small and fast. Attributes are interned. A prefix has one place with the routes of all
//! peers, found by hash. And Adj-RIB-Out is not stored: what a peer has been told follows from the route that was best before, so a
//! round needs only the changed prefixes and their old best routes. A peer that lags behind keeps those for itself.

mod aggregate;
mod attributes;
pub mod best_path;
mod export;
mod groups;
mod index;
mod interner;
mod net;
mod next_hops;
mod pack;
mod raw;
mod selected;
mod selection;
mod table;
mod tell;
mod told;

pub(crate) use aggregate::{Aggregates, PATH_ID as AGGREGATE, Parts};
pub use attributes::{AttributeSet, DEFAULT_LOCAL_PREF};
pub(crate) use attributes::{prepend, put, read_octets};
pub(crate) use export::{Audience, Exported, exported, goes_to, seen_by_policy};
pub use export::{GroupKey, MemberKind, Refusal};
pub(crate) use groups::{Belief, Emit, Groups};
pub(crate) use index::digest;
pub use interner::{AttributeId, Interner};
pub use net::Net;
pub(crate) use next_hops::NextHopId;
pub use next_hops::Resolution;
pub(crate) use pack::{Format, Item, Packed, announce, withdraw};
pub(crate) use raw::RawAttributes;
pub use selected::{Best, Selected};
pub use selection::SelectionRules;
pub(crate) use table::key;
pub(crate) use table::{Change, Touched};
pub use table::{Count, Path, PeerNumber, Rib, Routes, Slot, Sources};
pub(crate) use told::Places;
