//! The whole road: layers, origins, and the text of what is refused.

use std::path::Path;

use serde_json::json;

use super::load::load_or;
use super::schema::{self, Shape};
use super::yaml::{self, Kind, Node};
use super::*;

const MINIMAL: &str = "sources: [{name: web, paths: [/l/*.log], dataset: nginx.access}]\n";

/// Loads `yaml` as a file, with these variables and assignments.
fn load_text(yaml: &str, env: &[(&str, &str)], sets: &[&str]) -> Result<Loaded, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("t.yaml");
    std::fs::write(&file, yaml).unwrap();
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    load(Some(&file), env, &sets)
}

/// The lines that are printed for a wrong configuration; the file is `t.yaml` in them.
fn refusal(yaml: &str, env: &[(&str, &str)], sets: &[&str]) -> String {
    let text = load_text(yaml, env, sets).expect_err("a refusal").to_string();
    let lines =
        text.lines().map(|line| line.rsplit_once("/t.yaml").map_or(line.to_owned(), |(_, end)| format!("t.yaml{end}")));
    lines.collect::<Vec<_>>().join("\n")
}

fn setting(loaded: &Loaded, key: &str) -> (serde_json::Value, String) {
    let setting = loaded.settings().unwrap().into_iter().find(|setting| setting.key == key).expect(key);
    let origin = match setting.origin {
        Origin::File(_, line) => format!("line {line}"),
        other => other.to_string(),
    };
    (setting.value, origin)
}

#[test]
fn wrong_files_are_refused_with_place_and_remedy() {
    for (yaml, expected) in [
        ("batch:\n  max_byte: 1MiB\n", "t.yaml:2: batch.max_byte: unknown key `max_byte`; did you mean `max_bytes`?"),
        ("Batch: {}\n", "t.yaml:1: Batch: unknown key `Batch`; did you mean `batch`?"),
        (
            "# x\nelasticserch:\n  urls: []\n",
            "t.yaml:2: elasticserch: unknown key `elasticserch`; did you mean `elasticsearch`?",
        ),
        ("shutdown: {zzz: 1}\n", "t.yaml:1: shutdown.zzz: unknown key `zzz`; there are `grace_period`"),
        ("batch.max_bytes: 1MiB\n", "t.yaml:1: batch.max_bytes: unknown key `batch.max_bytes`; did you mean `batch`?"),
        ("batch:\n  max_bytes: 8388608\n", "t.yaml:2: batch.max_bytes: `8388608` has no unit; write `8MiB`"),
        ("batch: {max_age: 5}\n", "t.yaml:1: batch.max_age: `5` has no unit; write `5s` or `5ms`"),
        ("read: {notify: 1}\n", "t.yaml:1: read.notify: `1` is neither `true` nor `false`"),
        (
            "batch: {max_docs: 1.7}\n",
            "t.yaml:1: batch.max_docs: `1.7` is not a whole number from 0 to 9223372036854775807",
        ),
        (
            "elasticsearch: {template: {shards: -1}}\n",
            "t.yaml:1: elasticsearch.template.shards: `-1` is not a whole number from 0 to 4294967295",
        ),
        (
            "elasticsearch:\n  urls: http://a:9200\n",
            "t.yaml:2: elasticsearch.urls: `http://a:9200` where a list is needed; write [\"http://a:9200\"]",
        ),
        (
            "elasticsearch: {compression: zip}\n",
            "t.yaml:1: elasticsearch.compression: `zip` is not known here; write `auto`, `off` or `gzip`",
        ),
        (
            "elasticsearch:\n  auth: [x]\n",
            "t.yaml:2: elasticsearch.auth: a list where a table with `api_key`, `api_key_file`, `username`, `password`, `password_file` is needed",
        ),
        (
            "batch: 5\n",
            "t.yaml:1: batch: `5` where a table with `max_bytes`, `max_docs`, `max_age`, `max_memory` is needed",
        ),
        (
            "- x\n",
            "t.yaml:1: a list where a table with `host`, `preset`, `sources`, `read`, `enrich`, `batch`, `elasticsearch`, `checkpoint`, `dead_letters`, `telemetry`, `kibana`, `shutdown` is needed",
        ),
        ("batch:\n  max_docs: 1\n  max_docs: 2\n", "t.yaml:3: `max_docs` is here twice, first on line 2"),
        ("a: [1\nb: 2\n", "t.yaml:2: not YAML: illegal placement of ':' indicator (column 2)"),
        (
            "batch:\n\tmax_docs: 1\n",
            "t.yaml:2: not YAML: tabs disallowed within this context (block indentation) (column 2)",
        ),
        ("sources:\n  - name: web\n    paths: [/l/*.log]\n", "t.yaml:2: sources.0: `dataset` is missing"),
        (
            "batch: {max_bytes: 1, max_age: 1}\nread: {x: 1}\n",
            "t.yaml:1: batch.max_bytes: `1` has no unit; write `1B`\nt.yaml:1: batch.max_age: `1` has no unit; write `1s` or `1ms`\nt.yaml:2: read.x: unknown key `x`; there are `max_line_bytes`, `scan_interval`, `poll_interval`, `notify`, `settle_time`, `max_open_files`, `max_deleted_bytes`, `max_deleted_age`, `threads`, `forget_after_scans`, `forget_after`",
        ),
    ] {
        assert_eq!(refusal(yaml, &[], &[]), expected, "\n{yaml}");
    }
}

#[test]
fn what_cannot_work_together_is_refused_with_the_key_to_change() {
    let source = |more: &str| format!("sources: [{{name: web, paths: [/l/*.log], dataset: nginx, {more}}}]\n");
    let web = "t.yaml:1: sources.0.";
    for (yaml, expected) in [
        (source("format: tsv"), format!("{web}format: `tsv` is not known here; write `auto`, `common`, `combined`, `json`, `text`, `{{apache: '…'}}` or `{{nginx: '…'}}`")),
        (source("format: nginx"), format!("{web}format: `nginx` needs a text; write `{{nginx: '…'}}`")),
        (source("format: {nginx: }"), format!("{web}format: `nginx` needs a text; write `{{nginx: '…'}}`")),
        (source("exclude: [a, ~]"), format!("{web}exclude.1: nothing is given here; lists have no gaps")),
        (source("format: {nginx: ' '}"), format!("{web}format: has an empty text; write the format as the server's own file has it")),
        (source("format: {ngnix: x}"), format!("{web}format: this has no meaning here; write `auto`, `common`, `combined`, `json`, `text`, `{{apache: '…'}}` or `{{nginx: '…'}}`")),
        (source("mode: tial"), format!("{web}mode: `tial` is not known here; write `tail` or `chunks`")),
        (source("on_done: delete"), format!("{web}on_done: is for `mode: chunks` only; a file that grows is never done")),
        (source("mode: chunks, on_done: archive"), format!("{web}on_done: `archive` needs `archive_dir`")),
        (source("mode: chunks, archive_dir: /a"), format!("{web}archive_dir: is for `on_done: archive` only")),
        (source("mode: chunks, on_done: archive, archive_dir: /l"), format!("{web}archive_dir: `/l` is where `/l/*.log` looks; files moved there would be read again")),
        (source("mode: chunks, start_at: end"), format!("{web}start_at: `end` is for `mode: tail` only; a chunk is read whole")),
        (source("map: {a: b}"), format!("{web}map: is for `format: json` only")),
        (source("exclude_lines: ['(']"), format!("{web}exclude_lines.0: `(` is not a regular expression: unclosed group")),
        (source("exclude: ['[']"), format!("{web}exclude.0: `[` is not a glob: unclosed character class; missing ']'")),
        (source("index: 'Web-%Y'"), format!("{web}index: `Web-%Y` gives `Web-1970`, and no index may have a 'W' in its name")),
        (source("index: '%Q-%!'"), format!("{web}index: `%Q-%!` is not a pattern such as `web-%Y.%m.%d`: strftime formatting failed: found unrecognized specifier directive `!`")),
        ("sources: [{name: w w, paths: [], dataset: nginx-access}]".to_owned(), format!("{web}name: `w w` must be letters, digits, `-`, `_` and `.`, at least one\n{web}dataset: `nginx-access` has a '-'; lower case letters, digits, `.` and `_` make a name\n{web}paths: is empty; name at least one glob")),
        ("sources:\n- {name: a, paths: [/x], dataset: d}\n- {name: a, paths: [/x], dataset: d}\n".to_owned(), "t.yaml:3: sources.1.name: `a` is the name of sources.0 already\nt.yaml:3: sources.1.paths.0: `/x` is a path of source `a` already".to_owned()),
        ("batch: {max_bytes: 512KiB}\nread: {max_line_bytes: 65MiB}\n".to_owned(), "t.yaml:2: read.max_line_bytes: `65MiB` is more than `64MiB`\nt.yaml:1: batch.max_bytes: `512KiB` is less than read.max_line_bytes, `65MiB`".to_owned()),
        ("batch: {max_memory: 3MiB}\n".to_owned(), "t.yaml:1: batch.max_memory: `3MiB` is less than twice batch.max_bytes, `2MiB`".to_owned()),
        ("elasticsearch: {urls: [localhost:9200, 'ftp://a', 'http://u:secret@a']}\n".to_owned(), "t.yaml:1: elasticsearch.urls.0: `localhost:9200` must start with `http://` or `https://`\nt.yaml:1: elasticsearch.urls.1: `ftp://a` must start with `http://` or `https://`\nt.yaml:1: elasticsearch.urls.2: has a login in it; that goes into the section `auth`, where it is not shown".to_owned()),
        ("elasticsearch: {auth: {api_key: x, username: u}}\n".to_owned(), "t.yaml:1: elasticsearch.auth: has an API key and a user name or password; choose one\nt.yaml:1: elasticsearch.auth: has `username` without `password` or `password_file`".to_owned()),
        ("elasticsearch:\n  retry: {min_delay: 1m}\n".to_owned(), "t.yaml:2: elasticsearch.retry.min_delay: `1m` is more than elasticsearch.retry.max_delay, `30s`".to_owned()),
        ("elasticsearch: {template: {priority: 100}}\n".to_owned(), "t.yaml:1: elasticsearch.template.priority: `100` is not above 100, the priority of the built-in template".to_owned()),
        ("kibana: {url: a, space: Ops, auth: {password: x}, index_pattern: 'Logs-*'}\n".to_owned(), "t.yaml:1: kibana.url: `a` is not an address such as `http://localhost:9200`: relative URL without a base\nt.yaml:1: kibana.auth: has a password without `username`\nt.yaml:1: kibana.space: `Ops` is not the id of a space, as its address has it after `/s/`: lower case letters, digits, `_` and `-`\nt.yaml:1: kibana.index_pattern: `Logs-*` has a 'L'; write a pattern such as `logs-*,web-*`".to_owned()),
        ("kibana: {space: '', index_pattern: ''}\n".to_owned(), "t.yaml:1: kibana.space: `` is not the id of a space, as its address has it after `/s/`: lower case letters, digits, `_` and `-`\nt.yaml:1: kibana.index_pattern: is empty; leave it out to have it told from the sources".to_owned()),
        ("telemetry: {listen: localhost, log_level: inof}\n".to_owned(), "t.yaml:1: telemetry.listen: `localhost` is not an address with its port, such as `127.0.0.1:9464`\nt.yaml:1: telemetry.log_level: `inof` is not a level; write error, warn, info, debug, trace or off, or `target=level`".to_owned()),
    ] {
        assert_eq!(refusal(&yaml, &[], &[]), expected, "\n{yaml}");
    }
}

#[test]
fn wrong_variables_and_assignments_are_named() {
    for (env, sets, expected) in [
        (
            &[("LOGWEIR__BATCH__MAX_BITES", "1")][..],
            &[][..],
            "LOGWEIR__BATCH__MAX_BITES: batch.max_bites: unknown key `max_bites`; did you mean `max_bytes`?",
        ),
        (
            &[("LOGWEIR__BATCH__MAX_BYTES", "1024")],
            &[],
            "LOGWEIR__BATCH__MAX_BYTES: batch.max_bytes: `1024` has no unit; write `1KiB`",
        ),
        (
            &[("LOGWEIR__SOURCES", "[a")],
            &[],
            "LOGWEIR__SOURCES: sources: not YAML: while parsing a flow sequence, expected ',' or ']' (column 1)",
        ),
        (
            &[],
            &["batch.max_docs=many"],
            "--set batch.max_docs: `many` is not a whole number from 0 to 9223372036854775807",
        ),
        (&[], &["batch"], "--set batch: not an assignment; write section.key=value"),
        (
            &[],
            &["sources.x.name=a"],
            "--set sources.x.name: sources.x: `x` where a position in the list is needed, from 0",
        ),
        (&[], &["batch.max_docs.x=1"], "--set batch.max_docs.x: `batch.max_docs` has no keys of its own"),
        (&[], &["sources.2.name=a"], "sources.1: nothing is given here; lists have no gaps"),
        (&[], &["sources.1.name=a"], "--set sources.1.name: sources.1: `paths` is missing"),
    ] {
        assert_eq!(refusal(MINIMAL, env, sets), expected);
    }
}

#[test]
fn later_layers_win_and_each_value_knows_its_own() {
    let yaml = format!("{MINIMAL}batch:\n  max_docs: 5\n  max_age: 1s\nelasticsearch:\n  namespace: file\n");
    let env = [("LOGWEIR__BATCH__MAX_DOCS", "6"), ("LOGWEIR__ELASTICSEARCH__NAMESPACE", "env"), ("HOME", "/")];
    let loaded = load_text(&yaml, &env, &["elasticsearch.namespace=set"]).unwrap();
    for (key, value, origin) in [
        ("batch.max_bytes", json!("2MiB"), "default"),
        ("batch.max_age", json!("1s"), "line 4"),
        ("batch.max_docs", json!(6), "LOGWEIR__BATCH__MAX_DOCS"),
        ("elasticsearch.namespace", json!("set"), "--set elasticsearch.namespace"),
        ("sources.0.paths", json!(["/l/*.log"]), "line 1"),
        ("sources.0.mode", json!("tail"), "default"),
    ] {
        assert_eq!(setting(&loaded, key), (value, origin.to_owned()), "{key}");
    }
}

#[test]
fn a_preset_is_above_the_defaults_and_below_all_else() {
    let yaml = format!("{MINIMAL}batch:\n  max_docs: 5\n  max_age: null\n");
    let loaded = load_text(&yaml, &[], &["preset=throughput", "batch.max_memory=64MiB"]).unwrap();
    for (key, value, origin) in [
        ("preset", json!("throughput"), "--set preset"),
        ("batch.max_bytes", json!("8MiB"), "preset throughput"),
        ("batch.max_age", json!("1s"), "preset throughput"),
        ("batch.max_docs", json!(5), "line 3"),
        ("batch.max_memory", json!("64MiB"), "--set batch.max_memory"),
        ("elasticsearch.max_in_flight", json!(64), "default"),
    ] {
        assert_eq!(setting(&loaded, key), (value, origin.to_owned()), "{key}");
    }
}

#[test]
fn every_preset_is_valid_and_the_balanced_one_is_the_default() {
    for preset in [Preset::Balanced, Preset::Throughput, Preset::Latency] {
        let loaded = load_text("batch:\n", &[], &[&format!("preset={}", preset.name())]).unwrap();
        assert_eq!(loaded.config.preset, preset);
        let from_it = loaded.settings().unwrap().into_iter().filter(|row| matches!(row.origin, Origin::Preset(_)));
        let keys: Vec<String> = from_it.map(|row| row.key).collect();
        let mut expected: Vec<&str> = preset.settings().iter().map(|(key, _)| *key).collect();
        expected.sort_unstable();
        assert_eq!(keys, expected);
    }
    assert_eq!(Config::default().preset, Preset::Balanced);
}

#[test]
fn null_is_as_if_not_given() {
    let yaml = "batch:\nelasticsearch: {index: 'web-%Y', template: {shards: null}}\n";
    let config = load_text(yaml, &[], &["elasticsearch.index=null"]).unwrap().config;
    assert_eq!(config.elasticsearch.index, None);
    assert_eq!(config.batch.max_docs, Batch::default().max_docs);
}

#[test]
fn one_value_of_a_listed_source_can_be_changed() {
    let env =
        [("LOGWEIR__SOURCES__0__PATHS", r#"["/e/*.log"]"#), ("LOGWEIR__SOURCES__0__FORMAT", "{nginx: '$status X'}")];
    let loaded = load_text(MINIMAL, &env, &["sources.0.exclude=[\"*.Tmp\"]", "sources.0.paths.1=/f/[ab].log"]).unwrap();
    let source = &loaded.config.sources[0];
    assert_eq!(source.name, "web");
    assert_eq!(source.paths, ["/e/*.log", "/f/[ab].log"]);
    assert_eq!(source.exclude, ["*.Tmp"]);
    assert_eq!(source.format, Format::Nginx("$status X".to_owned()));
}

#[test]
fn sources_can_be_given_without_a_file() {
    let sets = ["sources=[{name: web, paths: [/x/*.log], dataset: x}]".to_owned()];
    let none = Path::new("/nonexistent/logweir.yaml");
    let loaded = load_or(none, None, std::iter::empty(), &sets).unwrap();
    assert_eq!(loaded.config.sources[0].dataset, "x");
    let env = [("LOGWEIR__SOURCES".to_owned(), r#"[{"name": "e", "paths": ["/x"], "dataset": "e"}]"#.to_owned())];
    let loaded = load_or(none, None, env.into_iter(), &[]).unwrap();
    assert_eq!(setting(&loaded, "sources.0.dataset"), (json!("e"), "LOGWEIR__SOURCES".to_owned()));
}

#[test]
fn a_named_file_must_be_there() {
    let error = load(Some(Path::new("/nonexistent/x.yaml")), std::iter::empty(), &[]).unwrap_err();
    let expected = "cannot read the configuration /nonexistent/x.yaml: No such file or directory (os error 2)";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn keys_of_fields_and_map_stay_whole_and_keep_their_case() {
    let yaml = "sources:
  - name: web
    paths: [/l/*.log]
    dataset: d
    format: json
    fields: {service.name: Shop, labels.X-Env: 5, a.b: [1, x], c: {d.e: true}, version: '1.0', gone: null}
    map: {Request.Status-Code: http.response.status_code}
";
    let sets = ["sources.0.fields.service.version=2.5", "sources.0.map.User.Name=user.name"];
    let loaded = load_text(yaml, &[("LOGWEIR__SOURCES__0__FIELDS", "{cloud.Region: eu}")], &sets).unwrap();
    let source = &loaded.config.sources[0];
    let expected = json!({
        "service.name": "Shop", "labels.X-Env": 5, "a.b": [1, "x"], "c": {"d.e": true}, "version": "1.0",
        "service.version": 2.5, "cloud.Region": "eu",
    });
    assert_eq!(serde_json::to_value(&source.fields).unwrap(), expected);
    let expected = json!({"Request.Status-Code": "http.response.status_code", "User.Name": "user.name"});
    assert_eq!(serde_json::to_value(&source.map).unwrap(), expected);
    assert_eq!(setting(&loaded, "sources.0.fields.service.name").1, "line 6");
}

#[test]
fn text_is_what_was_written_even_if_it_looks_like_a_number() {
    let yaml = "elasticsearch: {auth: {username: 007, password: 1e5}, compression: off}\n";
    let config = load_text(yaml, &[], &[]).unwrap().config;
    assert_eq!(config.elasticsearch.auth.username.as_deref(), Some("007"));
    assert_eq!(config.elasticsearch.auth.password.as_ref().map(units::Secret::expose), Some("1e5"));
    assert_eq!(config.elasticsearch.compression, Compression::Off);
}

#[test]
fn a_secret_from_the_environment_is_taken_as_it_stands() {
    let env = [("LOGWEIR__ELASTICSEARCH__AUTH__API_KEY", "{\"x: [")];
    let loaded = load_text("", &env, &[]).unwrap();
    assert_eq!(loaded.config.elasticsearch.auth.api_key.as_ref().map(units::Secret::expose), Some("{\"x: ["));
    assert_eq!(setting(&loaded, "elasticsearch.auth.api_key").0, json!("***"));
    assert!(!format!("{loaded:?}").contains("x: ["));
}

#[test]
fn a_format_can_be_given_by_itself() {
    assert_eq!("combined".parse::<Format>().unwrap(), Format::Combined);
    assert_eq!("{apache: '%h'}".parse::<Format>().unwrap(), Format::Apache("%h".to_owned()));
    let error = "combine".parse::<Format>().unwrap_err().to_string();
    assert_eq!(
        error,
        "`combine` is not known here; write `auto`, `common`, `combined`, `json`, `text`, `{apache: '…'}` or `{nginx: '…'}`"
    );
}

#[test]
fn ready_needs_a_source_and_its_secrets() {
    let loaded = load_text("elasticsearch: {auth: {api_key_file: /nonexistent/key}}\n", &[], &[]).unwrap();
    let text = loaded.ready().unwrap_err().to_string();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("sources: there is none; name at least one"));
    let second = lines.next().unwrap_or_default();
    assert!(second.ends_with("t.yaml:1: elasticsearch.auth.api_key_file: cannot read /nonexistent/key: No such file or directory (os error 2)"), "{second}");
    assert!(load_text(MINIMAL, &[], &[]).unwrap().ready().is_ok());
}

#[test]
fn a_secret_of_kibana_that_cannot_be_read_is_named_by_its_own_key() {
    let yaml = format!("{MINIMAL}kibana:\n  auth: {{username: u, password_file: /nonexistent/p}}\n");
    let text = load_text(&yaml, &[], &[]).unwrap().ready().unwrap_err().to_string();
    assert!(text.contains("t.yaml:3: kibana.auth.password_file: cannot read /nonexistent/p"), "{text}");
}

#[test]
fn kibana_logs_in_and_trusts_as_elasticsearch_does_unless_it_has_a_section_of_its_own() {
    let elasticsearch = "elasticsearch: {auth: {api_key: a}, tls: {ca_file: /a}}\n";
    let config = |kibana: &str| load_text(&format!("{elasticsearch}{kibana}"), &[], &[]).unwrap().config;
    let seen = |config: &Config| {
        (config.kibana_auth().0, config.kibana_tls().ca_file.as_ref().map(|file| file.display().to_string()))
    };
    assert_eq!(seen(&config("")), ("elasticsearch.auth", Some("/a".to_owned())));
    let own = config("kibana: {auth: {username: u, password: p}, tls: {insecure: true}}\n");
    assert_eq!(seen(&own), ("kibana.auth", None));
    assert!(own.kibana_tls().insecure);
}

#[test]
fn the_boards_show_every_target_unless_an_index_pattern_is_given() {
    let source = |name: &str, more: &str| format!("- {{name: {name}, paths: [/{name}], dataset: d{more}}}\n");
    let pattern = |sources: &[String], more: &str| {
        load_text(&format!("sources:\n{}{more}", sources.concat()), &[], &[]).unwrap().config.kibana_index_pattern()
    };
    let (stream, dated) = (source("a", ""), source("b", ", index: 'web-%Y.%m.%d'"));
    assert_eq!(pattern(&[stream.clone(), source("c", "")], ""), "logs-*");
    assert_eq!(pattern(std::slice::from_ref(&dated), ""), "web-*");
    assert_eq!(pattern(&[dated, stream.clone()], ""), "web-*,logs-*");
    assert_eq!(pattern(std::slice::from_ref(&stream), "elasticsearch: {index: 'old-%Y'}\n"), "old-*");
    assert_eq!(pattern(&[stream], "kibana: {index_pattern: 'eu:logs-*'}\n"), "eu:logs-*");
}

#[test]
fn values_for_tests_are_valid() {
    let mut problems = Vec::new();
    validate::check(&Config::for_test(Path::new("/tmp")), &mut problems);
    assert_eq!(problems, []);
}

/// Every key of a table, dotted, down to what is no table with known keys; lists of tables have `*`.
fn keys_of_shape(key: &str, shape: &Shape, keys: &mut Vec<String>) {
    match shape {
        Shape::Table(known) => {
            known.iter().for_each(|(name, entry)| keys_of_shape(&shaping::join(key, name), entry, keys))
        }
        Shape::List(inner) if matches!(**inner, Shape::Table(_)) => {
            keys_of_shape(&shaping::join(key, "*"), inner, keys)
        }
        _ => keys.push(key.to_owned()),
    }
}

fn keys_of_node(key: &str, node: &Node, keys: &mut Vec<String>) {
    match &node.kind {
        Kind::Table(entries) if !entries.is_empty() => {
            entries.iter().for_each(|(name, entry)| keys_of_node(&shaping::join(key, name), entry, keys));
        }
        Kind::List(items) if items.iter().any(|item| matches!(item.kind, Kind::Table(_))) => {
            items.iter().for_each(|item| keys_of_node(&shaping::join(key, "*"), item, keys));
        }
        _ => keys.push(key.to_owned()),
    }
}

#[test]
fn the_shipped_file_has_every_key_in_order_and_states_its_default() {
    let text = include_str!("../../config/logweir.yaml");
    let (mut in_file, mut in_struct) = (Vec::new(), Vec::new());
    keys_of_node("", &yaml::parse(text).unwrap(), &mut in_file);
    keys_of_shape("", &schema::of::<Config>(), &mut in_struct);
    assert_eq!(in_file, in_struct);

    let shipped = load_text(text, &[], &[]).unwrap().config;
    let source = load_text(MINIMAL, &[], &[]).unwrap().config.sources.remove(0);
    let source = Source { name: "web".to_owned(), paths: shipped.sources[0].paths.clone(), ..source };
    let expected = Config { sources: vec![source], ..Config::default() };
    assert_eq!(serde_json::to_value(&shipped).unwrap(), serde_json::to_value(&expected).unwrap());
}
