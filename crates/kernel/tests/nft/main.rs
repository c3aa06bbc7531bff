//! nf_tables against the real kernel, each test in a network namespace of its own. Needs root and the `nft` program,
//! which is the judge of what we wrote.

mod concurrency;
mod expressions;
mod reconcile;
mod scale;
mod support;
