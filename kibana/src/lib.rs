//! Builds the dashboards: readable sources become files that Kibana imports.
//!
//! A source is one YAML file an object, `index-pattern/ID.yaml`, `search/ID.yaml`, `visualization/ID.yaml` and
//! `dashboard/ID.yaml`; what it may hold is in `shapes.yaml`, with what Kibana itself writes where it says nothing. Out of
//! them come two sets: one that Kibana 7.10 to 8.7 and OpenSearch Dashboards 2 import, and one for Kibana 8.8 and later.
//! Each set is an object a line, with every object before those that refer to it. Building the same sources again gives the
//! same bytes. A source that is wrong in any way, and a reference to nothing or an object that nothing refers to, is an
//! [`Error`] with file, line and key.

mod dashboard;
mod object;
mod shapes;
mod source;
mod visualization;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde_json::json;

use object::{Object, Set};
use shapes::Shapes;
use source::Source;

pub use source::Error;

/// The two sets, as files of an object a line.
#[derive(Debug, PartialEq, Eq)]
pub struct Built {
    /// For Kibana 7.10 to 8.7 and OpenSearch Dashboards 2.
    pub seven: String,
    /// For Kibana 8.8 and later.
    pub eight: String,
}

/// All sources, by kind and id.
struct Sources {
    index_patterns: BTreeMap<String, Source>,
    searches: BTreeMap<String, Source>,
    visualizations: BTreeMap<String, Source>,
    /// In the order of the navigation.
    dashboards: Vec<Source>,
    shapes: Shapes,
}

/// Builds the sources below `directory`.
///
/// # Errors
/// The first thing that is wrong with a source.
pub fn build(directory: &Path) -> Result<Built, Error> {
    let shapes = Shapes::load();
    let read = |kind: &str| read(&directory.join(kind), &shapes, kind);
    let index_patterns = read("index-pattern")?;
    let searches = read("search")?;
    let visualizations = read("visualization")?;
    let mut dashboards: Vec<Source> = read("dashboard")?.into_values().collect();
    let mut orders = BTreeMap::new();
    for dashboard in &dashboards {
        let order = dashboard.number(&dashboard.root, "order")?;
        if let Some(other) = orders.insert(order, dashboard.id.clone()) {
            return Err(dashboard.error(1, format!("`order: {order}` is that of `{other}` too")));
        }
    }
    dashboards.sort_by_key(|dashboard| dashboard.number(&dashboard.root, "order").ok());
    let sources = Sources { index_patterns, searches, visualizations, dashboards, shapes };
    Ok(Built { seven: sources.set(Set::Seven)?, eight: sources.set(Set::Eight)? })
}

/// All sources of a kind. Those that are checked by more than their kind are so when they are built.
fn read(folder: &Path, shapes: &Shapes, kind: &str) -> Result<BTreeMap<String, Source>, Error> {
    let problem = |cause: io::Error| Error { file: folder.to_owned(), line: 0, text: cause.to_string() };
    let mut sources = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(problem)? {
        let file: PathBuf = entry.map_err(problem)?.path();
        if file.extension().is_none_or(|extension| extension != "yaml") {
            return Err(Error { file, line: 0, text: "sources are named ID.yaml".to_owned() });
        }
        let source = Source::read(&file)?;
        if !source.id.starts_with("logweir-") {
            return Err(source.error(0, "an id begins with `logweir-`, so that it is nobody else's"));
        }
        source.check(&source.root, shapes.of_source(kind), "")?;
        sources.insert(source.id.clone(), source);
    }
    Ok(sources)
}

impl Sources {
    /// One set, proven to be complete.
    fn set(&self, set: Set) -> Result<String, Error> {
        let mut objects = Vec::new();
        for source in self.index_patterns.values() {
            objects.push(index_pattern(source, set)?);
        }
        for source in self.searches.values() {
            objects.push(self.search(source, set)?);
        }
        for source in self.visualizations.values() {
            objects.push(visualization::object(self, source, set)?);
        }
        for source in &self.dashboards {
            objects.extend(dashboard::objects(self, source, set)?);
        }
        objects.sort_by_key(|object| object.kind);
        let unused = objects.iter().find(|object| {
            object.kind != object::Kind::Dashboard
                && !objects
                    .iter()
                    .any(|other| other.references.iter().any(|(_, kind, id)| (*kind, id) == (object.kind, &object.id)))
        });
        if let Some(object) = unused {
            let file = PathBuf::from(format!("{}/{}.yaml", object.kind.name(), object.id));
            return Err(Error {
                file,
                line: 0,
                text: "nothing refers to this; show it on a dashboard or delete it".to_owned(),
            });
        }
        Ok(objects.iter().map(|object| object.line(set)).collect())
    }

    /// The index pattern that a source names under `index`.
    fn index<'a>(&'a self, source: &Source) -> Result<&'a Source, Error> {
        let id = source.text(&source.root, "index")?;
        let line = source.root.get("index").map_or(1, |node| node.line);
        self.index_patterns.get(id).ok_or_else(|| {
            let known = self.index_patterns.keys().map(String::as_str);
            source.error(line, format!("no index pattern `{id}`; {}", source::nearest(id, known)))
        })
    }

    fn search(&self, source: &Source, set: Set) -> Result<Object, Error> {
        let root = &source.root;
        let index = self.index(source)?;
        let list = |key: &str| root.get(key).map_or_else(|| json!([]), source::Node::json);
        let mut search_source = json!({
            "query": object::query(source, root)?,
            "filter": [],
            "highlightAll": true,
            "version": true,
        });
        search_source["indexRefName"] = json!(object::INDEX_REFERENCE);
        let mut attributes = json!({
            "title": format!("{} [logweir]", source.text(root, "title")?),
            "description": source.optional_text(root, "description")?.unwrap_or_default(),
            "hits": 0,
            "columns": list("columns"),
            "sort": list("sort"),
            "version": 1,
            "kibanaSavedObjectMeta": {"searchSourceJSON": search_source.to_string()},
        });
        if set == Set::Eight {
            attributes["grid"] = json!({});
            attributes["hideChart"] = json!(false);
            attributes["isTextBasedQuery"] = json!(false);
        }
        let references = vec![(object::INDEX_REFERENCE.to_owned(), object::Kind::IndexPattern, index.id.clone())];
        Ok(Object { kind: object::Kind::Search, id: source.id.clone(), attributes, references })
    }
}

fn index_pattern(source: &Source, set: Set) -> Result<Object, Error> {
    let root = &source.root;
    let formats = root.get("formats").map_or_else(|| json!({}), source::Node::json);
    let mut attributes = json!({
        "title": source.text(root, "title")?,
        "timeFieldName": source.text(root, "time_field")?,
        // Kibana asks for them when it needs them.
        "fields": "[]",
        "fieldFormatMap": formats.to_string(),
    });
    let name = source.text(root, "name")?;
    if set == Set::Eight {
        attributes["name"] = json!(name);
        attributes["fieldAttrs"] = json!("{}");
        attributes["runtimeFieldMap"] = json!("{}");
        attributes["sourceFilters"] = json!("[]");
        attributes["typeMeta"] = json!("{}");
    }
    Ok(Object { kind: object::Kind::IndexPattern, id: source.id.clone(), attributes, references: Vec::new() })
}
