//! What a failing case does not need is taken away.

use serde_json::{Value, json};

/// Objects, and packets that are sent through what they say.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// As in the suite `policy.truth`.
    pub objects: Vec<Value>,
    /// As [`super::Generator::probe`] makes them.
    pub probes: Vec<Value>,
}

impl Case {
    /// As it is printed, to be kept in a file.
    ///
    /// # Panics
    /// Never: what JSON can say, YAML can.
    pub fn to_yaml(&self) -> String {
        let value = json!({"objects": self.objects, "probes": self.probes});
        serde_saphyr::to_string(&value).expect("JSON is YAML")
    }

    /// Reads what [`Case::to_yaml`] wrote.
    ///
    /// # Panics
    /// On anything else.
    pub fn from_yaml(text: &str) -> Self {
        let value: Value = serde_saphyr::from_str(text).expect("a case is YAML");
        let list = |name: &str| value[name].as_array().unwrap_or_else(|| panic!("no {name}")).clone();
        Self { objects: list("objects"), probes: list("probes") }
    }

    /// The smallest case found that still fails: objects, then elements of lists and fields of objects are left out one after
    /// another, as long as that helps, and at most so many times.
    pub fn shrink(mut self, mut tries: usize, mut fails: impl FnMut(&Self) -> bool) -> Self {
        loop {
            let before = self.clone();
            for path in paths(&json!(self.objects)) {
                if tries == 0 {
                    return self;
                }
                let mut objects = json!(self.objects);
                if !cut(&mut objects, &path) {
                    continue;
                }
                let Value::Array(objects) = objects else { continue };
                let smaller = Self { objects, probes: self.probes.clone() };
                tries -= 1;
                if fails(&smaller) {
                    self = smaller;
                }
            }
            if self == before {
                return self;
            }
        }
    }
}

/// A step to a part of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Index(usize),
    Field(String),
}

/// Every part of a value that can be left out: the large ones first; of a list the last first, so that places stay true.
fn paths(value: &Value) -> Vec<Vec<Step>> {
    let mut found = Vec::new();
    let mut level = vec![(Vec::new(), value)];
    while !level.is_empty() {
        let mut next = Vec::new();
        for (path, value) in level {
            let inner: Vec<(Step, &Value)> = match value {
                Value::Array(list) => {
                    list.iter().enumerate().rev().map(|(at, item)| (Step::Index(at), item)).collect()
                }
                Value::Object(fields) => {
                    fields.iter().map(|(name, item)| (Step::Field(name.clone()), item)).collect()
                }
                _ => Vec::new(),
            };
            for (step, item) in inner {
                let path: Vec<Step> = path.iter().cloned().chain([step]).collect();
                found.push(path.clone());
                next.push((path, item));
            }
        }
        level = next;
    }
    found
}

/// Takes a part out; false if it is not there (any more).
fn cut(value: &mut Value, path: &[Step]) -> bool {
    let Some((last, way)) = path.split_last() else { return false };
    let mut at = value;
    for step in way {
        let inner = match step {
            Step::Index(index) => at.get_mut(*index),
            Step::Field(name) => at.get_mut(name),
        };
        let Some(inner) = inner else { return false };
        at = inner;
    }
    match (at, last) {
        (Value::Array(list), Step::Index(index)) if *index < list.len() => {
            list.remove(*index);
            true
        }
        (Value::Object(fields), Step::Field(name)) => fields.remove(name).is_some(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_failure_does_not_need_is_left_out_and_the_rest_can_be_read_again() {
        let objects =
            vec![json!({"name": "a", "rules": [1, 2, 3]}), json!({"name": "b"}), json!({"name": "c"})];
        let case = Case { objects, probes: vec![json!({"port": 80})] };
        let has_two = |case: &Case| {
            case.objects.iter().any(|object| object["rules"][0] == 2 || object["rules"][1] == 2)
        };
        let small = case.shrink(100, has_two);
        assert_eq!(small.objects, [json!({"rules": [2]})]);
        assert_eq!(Case::from_yaml(&small.to_yaml()), small);
    }
}
