//! How the binary is linked: to a fixed address, with the C library inside.
//!
//! The binary is the CNI plugins too, which a runtime starts for each pod. A dynamic loader, the pages that it writes to move
//! pointers, and three shared libraries take longer than all that a plugin does itself; in the node, they are two megabytes
//! of memory. As Go's programs, this one has a fixed address; heap, stacks and the kernel's pages stay where chance puts them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// What rustc asks the linker for by name, and what it is to get. It means shared libraries; `-C target-feature=+crt-static`
/// would mean the others, but a build script cannot set that for one program.
const LIBRARIES: [(&str, &[&str]); 3] = [
    ("gcc_s", &["libgcc_eh.a", "libgcc.a", "libc.a"]),
    ("c", &["libc.a", "libgcc_eh.a", "libgcc.a"]),
    ("m", &["libm.a"]),
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=RUSTC_LINKER");
    let of_target = |key: &str| env::var(key).unwrap_or_default();
    if of_target("CARGO_CFG_TARGET_OS") != "linux" || of_target("CARGO_CFG_TARGET_ENV") != "gnu" {
        return;
    }
    println!("cargo:rustc-link-arg-bins=-no-pie");
    // Some distributions have the archives in a package of their own; without them the program works too, but starts later.
    if LIBRARIES.iter().flat_map(|(_, files)| *files).all(|file| is_there(file)) {
        let folder = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join("static");
        make_scripts(&folder).expect("cargo's own folder can be written");
        println!("cargo:rustc-link-arg-bins=-static");
        println!("cargo:rustc-link-arg-bins=-L{}", folder.display());
    } else {
        println!(
            "cargo:warning=libc.a, libm.a or libgcc_eh.a is missing: tortie is linked to shared libraries"
        );
    }
}

/// Whether the linker finds an archive.
fn is_there(file: &str) -> bool {
    let linker = env::var_os("RUSTC_LINKER").unwrap_or_else(|| "cc".into());
    let output = Command::new(linker).arg(format!("-print-file-name={file}")).output();
    // What it does not find it prints as it is.
    output.is_ok_and(|output| Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_absolute())
}

/// Linker scripts under the names of the shared libraries, in a folder that is searched before the system's.
fn make_scripts(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    for (name, files) in LIBRARIES {
        let files: Vec<String> = files.iter().map(|file| format!("-l:{file}")).collect();
        fs::write(folder.join(format!("lib{name}.so")), format!("GROUP({})\n", files.join(" ")))?;
    }
    Ok(())
}
