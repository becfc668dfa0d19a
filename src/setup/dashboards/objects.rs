//! The boards' objects as they are for one Kibana: the right set, with the configured index pattern, the ids of the space
//! and a mark of their content. Pure.

use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

/// For Kibana 7.10 to 8.7 and OpenSearch Dashboards.
const SEVEN: &str = include_str!("../../../kibana/logweir-7.ndjson");
/// For Kibana 8.8 and later.
const EIGHT: &str = include_str!("../../../kibana/logweir-8.ndjson");

/// The index pattern that the files have.
const PATTERN: &str = "logs-*";
/// What every id of ours starts with.
const PREFIX: &str = "logweir-";
/// What the name of the reference starts with that is an object's mark; the hash of its content follows.
const MARK: &str = "logweir_";
/// A kind that Kibana itself writes to, such as its list of fields.
const INDEX_PATTERN: &str = "index-pattern";

/// One of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// For Kibana 7.10 to 8.7 and OpenSearch Dashboards.
    Seven,
    /// For Kibana 8.8 and later.
    Eight,
}

/// One object to import.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    /// Its kind: `dashboard`, `visualization`, `search` or `index-pattern`.
    pub kind: String,
    /// Its id.
    pub id: String,
    /// All of it, as the file has a line.
    pub value: Value,
    /// The name of the reference that marks it; none in an index pattern, which Kibana itself changes.
    pub mark: Option<String>,
}

/// The kind and id of a saved object.
pub type Key = (String, String);

impl Object {
    /// What it is known by.
    #[must_use]
    pub fn key(&self) -> Key {
        (self.kind.clone(), self.id.clone())
    }

    /// The same, as people read it.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.kind, self.id)
    }
}

/// The objects of `set` in the file's order, for the indices `pattern` and the space `space` (`None`: the default one).
#[must_use]
pub fn objects(set: Set, pattern: &str, space: Option<&str>) -> Vec<Object> {
    let text = match set {
        Set::Seven => SEVEN,
        Set::Eight => EIGHT,
    };
    of_file(text, pattern, space)
}

fn of_file(text: &str, pattern: &str, space: Option<&str>) -> Vec<Object> {
    let lines = || text.lines().filter(|line| !line.trim().is_empty());
    let parse = |line: &str| -> Value { serde_json::from_str(line).expect("the file is built and tested") };
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let ids: Vec<String> = lines().map(|line| word(&parse(line)["id"])).collect();
    let mut objects: Vec<Object> = lines()
        .map(|line| {
            let mut value = match space {
                None => parse(line),
                Some(space) => parse(&in_space(line, &ids, space)),
            };
            show(&mut value, pattern);
            Object { kind: word(&value["type"]), id: word(&value["id"]), value, mark: None }
        })
        .collect();
    let pointed_at = objects.iter().find(|object| object.kind == INDEX_PATTERN).map(|object| object.id.clone());
    for object in objects.iter_mut().filter(|object| object.kind != INDEX_PATTERN) {
        object.mark = mark(&mut object.value, pointed_at.as_deref());
    }
    objects
}

/// Gives each of our ids in `line` the name of the space. One id can be only once in all of Kibana 8 and later, where an
/// object of another space is imported under an id made up there, which no link would lead to.
fn in_space(line: &str, ids: &[String], space: &str) -> String {
    let of_id = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let mut renamed = String::with_capacity(line.len() + 64);
    let mut rest = line;
    while let Some(at) = rest.find(PREFIX) {
        let end = rest[at..].find(|c| !of_id(c)).map_or(rest.len(), |length| at + length);
        renamed.push_str(&rest[..end]);
        let starts_here = !rest[..at].ends_with(of_id);
        if starts_here && ids.iter().any(|id| *id == rest[at..end]) {
            renamed.push('-');
            renamed.push_str(space);
        }
        rest = &rest[end..];
    }
    renamed + rest
}

/// Makes `object` show the indices `pattern`: as an index pattern, or as a TSVB visualization that names its indices by
/// text. Nothing else is data: a title or a text that says `logs-*` stays.
fn show(object: &mut Value, pattern: &str) {
    if pattern == PATTERN {
        return;
    }
    let is_index_pattern = object["type"] == INDEX_PATTERN;
    let attributes = &mut object["attributes"];
    if is_index_pattern && attributes["title"] == PATTERN {
        attributes["title"] = json!(pattern);
    }
    let Some(Ok(mut state)) = attributes["visState"].as_str().map(serde_json::from_str::<Value>) else { return };
    if replace(&mut state["params"], pattern) > 0 {
        attributes["visState"] = json!(state.to_string());
    }
}

/// Replaces the texts under `index_pattern`, `series_index_pattern` and the like; how many there were.
fn replace(value: &mut Value, pattern: &str) -> usize {
    match value {
        Value::Object(entries) => entries
            .iter_mut()
            .map(|(name, entry)| {
                if !name.ends_with("index_pattern") || *entry != PATTERN {
                    return replace(entry, pattern);
                }
                *entry = json!(pattern);
                1
            })
            .sum(),
        Value::Array(items) => items.iter_mut().map(|item| replace(item, pattern)).sum(),
        _ => 0,
    }
}

/// Adds the mark: a reference whose name has the hash of the content. Kibana keeps references as they are, whatever it
/// makes of the attributes when it brings an object up to its version, and shows their names to nobody; it leads to an
/// index pattern of ours, so that it is a good one.
fn mark(object: &mut Value, index_pattern: Option<&str>) -> Option<String> {
    let name = format!("{MARK}{:016x}", xxh3_64(object.to_string().as_bytes()));
    let reference = json!({"name": name, "type": INDEX_PATTERN, "id": index_pattern?});
    object["references"].as_array_mut()?.push(reference);
    Some(name)
}

/// The mark of an object that Kibana has.
#[must_use]
pub fn mark_of(present: &Value) -> Option<&str> {
    let references = present["references"].as_array()?;
    references.iter().find_map(|reference| reference["name"].as_str().filter(|name| name.starts_with(MARK)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(lines: &[Value]) -> String {
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    fn sample() -> String {
        let tsvb = json!({"title": "logs-*", "type": "metrics", "params": {
            "index_pattern": "logs-*", "title": "logs-*",
            "series": [{"series_index_pattern": "logs-*"}, {"series_index_pattern": "logs-logweir.metrics-*"}],
        }});
        file(&[
            json!({"type": "index-pattern", "id": "logweir-logs", "attributes": {"title": "logs-*"}, "references": []}),
            json!({"type": "visualization", "id": "logweir-rate", "references": [], "attributes": {
                "title": "logs-*", "visState": tsvb.to_string(),
            }}),
            json!({"type": "dashboard", "id": "logweir-rate-errors", "attributes": {
                "description": "my-logweir-rate, logweir-rate. [all](#/view/logweir-rate-errors) of \"logweir-logs\"",
            }, "references": [{"name": "panel_0", "type": "visualization", "id": "logweir-rate"}]}),
        ])
    }

    #[test]
    fn both_files_hold_objects_with_ids_and_an_index_pattern_first() {
        for set in [Set::Seven, Set::Eight] {
            let objects = objects(set, PATTERN, None);
            assert_eq!(objects[0].name(), "index-pattern/logweir-logs");
            for object in objects {
                let kinds = [INDEX_PATTERN, "search", "visualization", "dashboard"];
                assert!(kinds.contains(&object.kind.as_str()), "{}", object.name());
                assert!(object.id.starts_with(PREFIX), "{}", object.name());
                assert_eq!(object.mark.is_some(), object.kind != INDEX_PATTERN, "{}", object.name());
            }
        }
    }

    #[test]
    fn an_index_pattern_is_replaced_where_it_is_data_and_nowhere_else() {
        let objects = of_file(&sample(), "web-*", None);
        assert_eq!(objects[0].value["attributes"]["title"], "web-*");
        assert_eq!(objects[1].value["attributes"]["title"], "logs-*");
        let state: Value = serde_json::from_str(objects[1].value["attributes"]["visState"].as_str().unwrap()).unwrap();
        assert_eq!(
            state,
            json!({"title": "logs-*", "type": "metrics", "params": {
                "index_pattern": "web-*", "title": "logs-*",
                "series": [{"series_index_pattern": "web-*"}, {"series_index_pattern": "logs-logweir.metrics-*"}],
            }})
        );
        assert_eq!(of_file(&sample(), PATTERN, None)[1].value["attributes"], {
            let value: Value = serde_json::from_str(sample().lines().nth(1).unwrap()).unwrap();
            value["attributes"].clone()
        });
    }

    #[test]
    fn ids_in_a_space_carry_its_name_wherever_they_stand() {
        let objects = of_file(&sample(), PATTERN, Some("ops"));
        let names: Vec<String> = objects.iter().map(Object::name).collect();
        assert_eq!(
            names,
            ["index-pattern/logweir-logs-ops", "visualization/logweir-rate-ops", "dashboard/logweir-rate-errors-ops"]
        );
        let board = &objects[2].value;
        assert_eq!(board["references"][0]["id"], "logweir-rate-ops");
        assert_eq!(
            board["attributes"]["description"],
            "my-logweir-rate, logweir-rate-ops. [all](#/view/logweir-rate-errors-ops) of \"logweir-logs-ops\""
        );
        assert_eq!(board["references"][1]["id"], "logweir-logs-ops");
    }

    #[test]
    fn a_mark_follows_the_content_and_is_found_again() {
        let one = of_file(&sample(), PATTERN, None);
        assert_eq!(one, of_file(&sample(), PATTERN, None));
        assert_eq!(one[0].mark, None);
        for object in &one[1..] {
            assert_eq!(mark_of(&object.value), object.mark.as_deref());
        }
        let other = of_file(&sample(), "web-*", None);
        assert_ne!(one[1].mark, other[1].mark);
        assert_eq!(one[2].mark, other[2].mark, "its content is the same");
        assert_eq!(mark_of(&json!({"references": [{"name": "panel_0"}]})), None);
        assert_eq!(mark_of(&json!({})), None);
    }
}
