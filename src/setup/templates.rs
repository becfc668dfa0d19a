//! The templates themselves: ECS types by core field types only, so that every Elasticsearch from 7.17 on can take them,
//! and OpenSearch should.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::Abilities;
use crate::config::{Config, METRICS_DATASET, Source, Target, Template};

/// Longer keywords are kept in the document but not indexed: the limit of a term is 32,766 bytes, of up to four a character.
const IGNORE_ABOVE: u32 = 1024;
const IGNORE_ABOVE_URL: u32 = 8000;

/// All objects with the path of their API, in the order they have to be put.
pub(super) fn objects(config: &Config, abilities: Abilities) -> Vec<(String, Value)> {
    let template = &config.elasticsearch.template;
    let retention = template.retention.map(|retention| format!("{}s", retention.0.as_secs()));
    let mut policies = BTreeMap::new();
    let mut index_templates = BTreeMap::new();
    let lines = |source: &'_ Source| {
        let target = source.target(&config.elasticsearch);
        (target, source.dataset.clone(), "logweir-mappings", template.priority)
    };
    let metrics = config.metrics_target();
    // Above those of lines, because an index pattern such as `logweir-%Y` has a wildcard that covers them too.
    let of_metrics = metrics.map(|target| {
        (target, METRICS_DATASET.to_owned(), "logweir-metrics-mappings", template.priority.saturating_add(1))
    });
    for (target, dataset, mappings, priority) in config.sources.iter().map(lines).chain(of_metrics.clone()) {
        let mut body = json!({
            "priority": priority,
            "composed_of": [mappings, "logweir-settings"],
            "_meta": meta(),
        });
        let (name, policy) = match &target {
            Target::DataStream(_) => {
                body["index_patterns"] = json!([format!("logs-{dataset}-*")]);
                body["data_stream"] = json!({});
                let rollover = json!({"min_age": "0ms", "actions": {"rollover": {"max_age": "1d"}}});
                (format!("logweir-{dataset}"), ("logweir-streams", json!({"hot": rollover})))
            }
            Target::Dated(_) => {
                let wildcard = target.everything();
                body["index_patterns"] = json!([wildcard]);
                let name = wildcard.replace('*', "").trim_end_matches(['-', '.', '_']).to_owned();
                (format!("logweir-{name}-dated"), ("logweir-dated", json!({})))
            }
        };
        if let Some(age) = &retention {
            let (policy, mut phases) = policy;
            if body.get("data_stream").is_some() && abilities.lifecycle {
                body["template"] = json!({"lifecycle": {"data_retention": age}});
            } else {
                phases["delete"] = json!({"min_age": age, "actions": {"delete": {}}});
                policies
                    .insert(format!("_ilm/policy/{policy}"), json!({"policy": {"_meta": meta(), "phases": phases}}));
                body["template"] = json!({"settings": {"index": {"lifecycle": {"name": policy}}}});
            }
        }
        index_templates.insert(format!("_index_template/{name}"), body);
    }
    let mut components = vec![
        ("_component_template/logweir-mappings".to_owned(), mappings()),
        ("_component_template/logweir-settings".to_owned(), settings(template)),
    ];
    if of_metrics.is_some() {
        components.push(("_component_template/logweir-metrics-mappings".to_owned(), metrics_mappings()));
    }
    policies.into_iter().chain(components).chain(index_templates).collect()
}

fn meta() -> Value {
    json!({"managed_by": "logweir", "description": "put by logweir setup, which overwrites changes"})
}

fn settings(template: &Template) -> Value {
    let mut index = json!({
        "number_of_shards": template.shards,
        "mapping": {"ignore_malformed": template.ignore_malformed, "total_fields": {"limit": 2000}},
    });
    if let Some(replicas) = template.replicas {
        index["number_of_replicas"] = json!(replicas);
    }
    if let Some(interval) = template.refresh_interval {
        index["refresh_interval"] = json!(format!("{}ms", interval.0.as_millis()));
    }
    if template.logsdb {
        index["mode"] = json!("logsdb");
    }
    json!({"template": {"settings": {"index": index}}, "_meta": meta()})
}

fn mappings() -> Value {
    let keyword = || json!({"type": "keyword", "ignore_above": IGNORE_ABOVE});
    let url = || json!({"type": "keyword", "ignore_above": IGNORE_ABOVE_URL});
    let long = || json!({"type": "long"});
    let text = || json!({"type": "text", "norms": false});
    let leaves: Vec<(&str, Value)> = vec![
        // The one field that a document cannot do without: never ignored when malformed.
        ("@timestamp", json!({"type": "date", "ignore_malformed": false})),
        ("ecs.version", keyword()),
        ("calendar.weekday", keyword()),
        ("calendar.hour", long()),
        ("data_stream.type", keyword()),
        ("data_stream.dataset", keyword()),
        ("data_stream.namespace", keyword()),
        ("event.kind", keyword()),
        ("event.category", keyword()),
        ("event.type", keyword()),
        ("event.dataset", keyword()),
        ("event.outcome", keyword()),
        ("event.duration", long()),
        ("event.original", json!({"type": "keyword", "index": false, "doc_values": false})),
        ("http.request.id", keyword()),
        ("http.request.method", keyword()),
        ("http.request.referrer", url()),
        ("http.request.bytes", long()),
        ("http.response.status_code", long()),
        ("http.response.bytes", long()),
        ("http.response.body.bytes", long()),
        ("http.version", keyword()),
        ("url.original", url()),
        ("url.scheme", keyword()),
        ("url.domain", keyword()),
        ("url.port", long()),
        ("url.path", url()),
        ("url.query", url()),
        ("url.extension", keyword()),
        ("source.address", keyword()),
        ("source.ip", json!({"type": "ip"})),
        ("source.port", long()),
        ("source.geo.city_name", keyword()),
        ("source.geo.country_iso_code", keyword()),
        ("source.geo.country_name", keyword()),
        ("source.geo.continent_code", keyword()),
        ("source.geo.region_name", keyword()),
        ("source.geo.location", json!({"type": "geo_point"})),
        ("source.as.number", long()),
        ("source.as.organization.name", keyword()),
        ("user.name", keyword()),
        ("user_agent.original", keyword()),
        ("user_agent.name", keyword()),
        ("user_agent.version", keyword()),
        ("user_agent.os.name", keyword()),
        ("user_agent.os.version", keyword()),
        ("user_agent.device.name", keyword()),
        ("host.name", keyword()),
        ("service.name", keyword()),
        ("log.file.path", keyword()),
        ("log.file.id", keyword()),
        ("log.offset", long()),
        ("log.level", keyword()),
        ("message", text()),
        ("error.type", keyword()),
        ("error.code", keyword()),
        ("error.message", text()),
        ("tags", keyword()),
    ];
    let mut properties = Map::new();
    for (path, leaf) in leaves {
        nest(&mut properties, path, leaf);
    }
    nest(&mut properties, "labels", json!({"type": "object"}));
    component(&properties)
}

/// Every field of the documents about logweir itself, with its type.
pub const METRICS_FIELDS: &[(&str, &str)] = &[
    ("@timestamp", "date"),
    ("ecs.version", "keyword"),
    ("data_stream.type", "keyword"),
    ("data_stream.dataset", "keyword"),
    ("data_stream.namespace", "keyword"),
    ("event.kind", "keyword"),
    ("event.dataset", "keyword"),
    ("service.name", "keyword"),
    ("service.version", "keyword"),
    ("host.name", "keyword"),
    ("logweir.scope", "keyword"),
    ("logweir.lines.read", "long"),
    ("logweir.lines.created", "long"),
    ("logweir.lines.duplicate", "long"),
    ("logweir.lines.dead_lettered", "long"),
    ("logweir.lines.skipped", "long"),
    ("logweir.lines.in_flight", "long"),
    ("logweir.documents.created", "long"),
    ("logweir.documents.duplicate", "long"),
    ("logweir.documents.dead_lettered", "long"),
    ("logweir.documents.retried", "long"),
    ("logweir.read.bytes", "long"),
    ("logweir.bulk.requests", "long"),
    ("logweir.bulk.bytes", "long"),
    ("logweir.bulk.duration.p50", "long"),
    ("logweir.bulk.duration.p95", "long"),
    ("logweir.bulk.duration.max", "long"),
    ("logweir.bulk.retries.total", "long"),
    ("logweir.bulk.retries.connection", "long"),
    ("logweir.bulk.retries.timeout", "long"),
    ("logweir.bulk.retries.too_many_requests", "long"),
    ("logweir.bulk.retries.server_error", "long"),
    ("logweir.bulk.retries.too_large", "long"),
    ("logweir.bulk.retries.bad_answer", "long"),
    ("logweir.bulk.retries.held", "long"),
    ("logweir.bulk.window", "long"),
    ("logweir.delivery.latency.p50", "long"),
    ("logweir.delivery.latency.p95", "long"),
    ("logweir.delivery.latency.p99", "long"),
    ("logweir.delivery.latency.max", "long"),
    ("logweir.faults", "long"),
    ("logweir.holds", "keyword"),
    ("logweir.memory.usage", "long"),
    ("logweir.memory.limit", "long"),
    ("logweir.files.watched", "long"),
    ("logweir.files.open", "long"),
    ("logweir.lag", "long"),
    ("logweir.dead_letters.size", "long"),
    ("logweir.source.name", "keyword"),
    ("logweir.source.lag", "long"),
    ("logweir.source.files", "long"),
    ("logweir.source.lines.created", "long"),
    ("logweir.source.lines.duplicate", "long"),
    ("logweir.source.lines.dead_lettered", "long"),
    ("logweir.source.lines.skipped", "long"),
];

fn metrics_mappings() -> Value {
    let mut properties = Map::new();
    for (path, kind) in METRICS_FIELDS {
        let mut leaf = json!({"type": kind});
        if *kind == "date" {
            leaf["ignore_malformed"] = json!(false);
        }
        nest(&mut properties, path, leaf);
    }
    component(&properties)
}

fn component(properties: &Map<String, Value>) -> Value {
    json!({
        "template": {"mappings": {
            "date_detection": false,
            "numeric_detection": false,
            "dynamic_templates": [
                {"strings_as_keyword": {
                    "match_mapping_type": "string",
                    "mapping": {"type": "keyword", "ignore_above": IGNORE_ABOVE},
                }},
            ],
            "properties": properties,
        }},
        "_meta": meta(),
    })
}

/// Puts `leaf` at the dotted `path` below `properties`.
fn nest(properties: &mut Map<String, Value>, path: &str, leaf: Value) {
    match path.split_once('.') {
        None => {
            properties.insert(path.to_owned(), leaf);
        }
        Some((first, rest)) => {
            let object = properties.entry(first.to_owned()).or_insert_with(|| json!({"properties": {}}));
            if let Some(below) = object["properties"].as_object_mut() {
                nest(below, rest, leaf);
            }
        }
    }
}

/// The object at `path` out of the cluster's answer about it.
pub(super) fn stored(path: &str, answer: &Value) -> Value {
    if path.starts_with("_component_template/") {
        answer["component_templates"][0]["component_template"].clone()
    } else if path.starts_with("_index_template/") {
        answer["index_templates"][0]["index_template"].clone()
    } else {
        let name = path.rsplit('/').next().unwrap_or_default();
        json!({"policy": answer[name]["policy"].clone()})
    }
}

/// Every leaf with its dotted path, in the form that both sides agree on: Elasticsearch returns settings as text and may
/// add empty objects and defaults of its own.
pub(super) fn flatten(value: &Value) -> BTreeMap<String, String> {
    fn walk(path: &str, value: &Value, out: &mut BTreeMap<String, String>) {
        match value {
            Value::Object(map) => {
                for (key, below) in map {
                    walk(&if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, below, out);
                }
            }
            Value::Array(list) => {
                for (index, below) in list.iter().enumerate() {
                    walk(&format!("{path}[{index}]"), below, out);
                }
            }
            Value::String(text) => {
                out.insert(path.to_owned(), text.clone());
            }
            other => {
                out.insert(path.to_owned(), other.to_string());
            }
        }
    }
    let mut out = BTreeMap::new();
    walk("", value, &mut out);
    // What the cluster adds to what was put.
    for added in [
        "data_stream.hidden",
        "data_stream.allow_custom_routing",
        // OpenSearch.
        "data_stream.timestamp_field.name",
        "template.lifecycle.enabled",
        "policy.phases.delete.actions.delete.delete_searchable_snapshot",
    ] {
        out.remove(added);
    }
    out.retain(|path, _| !path.starts_with("created_date") && !path.starts_with("modified_date"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;
    use crate::record::Field;

    fn config(yaml: &Value) -> Config {
        let source: Source = serde_json::from_value(yaml.clone()).unwrap();
        Config { sources: vec![source], ..Config::default() }
    }

    const ALL: Abilities = Abilities { lifecycle: true, logsdb: true, ilm: true };

    #[test]
    fn every_field_that_a_line_can_fill_has_a_type() {
        let flat = flatten(&mappings());
        for field in Field::ALL {
            let path = format!("template.mappings.properties.{}", field.path().replace('.', ".properties."));
            assert!(flat.keys().any(|key| key.starts_with(&path)), "{}", field.path());
        }
    }

    #[test]
    fn templates_match_only_our_data_sets_above_the_built_in_priority() {
        let config = config(&json!({"name": "web", "paths": ["/a"], "dataset": "nginx.access"}));
        let objects = objects(&config, ALL);
        let (path, body) = objects.last().unwrap();
        assert_eq!(path, "_index_template/logweir-nginx.access");
        assert_eq!(body["index_patterns"], json!(["logs-nginx.access-*"]));
        assert!(body["priority"].as_u64().unwrap() > 100);
    }

    #[test]
    fn date_named_indices_get_a_template_without_a_data_stream() {
        let config = config(&json!({"name": "web", "paths": ["/a"], "dataset": "web", "index": "web-%Y.%m.%d"}));
        let objects = objects(&config, ALL);
        let (path, body) = objects.last().unwrap();
        assert_eq!(body["index_patterns"], json!(["web-*"]));
        assert!(body.get("data_stream").is_none());
        assert_eq!(path, "_index_template/logweir-web-dated");
    }

    #[test]
    fn documents_about_logweir_itself_have_a_template_only_where_they_are_sent() {
        let mut config = config(&json!({"name": "web", "paths": ["/a"], "dataset": "web"}));
        let names = |config: &Config| objects(config, ALL).into_iter().map(|(path, _)| path).collect::<Vec<_>>();
        assert!(names(&config).iter().all(|name| !name.contains("metrics")));
        config.telemetry.documents.enabled = true;
        let all = objects(&config, ALL);
        let of = |path: &str| &all.iter().find(|(name, _)| name == path).unwrap_or_else(|| panic!("{path}")).1;
        let template = of("_index_template/logweir-logweir.metrics");
        assert_eq!(template["index_patterns"], json!(["logs-logweir.metrics-*"]));
        assert_eq!(template["composed_of"], json!(["logweir-metrics-mappings", "logweir-settings"]));
        assert_eq!(template["data_stream"], json!({}));
        let properties = &of("_component_template/logweir-metrics-mappings")["template"]["mappings"]["properties"];
        assert_eq!(properties["logweir"]["properties"]["lag"], json!({"type": "long"}));
        // All dated: so are they. Its wildcard may be covered by that of lines, so it comes first.
        config.sources[0].index = Some("logweir-%Y".to_owned());
        let all = objects(&config, ALL);
        let of = |path: &str| &all.iter().find(|(name, _)| name == path).unwrap_or_else(|| panic!("{path}")).1;
        let (metrics, lines) =
            (of("_index_template/logweir-logweir-metrics-dated"), of("_index_template/logweir-logweir-dated"));
        assert_eq!(metrics["index_patterns"], json!(["logweir-metrics-*"]));
        assert!(metrics["priority"].as_u64() > lines["priority"].as_u64());
    }

    #[test]
    fn retention_is_a_lifecycle_where_the_cluster_has_it_and_a_policy_elsewhere() {
        let mut config = config(&json!({"name": "web", "paths": ["/a"], "dataset": "web"}));
        config.elasticsearch.template.retention = Some(crate::config::Span::secs(60));
        let new = objects(&config, ALL);
        assert_eq!(new.last().unwrap().1["template"]["lifecycle"]["data_retention"], "60s");
        let old = objects(&config, Abilities { lifecycle: false, ..ALL });
        assert_eq!(old[0].0, "_ilm/policy/logweir-streams");
        assert_eq!(old[0].1["policy"]["phases"]["delete"]["min_age"], "60s");
        assert_eq!(old.last().unwrap().1["template"]["settings"]["index"]["lifecycle"]["name"], "logweir-streams");
    }

    #[test]
    fn templates_compare_equal_to_what_opensearch_returns_of_them() {
        let config = config(&json!({"name": "web", "paths": ["/a"], "dataset": "web"}));
        let objects = objects(&config, ALL);
        let wanted = &objects.last().unwrap().1;
        let mut returned = wanted.clone();
        returned["data_stream"] = json!({"timestamp_field": {"name": "@timestamp"}});
        assert_eq!(flatten(wanted), flatten(&returned));
    }

    #[test]
    fn settings_compare_equal_to_what_elasticsearch_returns_of_them() {
        let wanted = settings(&Template::default());
        let returned = json!({"template": {"settings": {"index": {
            "number_of_shards": "1",
            "mapping": {"ignore_malformed": "true", "total_fields": {"limit": "2000"}}}}}, "_meta": meta()});
        assert_eq!(flatten(&wanted), flatten(&returned));
    }
}
