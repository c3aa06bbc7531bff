//! Chores of the repository: `cargo run -p xtask -- layers|dependencies|interop`.

mod dependencies;
mod interop;
mod layers;
mod metadata;

use std::process::ExitCode;

fn main() -> ExitCode {
    let result = match std::env::args().nth(1).as_deref() {
        Some("layers") => layers::check(),
        Some("dependencies") => dependencies::check(),
        Some("interop") => interop::run(std::env::args().any(|word| word == "--check")),
        _ => Err(anyhow::anyhow!("usage: xtask layers|dependencies|interop [--check]")),
    };
    match result {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
