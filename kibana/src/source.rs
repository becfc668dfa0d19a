//! A source file as a tree that knows its lines, so that whatever is wrong with it is said with file, line and key.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Number, Value};
use yaml_rust2::parser::{MarkedEventReceiver, Parser};
use yaml_rust2::scanner::{Marker, TScalarStyle};
use yaml_rust2::{Event, Yaml};

/// What is wrong with a source.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}:{line}: {text}", file.display())]
pub struct Error {
    /// The source file.
    pub file: PathBuf,
    /// The line in it, from 1.
    pub line: usize,
    /// What is wrong, and what would be right.
    pub text: String,
}

/// A source file.
#[derive(Debug)]
pub(crate) struct Source {
    /// Its name without `.yaml`: the object's id.
    pub(crate) id: String,
    pub(crate) file: PathBuf,
    pub(crate) root: Node,
}

/// A value and the line, from 1, that it or its key is on.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) line: usize,
    pub(crate) kind: Kind,
}

#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Null,
    Bool(bool),
    Number(Number),
    Text(String),
    List(Vec<Node>),
    Table(Vec<(String, Node)>),
}

impl Source {
    pub(crate) fn read(file: &Path) -> Result<Self, Error> {
        let error = |line, text| Error { file: file.to_owned(), line, text };
        let text = fs::read_to_string(file).map_err(|cause| error(0, cause.to_string()))?;
        let root = Node::parse(&text).map_err(|(line, text)| error(line, text))?;
        let id = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { id, file: file.to_owned(), root })
    }

    pub(crate) fn error(&self, line: usize, text: impl Into<String>) -> Error {
        Error { file: self.file.clone(), line, text: text.into() }
    }

    /// The text under `key` of a table.
    pub(crate) fn text<'a>(&self, table: &'a Node, key: &str) -> Result<&'a str, Error> {
        self.optional_text(table, key)?.ok_or_else(|| self.error(table.line, format!("`{key}` is missing here")))
    }

    pub(crate) fn optional_text<'a>(&self, table: &'a Node, key: &str) -> Result<Option<&'a str>, Error> {
        match table.get(key) {
            None => Ok(None),
            Some(Node { kind: Kind::Text(text), .. }) => Ok(Some(text)),
            Some(other) => Err(self.error(other.line, format!("`{key}` must be text; put it in quotes"))),
        }
    }

    pub(crate) fn number(&self, table: &Node, key: &str) -> Result<u64, Error> {
        let wrong = |line| self.error(line, format!("`{key}` must be a whole number"));
        let node = table.get(key).ok_or_else(|| wrong(table.line))?;
        match &node.kind {
            Kind::Number(number) => number.as_u64().ok_or_else(|| wrong(node.line)),
            _ => Err(wrong(node.line)),
        }
    }

    /// Fails at the first key that `known` does not have, and at the first value of another kind than there.
    ///
    /// In `known`, `~` stands for anything, the key `"*"` for every key, and a list's only item for each of the items.
    pub(crate) fn check(&self, node: &Node, known: &Node, path: &str) -> Result<(), Error> {
        match (&node.kind, &known.kind) {
            (_, Kind::Null) => Ok(()),
            (Kind::Table(entries), Kind::Table(known_entries)) => {
                for (key, value) in entries {
                    let Some(shape) = known.get(key).or_else(|| known.get("*")) else {
                        let names = known_entries.iter().map(|(name, _)| name.as_str());
                        return Err(
                            self.error(value.line, format!("unknown key `{path}{key}`; {}", nearest(key, names)))
                        );
                    };
                    self.check(value, shape, &format!("{path}{key}."))?;
                }
                Ok(())
            }
            (Kind::List(items), Kind::List(shapes)) => {
                let shape = shapes.first();
                items.iter().try_for_each(|item| shape.map_or(Ok(()), |shape| self.check(item, shape, path)))
            }
            (Kind::Bool(_), Kind::Bool(_)) | (Kind::Number(_), Kind::Number(_)) | (Kind::Text(_), Kind::Text(_)) => {
                Ok(())
            }
            (_, wanted) => {
                let key = path.trim_end_matches('.');
                Err(self.error(node.line, format!("`{key}` must be {}", wanted.name())))
            }
        }
    }
}

/// A sentence that names the known word most like `word`, or all of them.
pub(crate) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let like = known.clone().map(|name| (strsim::jaro_winkler(word, name), name));
    match like.filter(|(likeness, _)| *likeness > 0.75).max_by(|(a, _), (b, _)| a.total_cmp(b)) {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None => format!("there are {}", known.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")),
    }
}

impl Kind {
    fn name(&self) -> &'static str {
        match self {
            Self::Null => "empty",
            Self::Bool(_) => "true or false",
            Self::Number(_) => "a number",
            Self::Text(_) => "text (a number or `true` needs quotes)",
            Self::List(_) => "a list",
            Self::Table(_) => "keys with values",
        }
    }
}

impl Node {
    /// The tree of a YAML text, or the line and what is wrong there.
    pub(crate) fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut builder = Builder::default();
        Parser::new_from_str(text).load(&mut builder, true).map_err(|error| {
            (error.marker().line(), format!("not YAML: {} (column {})", error.info(), error.marker().col() + 1))
        })?;
        match builder.error {
            Some(error) => Err(error),
            None => Ok(builder.root.unwrap_or(Self { line: 1, kind: Kind::Null })),
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        match &self.kind {
            Kind::Table(entries) => entries.iter().find(|(name, _)| name == key).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The items of a list; of anything else, none.
    pub(crate) fn items(&self) -> &[Self] {
        match &self.kind {
            Kind::List(items) => items,
            _ => &[],
        }
    }

    pub(crate) fn json(&self) -> Value {
        match &self.kind {
            Kind::Null => Value::Null,
            Kind::Bool(value) => Value::Bool(*value),
            Kind::Number(number) => Value::Number(number.clone()),
            Kind::Text(text) => Value::String(text.clone()),
            Kind::List(items) => Value::Array(items.iter().map(Self::json).collect()),
            Kind::Table(entries) => {
                Value::Object(entries.iter().map(|(key, value)| (key.clone(), value.json())).collect::<Map<_, _>>())
            }
        }
    }
}

/// What a scalar without quotes means.
fn plain(text: &str) -> Kind {
    let float = |text: String| text.parse().ok().and_then(Number::from_f64);
    match Yaml::from_str(text) {
        Yaml::Null => Kind::Null,
        Yaml::Boolean(value) => Kind::Bool(value),
        Yaml::Integer(value) => Kind::Number(value.into()),
        Yaml::Real(value) => float(value).map_or_else(|| Kind::Text(text.to_owned()), Kind::Number),
        _ => Kind::Text(text.to_owned()),
    }
}

/// A list or table that is not closed yet; in a table with the key whose value comes next, and its line.
struct Open {
    node: Node,
    key: Option<(String, usize)>,
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    root: Option<Node>,
    error: Option<(usize, String)>,
}

impl Builder {
    fn refuse(&mut self, line: usize, text: &str) {
        self.error.get_or_insert((line, text.to_owned()));
    }

    fn add(&mut self, node: Node) {
        let Some(parent) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        match &mut parent.node.kind {
            Kind::List(items) => items.push(node),
            Kind::Table(entries) => match parent.key.take() {
                // A value is found by its key: `params:` is on the line above its first entry.
                Some((key, line)) => entries.push((key, Node { line, ..node })),
                None => {
                    let key = match node.json() {
                        Value::String(key) => key,
                        other => other.to_string(),
                    };
                    let twice = entries.iter().any(|(known, _)| *known == key);
                    parent.key = Some((key.clone(), node.line));
                    if twice {
                        self.refuse(node.line, &format!("`{key}` is here twice"));
                    }
                }
            },
            _ => {}
        }
    }
}

impl MarkedEventReceiver for Builder {
    fn on_event(&mut self, event: Event, mark: Marker) {
        let line = mark.line();
        let open = |kind| Open { node: Node { line, kind }, key: None };
        match event {
            Event::Scalar(text, style, ..) => {
                let kind = if style == TScalarStyle::Plain { plain(&text) } else { Kind::Text(text) };
                self.add(Node { line, kind });
            }
            Event::SequenceStart(..) => self.open.push(open(Kind::List(Vec::new()))),
            Event::MappingStart(..) => self.open.push(open(Kind::Table(Vec::new()))),
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(closed) = self.open.pop() {
                    self.add(closed.node);
                }
            }
            Event::Alias(_) => self.refuse(line, "an alias; write out what it stands for"),
            Event::DocumentStart if self.root.is_some() => {
                self.refuse(line, "a second document; one file is one object")
            }
            Event::DocumentStart | Event::DocumentEnd | Event::StreamStart | Event::StreamEnd | Event::Nothing => {}
        }
    }
}
