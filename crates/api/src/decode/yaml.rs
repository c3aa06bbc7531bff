//! From YAML (of which JSON is a part) to trees.
//!
//! serde-saphyr's own untyped reading has decided what a scalar is before anyone says what it should be, so that an AS
//! number `64512.10` comes out as a fraction. Here its parser's events become trees that keep what was written.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::error::Problem;
use super::tree::{Content, Tree};

/// A document deeper than this is refused.
const MAX_DEPTH: usize = 100;
/// Aliases may not make more nodes than this out of one document.
const MAX_ALIASED: usize = 100_000;

/// A document of a file.
#[derive(Debug)]
pub(crate) struct ParsedDocument {
    /// From 1, empty documents counted.
    pub(crate) number: usize,
    /// What it holds.
    pub(crate) tree: Tree,
}

/// Reads all documents of a text; empty ones are left out.
///
/// # Errors
/// The number of the document in which the text stops being YAML, and why.
pub(crate) fn parse(text: &str) -> Result<Vec<ParsedDocument>, (usize, Problem)> {
    let mut documents = Vec::new();
    let mut number = 0;
    let mut builder = Builder::default();
    for next in Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text)) {
        let (event, span) = match next {
            Ok(next) => next,
            Err(error) => return only_json(text).ok_or_else(|| (number.max(1), syntax(&error))),
        };
        let step = match event {
            Event::DocumentStart(..) => {
                number += 1;
                builder = Builder::default();
                Ok(None)
            }
            Event::DocumentEnd => Ok(builder.finished.take()),
            event => builder.take(event, line(&span)).map(|()| None),
        };
        match step {
            Ok(Some(tree)) if !tree.is_null() => documents.push(ParsedDocument { number, tree }),
            Ok(_) => {}
            Err(problem) => return Err((number.max(1), problem)),
        }
    }
    Ok(documents)
}

/// JSON allows a few characters that YAML does not, such as a bare DEL. Lines are not known then.
fn only_json(text: &str) -> Option<Vec<ParsedDocument>> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    Some(vec![ParsedDocument { number: 1, tree: Tree::from(&value) }])
}

fn line(span: &Span) -> u32 {
    u32::try_from(span.start.line()).unwrap_or(u32::MAX)
}

fn syntax(error: &ScanError) -> Problem {
    let marker = error.marker();
    let reason = format!("is not YAML at column {}: {}", marker.col() + 1, error.info());
    let line = u32::try_from(marker.line()).unwrap_or(u32::MAX);
    Problem { field: String::new(), line, value: None, reason }
}

/// Builds one document.
#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: BTreeMap<usize, Tree>,
    aliased: usize,
    finished: Option<Tree>,
}

/// A list or map whose end has not come.
struct Open {
    line: u32,
    anchor: usize,
    items: Items,
}

/// A key whose value has not come.
struct MapKey {
    name: String,
    line: u32,
    /// Whether the value's entries are to be put into the map.
    is_merge: bool,
}

enum Items {
    List(Vec<Tree>),
    Map { entries: Vec<(String, Tree)>, key: Option<MapKey>, merged: Vec<(String, Tree)> },
}

impl Builder {
    fn take(&mut self, event: Event<'_>, line: u32) -> Result<(), Problem> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tree = Tree { line, content: scalar(text, style, tag.as_deref(), line)? };
                self.keep(anchor, &tree);
                self.add(tree)
            }
            Event::Alias(anchor) => {
                let tree = self.anchors.get(&anchor).cloned().ok_or_else(|| {
                    problem(line, "is an alias of a part that is not complete here; write it out")
                })?;
                self.aliased += size(&tree);
                if self.aliased > MAX_ALIASED {
                    return Err(problem(line, "has aliases that make it too large; write it out"));
                }
                self.add(tree)
            }
            Event::SequenceStart(_, anchor, _) => self.begin(line, anchor, Items::List(Vec::new())),
            Event::MappingStart(_, anchor, _) => {
                let items = Items::Map { entries: Vec::new(), key: None, merged: Vec::new() };
                self.begin(line, anchor, items)
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            // Comments, and marks of the stream.
            _ => Ok(()),
        }
    }

    fn begin(&mut self, line: u32, anchor: usize, items: Items) -> Result<(), Problem> {
        if self.open.len() == MAX_DEPTH {
            return Err(problem(line, &format!("is nested more than {MAX_DEPTH} deep")));
        }
        self.open.push(Open { line, anchor, items });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Problem> {
        let Some(Open { line, anchor, items }) = self.open.pop() else { return Ok(()) };
        let content = match items {
            Items::List(items) => Content::List(items),
            Items::Map { mut entries, merged, .. } => {
                for (name, tree) in merged {
                    if !entries.iter().any(|(known, _)| *known == name) {
                        entries.push((name, tree));
                    }
                }
                Content::Map(entries)
            }
        };
        let tree = Tree { line, content };
        self.keep(anchor, &tree);
        self.add(tree)
    }

    fn keep(&mut self, anchor: usize, tree: &Tree) {
        if anchor != 0 {
            self.anchors.insert(anchor, tree.clone());
        }
    }

    fn add(&mut self, tree: Tree) -> Result<(), Problem> {
        let Some(open) = self.open.last_mut() else {
            self.finished = Some(tree);
            return Ok(());
        };
        match &mut open.items {
            Items::List(items) => items.push(tree),
            Items::Map { entries, key, merged } => match key.take() {
                None => *key = Some(new_key(entries, &tree)?),
                Some(key) if key.is_merge => merge(merged, tree, key.line)?,
                Some(key) => entries.push((key.name, tree)),
            },
        }
        Ok(())
    }
}

/// YAML 1.1's key that puts another map's entries into this one.
const MERGE: &str = "<<";

fn new_key(entries: &[(String, Tree)], tree: &Tree) -> Result<MapKey, Problem> {
    let Some(name) = tree.scalar() else {
        return Err(problem(tree.line, "has a key that is no string"));
    };
    match entries.iter().find(|(known, _)| known == name) {
        Some((_, first)) => {
            let reason = format!("has the key {name:?} twice: also at line {}", first.line);
            Err(problem(tree.line, &reason))
        }
        None => {
            let is_merge = tree.content == Content::Plain(MERGE.to_owned());
            Ok(MapKey { name: name.to_owned(), line: tree.line, is_merge })
        }
    }
}

fn merge(merged: &mut Vec<(String, Tree)>, tree: Tree, line: u32) -> Result<(), Problem> {
    match tree.content {
        Content::Map(entries) => {
            merged.extend(entries);
            Ok(())
        }
        Content::List(maps) => maps.into_iter().try_for_each(|map| merge(merged, map, line)),
        _ => Err(problem(line, "merges (<<) something that is no object")),
    }
}

fn scalar(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>, line: u32) -> Result<Content, Problem> {
    match tag {
        Some(tag) if tag.is_yaml_core_schema_tag("str") => return Ok(Content::Text(text.into_owned())),
        Some(tag) if !tag.is_yaml_core_schema() => {
            return Err(problem(line, &format!("has the tag {}, which means nothing here", tag.original())));
        }
        _ => {}
    }
    Ok(match (style, &*text) {
        (ScalarStyle::Plain, "" | "~" | "null" | "Null" | "NULL") => Content::Null,
        (ScalarStyle::Plain, _) => Content::Plain(text.into_owned()),
        _ => Content::Text(text.into_owned()),
    })
}

fn size(tree: &Tree) -> usize {
    match &tree.content {
        Content::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Content::Map(entries) => 1 + entries.iter().map(|(_, tree)| size(tree)).sum::<usize>(),
        Content::Null | Content::Plain(_) | Content::Text(_) => 1,
    }
}

fn problem(line: u32, reason: &str) -> Problem {
    Problem { field: String::new(), line, value: None, reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Tree {
        let mut documents = parse(text).unwrap();
        assert_eq!(documents.len(), 1, "{documents:?}");
        documents.remove(0).tree
    }

    fn refusal(text: &str) -> String {
        let (document, problem) = parse(text).unwrap_err();
        format!("document {document} line {}: {}", problem.line, problem.reason)
    }

    #[test]
    fn scalars_are_kept_as_written() {
        let tree = one("as: 64512.10\nmode: 0755\nanswer: 'yes'\nempty:\nport: !!str 80\n");
        let plain = |text: &str| Content::Plain(text.to_owned());
        assert_eq!(tree.get("as").unwrap().content, plain("64512.10"));
        assert_eq!(tree.get("mode").unwrap().content, plain("0755"));
        assert_eq!(tree.get("answer").unwrap().content, Content::Text("yes".to_owned()));
        assert_eq!(tree.get("port").unwrap().content, Content::Text("80".to_owned()));
        assert!(tree.get("empty").unwrap().is_null());
    }

    #[test]
    fn lines_are_known() {
        let tree = one("a: 1\nb:\n  - x\n  - y\n");
        let Content::List(items) = &tree.get("b").unwrap().content else { panic!("{tree:?}") };
        assert_eq!((tree.get("a").unwrap().line, items[1].line), (1, 4));
    }

    #[test]
    fn json_is_yaml_tabs_and_escapes_included() {
        let tree = one("{\n\t\"a\": [1, true, null],\n\t\"b\": \"x\\/\\u00e9\\ud83d\\ude00\"}");
        assert_eq!(tree.get("b").unwrap().scalar(), Some("x/é😀"));
    }

    #[test]
    fn json_that_is_not_yaml_is_read_as_json() {
        let tree = one("{\"a\": \"x\u{7f}\"}");
        assert_eq!((tree.get("a").unwrap().scalar(), tree.line), (Some("x\u{7f}"), 0));
    }

    #[test]
    fn documents_are_numbered_and_empty_ones_left_out() {
        let numbers: Vec<usize> = parse("---\n---\na: 1\n---\n# nothing\n---\nb: 2\n")
            .unwrap()
            .iter()
            .map(|document| document.number)
            .collect();
        assert_eq!(numbers, [2, 4]);
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn aliases_and_merges_are_written_out() {
        let tree = one("base: &b {x: 1, y: 2}\nmore:\n  <<: *b\n  y: 3\n");
        let more = tree.get("more").unwrap();
        assert_eq!(
            (more.get("x").unwrap().scalar(), more.get("y").unwrap().scalar()),
            (Some("1"), Some("3"))
        );
    }

    #[test]
    fn a_quoted_merge_key_is_a_key_like_any_other() {
        assert_eq!(one("'<<': x\n").get("<<").unwrap().scalar(), Some("x"));
    }

    #[test]
    fn an_alias_bomb_is_defused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let previous = vec![format!("*a{}", level - 1); 10].join(", ");
            text += &format!("a{level}: &a{level} [{previous}]\n");
        }
        assert!(refusal(&text).contains("aliases that make it too large"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        assert_eq!(
            refusal("a: 1\nb: 2\na: 3\n"),
            "document 1 line 3: has the key \"a\" twice: also at line 1"
        );
        assert!(refusal("a: 1\n---\nb: [1\n").starts_with("document 2 line "));
        assert!(refusal("? [a]\n: 1\n").contains("key that is no string"));
        assert!(refusal("a: !thing 1\n").contains("!thing"));
        assert!(refusal(&("[".repeat(200) + &"]".repeat(200))).contains("100 deep"));
        assert!(refusal("a: &x [*x]\n").contains("alias"));
    }
}
