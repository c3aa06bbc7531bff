//! Test vectors: one JSON object per line, in `tests/vectors/` or the directory named by `TORTIE_VECTORS`.
//!
//! ```no_run
//! use testkit::vectors::Runner;
//!
//! Runner::new("selectors.jsonl")
//!     .known_differences(&[("selector/x", "why this vector is wrong")])
//!     .suite("selector", |case| match case.then["parse"].as_str() {
//!         Some("ok") => Ok(()),
//!         other => Err(format!("unexpected: {other:?}")),
//!     })
//!     .run();
//! ```

use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use serde_json::Value;

/// One vector. Fields that are absent in the file are `Null` or empty.
#[derive(Debug, Clone)]
pub struct Case {
    /// Unique over all files.
    pub id: String,
    /// Which kind of check it asks for.
    pub suite: String,
    /// `must`, `should` or `known-diff`.
    pub status: String,
    /// State before.
    pub given: Value,
    /// What is done.
    pub when: Value,
    /// What must hold.
    pub then: Value,
    /// The whole line, for fields that only some suites have.
    pub line: Value,
}

impl Case {
    fn parse(text: &str) -> Result<Self, String> {
        let line: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let word = |name: &str| line[name].as_str().map(str::to_owned);
        Ok(Self {
            id: word("id").ok_or("no id")?,
            suite: word("suite").ok_or("no suite")?,
            status: word("status").unwrap_or_else(|| "must".to_owned()),
            given: line["given"].clone(),
            when: line["when"].clone(),
            then: line["then"].clone(),
            line,
        })
    }
}

/// Where the vectors are: `TORTIE_VECTORS`, or the repository's own.
pub fn directory() -> PathBuf {
    match std::env::var_os("TORTIE_VECTORS") {
        Some(directory) => directory.into(),
        None => PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors")),
    }
}

/// All cases of a file.
///
/// # Panics
/// When the file cannot be read, or a line is not a vector: a test must not pass for want of vectors.
pub fn load(file: &str) -> Vec<Case> {
    let path = directory().join(file);
    let text =
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("vectors {}: {error}", path.display()));
    let cases: Vec<Case> = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
        .map(|(index, line)| {
            Case::parse(line)
                .unwrap_or_else(|error| panic!("vectors {} line {}: {error}", path.display(), index + 1))
        })
        .collect();
    assert!(!cases.is_empty(), "vectors {}: the file holds no case", path.display());
    cases
}

type Check<'a> = Box<dyn Fn(&Case) -> Result<(), String> + 'a>;

/// Runs a file of vectors: each case through the check of its suite.
pub struct Runner<'a> {
    file: String,
    checks: BTreeMap<String, Check<'a>>,
    known: BTreeMap<String, String>,
}

/// What became of a file's cases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// How many hold.
    pub passed: usize,
    /// How many fail as listed in the known differences.
    pub known: usize,
    /// What is wrong, a line for each.
    pub failures: Vec<String>,
}

impl<'a> Runner<'a> {
    /// A runner for a file.
    pub fn new(file: &str) -> Self {
        Self { file: file.to_owned(), checks: BTreeMap::new(), known: BTreeMap::new() }
    }

    /// How to check the cases of a suite. A check that panics fails its case only.
    #[must_use]
    pub fn suite(mut self, name: &str, check: impl Fn(&Case) -> Result<(), String> + 'a) -> Self {
        self.checks.insert(name.to_owned(), Box::new(check));
        self
    }

    /// Vectors believed wrong: (id, reason). They must fail, so that the list shrinks when they pass.
    #[must_use]
    pub fn known_differences(mut self, list: &[(&str, &str)]) -> Self {
        self.known.extend(list.iter().map(|(id, reason)| ((*id).to_owned(), (*reason).to_owned())));
        self
    }

    /// Runs all cases of the file, prints the failing ones and a count.
    ///
    /// # Panics
    /// When a case fails, a known difference passes or names no case, or a suite has no check.
    pub fn run(&self) {
        self.conclude(&self.file, &load(&self.file));
    }

    /// Likewise, but only the cases whose suite has a check here: for a file whose suites are checked in several places.
    ///
    /// # Panics
    /// As [`Runner::run`]; also when the file has no such case.
    pub fn run_suites(&self) {
        let suites = self.checks.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        let name = format!("{} ({suites})", self.file);
        let cases: Vec<_> =
            load(&self.file).into_iter().filter(|case| self.checks.contains_key(&case.suite)).collect();
        assert!(!cases.is_empty(), "{name}: the file holds no such case");
        self.conclude(&name, &cases);
    }

    fn conclude(&self, name: &str, cases: &[Case]) {
        let Report { passed, known, failures } = self.report(cases);
        for failure in &failures {
            println!("{failure}");
        }
        let count =
            format!("{name}: {passed} passed, {} failed, {known} known differences\n", failures.len());
        // Not by println!, which the test runner would keep to itself when all pass.
        std::io::stderr().write_all(count.as_bytes()).expect("standard error takes a line");
        assert!(failures.is_empty(), "{name}: {} failed:\n{}", failures.len(), failures.join("\n"));
    }

    /// Runs these cases.
    pub fn report(&self, cases: &[Case]) -> Report {
        let mut report = Report::default();
        for case in cases {
            self.judge(case, &mut report);
        }
        let absent = self.known.keys().filter(|id| !cases.iter().any(|case| case.id == **id));
        report.failures.extend(absent.map(|id| format!("{id}: a known difference that no vector has")));
        report
    }

    fn judge(&self, case: &Case, report: &mut Report) {
        let Some(check) = self.checks.get(&case.suite) else {
            report.failures.push(format!("{}: nothing checks suite {:?}", case.id, case.suite));
            return;
        };
        let known = self.known.contains_key(&case.id) || case.status == "known-diff";
        match (outcome(check, case), known) {
            (Ok(()), false) => report.passed += 1,
            (Err(_), true) => report.known += 1,
            (Ok(()), true) => {
                report.failures.push(format!("{}: a known difference that now passes", case.id))
            }
            (Err(error), false) => report.failures.push(format!("{}: {error}", case.id)),
        }
    }
}

fn outcome(check: &Check<'_>, case: &Case) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| check(case))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        Err(format!("panicked: {}", text.or(panic.downcast_ref().copied()).unwrap_or("?")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(id: &str, suite: &str) -> Case {
        Case::parse(&format!(r#"{{"id":"{id}","suite":"{suite}","given":{{"n":1}},"extra":0}}"#)).unwrap()
    }

    #[test]
    fn a_line_without_id_is_refused() {
        assert_eq!(Case::parse(r#"{"suite":"s"}"#).unwrap_err(), "no id");
    }

    #[test]
    fn failing_panicking_and_unknown_cases_are_named() {
        let cases = [case("good", "s"), case("bad", "s"), case("ugly", "s"), case("stray", "t")];
        let runner = Runner::new("f").suite("s", |case| match case.id.as_str() {
            "good" => Ok(()),
            "bad" => Err("differs".to_owned()),
            _ => panic!("oops"),
        });
        let report = runner.report(&cases);
        assert_eq!(report.passed, 1);
        assert_eq!(
            report.failures,
            ["bad: differs", "ugly: panicked: oops", "stray: nothing checks suite \"t\""]
        );
    }

    #[test]
    fn a_known_difference_must_exist_and_fail() {
        let cases = [case("wrong", "s"), case("healed", "s")];
        let runner = Runner::new("f")
            .known_differences(&[("wrong", "r"), ("healed", "r"), ("gone", "r")])
            .suite("s", |case| if case.id == "wrong" { Err("differs".to_owned()) } else { Ok(()) });
        let report = runner.report(&cases);
        assert_eq!((report.passed, report.known), (0, 1));
        assert_eq!(
            report.failures,
            ["healed: a known difference that now passes", "gone: a known difference that no vector has"]
        );
    }

    #[test]
    fn every_line_of_the_repository_is_a_vector() {
        for file in std::fs::read_dir(directory()).unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            if name.ends_with(".jsonl") {
                assert!(load(&name).iter().all(|case| !case.suite.is_empty()));
            }
        }
    }
}
