//! The encoder against a reference that is slow and obvious: a tree of all fields, one by one.

use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

use super::*;
use crate::record::Ready;

const ID: FileId = FileId([1, 2, 3, 4, 5, 6, 7, 8]);
const TIME: i64 = 1_431_857_103_000_000_000;

static READY: [Ready; 2] = [Ready::new(br#"{"hour":7}"#), Ready::new(br#"{"weekday":"7 Sun","hour":10}"#)];

fn source(fields: Json, keep: &[&str]) -> config::Source {
    serde_json::from_value(json!({
        "name": "web", "paths": ["/x"], "dataset": "nginx.access", "format": "combined", "fields": fields, "keep_fields": keep,
    }))
    .unwrap()
}

fn layout_of(source: &config::Source, enrich: &config::Enrich) -> Result<Layout, LayoutError> {
    Layout::new(source, enrich, &config::Elasticsearch::default(), "host-1")
}

fn layout(fields: Json, keep: &[&str]) -> Result<Layout, LayoutError> {
    layout_of(&source(fields, keep), &config::Enrich::default())
}

/// The document line (parsed) and the action line (parsed) of one item, after checking that they are two lines.
fn encode(
    layout: &Layout,
    (buffers, shapes): &mut (Buffers, Shapes),
    line: &[u8],
    doc: &mut Document,
    index: Option<&str>,
) -> (Json, Json) {
    let file = FileFields::new(Path::new("/var/log/a \"b\".log"), ID);
    let id = LineId::new(ID, 77, line);
    let line = RawLine { bytes: line, offset: 77, cut: false };
    let mut out = b"what was there before".to_vec();
    let before = out.len();
    let item = Item { line, id, file: &file, time: TIME, index };
    let mut slow = Vec::new();
    if !doc.tree.is_some() {
        let tags = doc.tags;
        write_action(&mut slow, &item);
        layout.write_document(&mut slow, &mut TimeText::default(), &item, doc);
        doc.tags = tags;
    }
    let start = layout.encode(&item, doc, buffers, shapes, &mut out);
    assert!(slow.is_empty() || slow == out[before..], "leaf by leaf it is the same");
    let text = std::str::from_utf8(&out[before..]).unwrap();
    let lines: Vec<&str> = text.split_terminator('\n').collect();
    assert_eq!(lines.len(), 2, "{text}");
    assert_eq!(&out[start..], format!("{}\n", lines[1]).as_bytes());
    let document: Json = serde_json::from_str(lines[1]).unwrap();
    // A key that is there twice would get lost in parsing.
    assert_eq!(document.to_string().len(), lines[1].len(), "{}", lines[1]);
    (document, serde_json::from_str(lines[0]).unwrap())
}

fn put(tree: &mut Map<String, Json>, path: &str, value: Json) {
    match path.split_once('.') {
        None => {
            tree.insert(path.to_owned(), value);
        }
        Some((object, rest)) => {
            let members = tree.entry(object).or_insert_with(|| json!({}));
            if !members.is_object() {
                *members = json!({});
            }
            put(members.as_object_mut().unwrap(), rest, value);
        }
    }
}

/// What the document should be.
fn expected(line: &[u8], doc: &Document, fields: &Json, keep: &[&str], enrich: &config::Enrich) -> Json {
    let keeps = |path: &str| {
        keep.is_empty()
            || path == "@timestamp"
            || keep.iter().any(|name| path == *name || path.starts_with(&format!("{name}.")))
    };
    let mut tree = Map::new();
    let mut invalid = false;
    let mut add = |path: &str, value: Json| {
        if keeps(path) {
            put(&mut tree, path, value);
        }
    };
    add("@timestamp", "2015-05-17T10:05:03.000Z".into());
    add("ecs.version", "9.2.0".into());
    add("event.dataset", "nginx.access".into());
    add("host.name", "host-1".into());
    add("log.file.path", "/var/log/a \"b\".log".into());
    add("log.file.id", "0102030405060708".into());
    add("log.offset", 77.into());
    add("data_stream.type", "logs".into());
    add("data_stream.dataset", "nginx.access".into());
    add("data_stream.namespace", "default".into());
    let mut text = |path: &str, bytes: &[u8]| {
        invalid |= keeps(path) && fields.get(path).is_none() && std::str::from_utf8(bytes).is_err();
        Json::from(String::from_utf8_lossy(bytes))
    };
    if enrich.original {
        add("event.original", text("event.original", line));
    }
    for &field in Field::ALL {
        let Some(value) = doc.get(field) else { continue };
        if field == Field::UserAgentOriginal && doc.has(Field::UserAgent) {
            continue;
        }
        let bytes = doc.bytes(field, line).unwrap_or_default();
        let value = match value {
            Value::Int(value) => value.into(),
            Value::Json { .. } | Value::StaticJson(_) | Value::Ready(_) => serde_json::from_slice(bytes).unwrap(),
            _ => text(field.path(), bytes),
        };
        add(field.path(), value);
    }
    for (path, value) in fields.as_object().unwrap() {
        if path != "tags" {
            add(path, value.clone());
        }
    }
    let mut tags: Vec<Json> = fields["tags"].as_array().cloned().unwrap_or_default();
    let mut own = doc.tags;
    if invalid {
        own.add(Tags::INVALID_UTF8);
    }
    tags.extend(Tags::ALL.iter().filter(|(tag, _)| own.has(*tag)).map(|(_, text)| Json::from(*text)));
    if !tags.is_empty() {
        add("tags", tags.into());
    }
    tree.into()
}

/// The kind of a value, a range of the line, and a number.
type Filling = Option<(u8, usize, usize, i64)>;

/// A line, and for each field perhaps a value: a range of it, or one of the other kinds.
fn line_and_fields() -> impl Strategy<Value = (Vec<u8>, Vec<Filling>)> {
    let line = prop_oneof![
        any::<Vec<u8>>(),
        "[ -~]{0,300}".prop_map(String::into_bytes),
        ".{0,80}".prop_map(String::into_bytes)
    ];
    let field = prop::option::of((0_u8..6, any::<usize>(), any::<usize>(), any::<i64>()));
    (line, prop::collection::vec(field, Field::COUNT))
}

fn fill(doc: &mut Document, line: &[u8], fields: &[Filling]) {
    for (&field, value) in Field::ALL.iter().zip(fields) {
        let Some((kind, a, b, int)) = *value else { continue };
        let (a, b) = (a % (line.len() + 1), b % (line.len() + 1));
        let (start, end) = (a.min(b), a.max(b));
        match kind {
            _ if field == Field::UserAgent => doc.put_json(field, b"{\"name\":\"x\"}"),
            _ if field == Field::Calendar => doc.put(field, Value::Ready(&READY[a % 2])),
            0 | 1 => {
                doc.put_range(field, start, end, kind == 1 && json::is_plain(&line[start..end]));
            }
            2 => doc.put_text(field, &line[start..end]),
            3 => doc.put_json(field, b"[1,{\"a\":null}]"),
            4 => doc.put(field, if int > 0 { Value::Text("text") } else { Value::StaticJson("[\"web\"]") }),
            _ => doc.put(field, Value::Int(int)),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn an_item_is_two_lines_of_json_that_say_what_the_reference_says(
        lines in prop::collection::vec(line_and_fields(), 1..4),
        tags in 0_usize..4,
        original in any::<bool>(),
        fields in prop::sample::select(vec![
            json!({}),
            json!({"service.name": "shop", "http.foo": 1, "labels.env": "prod", "labels.a.b": [1, {"c": "\n"}]}),
            json!({"http.version": "9", "http.response.extra": null, "event.kind": {}, "tags": ["a", "\"b\""]}),
            json!({"ecs.version": "1", "zzz": true, "log.x": 1.5, "a.b": 1, "user.roles": ["x"], "url.original": "none"}),
        ]),
        keep in prop::sample::select(vec![
            vec![],
            vec!["user.name", "http.request.method", "url", "user_agent", "http.foo", "tags"],
            vec!["message", "labels.a", "log.offset", "user_agent", "calendar"],
        ]),
    ) {
        let enrich = config::Enrich { original, ..config::Enrich::default() };
        let source = config::Source { format: Format::Json, ..source(fields.clone(), &keep) };
        let layout = layout_of(&source, &enrich).unwrap();
        let mut buffers = (Buffers::default(), Shapes::default());
        let mut doc = Document::default();
        for (line, values) in lines {
            doc.clear();
            doc.tags.add(Tags::ALL[tags].0);
            fill(&mut doc, &line, &values);
            let expected = expected(&line, &doc, &fields, &keep, &enrich);
            let (document, action) = encode(&layout, &mut buffers, &line, &mut doc, None);
            prop_assert_eq!(&document, &expected);
            prop_assert_eq!(action, json!({"create": {"_id": LineId::new(ID, 77, &line).as_str()}}));
            // The way of trees must say the same.
            doc.tree.start();
            let (document, _) = encode(&layout, &mut buffers, &line, &mut doc, Some("web-1"));
            prop_assert_eq!(document, expected);
        }
    }

    #[test]
    fn an_id_decodes_back_to_its_parts(file in any::<[u8; 8]>(), offset in 0_u64..1 << 48, line in any::<Vec<u8>>()) {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let mut raw = Vec::new();
        for four in LineId::new(FileId(file), offset, &line).0.chunks(4) {
            let bits = four.iter().fold(0, |bits, digit| bits << 6 | DIGITS.iter().position(|d| d == digit).unwrap());
            raw.extend_from_slice(&(bits as u32).to_be_bytes()[1..]);
        }
        prop_assert_eq!(&raw[..8], file);
        prop_assert_eq!(&raw[8..14], &offset.to_be_bytes()[2..]);
        prop_assert_eq!(&raw[14..], &xxhash_rust::xxh3::xxh3_64(&line).to_be_bytes()[4..]);
    }
}

#[test]
fn a_full_document_is_written_in_order() {
    let layout = layout(json!({"service.name": "shop"}), &[]).unwrap();
    let line = b"1.2.3.4 GET /a?b=c";
    let mut doc = Document::default();
    doc.put(Field::Calendar, Value::Ready(&READY[1]));
    doc.put(Field::EventKind, Value::Text("event"));
    doc.put(Field::EventCategory, Value::StaticJson("[\"web\"]"));
    doc.put_line(Field::HttpRequestMethod, 8, 11);
    doc.put(Field::HttpResponseStatusCode, Value::Int(200));
    doc.put_line(Field::UrlOriginal, 12, 18);
    doc.put_line(Field::SourceAddress, 0, 7);
    doc.tags.add(Tags::TIME_ASSUMED);
    let file = FileFields::new(Path::new("/l"), ID);
    let id = LineId::new(ID, 5, line);
    let line = RawLine { bytes: line, offset: 5, cut: true };
    let mut out = Vec::new();
    let item = Item { line, id, file: &file, time: TIME, index: Some("web-2015.05.17") };
    layout.encode(&item, &mut doc, &mut Buffers::default(), &mut Shapes::default(), &mut out);
    let expected = concat!(
        r#"{"create":{"_index":"web-2015.05.17","_id":"AQIDBAUGBwgAAAAAAAUxAAAA"}}"#,
        "\n",
        r#"{"@timestamp":"2015-05-17T10:05:03.000Z","ecs":{"version":"9.2.0"},"calendar":{"weekday":"7 Sun","hour":10},"#,
        r#""event":{"kind":"event","category":["web"],"dataset":"nginx.access"},"#,
        r#""http":{"request":{"method":"GET"},"response":{"status_code":200}},"url":{"original":"/a?b=c"},"#,
        r#""source":{"address":"1.2.3.4"},"service":{"name":"shop"},"#,
        r#""log":{"file":{"path":"/l","id":"0102030405060708"},"offset":5},"host":{"name":"host-1"},"#,
        r#""data_stream":{"type":"logs","dataset":"nginx.access","namespace":"default"},"#,
        r#""tags":["_line_cut","_time_assumed"]}"#,
        "\n",
    )
    .replace("AQIDBAUGBwgAAAAAAAUxAAAA", id.as_str());
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn the_ten_fields_of_the_peers_are_all_that_is_kept() {
    let layout = layout(json!({}), &integration_tests::TEN_FIELDS).unwrap();
    let mut doc = Document::default();
    for &field in Field::ALL {
        if field != Field::Calendar && field != Field::UserAgent {
            doc.put(field, Value::Text("x"));
        }
    }
    let (document, _) = encode(&layout, &mut (Buffers::default(), Shapes::default()), b"", &mut doc, None);
    assert_eq!(
        document,
        json!({
            "@timestamp": "2015-05-17T10:05:03.000Z",
            "http": {"request": {"method": "x", "referrer": "x"}, "response": {"status_code": "x", "body": {"bytes": "x"}}, "version": "x"},
            "url": {"original": "x"}, "source": {"address": "x"}, "user": {"name": "x"}, "user_agent": {"original": "x"},
        })
    );
}

#[test]
fn data_stream_fields_are_only_for_data_streams() {
    let elasticsearch = config::Elasticsearch { index: Some("web-%Y".to_owned()), ..config::Elasticsearch::default() };
    let fields = json!({"data_stream.type": "mine"});
    let layout = Layout::new(&source(fields, &[]), &config::Enrich::default(), &elasticsearch, "h").unwrap();
    let (document, _) =
        encode(&layout, &mut (Buffers::default(), Shapes::default()), b"", &mut Document::default(), None);
    assert_eq!(document["data_stream"], json!({"type": "mine"}));
}

#[test]
fn fixed_fields_that_collide_are_refused_and_both_named() {
    for (fields, message) in [
        (
            json!({"http.request": 5}),
            "fields: \"http.request\" cannot stand beside the field \"http.request.id\": one of them would have to be an object",
        ),
        (
            json!({"message.x": 5}),
            "fields: \"message.x\" cannot stand beside the field \"message\": one of them would have to be an object",
        ),
        (
            json!({"a": 5, "a.b": 5}),
            "fields: \"a.b\" cannot stand beside the field \"a\": one of them would have to be an object",
        ),
        (
            json!({"a": {"b": 5}, "a.b.c": 5}),
            "fields: \"a.b.c\" cannot stand beside the field \"a.b\": one of them would have to be an object",
        ),
        (
            json!({"calendar.quarter": 4}),
            "fields: \"calendar.quarter\" cannot stand beside the field \"calendar\": one of them would have to be an object",
        ),
        (
            json!({"user_agent.x": 5}),
            "fields: \"user_agent.x\" cannot stand beside the field \"user_agent\": one of them would have to be an object",
        ),
        (
            json!({"tags.x": 5}),
            "fields: \"tags.x\" cannot stand beside the field \"tags\": one of them would have to be an object",
        ),
        (json!({"@timestamp": "now"}), "fields: \"@timestamp\" is set by logweir itself and cannot be replaced"),
        (json!({"log.offset": 1}), "fields: \"log.offset\" is set by logweir itself and cannot be replaced"),
        (
            json!({"data_stream": {"type": "x"}}),
            "fields: \"data_stream.type\" is set by logweir itself and cannot be replaced",
        ),
        (json!({"a..b": 1}), "fields: \"a..b\" is not a dotted field name"),
        (json!({"tags": 1}), "fields: \"tags\" must be a text or a list of texts"),
    ] {
        assert_eq!(layout(fields, &[]).unwrap_err().to_string(), message);
    }
}

#[test]
fn a_field_to_keep_that_does_not_exist_is_refused_with_the_nearest() {
    let error = layout(json!({}), &["http.request.methd"]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "keep_fields: there is no field \"http.request.methd\"; did you mean \"http.request.method\"?"
    );
    for known in ["calendar.hour", "user_agent.os", "user_agent.device.name", "event.original", "log", "labels.env"] {
        layout(json!({"labels.env": 1}), &[known]).unwrap();
    }
}

#[test]
fn slots_and_fixed_fields_win_over_a_tree() {
    let layout = layout(json!({"labels.env": "prod", "tags": ["s"]}), &[]).unwrap();
    let mut doc = Document::default();
    let tree = json!({
            "@timestamp": "x", "http": "none", "labels": {"env": "dev", "other": 1}, "tags": "t", "log": {"offset": "x", "y": 1},
            "user_agent": {"original": "old", "mine": 1}, "calendar": {"hour": "noon", "quarter": 2}, "any": {"thing": [1]},
    });
    doc.tree.read(&tree.to_string()).unwrap();
    doc.put(Field::HttpRequestMethod, Value::Text("GET"));
    doc.put(Field::Calendar, Value::Ready(&READY[1]));
    doc.put_json(Field::UserAgent, b"{\"original\":\"new\",\"name\":\"n\"}");
    doc.put_line(Field::Message, 0, 2);
    let (document, _) = encode(&layout, &mut (Buffers::default(), Shapes::default()), b"\xffa", &mut doc, None);
    assert_eq!(document["@timestamp"], "2015-05-17T10:05:03.000Z");
    assert_eq!(document["http"], json!({"request": {"method": "GET"}}));
    assert_eq!(document["labels"], json!({"env": "prod", "other": 1}));
    assert_eq!(document["tags"], json!(["t", "s", "_invalid_utf8"]));
    assert_eq!(document["log"]["offset"], 77);
    assert_eq!(document["log"]["y"], 1);
    assert_eq!(document["user_agent"], json!({"original": "new", "mine": 1, "name": "n"}));
    assert_eq!(document["calendar"], json!({"weekday": "7 Sun", "hour": 10, "quarter": 2}));
    assert_eq!(document["any"], json!({"thing": [1]}));
    assert_eq!(document["message"], "\u{FFFD}a");
}

#[test]
fn what_a_tree_has_and_is_not_kept_is_left_out() {
    let source = config::Source { format: Format::Json, ..source(json!({}), &["a.b", "c", "http"]) };
    let layout = layout_of(&source, &config::Enrich::default()).unwrap();
    let tree = json!({"a": {"b": 1, "x": 2}, "c": {"d": {}}, "e": 5, "http": {"foo": 1}});
    let mut doc = Document::default();
    doc.tree.read(&tree.to_string()).unwrap();
    let (document, _) = encode(&layout, &mut (Buffers::default(), Shapes::default()), b"", &mut doc, None);
    let expected = json!({"@timestamp": "2015-05-17T10:05:03.000Z", "a": {"b": 1}, "c": {"d": {}}, "http": {"foo": 1}});
    assert_eq!(document, expected);
}

#[test]
fn more_sets_of_fields_than_are_kept_are_written_all_the_same() {
    let layout = layout(json!({}), &[]).unwrap();
    let mut buffers = (Buffers::default(), Shapes::default());
    let mut doc = Document::default();
    for number in 0..16_000_usize {
        doc.clear();
        // `encode` compares each with what is written leaf by leaf.
        for (bit, &field) in Field::ALL.iter().enumerate().take(6).filter(|(bit, _)| ((number % 40) >> bit) & 1 != 0) {
            doc.put(field, if number % 3 == 0 { Value::Text("text") } else { Value::Int(bit as i64) });
        }
        encode(&layout, &mut buffers, b"line", &mut doc, None);
    }
}

#[test]
fn equal_constants_in_another_form_are_not_mistaken() {
    let layout = layout(json!({}), &["event"]).unwrap();
    let mut buffers = (Buffers::default(), Shapes::default());
    for value in [Value::Text("5"), Value::StaticJson("5"), Value::Int(5), Value::Text("5"), Value::Text("6")] {
        let mut doc = Document::default();
        doc.put(Field::EventKind, value);
        let (document, _) = encode(&layout, &mut buffers, b"", &mut doc, None);
        let expected = match value {
            Value::Text(text) => json!(text),
            _ => json!(5),
        };
        assert_eq!(document["event"]["kind"], expected);
    }
}
