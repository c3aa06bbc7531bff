//! Everything that touches Linux: netlink, nf_tables, namespaces, sysctls, and reconcilers over them
