//! The road from defaults, file, environment and `--set` to a [`Config`].
//!
//! Each layer is first given its shape (`shaping`), so that every wrong key and value of every layer is reported with
//! its place. The crate `config` then lays one over the other and deserialises, and `validate` looks at what came out.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use config::{Map, Source, Value, ValueKind};
use serde::Deserialize;

use super::error::{ConfigError, Origin, Problem, none_of};
use super::origins::Origins;
use super::schema::{self, Shape};
use super::shaping::{Shaper, join, unknown_key};
use super::yaml::{self, Kind, Node};
use super::{Config, Format, Preset, globs, validate};

/// The file that is read when none is named, if it is there.
pub const DEFAULT_FILE: &str = "/etc/logweir/logweir.yaml";

const PREFIX: &str = "LOGWEIR__";

/// A configuration, and where each of its values comes from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What is in force.
    pub config: Config,
    /// Where it comes from.
    pub origins: Origins,
}

/// Reads all layers and makes a valid configuration of them.
///
/// `file` is the file named by the user; without one [`DEFAULT_FILE`] is read if it is there. Of `env`, only names that
/// start with `LOGWEIR__` count. `sets` are texts `section.key=value`.
///
/// # Errors
/// [`ConfigError::Unreadable`] for the file; otherwise everything that is wrong in all layers, or in what they make
/// together.
pub fn load(
    file: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
    sets: &[String],
) -> Result<Loaded, ConfigError> {
    load_or(Path::new(DEFAULT_FILE), file, env, sets)
}

pub(super) fn load_or(
    default_file: &Path,
    file: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
    sets: &[String],
) -> Result<Loaded, ConfigError> {
    let shape = schema::of::<Config>();
    let mut problems = Vec::new();
    let mut builder = config::Config::builder();

    let path = file.unwrap_or(default_file);
    let file_path: Arc<Path> = Arc::from(path);
    match std::fs::read_to_string(path) {
        Ok(text) => builder = builder.add_source(read_file(&file_path, &text, &shape, &mut problems)),
        Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(ConfigError::Unreadable { path: path.to_owned(), source }),
    }

    let mut variables: Vec<(String, String)> = env.filter(|(name, _)| name.starts_with(PREFIX)).collect();
    // A whole list (`…__SOURCES`) comes before its parts (`…__SOURCES__0__PATHS`), whatever the order of the environment.
    variables.sort();
    for (name, text) in variables {
        let parts: Vec<&str> = name[PREFIX.len()..].split("__").collect();
        let origin = Origin::Environment(name.clone());
        builder = builder.add_source(assignment(&origin, &parts, Case::Folded, &text, &shape, &mut problems));
    }
    for set in sets {
        let Some((key, text)) = set.split_once('=') else {
            let text = "not an assignment; write section.key=value".to_owned();
            problems.push(Problem { origin: Origin::Set(set.clone()), key: String::new(), text });
            continue;
        };
        let parts: Vec<&str> = key.split('.').collect();
        let origin = Origin::Set(key.to_owned());
        builder = builder.add_source(assignment(&origin, &parts, Case::Kept, text, &shape, &mut problems));
    }
    none_of(problems)?;

    let mut merged = builder.build().map_err(|error| whole(error.to_string()))?.cache;
    let mut gaps = Vec::new();
    prune("", &mut merged, &mut gaps, &file_path);
    none_of(gaps)?;
    let preset = preset_layer(&merged, &shape);
    lay_under(&mut merged, &preset);
    let mut origins = Origins::default();
    origins.collect("", &merged, &file_path);

    let mut config: Config = serde_path_to_error::deserialize(merged).map_err(|error| {
        let path = error.path().to_string().replace('[', ".").replace(']', "");
        let path = path.trim_start_matches('.');
        let (key, text) = explain(if path == "." { "" } else { path }, error.into_inner());
        ConfigError::Invalid(vec![Problem { origin: origins.of(&key), key, text }])
    })?;
    let mut problems = Vec::new();
    globs::make_absolute(&mut config, &mut problems);
    validate::check(&config, &mut problems);
    none_of(problems.into_iter().map(|(key, text)| Problem { origin: origins.of(&key), key, text }).collect())?;
    Ok(Loaded { config, origins })
}

/// What the preset that `merged` names says.
fn preset_layer(merged: &Value, shape: &Shape) -> Value {
    let named = match &merged.kind {
        ValueKind::Table(table) => table.get("preset").cloned(),
        _ => None,
    };
    // A wrong name was refused by its shape.
    let preset = named.and_then(|name| Preset::deserialize(name).ok()).unwrap_or_default();
    let origin = Origin::Preset(preset.name().to_owned());
    let mut problems = Vec::new();
    let mut builder = config::Config::builder();
    for (key, text) in preset.settings() {
        let parts: Vec<&str> = key.split('.').collect();
        builder = builder.add_source(assignment(&origin, &parts, Case::Kept, text, shape, &mut problems));
    }
    debug_assert!(problems.is_empty(), "{problems:?}");
    builder.build().map(|built| built.cache).unwrap_or_else(|_| Value::from(Map::<String, Value>::new()))
}

/// Gives `value` what it has not, from `under`.
fn lay_under(value: &mut Value, under: &Value) {
    if let (ValueKind::Table(table), ValueKind::Table(under)) = (&mut value.kind, &under.kind) {
        for (name, entry) in under {
            table.entry(name.clone()).and_modify(|value| lay_under(value, entry)).or_insert_with(|| entry.clone());
        }
    }
}

fn whole(text: String) -> ConfigError {
    ConfigError::Invalid(vec![Problem { origin: Origin::Default, key: String::new(), text }])
}

/// What shapes cannot see before the layers are together: in essence, a required key that no layer gives.
fn explain(path: &str, error: config::ConfigError) -> (String, String) {
    match error {
        config::ConfigError::At { error, .. } => explain(path, *error),
        config::ConfigError::NotFound(key) => {
            let name = key.rsplit(['.', ']']).next().unwrap_or_default();
            // The key is missing where its siblings are, so their place is shown.
            (path.to_owned(), format!("`{name}` is missing"))
        }
        config::ConfigError::Type { unexpected, expected, .. } => {
            (path.to_owned(), format!("{unexpected} where {expected} is needed"))
        }
        other => (path.to_owned(), other.to_string()),
    }
}

fn read_file(path: &Arc<Path>, text: &str, shape: &Shape, problems: &mut Vec<Problem>) -> Entries {
    let origin = |line| Origin::File(path.clone(), line);
    match yaml::parse(text) {
        Ok(node) => match (Shaper { origin: &origin, problems }).value("", &node, shape).kind {
            ValueKind::Table(table) => Entries(table),
            _ => Entries::default(),
        },
        Err(error) => {
            problems.push(Problem { origin: origin(error.line), key: String::new(), text: error.text });
            Entries::default()
        }
    }
}

/// Whether known keys are written in capitals.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    /// As in the environment.
    Folded,
    Kept,
}

/// One key and its value, as a layer of its own: later ones win, and lists are changed in place.
fn assignment(
    origin: &Origin,
    parts: &[&str],
    case: Case,
    text: &str,
    shape: &Shape,
    problems: &mut Vec<Problem>,
) -> Entries {
    let place = match locate(parts, case, shape) {
        Ok(place) => place,
        Err((key, text)) => {
            problems.push(Problem { origin: origin.clone(), key, text });
            return Entries::default();
        }
    };
    let node = match written(text, place.shape) {
        Ok(node) => node,
        Err(error) => {
            problems.push(Problem { origin: origin.clone(), key: place.key, text: error.text });
            return Entries::default();
        }
    };
    let value = Shaper { origin: &|_| origin.clone(), problems }.value(&place.key, &node, place.shape);
    let value = match place.free_key {
        None => value,
        Some(free_key) => Value::new(Some(&origin.mark()), Map::from_iter([(free_key, value)])),
    };
    Entries(Map::from_iter([(place.expression, value)]))
}

/// What a value means that was written without a file around it: what looks like a list, a table or a quoted text is
/// YAML; anything else is text as it stands, and a secret always is.
fn written(text: &str, shape: &Shape) -> Result<Node, yaml::SyntaxError> {
    let quoted = text.starts_with(['"', '\'']);
    let is_yaml = match shape {
        Shape::Secret => false,
        Shape::Text => quoted,
        Shape::Table(_) | Shape::Map(_) | Shape::List(_) | Shape::Any => true,
        _ => quoted || text.starts_with(['{', '[']),
    };
    match text {
        "" => Ok(Node { line: 1, kind: Kind::Quoted(String::new()) }),
        _ if is_yaml => yaml::parse(text),
        _ => Ok(Node::plain(text)),
    }
}

/// A place in the configuration.
struct Place<'a> {
    /// As people write it: `sources.0.paths`.
    key: String,
    /// As the crate `config` writes it: `sources[0].paths`.
    expression: String,
    /// Below that, one key that may have dots and capitals: `service.name` in `fields`.
    free_key: Option<String>,
    shape: &'a Shape,
}

fn locate<'a>(parts: &[&str], case: Case, root: &'a Shape) -> Result<Place<'a>, (String, String)> {
    let mut place = Place { key: String::new(), expression: String::new(), free_key: None, shape: root };
    for (index, part) in parts.iter().enumerate() {
        let name = if case == Case::Folded { part.to_ascii_lowercase() } else { (*part).to_owned() };
        let key = join(&place.key, &name);
        place.shape = match place.shape {
            Shape::Table(known) => match known.iter().find(|(known_name, _)| *known_name == name) {
                Some((_, shape)) => {
                    place.expression = join(&place.expression, &name);
                    shape
                }
                None => return Err((key, unknown_key(&name, known))),
            },
            // An index is bounded, since a list is filled up to it.
            Shape::List(inner) => match name.parse::<u16>() {
                Ok(number) if number < 1000 => {
                    place.expression = format!("{}[{number}]", place.expression);
                    &**inner
                }
                _ => return Err((key, format!("`{name}` where a position in the list is needed, from 0"))),
            },
            Shape::Map(inner) => {
                let free_key = parts[index..].join(if case == Case::Folded { "__" } else { "." });
                place.key = join(&place.key, &free_key);
                place.free_key = Some(free_key);
                place.shape = inner;
                return Ok(place);
            }
            _ => return Err((key, format!("`{}` has no keys of its own", place.key))),
        };
        place.key = key;
    }
    Ok(place)
}

/// A layer for the crate `config`: values by path expression.
#[derive(Clone, Debug, Default)]
struct Entries(Map<String, Value>);

impl Source for Entries {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

/// Takes out what is `null`, which means "as if not given", and finds gaps in lists.
fn prune(key: &str, value: &mut Value, gaps: &mut Vec<Problem>, file: &Arc<Path>) {
    match &mut value.kind {
        ValueKind::Table(table) => {
            table.retain(|_, entry| entry.kind != ValueKind::Nil);
            table.iter_mut().for_each(|(name, entry)| prune(&join(key, name), entry, gaps, file));
        }
        ValueKind::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                let item_key = join(key, &index.to_string());
                if item.kind == ValueKind::Nil {
                    let origin = item.origin().map_or(Origin::Default, |mark| Origin::from_mark(mark, file));
                    let text = "nothing is given here; lists have no gaps".to_owned();
                    gaps.push(Problem { origin, key: item_key, text });
                } else {
                    prune(&item_key, item, gaps, file);
                }
            }
        }
        _ => {}
    }
}

impl std::str::FromStr for Format {
    type Err = ConfigError;

    /// A format as it is written in the file: `combined`, `{nginx: '$remote_addr …'}`.
    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let shape = schema::of::<Self>();
        let mut problems = Vec::new();
        let node = written(text, &shape).map_err(|error| whole(error.text))?;
        let value = Shaper { origin: &|_| Origin::Default, problems: &mut problems }.value("", &node, &shape);
        none_of(problems)?;
        Self::deserialize(value).map_err(|error| whole(error.to_string()))
    }
}

impl Loaded {
    /// What every command needs that works on the sources and Elasticsearch: a source, and secrets that can be read.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with all that is missing.
    pub fn ready(&self) -> Result<(), ConfigError> {
        let mut problems = Vec::new();
        if self.config.sources.is_empty() {
            problems.push(("sources".to_owned(), "there is none; name at least one".to_owned()));
        }
        let (elasticsearch, kibana) = (&self.config.elasticsearch, &self.config.kibana);
        for (section, auth, tls) in
            [("elasticsearch", &elasticsearch.auth, &elasticsearch.tls), ("kibana", &kibana.auth, &kibana.tls)]
        {
            if let Err(error) = auth.resolve() {
                problems.push((format!("{section}.auth.{}", error.key), error.to_string()));
            }
            let files: [(&str, Option<&PathBuf>); 2] =
                [("ca_file", tls.ca_file.as_ref()), ("client_certificate_file", tls.client_certificate_file.as_ref())];
            for (name, file) in files {
                if let Some((file, error)) =
                    file.and_then(|file| std::fs::File::open(file).err().map(|error| (file, error)))
                {
                    problems
                        .push((format!("{section}.tls.{name}"), format!("cannot read {}: {error}", file.display())));
                }
            }
        }
        none_of(problems.into_iter().map(|(key, text)| Problem { origin: self.origins.of(&key), key, text }).collect())
    }
}
