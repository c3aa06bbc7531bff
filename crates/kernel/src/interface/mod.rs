//! What the agent keeps as it should be on workloads' interfaces, and the settings of a host that forwards.

mod settings;

pub use settings::{Setting, WorkloadSettings, forwarding_host};
