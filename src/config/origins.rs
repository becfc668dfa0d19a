//! Where each value in force comes from, and all of them as a list to show.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use config::{Value, ValueKind};

use super::error::Origin;
use super::load::Loaded;
use super::shaping::join;

/// Where each value that is no default comes from, by dotted key.
#[derive(Clone, Debug, Default)]
pub struct Origins(BTreeMap<String, Origin>);

impl Origins {
    /// Takes over the marks of `value` and of all below it.
    pub(super) fn collect(&mut self, key: &str, value: &Value, file: &Arc<Path>) {
        if let Some(mark) = value.origin() {
            self.0.insert(key.to_owned(), Origin::from_mark(mark, file));
        }
        match &value.kind {
            ValueKind::Table(table) => {
                table.iter().for_each(|(name, entry)| self.collect(&join(key, name), entry, file));
            }
            ValueKind::Array(items) => items
                .iter()
                .enumerate()
                .for_each(|(index, item)| self.collect(&join(key, &index.to_string()), item, file)),
            _ => {}
        }
    }

    /// Where the value of `key` comes from. A list or a table that was put together from several places is said to come
    /// from its first part; what nobody gave is a default.
    #[must_use]
    pub fn of(&self, key: &str) -> Origin {
        if let Some(origin) = self.0.get(key) {
            return origin.clone();
        }
        let below = format!("{key}.");
        self.0
            .range(below.clone()..)
            .next()
            .filter(|(part, _)| part.starts_with(&below))
            .map_or(Origin::Default, |(_, origin)| origin.clone())
    }
}

/// One value in force.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// Its dotted key.
    pub key: String,
    /// The value; secrets are `***`.
    pub value: serde_json::Value,
    /// Where it comes from.
    pub origin: Origin,
}

impl Loaded {
    /// Every value in force, by key.
    ///
    /// # Errors
    /// None in practice: only if a value could not be written as JSON.
    pub fn settings(&self) -> Result<Vec<Setting>, serde_json::Error> {
        let mut settings = Vec::new();
        self.flatten("", serde_json::to_value(&self.config)?, &mut settings);
        Ok(settings)
    }

    fn flatten(&self, key: &str, value: serde_json::Value, settings: &mut Vec<Setting>) {
        match value {
            serde_json::Value::Object(entries) if !entries.is_empty() => {
                for (name, entry) in entries {
                    self.flatten(&join(key, &name), entry, settings);
                }
            }
            serde_json::Value::Array(items) if items.iter().any(serde_json::Value::is_object) => {
                for (index, item) in items.into_iter().enumerate() {
                    self.flatten(&join(key, &index.to_string()), item, settings);
                }
            }
            value => settings.push(Setting { key: key.to_owned(), value, origin: self.origins.of(key) }),
        }
    }
}
