//! Writes the fuzzer's seeds into a folder for each target: `cargo run -p fuzz-targets --example seeds -- FOLDER`.

use std::path::{Path, PathBuf};

fn main() -> std::io::Result<()> {
    let folder = std::env::args_os().nth(1).map(PathBuf::from);
    let folder = folder.ok_or_else(|| std::io::Error::other("usage: seeds FOLDER"))?;
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors");
    let seeds = fuzz_targets::seeds::all(&vectors)?;
    for seed in &seeds {
        let folder = folder.join(seed.target);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(&seed.name), &seed.data)?;
    }
    println!("{} seeds for {} targets in {}", seeds.len(), fuzz_targets::TARGETS.len(), folder.display());
    Ok(())
}
