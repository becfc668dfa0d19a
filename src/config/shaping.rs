//! From a YAML tree to a layer for the crate `config`: each value gets the kind that its key takes, and remembers where
//! it came from. What does not fit is a [`Problem`]; all of them are found.

use config::{Map, Value, ValueKind};
use yaml_rust2::Yaml;

use super::error::{Origin, Problem};
use super::schema::Shape;
use super::units::{ByteSize, Span};
use super::yaml::{Kind, Node};

/// Makes values of nodes.
pub struct Shaper<'a> {
    /// Where a value on this line of the layer's text comes from.
    pub origin: &'a dyn Fn(usize) -> Origin,
    pub problems: &'a mut Vec<Problem>,
}

impl Shaper<'_> {
    /// The value of `node` under `key`, whose shape is `shape`.
    pub fn value(&mut self, key: &str, node: &Node, shape: &Shape) -> Value {
        let kind = self.kind(key, node, shape);
        Value::new(Some(&(self.origin)(node.line).mark()), kind)
    }

    fn kind(&mut self, key: &str, node: &Node, shape: &Shape) -> ValueKind {
        match (&node.kind, shape) {
            (Kind::Null, _) => ValueKind::Nil,
            (Kind::Table(entries), Shape::Table(known)) => {
                let mut table = Map::new();
                for (name, entry) in entries {
                    let path = join(key, name);
                    match known.iter().find(|(known_name, _)| known_name == name) {
                        Some((_, entry_shape)) => {
                            table.insert(name.clone(), self.value(&path, entry, entry_shape));
                        }
                        None => drop(self.refuse(&path, entry, unknown_key(name, known))),
                    }
                }
                ValueKind::Table(table)
            }
            (Kind::Table(entries), Shape::Map(inner)) => ValueKind::Table(
                entries
                    .iter()
                    .map(|(name, entry)| (name.clone(), self.value(&join(key, name), entry, inner)))
                    .collect(),
            ),
            (Kind::Table(entries), Shape::Any) => ValueKind::Table(
                entries
                    .iter()
                    .map(|(name, entry)| (name.clone(), self.value(&join(key, name), entry, shape)))
                    .collect(),
            ),
            (Kind::List(items), Shape::List(inner)) => ValueKind::Array(self.items(key, items, inner)),
            (Kind::List(items), Shape::Any) => ValueKind::Array(self.items(key, items, shape)),
            (Kind::Table(entries), Shape::Word(words)) => match entries.as_slice() {
                [(word, text)] if words.contains(&(word.as_str(), true)) => {
                    // The crate `config` takes it for granted that a word's text is there.
                    if text.kind == Kind::Null {
                        return self.refuse(key, text, needs_text(word));
                    }
                    let inner = self.value(&join(key, word), text, &Shape::Text);
                    ValueKind::Table(Map::from_iter([(word.clone(), inner)]))
                }
                _ => self.refuse(key, node, format!("this has no meaning here; write {}", choices(words))),
            },
            (Kind::Plain(text) | Kind::Quoted(text), _) => self.scalar(key, node, text, shape),
            (Kind::List(_) | Kind::Table(_), _) => {
                let found = if matches!(node.kind, Kind::List(_)) { "a list" } else { "keys with values" };
                self.refuse(key, node, format!("{found} where {} is needed", describe(shape)))
            }
        }
    }

    fn items(&mut self, key: &str, items: &[Node], inner: &Shape) -> Vec<Value> {
        items.iter().enumerate().map(|(index, item)| self.value(&join(key, &index.to_string()), item, inner)).collect()
    }

    fn scalar(&mut self, key: &str, node: &Node, text: &str, shape: &Shape) -> ValueKind {
        let wrong = match shape {
            Shape::Text | Shape::Secret => None,
            Shape::Any => return any(node, text),
            Shape::Size => text.parse::<ByteSize>().err().map(|error| error.to_string()),
            Shape::Time => text.parse::<Span>().err().map(|error| error.to_string()),
            Shape::Bool => {
                (!matches!(text, "true" | "false")).then(|| format!("`{text}` is neither `true` nor `false`"))
            }
            Shape::Integer(max) => (!text.parse::<u64>().is_ok_and(|number| number <= *max))
                .then(|| format!("`{text}` is not a whole number from 0 to {max}")),
            Shape::Word(words) => match words.iter().find(|(word, _)| word == &text) {
                Some((_, false)) => None,
                Some((word, true)) => Some(needs_text(word)),
                None => Some(format!("`{text}` is not known here; write {}", choices(words))),
            },
            Shape::List(inner) => {
                let example = if **inner == Shape::Text { format!("; write [\"{text}\"]") } else { String::new() };
                Some(format!("`{text}` where a list is needed{example}"))
            }
            Shape::Table(_) | Shape::Map(_) => Some(format!("`{text}` where {} is needed", describe(shape))),
        };
        match wrong {
            None => ValueKind::String(text.to_owned()),
            Some(problem) => self.refuse(key, node, problem),
        }
    }

    /// Notes a problem; what stands for the value is of no consequence, since nothing is made of a layer with problems.
    fn refuse(&mut self, key: &str, node: &Node, text: String) -> ValueKind {
        self.problems.push(Problem { origin: (self.origin)(node.line), key: key.to_owned(), text });
        ValueKind::Nil
    }
}

/// A scalar where anything may stand: what YAML makes of it.
fn any(node: &Node, text: &str) -> ValueKind {
    if matches!(node.kind, Kind::Quoted(_)) {
        return ValueKind::String(text.to_owned());
    }
    match Yaml::from_str(text) {
        Yaml::Boolean(value) => ValueKind::Boolean(value),
        Yaml::Integer(value) => ValueKind::I64(value),
        Yaml::Real(value) => value.parse().map_or_else(|_| ValueKind::String(value), ValueKind::Float),
        _ => ValueKind::String(text.to_owned()),
    }
}

/// What to say of a key that nobody knows.
pub fn unknown_key(name: &str, known: &[(&'static str, Shape)]) -> String {
    let nearest = known
        .iter()
        .map(|(known_name, _)| (strsim::jaro_winkler(&name.to_ascii_lowercase(), known_name), known_name))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|(a, _), (b, _)| a.total_cmp(b));
    match nearest {
        Some((_, nearest)) => format!("unknown key `{name}`; did you mean `{nearest}`?"),
        None => {
            let names: Vec<String> = known.iter().map(|(known_name, _)| format!("`{known_name}`")).collect();
            format!("unknown key `{name}`; there are {}", names.join(", "))
        }
    }
}

fn needs_text(word: &str) -> String {
    format!("`{word}` needs a text; write `{{{word}: '…'}}`")
}

fn choices(words: &[(&'static str, bool)]) -> String {
    let all: Vec<String> = words
        .iter()
        .map(|(word, with_text)| if *with_text { format!("`{{{word}: '…'}}`") } else { format!("`{word}`") })
        .collect();
    match all.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => all.concat(),
    }
}

fn describe(shape: &Shape) -> String {
    match shape {
        Shape::Table(known) => {
            let names: Vec<String> = known.iter().map(|(name, _)| format!("`{name}`")).collect();
            format!("a table with {}", names.join(", "))
        }
        Shape::Map(_) => "a table".to_owned(),
        Shape::List(_) => "a list".to_owned(),
        Shape::Text | Shape::Secret => "text".to_owned(),
        Shape::Size => "a size such as `8MiB`".to_owned(),
        Shape::Time => "a duration such as `250ms`".to_owned(),
        Shape::Bool => "`true` or `false`".to_owned(),
        Shape::Integer(max) => format!("a whole number from 0 to {max}"),
        Shape::Word(words) => choices(words),
        Shape::Any => "a value".to_owned(),
    }
}

/// `name` under `key`.
pub fn join(key: &str, name: &str) -> String {
    if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") }
}
