//! How what Kibana has stands to what is wanted. Pure.
//!
//! Kibana changes what it imports: it brings objects up to its version and writes the texts in them anew. So what it has is
//! not compared with the file. Each object but an index pattern carries a mark, the hash of what was imported; a mark that
//! is right and an object that was not written since the import say that nothing is to be done. All objects of one import
//! have one time (`updated_at`), so one that is later than others with the right mark was changed by hand. Index patterns
//! Kibana writes to by itself (their list of fields, and more into each format): of these it is compared whether they have
//! what we set, as values.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::Difference;
use super::objects::{Key, Object, mark_of};

/// How an object stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is not there.
    New,
    /// It is as it should be.
    Unchanged,
    /// It is as an earlier import left it, or with other settings.
    Outdated,
    /// It is an index pattern that differs so, and would lose what was added to it under these names.
    Differs {
        /// What is there and what is wanted.
        differences: Vec<Difference>,
        /// Attributes that are there, and not wanted.
        lost: Vec<String>,
    },
    /// It was written in Kibana after it was imported.
    Touched {
        /// When, as Kibana says it.
        at: String,
    },
    /// It has no mark: imported by other means, saved in an editor, or somebody else's.
    Foreign,
}

impl Standing {
    /// Whether somebody else's work is lost where it is imported.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        match self {
            Self::Touched { .. } | Self::Foreign => true,
            Self::Differs { lost, .. } => !lost.is_empty(),
            Self::New | Self::Unchanged | Self::Outdated => false,
        }
    }
}

/// How each of `wanted` stands, in its order.
#[must_use]
pub fn compare(wanted: &[Object], present: &BTreeMap<Key, Value>) -> Vec<Standing> {
    let is_marked = |object: &&Object| {
        let mark = present.get(&object.key()).and_then(mark_of);
        mark.is_some() && mark == object.mark.as_deref()
    };
    let written = |object: &Object| present.get(&object.key())?["updated_at"].as_str().map(ToOwned::to_owned);
    // Times of one form and zone: their order is that of their texts.
    let imported = wanted.iter().filter(is_marked).filter_map(written).min();
    wanted
        .iter()
        .map(|object| {
            let Some(there) = present.get(&object.key()) else { return Standing::New };
            if object.mark.is_none() {
                return index_pattern(&object.value["attributes"], &there["attributes"]);
            }
            match mark_of(there) {
                None => Standing::Foreign,
                mark if mark != object.mark.as_deref() => Standing::Outdated,
                _ => match written(object) {
                    Some(at) if Some(&at) > imported.as_ref() => Standing::Touched { at },
                    _ => Standing::Unchanged,
                },
            }
        })
        .collect()
}

/// Which of `wanted` are to be imported: if one that is marked is, all of these, so that they have one time again.
#[must_use]
pub fn to_import<'a>(wanted: &'a [Object], standings: &[Standing]) -> Vec<&'a Object> {
    let differs = |object: &Object, standing: &Standing| object.mark.is_some() && *standing != Standing::Unchanged;
    let marked = wanted.iter().zip(standings).any(|(object, standing)| differs(object, standing));
    let chosen = wanted.iter().zip(standings).filter(|(object, standing)| match object.mark {
        Some(_) => marked,
        None => **standing != Standing::Unchanged,
    });
    chosen.map(|(object, _)| object).collect()
}

fn index_pattern(wanted: &Value, there: &Value) -> Standing {
    let none = serde_json::Map::new();
    let (wanted, there) = (wanted.as_object().unwrap_or(&none), there.as_object().unwrap_or(&none));
    let differences: Vec<Difference> = wanted
        .iter()
        .filter(|(name, value)| !there.get(*name).is_some_and(|other| has(&meaning(other), &meaning(value))))
        .map(|(name, value)| Difference {
            path: format!("attributes.{name}"),
            before: there.get(name).map(|value| meaning(value).to_string()),
            after: Some(meaning(value).to_string()),
        })
        .collect();
    if differences.is_empty() {
        return Standing::Unchanged;
    }
    // What Kibana keeps for itself is no loss, and nothing is none either.
    let by_hand = |name: &str, value: &Value| {
        !matches!(name, "fields" | "type" | "typeMeta" | "allowNoIndex")
            && !matches!(meaning(value), Value::Null | Value::Bool(false))
            && !matches!(meaning(value), Value::String(text) if text.is_empty())
            && meaning(value) != Value::Array(Vec::new())
            && meaning(value) != Value::Object(serde_json::Map::new())
    };
    let lost = there.iter().filter(|(name, value)| !wanted.contains_key(*name) && by_hand(name, value));
    Standing::Differs { differences, lost: lost.map(|(name, _)| name.clone()).collect() }
}

/// Whether `there` says all that `wanted` does; objects may say more.
fn has(there: &Value, wanted: &Value) -> bool {
    match (there, wanted) {
        (Value::Object(there), Value::Object(wanted)) => {
            wanted.iter().all(|(name, value)| there.get(name).is_some_and(|other| has(other, value)))
        }
        _ => there == wanted,
    }
}

/// What an attribute says: many are JSON in a text.
fn meaning(value: &Value) -> Value {
    let inner = value.as_str().filter(|text| text.starts_with(['{', '[']));
    inner.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_else(|| value.clone())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const EARLY: &str = "2026-11-22T10:00:00.000Z";
    const LATE: &str = "2026-11-22T10:00:00.001Z";

    fn wanted(kind: &str, id: &str, mark: Option<&str>) -> Object {
        let attributes = json!({"title": "logs-*", "fieldFormatMap": r#"{"a":{"id":"bytes"}}"#});
        let value = json!({"type": kind, "id": id, "attributes": attributes, "references": []});
        Object { kind: kind.to_owned(), id: id.to_owned(), value, mark: mark.map(ToOwned::to_owned) }
    }

    /// As Kibana has it: with attributes that are no more those of the file.
    fn there(object: &Object, mark: Option<&str>, at: &str) -> (Key, Value) {
        let references: Vec<Value> = mark.iter().map(|mark| json!({"name": mark, "type": "index-pattern"})).collect();
        let attributes = json!({"title": "x", "version": 1});
        (object.key(), json!({"attributes": attributes, "references": references, "updated_at": at}))
    }

    #[test]
    fn marks_and_times_say_how_an_object_stands() {
        let ids = ["new", "same", "old", "touched", "foreign"];
        let all: Vec<Object> = ids.iter().map(|id| wanted("dashboard", id, Some(&format!("logweir_{id}")))).collect();
        let present = BTreeMap::from([
            there(&all[1], Some("logweir_same"), EARLY),
            // Of an import long ago.
            there(&all[2], Some("logweir_before"), "2026-01-01T00:00:00.000Z"),
            there(&all[3], Some("logweir_touched"), LATE),
            there(&all[4], None, EARLY),
        ]);
        let standings = compare(&all, &present);
        assert_eq!(
            standings,
            [
                Standing::New,
                Standing::Unchanged,
                Standing::Outdated,
                Standing::Touched { at: LATE.to_owned() },
                Standing::Foreign,
            ]
        );
        let conflicts: Vec<bool> = standings.iter().map(Standing::is_conflict).collect();
        assert_eq!(conflicts, [false, false, false, true, true]);
    }

    #[test]
    fn one_import_is_settled_whatever_kibana_made_of_the_attributes() {
        let all = ["a", "b"].map(|id| wanted("visualization", id, Some("logweir_1")));
        let present = all.iter().map(|object| there(object, Some("logweir_1"), LATE)).collect();
        let standings = compare(&all, &present);
        assert_eq!(standings, [Standing::Unchanged, Standing::Unchanged]);
        assert!(to_import(&all, &standings).is_empty());
    }

    #[test]
    fn an_index_pattern_is_compared_by_the_meaning_of_what_we_set() {
        let pattern = wanted("index-pattern", "p", None);
        let standing = |attributes: Value| {
            let present = BTreeMap::from([(pattern.key(), json!({"attributes": attributes, "updated_at": LATE}))]);
            compare(std::slice::from_ref(&pattern), &present).remove(0)
        };
        let formats = "{\"a\": {\"id\":\"bytes\"} }";
        // As OpenSearch Dashboards leaves it once it was used.
        let used = r#"{"a":{"id":"bytes","params":{"parsedUrl":{"origin":"http://a:5601"}}},"b":{"id":"url"}}"#;
        assert_eq!(standing(json!({"title": "logs-*", "fieldFormatMap": used, "fields": "[{}]"})), Standing::Unchanged);
        let changed = json!({"title": "logs-*", "fieldFormatMap": r#"{"a":{"id":"url"}}"#});
        assert!(matches!(standing(changed), Standing::Differs { .. }));
        let kibanas =
            json!({"title": "logs-*", "fieldFormatMap": formats, "fields": "[{}]", "fieldAttrs": "{\"a\":{}}"});
        assert_eq!(standing(kibanas), Standing::Unchanged);
        let other = json!({"title": "web-*", "fieldFormatMap": formats, "fields": "[{}]", "runtimeFieldMap": "{}", "fieldAttrs": "{\"a\":{}}"});
        let differs = standing(other);
        let title = Difference {
            path: "attributes.title".to_owned(),
            before: Some("\"web-*\"".to_owned()),
            after: Some("\"logs-*\"".to_owned()),
        };
        let lost = vec!["fieldAttrs".to_owned()];
        assert_eq!(differs, Standing::Differs { differences: vec![title], lost });
        assert!(differs.is_conflict());
    }

    #[test]
    fn what_is_marked_is_imported_together_and_an_index_pattern_alone() {
        let all =
            [wanted("index-pattern", "p", None), wanted("search", "s", Some("1")), wanted("dashboard", "d", Some("2"))];
        let ids = |standings: [Standing; 3]| -> Vec<String> {
            to_import(&all, &standings).iter().map(|object| object.id.clone()).collect()
        };
        assert_eq!(ids([Standing::Unchanged, Standing::Unchanged, Standing::Outdated]), ["s", "d"]);
        assert_eq!(ids([Standing::New, Standing::Unchanged, Standing::Unchanged]), ["p"]);
        assert_eq!(ids([Standing::New, Standing::New, Standing::New]), ["p", "s", "d"]);
    }
}
