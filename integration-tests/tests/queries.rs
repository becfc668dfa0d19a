//! The queries of `kibana/queries`: each `.console` file, run as it stands against documents that the daemon made of known
//! lines, answers what is computed here from these lines. Of each `.esql` file every field is one that the index has.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use integration_tests::node::repository;
use integration_tests::{Node, Workspace};
use regex::Regex;
use serde_json::{Value, json};

const MS: u64 = 1_000_000;
const PATHS: [&str; 5] = ["/", "/search", "/cart", "/product/1", "/missing"];
const WEEKDAYS: [&str; 7] = ["1 Mon", "2 Tue", "3 Wed", "4 Thu", "5 Fri", "6 Sat", "7 Sun"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// A request in the access log.
#[derive(Clone, Debug)]
struct Request {
    /// Seconds since 1970.
    time: u64,
    client: String,
    path: &'static str,
    status: u64,
    bytes: u64,
    ms: u64,
}

/// A line of an application.
#[derive(Clone, Debug)]
struct Entry {
    time: u64,
    level: &'static str,
    service: &'static str,
    /// Of error lines.
    error: Option<&'static str>,
    message: String,
}

/// What was written, and is computed with.
struct Known {
    requests: Vec<Request>,
    entries: Vec<Entry>,
    web_log: PathBuf,
    app_log: PathBuf,
    /// Bytes of the dead letters on disk.
    dead_letters: u64,
    /// The documents about the daemon itself, as they are.
    reports: Vec<Value>,
}

/// Lines of the access log that are no log lines, and the reason; a time stands where one must be right.
const BROKEN_WEB: [(&str, &str); 4] = [
    ("no log line at all", "missing_separator"),
    ("192.0.2.9 - - [", "truncated"),
    ("192.0.2.9 - - [yesterday]", "missing_separator"),
    ("192.0.2.9 - - [{time}] \"GET / HTTP/1.1\" two 5 \"-\" \"-\" 0.001", "bad_number"),
];
const BROKEN_APP: [(&str, &str); 2] = [("{\"message\": cut}", "bad_json"), ("[1]", "not_an_object")];

/// Fields that the mapping refuses; the document is kept without them.
const REFUSED: [&str; 3] = [
    r#""event.duration":"12ms","http.response.body.bytes":"many""#,
    r#""event.duration":"1s""#,
    r#""source.ip":"unknown""#,
];
/// How many documents the mapping refuses for good.
const DEAD: u64 = 2;

impl Known {
    fn web(&self) -> impl Iterator<Item = &Request> {
        self.requests.iter()
    }

    /// How many requests there are of each value.
    fn requests_by<K: Ord>(&self, keep: impl Fn(&Request) -> bool, key: impl Fn(&Request) -> K) -> BTreeMap<K, u64> {
        counts(self.web().filter(|request| keep(request)).map(key))
    }

    fn errors(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().filter(|entry| entry.level == "ERROR")
    }
}

fn counts<K: Ord>(keys: impl Iterator<Item = K>) -> BTreeMap<K, u64> {
    let mut counts = BTreeMap::new();
    for key in keys {
        *counts.entry(key).or_default() += 1;
    }
    counts
}

/// Year, month and day from 1, of days since 1970 (Howard Hinnant's algorithm).
fn date(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = 400 * era + year_of_era + u64::from(month <= 2);
    (year, month, day_of_year - (153 * shifted_month + 2) / 5 + 1)
}

/// `2026-11-22T10:00:00`.
fn iso(time: u64) -> String {
    let ((year, month, day), second) = (date(time / 86_400), time % 86_400);
    format!("{year}-{month:02}-{day:02}T{:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

/// `22/Nov/2026:10:00:00 +0000`.
fn clf(time: u64) -> String {
    let ((year, month, day), second) = (date(time / 86_400), time % 86_400);
    let month = MONTHS[month as usize - 1];
    format!("{day:02}/{month}/{year}:{:02}:{:02}:{:02} +0000", second / 3600, second / 60 % 60, second % 60)
}

/// The day of the week and the hour, as `calendar` has them; 1970 began on a Thursday.
fn calendar(time: u64) -> (&'static str, u64) {
    (WEEKDAYS[((time / 86_400 + 3) % 7) as usize], time % 86_400 / 3600)
}

impl Request {
    fn line(&self) -> String {
        let Self { time, client, path, status, bytes, ms } = self;
        let (time, seconds, millis) = (clf(*time), ms / 1000, ms % 1000);
        format!(
            "{client} - - [{time}] \"GET {path} HTTP/1.1\" {status} {bytes} \"-\" \"curl/8.5.0\" {seconds}.{millis:03}\n"
        )
    }
}

impl Entry {
    fn line(&self, more: &str) -> String {
        let Self { time, level, service, error, message } = self;
        let error = error.map(|kind| format!(",\"error.type\":\"{kind}\"")).unwrap_or_default();
        let comma = if more.is_empty() { "" } else { "," };
        format!(
            "{{\"@timestamp\":\"{}Z\",\"log.level\":\"{level}\",\"service.name\":\"{service}\",\"message\":\"{message}\"{error}{comma}{more}}}\n",
            iso(*time)
        )
    }
}

/// Writes the lines, has the daemon index them, and returns what is known of them.
fn fill(node: &Node, workspace: &Workspace) -> Known {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    // Every seven minutes of the last 14 hours, so that the 24 hours that are asked for do not end before the test does.
    let requests: Vec<Request> = (0..120)
        .map(|n| Request {
            time: now - 300 - n * 420,
            client: format!("198.51.100.{}", n * n % 11),
            path: PATHS[(n * 3 % 5) as usize],
            status: match n {
                _ if n * 3 % 5 == 4 => 404,
                _ if n % 10 == 4 => 500,
                _ if n % 17 == 0 => 503,
                _ if n % 13 == 0 => 302,
                _ => 200,
            },
            bytes: 1000 + 7 * n,
            // All different, so that the slowest are in one order; and those that limits are about.
            ms: [700, 500, 1000, 2000].get(n as usize).copied().unwrap_or(n * 37 % 120 * 24 + 3),
        })
        .collect();
    let entries: Vec<Entry> = (0..40)
        .map(|n| Entry {
            time: now - 400 - n * 600,
            level: ["INFO", "INFO", "ERROR", "WARN"][(n % 4) as usize],
            service: ["cart", "checkout", "search"][(n % 3) as usize],
            error: (n % 4 == 2).then_some(if n % 3 == 0 { "Timeout" } else { "NullReference" }),
            message: format!("entry {n}"),
        })
        .collect();
    let (web_log, app_log) = (workspace.logs().join("web.log"), workspace.logs().join("app.json"));
    let mut web: String = requests.iter().rev().map(Request::line).collect();
    let mut app: String = entries.iter().rev().map(|entry| entry.line("")).collect();
    for (broken, _) in BROKEN_WEB {
        web += &broken.replace("{time}", &clf(now - 250));
        web += "\n";
    }
    for (broken, _) in BROKEN_APP {
        app += &format!("{broken}\n");
    }
    let other = Entry { time: now - 200, level: "INFO", service: "legacy", error: None, message: "odd".to_owned() };
    for refused in REFUSED {
        app += &other.line(refused);
    }
    for n in 0..DEAD {
        app += &other.line(&format!("\"url.path\":{{\"number\":{n}}}"));
    }
    fs::write(&web_log, web).expect("room");
    fs::write(&app_log, app).expect("room");

    let format = "{nginx: '$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \"$http_referer\" \"$http_user_agent\" $request_time'}";
    workspace.configure(
        &format!(
            "  - {{name: web, paths: ['{{logs}}/*.log'], format: {format}, dataset: nginx.access}}\n  \
             - {{name: app, paths: ['{{logs}}/*.json'], format: json, dataset: app}}"
        ),
        "",
    );
    let documents = ["--set", "telemetry.documents.enabled=true", "--set", "telemetry.documents.interval=1s"];
    let _ = workspace.run(&[&["run", "--once"][..], &documents].concat()).ok();
    workspace.assert_proven_with(requests.len() as u64 + 51, requests.len() as u64 + 51 - DEAD);

    let letters = fs::read_dir(workspace.path("dead-letters")).expect("there are some");
    let dead_letters = letters.map(|file| file.expect("a file").metadata().expect("its size").len()).sum();
    let reports = node.search("logs-logweir.metrics-default", &json!({"size": 1000, "sort": ["@timestamp"]}));
    let reports = reports["hits"]["hits"].as_array().expect("hits");
    let reports = reports.iter().map(|hit| hit["_source"]["logweir"].clone()).collect();
    Known { requests, entries, web_log, app_log, dead_letters, reports }
}

/// The query files with this ending, by name.
fn queries(ending: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for file in fs::read_dir(repository().join("kibana/queries")).expect("the folder is there") {
        let path = file.expect("a file").path();
        if path.extension().is_some_and(|extension| extension == ending) {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            found.insert(name, fs::read_to_string(&path).expect("UTF-8"));
        }
    }
    found
}

/// Asks what a `.console` file says, in the way that Dev Tools does.
fn ask(node: &Node, name: &str, text: &str) -> Value {
    let mut lines = text.lines();
    let sentence = lines.next().expect("a sentence");
    assert!(sentence.starts_with("# ") && sentence.ends_with(['.', '?']), "{name}: {sentence}");
    let request = lines.next().expect("a request");
    let target = request.strip_prefix("GET ").and_then(|path| path.strip_suffix("/_search"));
    let target = target.unwrap_or_else(|| panic!("{name}: {request}"));
    let body = lines.collect::<Vec<_>>().join("\n");
    let body = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{name}: {error}"));
    node.search(target, &body)
}

/// Key and bucket, in the order of the answer.
fn buckets(aggregation: &Value) -> Vec<(String, &Value)> {
    let name = |key: &Value| key.as_str().map_or_else(|| key.to_string(), str::to_owned);
    match &aggregation["buckets"] {
        Value::Array(list) => list.iter().map(|bucket| (name(&bucket["key"]), bucket)).collect(),
        Value::Object(map) => map.iter().map(|(key, bucket)| (key.clone(), bucket)).collect(),
        other => panic!("no buckets: {other}"),
    }
}

fn count(bucket: &Value) -> u64 {
    bucket["doc_count"].as_u64().expect("a count")
}

fn counted(aggregation: &Value) -> BTreeMap<String, u64> {
    buckets(aggregation).into_iter().map(|(key, bucket)| (key, count(bucket))).collect()
}

/// The whole number that a metric is.
fn value(metric: &Value) -> u64 {
    let value = metric["value"].as_f64().unwrap_or_else(|| panic!("no value: {metric}"));
    assert!(value >= 0.0 && value.fract() == 0.0, "{value}");
    value as u64
}

fn distinct<K: Ord>(keys: impl Iterator<Item = K>) -> u64 {
    keys.collect::<BTreeSet<_>>().len() as u64
}

fn texts<K: ToString + Ord>(counts: BTreeMap<K, u64>) -> BTreeMap<String, u64> {
    counts.into_iter().map(|(key, count)| (key.to_string(), count)).collect()
}

type Expectation = fn(&Value, &Known);

/// What each query must answer.
const EXPECTATIONS: &[(&str, Expectation)] = &[
    ("apdex", |answer, known| {
        let within =
            |request: &Request, from: u64, to: u64| request.status < 500 && from < request.ms && request.ms <= to;
        let satisfied = known.web().filter(|request| within(request, 0, 500)).count() as u64;
        let tolerating = known.web().filter(|request| within(request, 500, 2000)).count() as u64;
        let all = known.requests.len() as u64;
        assert!(satisfied > 0 && tolerating > 0 && satisfied + tolerating < all);
        let expected = [("all", all), ("satisfied", satisfied), ("tolerating", tolerating)];
        assert_eq!(counted(&answer["answers"]), expected.map(|(key, count)| (key.to_owned(), count)).into());
    }),
    ("dead-letters", |answer, known| {
        let hosts = buckets(&answer["hosts"]);
        assert_eq!(hosts.len(), 1);
        assert_eq!((hosts[0].0.as_str(), value(&hosts[0].1["refused"])), ("test-host", DEAD));
        let last = &hosts[0].1["last"]["hits"]["hits"][0]["_source"]["logweir"];
        assert_eq!(last["dead_letters"]["size"], known.dead_letters);
    }),
    ("delivery", |answer, known| {
        let hosts = buckets(&answer["hosts"]);
        let of = |path: &str| -> Vec<u64> {
            known.reports.iter().filter_map(|report| report.pointer(path).and_then(Value::as_u64)).collect()
        };
        for (name, path) in [("p95", "p95"), ("p99", "p99"), ("slowest", "max")] {
            let most = of(&format!("/delivery/latency/{path}")).into_iter().max().expect("lines were delivered");
            // A maximum is answered as a double.
            assert!((hosts[0].1[name]["value"].as_f64().expect("a number") - most as f64).abs() < 1000.0, "{name}");
        }
        assert_eq!(value(&hosts[0].1["sent_again"]), of("/documents/retried").iter().sum::<u64>());
    }),
    ("error-endpoints", |answer, known| {
        let failed = |request: &Request| request.status >= 400;
        let expected = texts(known.requests_by(failed, |request| request.path));
        assert_eq!(counted(&answer["paths"]), expected);
        for (path, bucket) in buckets(&answer["paths"]) {
            let statuses =
                known.requests_by(|request| failed(request) && request.path == path, |request| request.status);
            assert_eq!(counted(&bucket["statuses"]), texts(statuses), "{path}");
        }
    }),
    ("error-lines", |answer, known| {
        assert_eq!(counted(&answer["services"]), texts(counts(known.errors().map(|entry| entry.service))));
        for (service, bucket) in buckets(&answer["services"]) {
            let of_service: Vec<&Entry> = known.errors().filter(|entry| entry.service == service).collect();
            let types = counts(of_service.iter().map(|entry| entry.error.expect("its type")));
            assert_eq!(counted(&bucket["types"]), texts(types), "{service}");
            let last = of_service.iter().max_by_key(|entry| entry.time).expect("there are some");
            assert_eq!(bucket["last"]["hits"]["hits"][0]["_source"]["message"], last.message, "{service}");
        }
    }),
    ("errors", |answer, known| {
        let of = |class: u64| known.web().filter(|request| request.status / 100 == class).count() as u64;
        let expected = [("all", known.requests.len() as u64), ("4xx", of(4)), ("5xx", of(5))];
        assert_eq!(counted(&answer["answers"]), expected.map(|(key, count)| (key.to_owned(), count)).into());
    }),
    ("lag", |answer, _| {
        let hosts = buckets(&answer["hosts"]);
        let sources: Vec<(&str, Value)> = buckets(&hosts[0].1["sources"])
            .into_iter()
            .map(|(name, bucket)| {
                (
                    if name == "web" { "web" } else { "app" },
                    bucket["last"]["hits"]["hits"][0]["_source"]["logweir"]["source"].clone(),
                )
            })
            .collect();
        let last: BTreeMap<&str, (&Value, &Value)> =
            sources.iter().map(|(name, source)| (*name, (&source["lag"], &source["files"]))).collect();
        assert_eq!(last, [("app", (&json!(0), &json!(1))), ("web", (&json!(0), &json!(1)))].into());
    }),
    ("latency", |answer, known| {
        let paths = buckets(&answer["paths"]);
        assert_eq!(paths.len(), PATHS.len());
        let mut before = f64::INFINITY;
        for (path, bucket) in paths {
            let mut times: Vec<u64> =
                known.web().filter(|request| request.path == path).map(|request| request.ms * MS).collect();
            times.sort_unstable();
            assert_eq!(count(bucket), times.len() as u64, "{path}");
            for percent in [50_usize, 75, 95, 99] {
                let found = bucket["time"]["values"][format!("{percent}.0")].as_f64().expect("a percentile");
                // Between its neighbours: how a percentile is laid between two values is a matter of taste.
                let rank = percent * (times.len() - 1) / 100;
                let (low, high) = (times[rank.saturating_sub(1)], times[(rank + 2).min(times.len() - 1)]);
                assert!(low as f64 <= found && found <= high as f64, "{path}: p{percent} {found} in {times:?}");
            }
            let p95 = bucket["time"]["values"]["95.0"].as_f64().expect("a percentile");
            assert!(p95 <= before, "the slowest first");
            before = p95;
        }
    }),
    ("not-found", |answer, known| {
        let missing = |request: &&Request| request.status == 404;
        let (path, bucket) = buckets(&answer["paths"]).into_iter().next().expect("one path");
        assert_eq!(counted(&answer["paths"]).len(), 1);
        assert_eq!((path.as_str(), count(bucket)), ("/missing", known.web().filter(missing).count() as u64));
        assert_eq!(value(&bucket["clients"]), distinct(known.web().filter(missing).map(|request| &request.client)));
        let last = known.web().filter(missing).map(|request| request.time).max().expect("there are some");
        assert_eq!(value(&bucket["last"]), last * 1000);
    }),
    ("outcomes", |answer, known| {
        let web = known.requests.len() + BROKEN_WEB.len();
        let app = known.entries.len() + BROKEN_APP.len() + REFUSED.len();
        let expected = [("web", [web as u64, 0, 0, 0]), ("app", [app as u64, 0, DEAD, 0])];
        let found = buckets(&answer["sources"]);
        assert_eq!(found.len(), 2);
        for (name, expected) in expected {
            let (_, bucket) = found.iter().find(|(key, _)| key == name).expect(name);
            let outcomes = ["created", "duplicate", "dead_lettered", "skipped"].map(|outcome| value(&bucket[outcome]));
            assert_eq!(outcomes, expected, "{name}");
        }
    }),
    ("parse-failures", |answer, known| {
        let of = |log: &PathBuf, broken: &[(&str, &'static str)]| {
            let log = log.to_str().expect("UTF-8").to_owned();
            broken.iter().map(move |(_, reason)| (*reason, log.clone())).collect::<Vec<_>>()
        };
        let all = [of(&known.web_log, &BROKEN_WEB), of(&known.app_log, &BROKEN_APP)].concat();
        let mut found = BTreeMap::new();
        for (reason, bucket) in buckets(&answer["reasons"]) {
            for (file, bucket) in buckets(&bucket["files"]) {
                found.insert((reason.clone(), file), count(bucket));
            }
        }
        assert_eq!(found, counts(all.into_iter().map(|(reason, log)| (reason.to_owned(), log))));
    }),
    ("refused-fields", |answer, _| {
        let names = Regex::new("\"([a-z._]+)\":").expect("a pattern");
        let fields = REFUSED.iter().flat_map(|text| names.captures_iter(text).map(|found| found[1].to_owned()));
        assert_eq!(counted(&answer["fields"]), counts(fields));
    }),
    ("slow-share", |answer, known| {
        let classes = buckets(&answer["classes"]);
        assert_eq!(classes.len(), 4);
        for (class, bucket) in classes {
            let of_class = |request: &&Request| format!("{}xx", request.status / 100) == class;
            let slow = known.web().filter(of_class).filter(|request| request.ms > 1000).count() as u64;
            let all = known.web().filter(of_class).count() as u64;
            assert!(class != "2xx" || 0 < slow && slow < all, "the lines show nothing");
            assert_eq!((count(&bucket["slow"]), count(bucket)), (slow, all), "{class}");
        }
    }),
    ("slowest", |answer, known| {
        let mut slowest: Vec<&Request> = known.web().collect();
        slowest.sort_by_key(|request| std::cmp::Reverse(request.ms));
        let expected = slowest.iter().take(20).map(|request| {
            (json!(request.ms * MS), json!(request.path), json!(request.status), json!(request.client), json!("GET"))
        });
        let hits = answer["hits"]["hits"].as_array().expect("hits").iter().map(|hit| &hit["_source"]);
        let found = hits.map(|hit| {
            let http = &hit["http"];
            let (duration, path) = (&hit["event"]["duration"], &hit["url"]["path"]);
            let (status, client) = (&http["response"]["status_code"], &hit["source"]["address"]);
            (duration.clone(), path.clone(), status.clone(), client.clone(), http["request"]["method"].clone())
        });
        assert_eq!(found.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    }),
    ("top-clients", |answer, known| {
        let all = known.requests_by(|_| true, |request| request.client.clone());
        let found = buckets(&answer["clients"]);
        assert_eq!(found.len(), all.len().min(10));
        let mut most: Vec<u64> = all.values().copied().collect();
        most.sort_unstable_by(|a, b| b.cmp(a));
        most.truncate(10);
        assert_eq!(found.iter().map(|(_, bucket)| count(bucket)).collect::<Vec<_>>(), most);
        for (client, bucket) in found {
            let of_client: Vec<&Request> = known.web().filter(|request| request.client == client).collect();
            assert_eq!(count(bucket), of_client.len() as u64, "{client}");
            assert_eq!(value(&bucket["bytes"]), of_client.iter().map(|request| request.bytes).sum::<u64>(), "{client}");
            let failed = of_client.iter().filter(|request| request.status >= 400).count() as u64;
            assert_eq!(count(&bucket["failed"]), failed, "{client}");
        }
    }),
    ("total-time", |answer, known| {
        let found = buckets(&answer["paths"]);
        let sum =
            |path: &str| known.web().filter(|request| request.path == path).map(|request| request.ms * MS).sum::<u64>();
        let mut expected: Vec<(u64, String)> = PATHS.iter().map(|path| (sum(path), (*path).to_owned())).collect();
        expected.sort_unstable_by(|a, b| b.cmp(a));
        assert_eq!(
            found.iter().map(|(path, bucket)| (value(&bucket["time"]), path.clone())).collect::<Vec<_>>(),
            expected
        );
        for (path, bucket) in found {
            let mean = sum(&path) as f64 / known.web().filter(|request| request.path == path).count() as f64;
            assert!((bucket["mean"]["value"].as_f64().expect("a mean") - mean).abs() < 1.0, "{path}");
        }
    }),
    ("traffic", |answer, known| {
        assert_eq!(answer["hits"]["total"]["value"], known.requests.len());
        assert_eq!(value(&answer["bytes"]), known.web().map(|request| request.bytes).sum::<u64>());
        assert_eq!(value(&answer["clients"]), distinct(known.web().map(|request| &request.client)));
        let hours = buckets(&answer["hours"]);
        let by_hour = known.requests_by(|_| true, |request| request.time / 3600);
        assert_eq!(hours.len() as u64, by_hour.keys().max().expect("some") - by_hour.keys().min().expect("some") + 1);
        for (hour, bucket) in hours {
            let hour = hour.parse::<u64>().expect("milliseconds") / 3_600_000;
            let of_hour: Vec<&Request> = known.web().filter(|request| request.time / 3600 == hour).collect();
            assert_eq!(count(bucket), of_hour.len() as u64);
            assert_eq!(value(&bucket["bytes"]), of_hour.iter().map(|request| request.bytes).sum::<u64>());
            assert_eq!(value(&bucket["clients"]), distinct(of_hour.iter().map(|request| &request.client)));
        }
    }),
    ("weekday-hour", |answer, known| {
        let mut found = BTreeMap::new();
        for (weekday, bucket) in buckets(&answer["weekdays"]) {
            for (hour, bucket) in buckets(&bucket["hours"]) {
                found.insert((weekday.clone(), hour.parse().expect("an hour")), count(bucket));
            }
        }
        let expected = known.requests_by(|_| true, |request| calendar(request.time));
        let expected: BTreeMap<_, _> =
            expected.into_iter().map(|((weekday, hour), count)| ((weekday.to_owned(), hour), count)).collect();
        assert_eq!(found, expected);
    }),
];

/// Every field of the indices in `target`, dotted.
fn fields(node: &Node, target: &str) -> BTreeSet<String> {
    let answer = node.ok("GET", &format!("{target}/_field_caps?fields=*&include_unmapped=false"), None);
    answer["fields"].as_object().expect("fields").keys().cloned().collect()
}

/// Words of ES|QL that are no fields.
const WORDS: [&str; 26] = [
    "FROM",
    "WHERE",
    "STATS",
    "BY",
    "SORT",
    "LIMIT",
    "EVAL",
    "KEEP",
    "METADATA",
    "MV_EXPAND",
    "AND",
    "OR",
    "NOT",
    "IN",
    "IS",
    "NULL",
    "DESC",
    "ASC",
    "LIKE",
    "hour",
    "hours",
    "minutes",
    "days",
    "day",
    "minute",
    "AS",
];

/// The names in an ES|QL query that must be fields: neither text, number, function nor column that it makes itself.
fn named_fields(query: &str) -> BTreeSet<String> {
    let text = Regex::new("\"[^\"]*\"|(?m)^//.*$").expect("a pattern").replace_all(query, " ").into_owned();
    let text = Regex::new(r"FROM \S+").expect("a pattern").replace(&text, " ").into_owned();
    let made: BTreeSet<&str> = Regex::new(r"([a-z_][a-z0-9_]*) = ")
        .expect("a pattern")
        .captures_iter(&text)
        .map(|found| found.get(1).expect("a group").as_str())
        .collect();
    let name = Regex::new(r"[A-Za-z_@][A-Za-z0-9_@.]*(\()?").expect("a pattern");
    let names = name.find_iter(&text).map(|found| found.as_str());
    let is_field = |name: &&str| !name.ends_with('(') && !WORDS.contains(name) && !made.contains(name);
    names.filter(is_field).map(str::to_owned).collect()
}

#[test]
fn each_query_answers_what_is_computed_from_the_lines() {
    let node = Node::shared();
    let workspace = Workspace::new(node);
    let known = fill(node, &workspace);

    let console = queries("console");
    let expected: BTreeSet<&str> = EXPECTATIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(console.keys().map(String::as_str).collect::<BTreeSet<_>>(), expected, "a query without an expectation");
    for (name, expect) in EXPECTATIONS {
        println!("{name}");
        let answer = ask(node, name, &console[*name]);
        assert_eq!(answer["_shards"]["failed"], 0, "{name}: {answer}");
        // One that looks at hits is given all of it.
        let mut seen = answer["aggregations"].clone();
        if seen.is_null() {
            seen = json!({});
        }
        seen["hits"] = answer["hits"].clone();
        expect(&seen, &known);
    }

    let esql = queries("esql");
    assert_eq!(
        esql.keys().collect::<Vec<_>>(),
        console.keys().collect::<Vec<_>>(),
        "each question is asked in both languages"
    );
    let mapped =
        [fields(node, "logs-nginx.access-default,logs-app-default"), fields(node, "logs-logweir.metrics-default")];
    for (name, query) in esql {
        assert!(query.starts_with("// ") && query.contains("\nFROM logs-"), "{name}: a sentence, then the query");
        let mapped = &mapped[usize::from(query.contains("FROM logs-logweir.metrics-"))];
        let named = named_fields(&query);
        assert!(named.len() >= 2, "{name}: {named:?}");
        let unknown: Vec<&String> = named.iter().filter(|field| !mapped.contains(*field)).collect();
        assert!(unknown.is_empty(), "{name}: not in the mapping: {unknown:?}");
    }
}

#[test]
fn a_field_that_no_mapping_has_is_seen_in_a_query() {
    let query = "// A sentence with words.\nFROM logs-* METADATA _ignored\n| WHERE url.pth == \"a.text\" AND tags IS NOT NULL\n\
                 | STATS n = SUM(CASE(event.duration > 1, 1, 0)) BY hour = BUCKET(@timestamp, 1 hour)\n| SORT n DESC\n";
    let expected = ["@timestamp", "_ignored", "event.duration", "tags", "url.pth"];
    assert_eq!(named_fields(query), expected.map(str::to_owned).into());
}
