//! YAML text as a tree that knows its lines.
//!
//! Plain scalars stay text, since what they mean depends on the key they belong to: a password `007` is no number. Two
//! values for one key, several documents and keys that are no text are errors here.

use std::collections::HashMap;

use yaml_rust2::Event;
use yaml_rust2::parser::{MarkedEventReceiver, Parser};
use yaml_rust2::scanner::{Marker, TScalarStyle};

/// A value, and the line (from 1) that it or its key is on.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    pub line: usize,
    pub kind: Kind,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// `null`, `~`, or nothing.
    Null,
    /// A scalar without quotes.
    Plain(String),
    /// A scalar in quotes, or a block of text.
    Quoted(String),
    List(Vec<Node>),
    Table(Vec<(String, Node)>),
}

/// What is wrong with the text, and where.
#[derive(Debug, PartialEq, Eq)]
pub struct SyntaxError {
    pub line: usize,
    pub text: String,
}

/// The tree of a YAML text; of an empty one, [`Kind::Null`].
pub fn parse(text: &str) -> Result<Node, SyntaxError> {
    let mut builder = Builder::default();
    if let Err(error) = Parser::new_from_str(text).load(&mut builder, true) {
        return Err(SyntaxError {
            line: error.marker().line(),
            text: format!("not YAML: {} (column {})", error.info(), error.marker().col() + 1),
        });
    }
    match builder.error {
        Some(error) => Err(error),
        None => Ok(builder.root.unwrap_or(Node { line: 1, kind: Kind::Null })),
    }
}

impl Node {
    /// A scalar that has no quotes.
    pub fn plain(text: &str) -> Self {
        let kind =
            if matches!(text, "" | "~" | "null" | "Null" | "NULL") { Kind::Null } else { Kind::Plain(text.to_owned()) };
        Self { line: 1, kind }
    }
}

/// A list or table that is not closed yet.
struct Open {
    node: Node,
    anchor: usize,
    /// In a table: the key whose value comes next, and its line.
    key: Option<(String, usize)>,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    root: Option<Node>,
    error: Option<SyntaxError>,
}

impl Builder {
    fn refuse(&mut self, line: usize, text: String) {
        self.error.get_or_insert(SyntaxError { line, text });
    }

    fn add(&mut self, node: Node, anchor: usize) {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        match &mut parent.node.kind {
            Kind::List(items) => items.push(node),
            Kind::Table(entries) => match parent.key.take() {
                // A value is found by its key: `batch:` is on the line above its first entry.
                Some((key, line)) => entries.push((key, Node { line, ..node })),
                None => match node.kind {
                    Kind::Plain(key) | Kind::Quoted(key) => {
                        let twice = entries.iter().find(|(known, _)| *known == key).map(|(_, first)| first.line);
                        parent.key = Some((key.clone(), node.line));
                        if let Some(first) = twice {
                            self.refuse(node.line, format!("`{key}` is here twice, first on line {first}"));
                        }
                    }
                    Kind::Null | Kind::List(_) | Kind::Table(_) => {
                        parent.key = Some((String::new(), node.line));
                        self.refuse(node.line, "a key must be text".to_owned());
                    }
                },
            },
            Kind::Null | Kind::Plain(_) | Kind::Quoted(_) => {}
        }
    }
}

impl MarkedEventReceiver for Builder {
    fn on_event(&mut self, event: Event, mark: Marker) {
        let line = mark.line();
        match event {
            Event::DocumentStart if self.root.is_some() => {
                self.refuse(line, "a second document; one file is one document".to_owned());
            }
            Event::Scalar(text, style, anchor, _) => {
                let node = match style {
                    TScalarStyle::Plain => Node { line, ..Node::plain(&text) },
                    _ => Node { line, kind: Kind::Quoted(text) },
                };
                self.add(node, anchor);
            }
            Event::SequenceStart(anchor, _) => {
                self.open.push(Open { node: Node { line, kind: Kind::List(Vec::new()) }, anchor, key: None });
            }
            Event::MappingStart(anchor, _) => {
                self.open.push(Open { node: Node { line, kind: Kind::Table(Vec::new()) }, anchor, key: None });
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(closed) = self.open.pop() {
                    self.add(closed.node, closed.anchor);
                }
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(node) => self.add(Node { line, ..node }, 0),
                None => self.refuse(line, "an alias inside the value it stands for".to_owned()),
            },
            Event::DocumentStart | Event::DocumentEnd | Event::StreamStart | Event::StreamEnd | Event::Nothing => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(line: usize, text: &str) -> Node {
        Node { line, kind: Kind::Plain(text.to_owned()) }
    }

    #[test]
    fn a_value_has_the_line_of_its_key() {
        let node = parse("# one\nbatch:\n  max_docs: 007\n\n  list:\n    - a\n    - b\n").unwrap();
        let list = Node { line: 5, kind: Kind::List(vec![plain(6, "a"), plain(7, "b")]) };
        let batch = Kind::Table(vec![("max_docs".to_owned(), plain(3, "007")), ("list".to_owned(), list)]);
        assert_eq!(node.kind, Kind::Table(vec![("batch".to_owned(), Node { line: 2, kind: batch })]));
    }

    #[test]
    fn keys_keep_their_dots_and_their_case() {
        let node = parse("{service.name: Shop, X-Y: 'null', z: }").unwrap();
        let entries = vec![
            ("service.name".to_owned(), plain(1, "Shop")),
            ("X-Y".to_owned(), Node { line: 1, kind: Kind::Quoted("null".to_owned()) }),
            ("z".to_owned(), Node { line: 1, kind: Kind::Null }),
        ];
        assert_eq!(node.kind, Kind::Table(entries));
    }

    #[test]
    fn aliases_stand_for_their_value() {
        let node = parse("a: &x [1]\nb: *x\n").unwrap();
        let list = |line| Node { line, kind: Kind::List(vec![plain(1, "1")]) };
        assert_eq!(node.kind, Kind::Table(vec![("a".to_owned(), list(1)), ("b".to_owned(), list(2))]));
    }

    #[test]
    fn what_is_no_yaml_is_refused_with_its_line() {
        for (text, line, error) in [
            ("a: 1\na: 2\n", 2, "`a` is here twice, first on line 1"),
            ("a: 1\n---\nb: 1\n", 2, "a second document; one file is one document"),
            ("a: 1\n[x]: 2\n", 2, "a key must be text"),
        ] {
            assert_eq!(parse(text), Err(SyntaxError { line, text: error.to_owned() }), "{text}");
        }
        assert_eq!(parse("a: 1\nb: [1\nc: 2\n").unwrap_err().line, 3);
    }
}
