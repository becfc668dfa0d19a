//! Fills a cluster with what panels show, by the real binary: traffic of the generator in two formats on three hosts, dirty
//! lines among it, lines that the mapping refuses in part or whole, two real logs, and what the daemon says of itself meanwhile;
//! and says what each line must have become.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use regex::Regex;
use serde_json::{Value, json};

use super::interval::Period;
use super::record::{AccessReader, Datum, Form, Record, Source, days, read_json};
use crate::node::{PATIENCE, repository, until};
use crate::numbered::orders;
use crate::{Node, Workspace};

const DAY: i64 = 24 * 3_600_000;

/// What was written, and what it must have become.
#[derive(Debug)]
pub struct Filled {
    /// What each line must have become.
    pub records: Vec<Record>,
    /// The times in which there are documents.
    pub periods: Vec<Period>,
    /// The files and the configuration; gone with it.
    pub workspace: Workspace,
    /// A file that is still to be written, and its lines.
    late: (PathBuf, String),
}

/// How many lines the mapping refuses as a whole.
const DEAD_LETTERS: u64 = 2;
/// Where the daemon's documents about itself are.
const METRICS: &str = "logs-logweir.metrics-default";

/// A file of the generator for each of [`DAYS`].
struct Traffic {
    name: &'static str,
    format: &'static str,
    /// A day.
    lines: u64,
    dirty: f64,
    seed: u64,
}

/// Two servers, one of which writes dirt, and the applications behind them.
const TRAFFIC: [Traffic; 3] = [
    Traffic { name: "web-1", format: "combined-latency", lines: 2000, dirty: 0.0, seed: 11 },
    Traffic { name: "web-2", format: "combined-latency", lines: 1300, dirty: 0.03, seed: 12 },
    Traffic { name: "app", format: "json", lines: 2500, dirty: 0.02, seed: 13 },
];
/// Values that the mapping refuses, and how often to repeat them: a line each.
const REFUSED: [(&str, &str, usize); 17] = [
    ("error.type", "x", 1025),
    ("event.duration", "-", 1),
    ("http.request.bytes", "-", 1),
    ("http.request.method", "x", 1025),
    ("http.request.referrer", "x", 8001),
    ("http.response.body.bytes", "-", 1),
    ("http.response.bytes", "-", 1),
    ("http.response.status_code", "-", 1),
    ("log.level", "x", 1025),
    ("service.name", "x", 1025),
    ("source.ip", "x", 1),
    ("source.port", "-", 1),
    ("url.original", "x", 8001),
    ("url.path", "x", 8001),
    ("url.query", "x", 8001),
    ("user.name", "x", 1025),
    ("user_agent.original", "x", 1025),
];
/// Those of [`REFUSED`] that are too long for a keyword, which OpenSearch leaves out without saying so.
pub const TOO_LONG: [&str; 10] = [
    "error.type",
    "http.request.method",
    "http.request.referrer",
    "log.level",
    "service.name",
    "url.original",
    "url.path",
    "url.query",
    "user.name",
    "user_agent.original",
];

/// Two, so that there is one before; each has all of the generator's story.
const DAYS: [&str; 2] = ["2026-11-19", "2026-11-20"];
const APACHE_FORM: &str = r#"{apache: '%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i" %D'}"#;

/// Where the documents of a run go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Data streams, `logs-DATASET-default`.
    Streams,
    /// Date-named indices that begin with this.
    Dated(&'static str),
}

impl Target {
    fn of_source(self) -> String {
        match self {
            Self::Streams => String::new(),
            Self::Dated(name) => format!(", index: '{name}-%Y.%m.%d'"),
        }
    }

    fn index(self, dataset: &str, record: &Record) -> String {
        match self {
            Self::Streams => format!("logs-{dataset}-default"),
            Self::Dated(name) => {
                let day = super::interval::iso(record.time());
                format!("{name}-{}", day[..10].replace('-', "."))
            }
        }
    }
}

/// Writes the files, configures, and reads what each line must become; nothing is indexed yet.
///
/// # Panics
/// If the generator fails, or reads back other counts than it says it wrote.
#[must_use]
pub fn written(node: &Node, target: Target) -> Filled {
    let workspace = Workspace::new(node);
    let mut sources = String::new();
    let mut records = Vec::new();
    let late = (workspace.logs().join("late.log"), slow());
    sources += &format!(
        "  - {{name: late, paths: ['{}'], format: {APACHE_FORM}, dataset: shop.access, fields: {{host.name: web-3}}{}}}\n",
        late.0.display(),
        target.of_source()
    );
    let source = Source {
        index: "logs-shop.access-default",
        dataset: "shop.access",
        path: late.0.to_str().expect("UTF-8"),
        fields: &[("host.name", "web-3")],
        assumed_time: 0,
    };
    records.extend(AccessReader::new(Form::CombinedMicroseconds).read(late.1.as_bytes(), &source));
    records.iter_mut().for_each(|record| record.index = target.index("shop.access", record));
    for traffic in &TRAFFIC {
        let Traffic { name, format, .. } = traffic;
        let (dataset, form, host) = match *format {
            "json" => ("shop.application", "json".to_owned(), "app-1"),
            _ => ("shop.access", APACHE_FORM.to_owned(), *name),
        };
        // Applications say themselves which service they are.
        let fields = match *format {
            "json" => vec![("host.name", host)],
            _ => vec![("host.name", host), ("service.name", "frontend")],
        };
        let shown: Vec<String> = fields.iter().map(|(field, value)| format!("{field}: {value}")).collect();
        sources += &format!(
            "  - {{name: {name}, paths: ['{{logs}}/{name}/*'], format: {form}, dataset: {dataset}, fields: {{{}}}{}}}\n",
            shown.join(", "),
            target.of_source()
        );
        records.extend(generated(&workspace, traffic, dataset, &fields, target));
    }
    for (file, form, dataset) in [
        ("nasa-http-1995-08-01.log", Form::Common, "nasa.access"),
        ("apache-combined-2015-05.log", Form::Combined, "apache.access"),
    ] {
        let path = workspace.take_data(file);
        let format = if form == Form::Common { "common" } else { "combined" };
        sources += &format!(
            "  - {{name: {dataset}, paths: ['{}'], format: {format}, dataset: {dataset}{}}}\n",
            path.display(),
            target.of_source()
        );
        let text = fs::read(&path).expect("the log is there");
        let source = Source {
            index: &format!("logs-{dataset}-default"),
            dataset,
            path: path.to_str().expect("UTF-8"),
            fields: &[("host.name", "test-host")],
            assumed_time: 0,
        };
        let mut of_file = AccessReader::new(form).read(&text, &source);
        of_file.iter_mut().for_each(|record| record.index = target.index(dataset, record));
        records.extend(of_file);
    }
    workspace.configure(&sources, "");
    let period = |name: &str, from: i64, days: i64| Period {
        name: name.to_owned(),
        from: from * DAY,
        to: (from + days) * DAY - 1,
    };
    let periods = vec![
        period("a generated day", days(2026, 11, 20), 1),
        period("NASA's day", days(1995, 8, 1), 1),
        period("Apache's four days", days(2015, 5, 17), 4),
    ];
    Filled { records, periods, workspace, late }
}

impl Filled {
    /// Indexes everything in one go.
    ///
    /// # Panics
    /// If the run fails.
    pub fn index(&self, node: &Node) {
        fs::write(&self.late.0, &self.late.1).expect("room");
        let _ = self.workspace.run(&["run", "--once"]).ok();
        node.ok("POST", "_all/_refresh", None);
    }

    /// Indexes everything by a daemon that writes documents about itself, and that has to wait for a blocked target meanwhile.
    /// These documents become records too, and a period; beside them there is one for each cause to wait for.
    ///
    /// # Panics
    /// If something does not happen in time, or the documents do not sum up to what was indexed.
    pub fn index_and_report(&mut self, node: &Node) {
        let lines = self.lines();
        let late = self.late.1.lines().count() as u64;
        let all = self.records.len() as u64;
        let daemon = self.workspace.start(&[
            "--set",
            "telemetry.documents.enabled=true",
            "--set",
            "telemetry.documents.interval=1s",
        ]);
        // Shards that are made just now do not answer yet.
        let indexed = || {
            let _ = node.ask("POST", "logs-*/_refresh", None);
            let (status, answer) = node.ask("GET", "logs-shop.*,logs-nasa.*,logs-apache.*/_count", None);
            answer["count"].as_u64().filter(|_| status == 200)
        };
        until("all but what comes late", PATIENCE, || (indexed() == Some(all - late)).then_some(()));
        let block = |on: bool| {
            node.ok("PUT", "logs-shop.access-default/_settings", Some(&json!({"index.blocks.write": on})));
        };
        block(true);
        fs::write(&self.late.0, &self.late.1).expect("room");
        until("a document about what is waited for", PATIENCE, || {
            let waiting = json!({"query": {"exists": {"field": "logweir.holds"}}});
            (node.search(METRICS, &waiting)["hits"]["total"]["value"].as_u64() > Some(0)).then_some(())
        });
        block(false);
        until("what came late", PATIENCE, || (indexed() == Some(all)).then_some(()));
        assert_eq!(daemon.stop(), Some(0), "the daemon");
        self.take_reports(node, lines);
    }

    /// Lines with something in them, and empty ones, of all files but the late one.
    fn lines(&self) -> (u64, u64) {
        let mut folders = vec![self.workspace.logs()];
        let (mut full, mut empty) = (0, 0);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).expect("a directory") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = fs::read(path).expect("a file");
                let lines = text.strip_suffix(b"\n").unwrap_or(&text).split(|byte| *byte == b'\n');
                for line in lines {
                    *(if line.is_empty() || line == b"\r" { &mut empty } else { &mut full }) += 1;
                }
            }
        }
        (full, empty)
    }

    fn take_reports(&mut self, node: &Node, (full, empty): (u64, u64)) {
        let found = node.search(METRICS, &json!({"size": 10_000, "sort": ["@timestamp"]}));
        let hits = found["hits"]["hits"].as_array().expect("hits");
        let documents: Vec<Value> = hits.iter().map(|hit| hit["_source"].clone()).collect();
        let late = self.late.1.lines().count() as u64;
        let sum = |field: &str| -> u64 {
            documents.iter().filter_map(|document| document["logweir"]["lines"][field].as_u64()).sum()
        };
        assert_eq!(sum("read"), full + empty + late, "lines read");
        assert_eq!(sum("created"), self.records.len() as u64, "lines created");
        assert_eq!(sum("skipped"), empty, "lines skipped");
        assert_eq!((sum("dead_lettered"), sum("duplicate")), (DEAD_LETTERS, 0), "dead letters and duplicates");
        assert_eq!(full + late, self.records.len() as u64 + DEAD_LETTERS, "what was written");
        let report = |document: &Value, id: &Value| {
            let mut record = Record::of_document(METRICS, document);
            record.id = id.as_str().map(str::to_owned);
            record
        };
        let mut reports: Vec<Record> = hits.iter().map(|hit| report(&hit["_source"], &hit["_id"])).collect();
        let (first, last) = (reports[0].time(), reports[reports.len() - 1].time());
        // What cannot be made to happen here: a document each, as the daemon of another host would write it.
        let daemon = documents.iter().find(|document| document["logweir"]["scope"] == "daemon").expect("a document");
        for cause in hold_causes() {
            let mut document = daemon.clone();
            document["host"]["name"] = json!("elsewhere");
            document["logweir"]["holds"] = json!([cause]);
            let put = node.ok("POST", &format!("{METRICS}/_doc?refresh=true"), Some(&document));
            reports.push(report(&document, &put["_id"]));
        }
        self.records.extend(reports);
        let margin = 60_000;
        self.periods.push(Period { name: "the run itself".to_owned(), from: first - margin, to: last + margin });
    }
}

/// All causes that the daemon names.
fn hold_causes() -> Vec<String> {
    let names = fs::read_to_string(repository().join("src/telemetry/names.rs")).expect("the names");
    let set = names.split_once("    HoldCause {").expect("the causes").1.split_once("\n    }").expect("an end").0;
    let cause = Regex::new(r#"= "(\w+)","#).expect("a regular expression");
    let causes: Vec<String> = cause.captures_iter(set).map(|found| found[1].to_owned()).collect();
    assert!(causes.len() >= 5, "{causes:?}");
    causes
}

/// The two hundred user agents of Apache's log cannot be told by hand: what is derived of them is taken as the documents have it,
/// and only how it is counted is proven. Equal agents must be equal in all documents.
///
/// # Panics
/// If they are not, or the search fails.
pub fn take_agents(node: &Node, records: &mut [Record]) {
    let index = "logs-apache.access-default";
    let found = node.search(index, &json!({"size": 10_000, "_source": ["user_agent"]}));
    let mut agents: BTreeMap<String, Record> = BTreeMap::new();
    for hit in found["hits"]["hits"].as_array().expect("hits") {
        let mut document = hit["_source"].clone();
        let Some(original) = document["user_agent"]["original"].as_str().map(str::to_owned) else { continue };
        document["user_agent"].as_object_mut().expect("an object").remove("original");
        document["@timestamp"] = json!("1970-01-01T00:00:00.000Z");
        let agent = Record::of_document(index, &document);
        let before = agents.entry(original).or_insert_with(|| agent.clone());
        for field in
            ["name", "version", "os.name", "os.version", "device.name"].map(|field| format!("user_agent.{field}"))
        {
            assert_eq!(before.values(&field), agent.values(&field), "{document}");
        }
    }
    assert!(agents.len() > 100, "only {} agents", agents.len());
    for record in records.iter_mut().filter(|record| record.index == index) {
        if let [Datum::Text(original)] = record.values("user_agent.original") {
            let agent = agents[original].clone();
            record.forget("user_agent.", "user_agent.original");
            record.take("user_agent.", &agent);
        }
    }
}

fn generated(
    workspace: &Workspace,
    traffic: &Traffic,
    dataset: &str,
    fields: &[(&str, &str)],
    target: Target,
) -> Vec<Record> {
    let Traffic { name, format, dirty, .. } = traffic;
    let directory = workspace.logs().join(name);
    fs::create_dir(&directory).expect("a directory");
    let mut manifests = Vec::new();
    for file in generated_files().iter().filter(|file| file.of == *name) {
        fs::write(directory.join(&file.name), &file.text).expect("room");
        manifests.push(file.manifest.clone());
    }
    if *format == "json" {
        fs::write(directory.join("refused.json"), refused()).expect("room");
        fs::write(directory.join("orders.json"), orders(0..20, |n| n >= 20 - DEAD_LETTERS)).expect("room");
    }
    let mut records = Vec::new();
    for file in fs::read_dir(&directory).expect("a directory") {
        let path = file.expect("a file").path();
        let text = fs::read(&path).expect("the file is there");
        let source = Source {
            index: &format!("logs-{dataset}-default"),
            dataset,
            path: path.to_str().expect("UTF-8"),
            fields,
            assumed_time: 0,
        };
        records.extend(match *format {
            "json" => read_json(&text, &source),
            _ => AccessReader::new(Form::CombinedMicroseconds).read(&text, &source),
        });
    }
    // A text, where the mapping has an object.
    records.retain(|record| record.values("order").is_empty());
    records.iter_mut().for_each(|record| record.index = target.index(dataset, record));
    if *dirty == 0.0 {
        assert_as_in_manifests(&records, &manifests);
    }
    records
}

/// A file of the generator.
#[derive(Debug)]
struct Generated {
    /// Which traffic it is of.
    of: &'static str,
    name: String,
    text: Vec<u8>,
    manifest: Value,
}

/// All files of [`TRAFFIC`]; they are the same for every test.
fn generated_files() -> &'static [Generated] {
    static FILES: OnceLock<Vec<Generated>> = OnceLock::new();
    FILES.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a directory");
        let started = TRAFFIC.iter().flat_map(|traffic| DAYS.iter().zip(traffic.seed..).map(move |day| (traffic, day)));
        let started = started.map(|(traffic, (day, seed))| {
            let to = dir.path().join(format!("{}-{day}", traffic.name));
            let generator = Command::new(crate::daemon::binary().with_file_name("logweir-generator"))
                .arg(&to)
                .args(["--mode", "grow", "--format", traffic.format, "--name", day, "--start"])
                .args([&format!("{day}T00:00:00Z"), "--simulate", "24h", "--total", &traffic.lines.to_string()])
                .args(["--seed", &seed.to_string(), "--dirty", &traffic.dirty.to_string(), "--manifest"])
                .arg(to.with_extension("json"))
                .stderr(Stdio::null())
                .spawn()
                .expect("the generator lies beside the daemon");
            (traffic.name, to, generator)
        });
        let started: Vec<_> = started.collect();
        let files = started.into_iter().map(|(of, to, mut generator)| {
            assert!(generator.wait().expect("its end").success(), "the generator failed: {}", to.display());
            let file = fs::read_dir(&to).expect("a directory").next().expect("a file").expect("a file").path();
            Generated {
                of,
                name: file.file_name().expect("a name").to_string_lossy().into_owned(),
                text: fs::read(&file).expect("the file is there"),
                manifest: serde_json::from_slice(&fs::read(to.with_extension("json")).expect("a manifest"))
                    .expect("JSON"),
            }
        });
        files.collect()
    })
}

/// A line for each of [`REFUSED`].
fn refused() -> String {
    let line = |(field, value, times): &(&str, &str, usize)| {
        let value = value.repeat(*times);
        format!("{}\n", json!({"@timestamp": "2026-11-20T12:00:00.000Z", "message": "odd", *field: value}))
    };
    REFUSED.iter().map(line).collect()
}

/// Requests that took longer than the generator's do.
fn slow() -> String {
    let line = |seconds: u64| {
        let time = format!("20/Nov/2026:12:00:{seconds:02} +0000");
        let request = format!("\"GET /slow/{seconds} HTTP/1.1\" 200 {seconds}");
        format!("192.0.2.200 - - [{time}] {request} \"-\" \"curl/8.14.1\" {}\n", seconds * 1_000_000 + 250_000)
    };
    (2..15).map(line).collect()
}

/// The generator, which knows what it wrote, has counted the same.
fn assert_as_in_manifests(records: &[Record], manifests: &[Value]) {
    let sum = |key: &str| manifests.iter().filter_map(|manifest| manifest[key].as_u64()).sum::<u64>();
    assert_eq!(sum("clean_lines"), records.len() as u64);
    for (field, counts) in
        [("http.response.status_code", "statuses"), ("http.request.method", "methods"), ("url.path", "paths")]
    {
        let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
        for (value, count) in manifests.iter().filter_map(|manifest| manifest[counts].as_object()).flatten() {
            *expected.entry(value).or_default() += count.as_u64().expect("a count");
        }
        for (value, count) in &expected {
            let found =
                records.iter().filter(|record| record.values(field).iter().any(|datum| datum.is(value))).count();
            assert_eq!(*count, found as u64, "{field} {value}");
        }
        assert_eq!(expected.values().sum::<u64>(), records.len() as u64, "{field}");
    }
    let bytes = |record: &Record| match record.values("http.response.body.bytes") {
        [Datum::Number(bytes)] => *bytes,
        _ => 0.0,
    };
    assert_eq!(sum("body_bytes") as f64, records.iter().map(bytes).sum::<f64>());
}
