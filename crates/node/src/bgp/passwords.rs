//! Passwords of BGP sessions in files: `FOLDER/NAME/KEY` has what key KEY of the Secret NAME holds, the way that Kubernetes
//! mounts Secrets. Datastores without Secrets have passwords nowhere else.

use std::io;
use std::path::{Component, Path, PathBuf};

use bgp::config::Secret;
use calc::bgp_plan::{PasswordRef, Passwords};

/// Where the folder is unless said otherwise.
pub(crate) const FOLDER: &str = "/etc/tortie/secrets";

/// A folder of passwords.
#[derive(Debug, Clone)]
pub(crate) struct PasswordFiles(pub(crate) PathBuf);

impl Passwords for PasswordFiles {
    /// The file's content, without the line's end that editors leave.
    fn password(&self, reference: &PasswordRef) -> Result<Option<Secret>, String> {
        let path = self.path(reference)?;
        match std::fs::read(&path) {
            Ok(octets) => {
                let text = octets.strip_suffix(b"\n").unwrap_or(&octets);
                let text = text.strip_suffix(b"\r").unwrap_or(text);
                Secret::new(text).map(Some).map_err(|error| format!("{}: {error}", path.display()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && reference.optional => Ok(None),
            Err(error) => Err(format!("{}: {error}", path.display())),
        }
    }
}

impl PasswordFiles {
    fn path(&self, reference: &PasswordRef) -> Result<PathBuf, String> {
        let is_name = |text: &str| {
            let mut parts = Path::new(text).components();
            matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
        };
        match [&reference.name, &reference.key].iter().find(|text| !is_name(text)) {
            Some(text) => Err(format!("{text:?} is not the name of a Secret or of a key")),
            None => Ok(self.0.join(&reference.name).join(&reference.key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reference(name: &str, key: &str, optional: bool) -> PasswordRef {
        PasswordRef { name: name.to_owned(), key: key.to_owned(), optional }
    }

    #[test]
    fn a_password_is_the_content_of_its_file_without_the_lines_end() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("bgp")).unwrap();
        std::fs::write(folder.path().join("bgp/tor"), "rose bud\n").unwrap();
        let files = PasswordFiles(folder.path().to_owned());
        let password = files.password(&reference("bgp", "tor", false)).unwrap().unwrap();
        assert_eq!(password.expose(), b"rose bud");
    }

    #[test]
    fn one_that_is_missing_is_none_only_where_it_is_optional() {
        let folder = tempfile::tempdir().unwrap();
        let files = PasswordFiles(folder.path().to_owned());
        assert_eq!(files.password(&reference("bgp", "tor", true)), Ok(None));
        assert!(files.password(&reference("bgp", "tor", false)).unwrap_err().contains("bgp/tor"));
    }

    #[test]
    fn a_name_does_not_lead_out_of_the_folder() {
        let files = PasswordFiles("/nonexistent".into());
        for (name, key) in [("..", "x"), ("a/b", "x"), ("a", "../../shadow"), ("", "x"), ("/etc", "x")] {
            let error = files.password(&reference(name, key, true)).unwrap_err();
            assert!(error.contains("is not the name"), "{error}");
        }
    }
}
