//! Hosts on one machine in network namespaces, pods wired by the real CNI plugin, fault verbs
