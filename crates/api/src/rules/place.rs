use std::cell::RefCell;
use std::fmt::Display;

use crate::Violation;

/// A field that is being checked, and where to say what is wrong with it.
#[derive(Clone)]
pub(crate) struct Place<'a> {
    path: String,
    found: &'a RefCell<Vec<Violation>>,
}

impl<'a> Place<'a> {
    /// The resource as a whole.
    pub(crate) fn root(found: &'a RefCell<Vec<Violation>>) -> Self {
        Self { path: String::new(), found }
    }

    /// A field of this one.
    pub(crate) fn field(&self, name: &str) -> Self {
        let path = if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        Self { path, found: self.found }
    }

    /// An entry of this list.
    pub(crate) fn index(&self, index: usize) -> Self {
        Self { path: format!("{}[{index}]", self.path), found: self.found }
    }

    /// An entry of this map.
    pub(crate) fn key(&self, key: &str) -> Self {
        Self { path: format!("{}[{key}]", self.path), found: self.found }
    }

    /// Says that a scalar breaks a rule; `reason` continues the sentence that the value begins.
    pub(crate) fn refuse(&self, value: impl Display, reason: impl Into<String>) {
        self.push(Some(value.to_string()), reason.into());
    }

    /// Says that the field as a whole breaks a rule.
    pub(crate) fn refuse_all(&self, reason: impl Into<String>) {
        self.push(None, reason.into());
    }

    fn push(&self, value: Option<String>, reason: String) {
        self.found.borrow_mut().push(Violation { field: self.path.clone(), value, reason });
    }
}
