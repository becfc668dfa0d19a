//! The configuration: what every section holds, its defaults, and the one road to a valid [`Config`].
//!
//! Layers, later wins: the `Default` impls here, the [`Preset`], one YAML file, the environment (`LOGWEIR__SECTION__KEY`), `--set
//! section.key=value`. Tables are merged, lists are replaced, `null` is as if not given. [`load`] alone makes a `Config`;
//! it refuses unknown keys (naming the nearest known one), sizes and durations without a unit, and combinations that
//! cannot work. Nothing outside this module uses the crate `config`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

mod auth;
mod error;
pub mod globs;
mod load;
mod origins;
mod preset;
mod schema;
mod shaping;
pub mod units;
mod validate;
mod yaml;

#[cfg(test)]
mod tests;

pub use auth::{AuthError, Login};
pub use error::{ConfigError, Origin, Problem};
pub use load::{DEFAULT_FILE, Loaded, load};
pub use origins::{Origins, Setting};
pub use preset::Preset;
pub use units::{ByteSize, Span};

/// The data set of documents about logweir itself.
pub const METRICS_DATASET: &str = "logweir.metrics";

/// Everything that can be configured.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Name of this host in documents and ids; the system's host name if not given.
    pub host: Option<String>,
    /// How batches and requests are sized, where nobody says otherwise.
    pub preset: Preset,
    /// What is read, in the order of claims: a file belongs to the first source whose globs match it.
    pub sources: Vec<Source>,
    /// How lines are read.
    pub read: Read,
    /// What is added to each document.
    pub enrich: Enrich,
    /// When a batch is sent.
    pub batch: Batch,
    /// Where documents go.
    pub elasticsearch: Elasticsearch,
    /// Where progress is kept.
    pub checkpoint: Checkpoint,
    /// Where refused documents are kept.
    pub dead_letters: DeadLetters,
    /// What logweir says of itself.
    pub telemetry: Telemetry,
    /// Where `setup --dashboards` imports.
    pub kibana: Kibana,
    /// How it ends.
    pub shutdown: Shutdown,
}

/// Files that are read in one way, into one data set.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Names the source in messages and metrics: letters, digits, `-`, `_`, `.`; unique.
    pub name: String,
    /// Globs of paths; `*` does not cross `/`, `**` does. Relative ones start at the current directory.
    pub paths: Vec<String>,
    /// Globs that are left out: matched against the whole path, and without a `/` against the file name.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// How files arrive.
    #[serde(default)]
    pub mode: Mode,
    /// What happens to a chunk file once all its lines are settled.
    #[serde(default)]
    pub on_done: OnDone,
    /// Where `on_done: archive` moves files.
    #[serde(default)]
    pub archive_dir: Option<PathBuf>,
    /// What a line means.
    #[serde(default)]
    pub format: Format,
    /// Field mapping for `format: json`: from the key in the line (dotted for nested) to the ECS field.
    #[serde(default)]
    pub map: BTreeMap<String, String>,
    /// Regular expressions (on bytes): only lines that match one are indexed, if any is given.
    #[serde(default)]
    pub include_lines: Vec<String>,
    /// Regular expressions (on bytes): lines that match one are skipped; wins over `include_lines`.
    #[serde(default)]
    pub exclude_lines: Vec<String>,
    /// The data set, as in `logs-<dataset>-<namespace>`; lower case, no `-`.
    pub dataset: String,
    /// Fields with a fixed value, by dotted ECS name; they win over what the line says.
    #[serde(default)]
    pub fields: BTreeMap<String, serde_json::Value>,
    /// If not empty: the only fields a document keeps, by dotted name (an object's name keeps all of it).
    /// `@timestamp` is always kept.
    #[serde(default)]
    pub keep_fields: Vec<String>,
    /// Where reading starts in a file never seen before, when it is older than the first start (tail mode only).
    #[serde(default)]
    pub start_at: StartAt,
    /// Files never seen before whose last change is longer ago are left alone.
    #[serde(default)]
    pub ignore_older: Option<Span>,
    /// Instead of `elasticsearch.index` for this source.
    #[serde(default)]
    pub index: Option<String>,
    /// An ingest pipeline for this source's documents, instead of `elasticsearch.pipeline`.
    #[serde(default)]
    pub pipeline: Option<String>,
}

/// How files arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Files grow and rotate.
    #[default]
    Tail,
    /// Files arrive complete.
    Chunks,
}

/// What happens to a chunk file once it is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDone {
    /// It stays.
    #[default]
    Keep,
    /// It is deleted.
    Delete,
    /// It is moved to `archive_dir`.
    Archive,
}

/// Where reading starts in a file never seen before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StartAt {
    /// At its first line.
    #[default]
    Beginning,
    /// At its end (tail mode; for files that are there at the first start).
    End,
}

/// What a line means.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Decided from the first lines of each file.
    #[default]
    Auto,
    /// Apache's common log format.
    Common,
    /// Apache's combined log format.
    Combined,
    /// One JSON object a line.
    Json,
    /// The line as `message`.
    Text,
    /// An Apache `LogFormat` string.
    Apache(String),
    /// An nginx `log_format` string.
    Nginx(String),
}

/// How lines are read.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Read {
    /// Lines that are longer are cut to this, tagged and counted. At most 64 MiB.
    pub max_line_bytes: ByteSize,
    /// How often all globs are listed, whatever notifications say.
    pub scan_interval: Span,
    /// How often known files are looked at when notifications do not work there (network file systems).
    pub poll_interval: Span,
    /// Whether the system's change notifications are used at all.
    pub notify: bool,
    /// A chunk file whose end no event told is complete when size and time stood still for this long.
    pub settle_time: Span,
    /// How many files are held open at once.
    pub max_open_files: usize,
    /// Deleted files that are not read to their end are held open up to this many unread bytes in all.
    pub max_deleted_bytes: ByteSize,
    /// And no longer than this.
    pub max_deleted_age: Span,
    /// Threads that read, parse and encode; 0: one a core.
    pub threads: usize,
    /// Progress of files that are gone is forgotten after so many scans without them…
    pub forget_after_scans: u32,
    /// …and not before this time.
    pub forget_after: Span,
}

impl Default for Read {
    fn default() -> Self {
        Self {
            max_line_bytes: ByteSize::mib(1),
            scan_interval: Span::secs(10),
            poll_interval: Span::millis(500),
            notify: true,
            settle_time: Span::secs(5),
            max_open_files: 256,
            max_deleted_bytes: ByteSize::mib(1024),
            max_deleted_age: Span(Duration::from_secs(24 * 3600)),
            threads: 0,
            forget_after_scans: 100,
            forget_after: Span(Duration::from_secs(14 * 24 * 3600)),
        }
    }
}

/// What is added to each document.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Enrich {
    /// Split `url.original` into path, query, extension, domain, scheme, port.
    pub url: bool,
    /// Derive browser, system and device from `user_agent.original`.
    pub user_agent: bool,
    /// Add `host.name`.
    pub host: bool,
    /// Add `event.original`, the line itself.
    pub original: bool,
    /// Add `log.file.path`.
    pub file_path: bool,
    /// The day of the week and the hour.
    pub calendar: Calendar,
    /// A line whose own time is further in the past than this gets the time of reading and a tag.
    pub max_past: Span,
    /// A line whose own time is further in the future than this gets the time of reading and a tag.
    pub max_future: Span,
}

impl Default for Enrich {
    fn default() -> Self {
        Self {
            url: true,
            user_agent: true,
            host: true,
            original: false,
            file_path: true,
            calendar: Calendar::default(),
            max_past: Span(Duration::from_secs(50 * 365 * 24 * 3600)),
            max_future: Span(Duration::from_secs(24 * 3600)),
        }
    }
}

/// The day of the week and the hour.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Calendar {
    /// Add `calendar.weekday` (`1 Mon` … `7 Sun`) and `calendar.hour` (0 to 23) of `@timestamp`, in UTC.
    pub enabled: bool,
}

impl Default for Calendar {
    fn default() -> Self {
        Self { enabled: true }
    }
}

/// When a batch is sent: when the first of these is reached.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Batch {
    /// Bytes of the request body, before compression.
    pub max_bytes: ByteSize,
    /// Documents.
    pub max_docs: usize,
    /// Age of its first line.
    pub max_age: Span,
    /// Memory for all batches together, being filled or on their way.
    pub max_memory: ByteSize,
}

impl Default for Batch {
    fn default() -> Self {
        Self {
            max_bytes: ByteSize::mib(2),
            max_docs: 10_000,
            max_age: Span::millis(50),
            max_memory: ByteSize::mib(128),
        }
    }
}

/// Where documents go.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Elasticsearch {
    /// The nodes.
    pub urls: Vec<String>,
    /// How to log in.
    pub auth: Auth,
    /// How to trust.
    pub tls: Tls,
    /// The namespace, as in `logs-<dataset>-<namespace>`; lower case, no `-`.
    pub namespace: String,
    /// An index name with `strftime` fields of the event's time (`web-%Y.%m.%d`), instead of data streams.
    pub index: Option<String>,
    /// An ingest pipeline for all documents.
    pub pipeline: Option<String>,
    /// Whether request bodies are compressed: `auto` is off for loopback addresses and on otherwise.
    pub compression: Compression,
    /// Requests in flight, at most; how many are used is found by trying: as many as make it faster.
    pub max_in_flight: usize,
    /// Every request is given up after this.
    pub request_timeout: Span,
    /// How fast documents may be sent.
    pub rate_limit: RateLimit,
    /// How often what was refused for now is sent again.
    pub retry: Retry,
    /// Whether `run` puts templates in place by itself.
    pub setup: bool,
    /// What the templates say.
    pub template: Template,
}

impl Default for Elasticsearch {
    fn default() -> Self {
        Self {
            urls: vec!["http://localhost:9200".to_owned()],
            auth: Auth::default(),
            tls: Tls::default(),
            namespace: "default".to_owned(),
            index: None,
            pipeline: None,
            compression: Compression::Auto,
            max_in_flight: 64,
            request_timeout: Span::secs(60),
            rate_limit: RateLimit::default(),
            retry: Retry::default(),
            setup: true,
            template: Template::default(),
        }
    }
}

/// How to log in: one of an API key, a user name with a password, or nothing. `*_file` reads the secret from a file;
/// a systemd credential is a file in `$CREDENTIALS_DIRECTORY`, written `credential:NAME`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// API key, encoded as Elasticsearch gives it (`encoded`).
    pub api_key: Option<units::Secret>,
    /// File that holds it.
    pub api_key_file: Option<String>,
    /// User name.
    pub username: Option<String>,
    /// Password.
    pub password: Option<units::Secret>,
    /// File that holds it.
    pub password_file: Option<String>,
}

/// How to trust.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// PEM file of the authority to trust, beside the system's.
    pub ca_file: Option<PathBuf>,
    /// PEM file of the client's certificate and private key.
    pub client_certificate_file: Option<PathBuf>,
    /// Turns verification off: for a laptop only.
    pub insecure: bool,
}

impl Tls {
    fn is_given(&self) -> bool {
        self.ca_file.is_some() || self.client_certificate_file.is_some() || self.insecure
    }
}

/// Whether request bodies are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Off for loopback addresses, on otherwise.
    #[default]
    Auto,
    /// Never.
    Off,
    /// Always, gzip level 1.
    Gzip,
}

/// How fast documents may be sent; no limit where not given.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimit {
    /// Documents a second.
    pub max_docs: Option<u32>,
    /// Body bytes a second, before compression.
    pub max_bytes: Option<ByteSize>,
}

/// Delays between attempts; there is no last attempt.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// The first.
    pub min_delay: Span,
    /// The longest.
    pub max_delay: Span,
}

impl Default for Retry {
    fn default() -> Self {
        Self { min_delay: Span::millis(100), max_delay: Span::secs(30) }
    }
}

/// What the templates say.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Template {
    /// Template priority; above 100, the built-in one's.
    pub priority: u32,
    /// Primary shards.
    pub shards: u32,
    /// Replicas; the cluster's default if not given.
    pub replicas: Option<u32>,
    /// Refresh interval; the cluster's default if not given.
    pub refresh_interval: Option<Span>,
    /// `index.mode: logsdb`; needs Elasticsearch 8.17.
    pub logsdb: bool,
    /// Keep documents with values that do not fit their field's type: not indexed, and the field is named in `_ignored`.
    pub ignore_malformed: bool,
    /// Documents are deleted after this; never if not given.
    pub retention: Option<Span>,
}

impl Default for Template {
    fn default() -> Self {
        Self {
            priority: 250,
            shards: 1,
            replicas: None,
            refresh_interval: None,
            logsdb: false,
            ignore_malformed: true,
            retention: None,
        }
    }
}

/// Where progress is kept.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Checkpoint {
    /// Directory of the store; one process at a time.
    pub path: PathBuf,
    /// How often progress is written.
    pub interval: Span,
    /// How far ahead of what is sent a file is reserved: what lies between checkpoint and reservation is looked up after a crash.
    pub reserve_ahead: ByteSize,
}

impl Default for Checkpoint {
    fn default() -> Self {
        Self { path: PathBuf::from("/var/lib/logweir"), interval: Span::secs(1), reserve_ahead: ByteSize::mib(64) }
    }
}

/// Where refused documents are kept.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeadLetters {
    /// Directory of the segments.
    pub path: PathBuf,
    /// All segments together; when full, indexing stops until there is room.
    pub max_bytes: ByteSize,
    /// One segment.
    pub max_segment_bytes: ByteSize,
}

impl Default for DeadLetters {
    fn default() -> Self {
        Self {
            path: PathBuf::from("/var/lib/logweir/dead-letters"),
            max_bytes: ByteSize::mib(1024),
            max_segment_bytes: ByteSize::mib(16),
        }
    }
}

/// What logweir says of itself.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Address of `/metrics`, `/livez` and `/readyz`; none if empty.
    pub listen: String,
    /// OTLP/HTTP endpoint for metrics, such as `http://localhost:4318`; none if not given.
    pub otlp_endpoint: Option<String>,
    /// How often OTLP metrics are sent.
    pub otlp_interval: Span,
    /// Documents about logweir itself, in Elasticsearch.
    pub documents: MetricsDocuments,
    /// Log lines as `text` or `json`.
    pub log_format: LogFormat,
    /// Log filter, as `tracing`'s `EnvFilter` reads it (`info`, `logweir=debug`).
    pub log_level: String,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:9464".to_owned(),
            otlp_endpoint: None,
            otlp_interval: Span::secs(60),
            documents: MetricsDocuments::default(),
            log_format: LogFormat::Text,
            log_level: "info".to_owned(),
        }
    }
}

/// Documents about logweir itself, in Elasticsearch.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsDocuments {
    /// Whether they are sent.
    pub enabled: bool,
    /// How often one is made of the daemon, and one of each source.
    pub interval: Span,
}

impl Default for MetricsDocuments {
    fn default() -> Self {
        Self { enabled: false, interval: Span::secs(10) }
    }
}

/// Log lines as text or JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// The Kibana, or OpenSearch Dashboards, that `check` asks and `setup --dashboards` imports into.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kibana {
    /// Its address with its base path; none if not given.
    pub url: Option<String>,
    /// The space, by the id in its address (`/s/ID`); the default one if not given.
    pub space: Option<String>,
    /// Which indices the boards show, as an index pattern has them; told from the sources' targets if not given.
    pub index_pattern: Option<String>,
    /// How to log in; as in Elasticsearch if nothing is given.
    pub auth: Auth,
    /// How to trust; as in Elasticsearch if nothing is given.
    pub tls: Tls,
}

/// How it ends.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// What is on its way may take this long after the first signal.
    pub grace_period: Span,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { grace_period: Span::secs(10) }
    }
}

impl Config {
    /// The login for Kibana, and the section that says it.
    #[must_use]
    pub fn kibana_auth(&self) -> (&'static str, &Auth) {
        match self.kibana.auth.is_given() {
            true => ("kibana.auth", &self.kibana.auth),
            false => ("elasticsearch.auth", &self.elasticsearch.auth),
        }
    }

    /// How to trust Kibana.
    #[must_use]
    pub fn kibana_tls(&self) -> &Tls {
        if self.kibana.tls.is_given() { &self.kibana.tls } else { &self.elasticsearch.tls }
    }

    /// The Kibana space, if it is not the default one.
    #[must_use]
    pub fn kibana_space(&self) -> Option<&str> {
        self.kibana.space.as_deref().filter(|space| *space != "default")
    }

    /// Which indices the boards show: what is configured, else every target: `logs-*` for data streams, and dated
    /// indices by their pattern.
    #[must_use]
    pub fn kibana_index_pattern(&self) -> String {
        if let Some(pattern) = &self.kibana.index_pattern {
            return pattern.clone();
        }
        let mut patterns = Vec::new();
        for source in &self.sources {
            let pattern = match source.target(&self.elasticsearch) {
                Target::DataStream(_) => "logs-*".to_owned(),
                dated @ Target::Dated(_) => dated.everything(),
            };
            if !patterns.contains(&pattern) {
                patterns.push(pattern);
            }
        }
        patterns.join(",")
    }

    /// Small, safe values for tests: everything is kept below `dir`, no port is opened, nothing is waited for long.
    #[must_use]
    pub fn for_test(dir: &Path) -> Self {
        Self {
            host: Some("test".to_owned()),
            read: Read {
                max_line_bytes: ByteSize(64 << 10),
                scan_interval: Span::millis(50),
                poll_interval: Span::millis(20),
                settle_time: Span::millis(50),
                max_open_files: 16,
                threads: 1,
                ..Read::default()
            },
            batch: Batch { max_bytes: ByteSize(256 << 10), max_memory: ByteSize::mib(1), ..Batch::default() },
            checkpoint: Checkpoint {
                path: dir.join("checkpoint"),
                interval: Span::millis(50),
                reserve_ahead: ByteSize::mib(1),
            },
            dead_letters: DeadLetters { path: dir.join("dead-letters"), ..DeadLetters::default() },
            telemetry: Telemetry { listen: String::new(), ..Telemetry::default() },
            shutdown: Shutdown { grace_period: Span::secs(1) },
            ..Self::default()
        }
    }
}

impl Config {
    /// Where documents about logweir itself go, if they are sent: `logs-logweir.metrics-<namespace>`, or
    /// `logweir-metrics-%Y.%m.%d` where all sources have date-named indices.
    #[must_use]
    pub fn metrics_target(&self) -> Option<Target> {
        let elasticsearch = &self.elasticsearch;
        let is_dated = |source: &Source| matches!(source.target(elasticsearch), Target::Dated(_));
        self.telemetry.documents.enabled.then(|| {
            if !self.sources.is_empty() && self.sources.iter().all(is_dated) {
                Target::Dated("logweir-metrics-%Y.%m.%d".to_owned())
            } else {
                Target::DataStream(format!("logs-{METRICS_DATASET}-{}", elasticsearch.namespace))
            }
        })
    }
}

impl Source {
    /// Where this source's documents go: `logs-<dataset>-<namespace>`, or the index pattern that it or `elasticsearch` names.
    #[must_use]
    pub fn target(&self, elasticsearch: &Elasticsearch) -> Target {
        match self.index.as_ref().or(elasticsearch.index.as_ref()) {
            Some(pattern) => Target::Dated(pattern.clone()),
            None => Target::DataStream(format!("logs-{}-{}", self.dataset, elasticsearch.namespace)),
        }
    }
}

/// Where documents go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A data stream with this name.
    DataStream(String),
    /// An index whose name is this pattern, filled with the event's time (UTC).
    Dated(String),
}

impl Target {
    /// The name that look-ups and templates go to: the data stream, or the pattern with `*` for all that varies
    /// (`web-*` for `web-%Y.%m.%d`).
    #[must_use]
    pub fn everything(&self) -> String {
        let pattern = match self {
            Self::DataStream(name) => return name.clone(),
            Self::Dated(pattern) => pattern,
        };
        let percents: Vec<usize> = pattern.match_indices('%').map(|(at, _)| at).collect();
        let mut fields = Vec::new();
        let mut skip_to = 0;
        for at in percents {
            if at >= skip_to {
                skip_to = at + 2;
                if pattern.as_bytes().get(at + 1) != Some(&b'%') {
                    fields.push(at);
                }
            }
        }
        let (head, tail) = match (fields.first(), fields.last()) {
            (Some(&first), Some(&last)) => (&pattern[..first], pattern.get(last + 2..).unwrap_or_default()),
            _ => return pattern.replace("%%", "%"),
        };
        format!("{}*{}", head.replace("%%", "%"), tail.replace("%%", "%"))
    }
}

#[cfg(test)]
mod target_tests {
    use super::{Config, Elasticsearch, Target};

    #[test]
    fn documents_about_logweir_itself_go_where_a_source_could_go() {
        let target = |yaml: serde_json::Value| {
            let config: Config = serde_json::from_value(yaml).unwrap();
            config.metrics_target()
        };
        let on = serde_json::json!({"documents": {"enabled": true}});
        let source = |name: &str, index: Option<&str>| serde_json::json!({"name": name, "paths": ["/a"], "dataset": "web", "index": index});
        let stream = Some(Target::DataStream("logs-logweir.metrics-default".to_owned()));
        let (dated, plain) = (source("a", Some("web-%Y")), source("b", None));
        assert_eq!(target(serde_json::json!({"sources": [plain]})), None, "it is off");
        assert_eq!(target(serde_json::json!({"telemetry": on})), stream);
        assert_eq!(target(serde_json::json!({"telemetry": on, "sources": [dated, plain]})), stream);
        let all_dated = target(serde_json::json!({"telemetry": on, "sources": [dated]}));
        assert_eq!(all_dated, Some(Target::Dated("logweir-metrics-%Y.%m.%d".to_owned())));
        let elasticsearch = Elasticsearch { index: Some("web-%Y".to_owned()), ..Elasticsearch::default() };
        let dated = target(serde_json::json!({"telemetry": on, "sources": [plain], "elasticsearch": elasticsearch}));
        assert_eq!(dated, all_dated);
    }

    #[test]
    fn everything_of_a_dated_target_is_its_pattern_with_a_star() {
        for (pattern, everything) in [
            ("web-%Y.%m.%d", "web-*"),
            ("%Y-web", "*-web"),
            ("a-%Y-b-%d-c", "a-*-c"),
            ("plain", "plain"),
            ("a%%-%d", "a%-*"),
        ] {
            assert_eq!(Target::Dated(pattern.to_owned()).everything(), everything);
        }
    }
}
