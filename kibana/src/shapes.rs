//! What sources may hold and what Kibana writes where they say nothing: `shapes.yaml`, and how a source is laid over it.

use serde_json::{Map, Value};

use crate::source::{Error, Kind, Node, Source, nearest};

/// The tree of `shapes.yaml`.
pub(crate) struct Shapes {
    root: Node,
}

/// The defaults of something, and all that it may have.
pub(crate) struct Shape<'a> {
    entry: &'a Node,
}

impl Shapes {
    pub(crate) fn load() -> Self {
        Self { root: Node::parse(include_str!("shapes.yaml")).expect("the embedded text is tested") }
    }

    fn section(&self, name: &str) -> &Node {
        self.root.get(name).expect("the embedded text has this section")
    }

    /// What the top level of a source of this kind may hold.
    pub(crate) fn of_source(&self, kind: &str) -> &Node {
        self.section("sources").get(kind).expect("the embedded text has every kind")
    }

    pub(crate) fn of_series(&self) -> Shape<'_> {
        Shape { entry: self.section("series") }
    }

    /// The shape of the type that `table` names under `type`, in a section of types.
    pub(crate) fn of_type(&self, section: &str, source: &Source, table: &Node) -> Result<Shape<'_>, Error> {
        let name = source.text(table, "type")?;
        let section = self.section(section);
        let Some(entry) = section.get(name) else {
            let line = table.get("type").map_or(table.line, |node| node.line);
            let known = match &section.kind {
                Kind::Table(entries) => entries.as_slice(),
                _ => &[],
            };
            let known = known.iter().map(|(name, _)| name.as_str());
            return Err(source.error(line, format!("no type `{name}`; {}", nearest(name, known))));
        };
        Ok(Shape { entry })
    }
}

impl Shape<'_> {
    /// `own` over the defaults, once each of its keys is known.
    pub(crate) fn fill(&self, source: &Source, own: Option<&Node>, path: &str) -> Result<Value, Error> {
        let part = |name| self.entry.get(name).expect("every shape has both parts");
        let (defaults, also) = (part("defaults"), part("also"));
        let mut filled = defaults.json();
        if let Some(own) = own {
            source.check(own, &both(defaults, also), path)?;
            merge(&mut filled, own.json());
        }
        Ok(filled)
    }
}

/// The keys of two trees; where both have a list, of their items.
fn both(one: &Node, other: &Node) -> Node {
    let kind = match (&one.kind, &other.kind) {
        (Kind::Table(entries), Kind::Table(others)) => {
            let joined = entries.iter().map(|(key, value)| {
                let value = other.get(key).map_or_else(|| value.clone(), |more| both(value, more));
                (key.clone(), value)
            });
            let more = others.iter().filter(|(key, _)| one.get(key).is_none()).cloned();
            Kind::Table(joined.chain(more).collect())
        }
        (Kind::List(items), Kind::List(others)) => match (items.first(), others.first()) {
            (Some(item), Some(more)) => Kind::List(vec![both(item, more)]),
            (item, more) => Kind::List(item.or(more).cloned().into_iter().collect()),
        },
        (_, kind) => kind.clone(),
    };
    Node { line: one.line, kind }
}

/// Lays `own` over `filled`: tables key by key; a list's tables each over the first table of the list that is there.
pub(crate) fn merge(filled: &mut Value, own: Value) {
    match (filled, own) {
        (Value::Object(filled), Value::Object(own)) => {
            for (key, value) in own {
                merge(filled.entry(key).or_insert(Value::Null), value);
            }
        }
        (Value::Array(filled), Value::Array(own)) => {
            let first = filled.first().filter(|first| first.is_object()).cloned();
            *filled = own
                .into_iter()
                .map(|item| {
                    let mut base = first.clone().unwrap_or_else(|| Value::Object(Map::new()));
                    merge(&mut base, item);
                    base
                })
                .collect();
        }
        (filled, own) => *filled = own,
    }
}
