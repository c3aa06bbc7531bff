//! The CNI plugins as a runtime sees them: the real binary, executed with CNI_* in its environment and its configuration on
//! standard input, against a real `tortie node` on an embedded datastore, in network namespaces of the test's own.

mod arrange;
mod expect;
mod host_local;
mod lifecycle;
mod outcome;
mod plugin;
mod pods;
mod vectors;
mod world;
