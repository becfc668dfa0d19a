//! The built files are those of the sources, and what Kibana would refuse or leave out is found here instead.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use logweir_kibana::{Built, build};
use serde_json::Value;

fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn built() -> Built {
    build(&here()).unwrap()
}

fn objects(set: &str) -> Vec<Value> {
    set.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no text at {pointer} of {value}"))
}

fn nested(value: &Value, pointer: &str) -> Value {
    serde_json::from_str(text(value, pointer)).unwrap()
}

/// Kind and id.
fn name(object: &Value) -> (String, String) {
    (text(object, "/type").to_owned(), text(object, "/id").to_owned())
}

#[test]
fn the_files_that_are_committed_are_those_that_the_sources_give() {
    let built = built();
    for (file, text) in [("logweir-7.ndjson", built.seven), ("logweir-8.ndjson", built.eight)] {
        let committed = fs::read_to_string(here().join(file)).unwrap();
        assert!(committed == text, "{file} is not what its sources give: run `make dashboards` and commit it");
    }
}

#[test]
fn every_reference_leads_to_an_object_of_the_same_file_that_comes_before() {
    let built = built();
    for set in [&built.seven, &built.eight] {
        let mut before = BTreeSet::new();
        for object in objects(set) {
            for reference in object["references"].as_array().unwrap() {
                assert!(before.contains(&name(reference)), "{:?} refers to {reference}", name(&object));
            }
            assert!(before.insert(name(&object)), "{:?} is there twice", name(&object));
        }
    }
}

#[test]
fn every_reference_that_attributes_name_is_given_and_no_other() {
    fn named(value: &Value, names: &mut BTreeSet<String>) {
        match value {
            Value::Object(table) => {
                for (key, value) in table {
                    match value.as_str() {
                        Some(name) if key.ends_with("RefName") || key.ends_with("_ref_name") => {
                            names.insert(name.to_owned());
                        }
                        Some(json) if key.ends_with("JSON") || key == "visState" => {
                            named(&serde_json::from_str(json).unwrap(), names);
                        }
                        _ => named(value, names),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| named(item, names)),
            _ => {}
        }
    }
    let built = built();
    for set in [&built.seven, &built.eight] {
        for object in objects(set) {
            let mut wanted = BTreeSet::new();
            named(&object["attributes"], &mut wanted);
            let references = object["references"].as_array().unwrap();
            // A panel of Kibana 8 has its index before its name; a control is named by its place only.
            let given = references.iter().map(|reference| text(reference, "/name"));
            let given = given.filter(|name| !name.starts_with("controlGroup_"));
            let given: BTreeSet<String> =
                given.map(|name| name.split_once(':').map_or(name, |(_, name)| name).to_owned()).collect();
            assert_eq!(given, wanted, "{:?}", name(&object));
        }
    }
}

#[test]
fn nothing_is_in_a_file_that_no_dashboard_leads_to() {
    let built = built();
    for set in [&built.seven, &built.eight] {
        let objects = objects(set);
        let used: BTreeSet<_> =
            objects.iter().flat_map(|object| object["references"].as_array().unwrap()).map(name).collect();
        for object in &objects {
            assert!(text(object, "/type") == "dashboard" || used.contains(&name(object)), "{:?}", name(object));
        }
    }
}

#[test]
fn the_older_set_is_no_newer_than_what_kibana_7_10_and_opensearch_dashboards_read() {
    let limits = BTreeMap::from([
        ("index-pattern", "7.6.0"),
        ("search", "7.9.3"),
        ("visualization", "7.10.0"),
        ("dashboard", "7.9.3"),
    ]);
    for object in objects(&built().seven) {
        let kind = text(&object, "/type");
        assert_eq!(object["migrationVersion"], serde_json::json!({kind: limits[kind]}));
        for newer in ["coreMigrationVersion", "typeMigrationVersion"] {
            assert!(object.get(newer).is_none(), "{:?} has {newer}", name(&object));
        }
        assert!(object["attributes"].get("controlGroupInput").is_none());
    }
}

#[test]
fn the_newer_set_is_stamped_as_kibana_8_8_stamps_its_exports() {
    let versions = BTreeMap::from([
        ("index-pattern", "8.0.0"),
        ("search", "8.0.0"),
        ("visualization", "8.5.0"),
        ("dashboard", "8.7.0"),
    ]);
    for object in objects(&built().eight) {
        assert_eq!(text(&object, "/coreMigrationVersion"), "8.8.0");
        assert_eq!(text(&object, "/typeMigrationVersion"), versions[text(&object, "/type")]);
        assert!(object.get("migrationVersion").is_none());
        if text(&object, "/type") == "visualization" {
            let state = nested(&object, "/attributes/visState");
            assert_ne!(text(&state, "/type"), "input_control_vis", "Kibana 9 has no such visualization");
            if text(&state, "/type") == "metrics" {
                assert_eq!(state["params"]["use_kibana_indexes"], true);
                assert!(state["params"].get("index_pattern").is_none());
            }
        }
    }
}

#[test]
fn panels_lie_inside_the_grid_and_none_on_another() {
    let built = built();
    for set in [&built.seven, &built.eight] {
        for dashboard in objects(set).iter().filter(|object| object["type"] == "dashboard") {
            let mut cells = BTreeSet::new();
            for panel in nested(dashboard, "/attributes/panelsJSON").as_array().unwrap() {
                let at = |key: &str| panel["gridData"][key].as_u64().unwrap();
                for x in at("x")..at("x") + at("w") {
                    assert!(x < 48, "{panel}");
                    for y in at("y")..at("y") + at("h") {
                        assert!(cells.insert((x, y)), "{panel} lies on another");
                    }
                }
            }
        }
    }
}

#[test]
fn the_two_sets_show_the_same_on_each_dashboard() {
    fn shown(set: &str) -> BTreeMap<String, Vec<String>> {
        let dashboards = objects(set).into_iter().filter(|object| object["type"] == "dashboard");
        dashboards
            .map(|dashboard| {
                let references = dashboard["references"].as_array().unwrap().iter();
                let ids = references.filter(|reference| reference["type"] != "index-pattern").map(|one| name(one).1);
                (name(&dashboard).1, ids.filter(|id| !id.ends_with("-controls")).collect())
            })
            .collect()
    }
    let built = built();
    assert_eq!(shown(&built.seven), shown(&built.eight));
}

/// The sources, with one file changed.
fn with(file: &str, from: &str, to: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for kind in ["index-pattern", "search", "visualization", "dashboard"] {
        fs::create_dir(copy.path().join(kind)).unwrap();
        for entry in fs::read_dir(here().join(kind)).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, copy.path().join(kind).join(path.file_name().unwrap())).unwrap();
        }
    }
    let path = copy.path().join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no {from:?}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
    copy
}

/// What is said of the sources with one file changed, without the directory.
fn refusal(file: &str, from: &str, to: &str) -> String {
    let copy = with(file, from, to);
    let said = build(copy.path()).unwrap_err().to_string();
    let directory: &Path = copy.path();
    said.replace(&format!("{}/", directory.display()), "")
}

#[test]
fn what_is_wrong_is_said_with_file_line_and_key() {
    let status = "visualization/logweir-status-over-time.yaml";
    let tile = "visualization/logweir-latency-p95.yaml";
    let overview = "dashboard/logweir-overview.yaml";
    for (file, from, to, said) in [
        (status, "description:", "descripton:", ":2: unknown key `descripton`; did you mean `description`?"),
        (
            status,
            "customLabel: Requests",
            "customLable: x",
            ":8: unknown key `aggs.params.customLable`; did you mean `customLabel`?",
        ),
        (status, "type: histogram", "type: histgram", ":3: no type `histgram`; did you mean `histogram`?"),
        (
            status,
            "index: logweir-logs",
            "index: logweir-log",
            ":4: no index pattern `logweir-log`; did you mean `logweir-logs`?",
        ),
        (
            tile,
            "value: 95",
            "valeu: 95",
            ":14: unknown key `params.series.metrics.percentiles.valeu`; did you mean `value`?",
        ),
        (tile, "type: metric\n", "type: 7\n", ":7: `params.type` must be text (a number or `true` needs quotes)"),
        (overview, "order: 1", "order: one", ":1: `order` must be a number"),
        (
            overview,
            "logweir-requests,",
            "logweir-request,",
            "no visualization or search `logweir-request`; did you mean `logweir-requests`?",
        ),
        (overview, "width: 34", "width: 33", "the widths of this row are 47 together, not 48"),
    ] {
        let refusal = refusal(file, from, to);
        assert!(refusal.starts_with(&format!("{file}:")) && refusal.contains(said), "{to}: {refusal}");
    }
}

#[test]
fn what_no_dashboard_shows_is_refused() {
    let copy = with("dashboard/logweir-overview.yaml", "", "");
    let from = copy.path().join("visualization/logweir-requests.yaml");
    fs::copy(from, copy.path().join("visualization/logweir-spare.yaml")).unwrap();
    let refusal = build(copy.path()).unwrap_err().to_string();
    assert_eq!(
        refusal,
        "visualization/logweir-spare.yaml:0: nothing refers to this; show it on a dashboard or delete it"
    );
}
