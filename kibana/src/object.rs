//! A saved object, and what a set stamps on it: the version of Kibana whose form its attributes have.

use serde_json::{Value, json};

use crate::source::{Error, Node, Source};

/// The reference by which everything but TSVB and controls names its index pattern.
pub(crate) const INDEX_REFERENCE: &str = "kibanaSavedObjectMeta.searchSourceJSON.index";

/// Whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Set {
    /// Kibana 7.10 to 8.7, OpenSearch Dashboards 2.
    Seven,
    /// Kibana 8.8 and later.
    Eight,
}

/// In the order in which they refer to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    IndexPattern,
    Search,
    Visualization,
    Dashboard,
}

#[derive(Debug)]
pub(crate) struct Object {
    pub(crate) kind: Kind,
    pub(crate) id: String,
    pub(crate) attributes: Value,
    /// Name, kind and id.
    pub(crate) references: Vec<(String, Kind, String)>,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::IndexPattern => "index-pattern",
            Self::Search => "search",
            Self::Visualization => "visualization",
            Self::Dashboard => "dashboard",
        }
    }

    /// The newest migration that is already in the attributes. OpenSearch Dashboards refuses the whole file above those of
    /// 7.10. Kibana 8.8, the first to read the other stamp, has these; a later one brings them up to itself.
    fn version(self, set: Set) -> &'static str {
        match (set, self) {
            (Set::Seven, Self::IndexPattern) => "7.6.0",
            (Set::Seven, Self::Search | Self::Dashboard) => "7.9.3",
            (Set::Seven, Self::Visualization) => "7.10.0",
            (Set::Eight, Self::IndexPattern | Self::Search) => "8.0.0",
            (Set::Eight, Self::Visualization) => "8.5.0",
            (Set::Eight, Self::Dashboard) => "8.7.0",
        }
    }
}

impl Object {
    /// The object as a line of the file.
    pub(crate) fn line(&self, set: Set) -> String {
        let references: Vec<Value> = self
            .references
            .iter()
            .map(|(name, kind, id)| json!({"name": name, "type": kind.name(), "id": id}))
            .collect();
        let mut object = json!({
            "type": self.kind.name(),
            "id": self.id,
            "attributes": self.attributes,
            "references": references,
        });
        let version = self.kind.version(set);
        match set {
            Set::Seven => object["migrationVersion"] = json!({self.kind.name(): version}),
            Set::Eight => {
                object["coreMigrationVersion"] = json!("8.8.0");
                object["typeMigrationVersion"] = json!(version);
                object["managed"] = json!(false);
            }
        }
        format!("{object}\n")
    }
}

/// The query of a source: `query` in Kibana's language, or `lucene`.
pub(crate) fn query(source: &Source, root: &Node) -> Result<Value, Error> {
    let (kuery, lucene) = (source.optional_text(root, "query")?, source.optional_text(root, "lucene")?);
    match (kuery, lucene) {
        (Some(_), Some(_)) => Err(source.error(root.line, "both `query` and `lucene`; one is enough")),
        (None, Some(query)) => Ok(json!({"query": query, "language": "lucene"})),
        (query, None) => Ok(json!({"query": query.unwrap_or_default(), "language": "kuery"})),
    }
}
