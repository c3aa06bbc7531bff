//! From untyped documents to typed ones, with errors that say where.
//!
//! Serde's derived code asks a deserializer for a struct together with the names of its fields; [`Node`] uses that to
//! find fields that nobody knows, so that the same types serve for strict reading (user documents: an unknown field is
//! an error) and for lenient reading (stored rows: written by other versions). A field that is null is absent.

mod error;
mod node;
mod suggest;
mod tree;
mod yaml;

use std::cell::RefCell;

use serde::de::DeserializeOwned;

pub(crate) use error::Problem;
use node::{Context, Node, Path};
pub(crate) use suggest::nearest;
pub(crate) use tree::{Content, Tree};
pub(crate) use yaml::parse as parse_yaml;

/// Decodes a document; every field has to be known.
pub(crate) fn strict<T: DeserializeOwned>(tree: &Tree) -> Result<T, Vec<Problem>> {
    decode(tree, true)
}

/// Decodes a document; unknown fields are skipped.
pub(crate) fn lenient<T: DeserializeOwned>(tree: &Tree) -> Result<T, Vec<Problem>> {
    decode(tree, false)
}

fn decode<T: DeserializeOwned>(tree: &Tree, is_strict: bool) -> Result<T, Vec<Problem>> {
    let context = Context { is_strict, unknown: RefCell::default() };
    let result = T::deserialize(Node { tree, path: Path::Root, context: &context });
    let mut problems = context.unknown.into_inner();
    match result {
        Ok(value) if problems.is_empty() => Ok(value),
        Ok(_) => Err(problems),
        Err(error) => {
            problems.push(error.into_problem());
            Err(problems)
        }
    }
}
