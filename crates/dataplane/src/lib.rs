//! Desired state to kernel objects: rule rendering, managers and the apply loop
