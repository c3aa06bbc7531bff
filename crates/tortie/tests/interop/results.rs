//! What the tests found, for the table in the documentation: `cargo run -p xtask -- interop` renders it.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

/// A cell of the table.
pub(crate) struct Cell<'a> {
    /// Which table, and where in it: row and column.
    pub(crate) place: (&'a str, usize, usize),
    /// What is looked at.
    pub(crate) feature: &'a str,
    /// Who is at the other end, and the Debian package.
    pub(crate) peer: (&'a str, &'a str),
}

impl Cell<'_> {
    fn path(&self) -> PathBuf {
        let (table, row, column) = self.place;
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("interop");
        fs::create_dir_all(&folder).expect("cargo gives the folder to tests");
        folder.join(format!("{table}-{row:02}-{column}.json"))
    }

    /// Runs the test and notes that it passed, unless the peer cannot do it: then that is noted. After a failure nothing is
    /// known.
    pub(crate) fn note(&self, refusal: Option<&str>, test: impl FnOnce()) {
        // One that is not there is forgotten already.
        let _ = fs::remove_file(self.path());
        if refusal.is_none() {
            test();
        }
        self.write(refusal);
    }

    fn write(&self, refusal: Option<&str>) {
        let (table, row, column) = self.place;
        let (peer, package) = self.peer;
        let cell = json!({
            "table": table, "row": row, "column": column, "feature": self.feature, "peer": peer, "package": package,
            "version": version(package), "refusal": refusal,
        });
        fs::write(self.path(), format!("{cell:#}\n")).expect("cargo gives the folder to tests");
    }
}

/// The version of a package, without epoch and Debian's revision.
fn version(package: &str) -> String {
    let mut query = Command::new("dpkg-query");
    query.args(["-W", "-f", "${source:Upstream-Version}", package]);
    let output = query.output().expect("Debian has it");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
