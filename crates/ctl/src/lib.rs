//! `calicoctl`.

mod cli;

pub use cli::{CtlArgs, main, run};
