//! calicoctl
