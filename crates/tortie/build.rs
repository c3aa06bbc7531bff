//! How the binary is linked.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let of_target = |key: &str| std::env::var(key).unwrap_or_default();
    // A position-independent program of this size writes to hundreds of pages before `main`, to move its pointers: a third
    // of a millisecond in each call of the CNI plugins, and two megabytes of memory in the node. As Go's programs, this one
    // has a fixed address; libraries, heap and stacks stay where chance puts them.
    if of_target("CARGO_CFG_TARGET_OS") == "linux" && of_target("CARGO_CFG_TARGET_ENV") == "gnu" {
        println!("cargo:rustc-link-arg-bins=-no-pie");
    }
}
