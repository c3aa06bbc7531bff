//! Chores of the repository: `cargo run -p xtask -- layers|dependencies`.

mod dependencies;
mod layers;
mod metadata;

use std::process::ExitCode;

fn main() -> ExitCode {
    let result = match std::env::args().nth(1).as_deref() {
        Some("layers") => layers::check(),
        Some("dependencies") => dependencies::check(),
        _ => Err(anyhow::anyhow!("usage: xtask layers|dependencies")),
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
