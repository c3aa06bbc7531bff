//! The fuzzer's corpus and its seeds, through every target, without the fuzzer.

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use fuzz_targets::{TARGETS, run, seeds};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Runs a target, and says with what if it panics.
fn show(target: &str, what: &str, data: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(target, data))) {
        eprintln!("{target}: {what}: {data:?}");
        resume_unwind(panic);
    }
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn what_the_fuzzer_has_found_so_far_is_no_fault() {
    for target in TARGETS {
        let folder = repository().join("fuzz/corpus").join(target.name);
        let files = names(&folder);
        assert!(!files.is_empty(), "{} has no corpus", target.name);
        for file in &files {
            show(target.name, file, &fs::read(folder.join(file)).unwrap());
        }
    }
}

#[test]
fn every_vector_is_a_seed_and_no_fault() {
    let seeds = seeds::all(&repository().join("tests/vectors")).unwrap();
    assert!(seeds.len() > 10_000, "{} seeds", seeds.len());
    let seeded: BTreeSet<&str> = seeds.iter().map(|seed| seed.target).collect();
    assert_eq!(seeded, TARGETS.iter().map(|target| target.name).collect());
    seeds.iter().for_each(|seed| show(seed.target, &seed.name, &seed.data));
}

#[test]
fn every_target_has_a_program_and_a_corpus() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(names(&repository().join("fuzz/corpus")), targets);
    let programs = names(&repository().join("fuzz/fuzz_targets"));
    assert_eq!(programs, targets.iter().map(|name| format!("{name}.rs")).collect());
}
