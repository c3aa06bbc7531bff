//! The deserializer.

use std::cell::RefCell;
use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::error::{DecodeError, Problem};
use super::suggest::nearest;
use super::tree::{Content, Tree, Untyped, float, signed, truth, unsigned, untyped};
use crate::scalars::NUMBER_OR_TEXT;

/// The way from the document to a node.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Path<'a> {
    Root,
    Field(&'a Path<'a>, &'a str),
    Index(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Self::Root, name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

pub(super) struct Context {
    pub(super) is_strict: bool,
    pub(super) unknown: RefCell<Vec<Problem>>,
}

/// A node to be decoded.
#[derive(Clone, Copy)]
pub(super) struct Node<'a> {
    pub(super) tree: &'a Tree,
    pub(super) path: Path<'a>,
    pub(super) context: &'a Context,
}

/// What a resource's `spec` is when it is left out.
static EMPTY: Tree = Tree { line: 0, content: Content::Map(Vec::new()) };

/// Fields of the document itself that say what it is, and are read before it is.
const TYPE_META: [&str; 2] = ["apiVersion", "kind"];

impl<'a> Node<'a> {
    fn locate<T>(&self, result: Result<T, DecodeError>) -> Result<T, DecodeError> {
        result.map_err(|error| error.at(&self.path, self.tree))
    }

    fn refuse<T>(&self, expected: &str) -> Result<T, DecodeError> {
        let found = match &self.tree.content {
            Content::Null => "empty",
            Content::Plain(plain) => match untyped(plain) {
                Untyped::Bool(_) => "a truth value",
                Untyped::Unsigned(_) | Untyped::Signed(_) | Untyped::Float(_) => "a number",
                Untyped::Text => "a string",
            },
            Content::Text(_) => "a string",
            Content::List(_) => "a list",
            Content::Map(_) => "an object",
        };
        self.locate(Err(DecodeError::custom(format_args!("is {found}, but has to be {expected}"))))
    }

    fn integer<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let Content::Plain(plain) = &self.tree.content else {
            return self.refuse("a whole number without quotes");
        };
        let result = match (unsigned(plain), signed(plain)) {
            (Some(number), _) => visitor.visit_u64(number),
            (None, Some(number)) => visitor.visit_i64(number),
            _ => return self.refuse("a whole number, in decimal digits without leading zeros"),
        };
        self.locate(result.map_err(|_: DecodeError| DecodeError::custom("is out of range")))
    }

    fn note_unknown(&self, name: &str, tree: &Tree, fields: &'static [&'static str]) {
        let remedy = match nearest(name, fields.iter().copied()) {
            Some(meant) => format!("is not a field here; did you mean {meant:?}?"),
            None => format!("is not a field here; known are {}", enumerate(fields)),
        };
        let field = Path::Field(&self.path, name).to_string();
        let value = tree.scalar().map(str::to_owned);
        let problem = Problem { field, line: tree.line, value, reason: remedy };
        self.context.unknown.borrow_mut().push(problem);
    }
}

/// At most so many names are listed in an error.
const LISTED: usize = 25;

fn enumerate(fields: &[&str]) -> String {
    match fields.len() {
        0 => "none".to_owned(),
        count if count > LISTED => format!("{} and {} more", fields[..LISTED].join(", "), count - LISTED),
        _ => fields.join(", "),
    }
}

macro_rules! integers {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            self.integer(visitor)
        })*
    };
}

impl<'de> Deserializer<'de> for Node<'_> {
    type Error = DecodeError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let result = match &self.tree.content {
            Content::Null => visitor.visit_unit(),
            Content::Text(text) => visitor.visit_str(text),
            Content::Plain(plain) => match untyped(plain) {
                Untyped::Bool(value) => visitor.visit_bool(value),
                Untyped::Unsigned(value) => visitor.visit_u64(value),
                Untyped::Signed(value) => visitor.visit_i64(value),
                Untyped::Float(value) => visitor.visit_f64(value),
                Untyped::Text => visitor.visit_str(plain),
            },
            Content::List(items) => visitor.visit_seq(Items { node: &self, items, next: 0 }),
            Content::Map(entries) => visitor.visit_map(Entries {
                node: &self,
                entries: entries.iter().map(pair).collect(),
                next: 0,
            }),
        };
        self.locate(result)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.tree.content {
            Content::Plain(plain) => match truth(plain) {
                Some(value) => visitor.visit_bool(value),
                None => self.refuse("true or false"),
            },
            _ => self.refuse("true or false, without quotes"),
        }
    }

    integers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.tree.content {
            Content::Plain(plain) => match float(plain) {
                Some(value) => self.locate(visitor.visit_f64(value)),
                None => self.refuse("a number"),
            },
            _ => self.refuse("a number without quotes"),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.tree.scalar() {
            Some(text) => self.locate(visitor.visit_str(text)),
            None => self.refuse("a string"),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.tree.is_null() {
            true => visitor.visit_none(),
            false => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match (name, self.tree.scalar()) {
            (NUMBER_OR_TEXT, Some(text)) => self.locate(visitor.visit_str(text)),
            (NUMBER_OR_TEXT, None) => self.refuse("a number or a string"),
            _ => visitor.visit_newtype_struct(self),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.tree.content {
            Content::List(items) => self.locate(visitor.visit_seq(Items { node: &self, items, next: 0 })),
            _ => self.refuse("a list"),
        }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match &self.tree.content {
            Content::Map(entries) => {
                let entries = entries.iter().map(pair).collect();
                self.locate(visitor.visit_map(Entries { node: &self, entries, next: 0 }))
            }
            _ => self.refuse("an object"),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let Content::Map(all) = &self.tree.content else {
            return self.refuse("an object");
        };
        let is_document = matches!(self.path, Path::Root);
        let mut entries = Vec::with_capacity(all.len());
        for (name, tree) in all {
            if fields.contains(&name.as_str()) {
                // Null is as good as absent.
                if !tree.is_null() {
                    entries.push((name.as_str(), tree));
                }
            } else if self.context.is_strict && !(is_document && TYPE_META.contains(&name.as_str())) {
                self.note_unknown(name, tree, fields);
            }
        }
        if is_document && fields.contains(&"spec") && !entries.iter().any(|(name, _)| *name == "spec") {
            entries.push(("spec", &EMPTY));
        }
        self.locate(visitor.visit_map(Entries { node: &self, entries, next: 0 }))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        match self.tree.scalar() {
            Some(text) => self.locate(visitor.visit_enum(StrDeserializer::<DecodeError>::new(text))),
            None => self.refuse("a word"),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct identifier
    }
}

fn pair((name, tree): &(String, Tree)) -> (&str, &Tree) {
    (name, tree)
}

struct Items<'a> {
    node: &'a Node<'a>,
    items: &'a [Tree],
    next: usize,
}

impl<'de> SeqAccess<'de> for Items<'_> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let Some(tree) = self.items.get(self.next) else { return Ok(None) };
        let path = Path::Index(&self.node.path, self.next);
        self.next += 1;
        let node = Node { tree, path, context: self.node.context };
        node.locate(seed.deserialize(node)).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.items.len() - self.next)
    }
}

struct Entries<'a> {
    node: &'a Node<'a>,
    entries: Vec<(&'a str, &'a Tree)>,
    next: usize,
}

impl<'de> MapAccess<'de> for Entries<'_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        let Some((name, tree)) = self.entries.get(self.next) else { return Ok(None) };
        let path = Path::Field(&self.node.path, name);
        let key = seed.deserialize(StrDeserializer::<DecodeError>::new(name));
        key.map(Some).map_err(|error| error.at(&path, tree))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DecodeError> {
        let (name, tree) =
            *self.entries.get(self.next).ok_or_else(|| DecodeError::custom("has a key too few"))?;
        self.next += 1;
        let node = Node { tree, path: Path::Field(&self.node.path, name), context: self.node.context };
        node.locate(seed.deserialize(node))
    }
}
