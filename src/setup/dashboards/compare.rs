//! How what Kibana has stands to what is wanted. Pure.
//!
//! Kibana changes what it imports: it brings objects up to its version and writes the texts in them anew. So what it has is
//! not compared with the file. Each object but an index pattern carries a mark, the hash of what was imported; a mark that
//! is right and an object that was not written since the import say that nothing is to be done. All objects of one import
//! have one time (`updated_at`), so one that is later than others with the right mark was changed by hand. Index patterns
//! Kibana writes to by itself (their list of fields, and more into each format): of these it is compared whether they have
//! what we set, as values.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::templates::flatten;
use super::super::{Difference, compare as differences};
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

/// Only what we set is compared; empty lists and objects say nothing. So Kibana may keep its list of fields there, what it
/// adds to a format, and what it has beside ours.
fn index_pattern(wanted: &Value, there: &Value) -> Standing {
    let (before, after) = (said(there), said(wanted));
    let mut differences = differences(&before, &after);
    differences.retain(|difference| difference.after.is_some());
    if differences.is_empty() {
        return Standing::Unchanged;
    }
    let added = before.keys().filter(|path| !after.contains_key(*path)).filter_map(|path| by_hand(path));
    let lost: BTreeSet<String> = added.map(ToOwned::to_owned).collect();
    Standing::Differs { differences, lost: lost.into_iter().collect() }
}

/// What people add to an index pattern, if `path` is of that: labels and popularity, fields computed in a search, fields
/// left out, and formats.
fn by_hand(path: &str) -> Option<&str> {
    let of = |name| path.starts_with(name).then_some(name);
    let format = path.strip_suffix(".id").filter(|path| path.starts_with("fieldFormatMap."));
    of("fieldAttrs").or_else(|| of("runtimeFieldMap")).or_else(|| of("sourceFilters")).or(format)
}

/// Each value of an index pattern with its dotted path.
fn said(attributes: &Value) -> BTreeMap<String, String> {
    let attributes = attributes.as_object().into_iter().flatten();
    let attributes = attributes.map(|(name, value)| (name.clone(), meaning(value)));
    flatten(&Value::Object(attributes.collect()))
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
        let value = json!({"type": kind, "id": id, "attributes": {"title": "logs-*"}, "references": []});
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
        let attributes = json!({"title": "logs-*", "fields": "[]", "fieldAttrs": "{}", "fieldFormatMap": r#"{"a.b":{"id":"bytes"}}"#});
        let value = json!({"attributes": attributes});
        let pattern = Object { kind: "index-pattern".to_owned(), id: "p".to_owned(), value, mark: None };
        let standing = |attributes: Value| {
            let present = BTreeMap::from([(pattern.key(), json!({"attributes": attributes, "updated_at": LATE}))]);
            compare(std::slice::from_ref(&pattern), &present).remove(0)
        };
        // As OpenSearch Dashboards leaves it once it was used, with a label that somebody gave.
        let used = r#"{"a.b": {"id":"bytes","params":{"parsedUrl":{"origin":"http://a:5601"}}},"c":{"id":"url"}}"#;
        let labels = r#"{"a.b":{"customLabel":"Size"}}"#;
        let fields = r#"[{"name":"a.b","count":3}]"#;
        let kibanas = json!({"title": "logs-*", "fieldFormatMap": used, "fields": fields, "fieldAttrs": labels});
        assert_eq!(standing(kibanas.clone()), Standing::Unchanged);
        let mut other = kibanas;
        other["title"] = json!("web-*");
        let differs = standing(other);
        let title =
            Difference { path: "title".to_owned(), before: Some("web-*".to_owned()), after: Some("logs-*".to_owned()) };
        let lost = vec!["fieldAttrs".to_owned(), "fieldFormatMap.c".to_owned()];
        assert_eq!(differs, Standing::Differs { differences: vec![title], lost });
        assert!(differs.is_conflict());
        let changed = standing(json!({"title": "logs-*", "fieldFormatMap": r#"{"a.b":{"id":"url"}}"#}));
        assert!(matches!(changed, Standing::Differs { .. }) && !changed.is_conflict(), "{changed:?}");
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
