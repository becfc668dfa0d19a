//! What a configuration may say: every rule that a type cannot hold. Pure: nothing is read, nothing is asked.
//!
//! All problems are found, each with the key that has to change. `fields` and `keep_fields` are checked where documents
//! are made.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::units::{ByteSize, Span};
use super::{
    Auth, Batch, Config, Elasticsearch, Format, Kibana, METRICS_DATASET, Mode, OnDone, Source, StartAt, Telemetry,
    globs,
};

/// A key and what is wrong with its value.
pub type Wrong = (String, String);

/// The longest line that may be configured.
const MAX_LINE: ByteSize = ByteSize::mib(64);
/// Elasticsearch's limit for each part of a data stream's name, and for the name of an index, in bytes.
const MAX_PART: usize = 100;
const MAX_INDEX: usize = 255;
/// What Elasticsearch refuses in a name.
const ILLEGAL: [char; 13] = ['\\', '/', '*', '?', '"', '<', '>', '|', ' ', ',', '#', ':', '\0'];

/// Finds all that is wrong with `config`.
pub fn check(config: &Config, problems: &mut Vec<Wrong>) {
    let mut check = Check { problems };
    if config.host.as_deref() == Some("") {
        check.wrong("host", "is empty; leave it out to use the system's host name");
    }
    check.sources(&config.sources);
    check.metrics_dataset(config);
    check.limits(config);
    check.batch(&config.batch, config.read.max_line_bytes);
    check.elasticsearch(&config.elasticsearch);
    check.telemetry(&config.telemetry);
    check.kibana(&config.kibana);
}

struct Check<'a> {
    problems: &'a mut Vec<Wrong>,
}

impl Check<'_> {
    fn wrong(&mut self, key: impl Into<String>, text: impl Into<String>) {
        self.problems.push((key.into(), text.into()));
    }

    fn sources(&mut self, sources: &[Source]) {
        let mut names = BTreeMap::new();
        let mut globs_seen: BTreeMap<&str, &str> = BTreeMap::new();
        for (index, source) in sources.iter().enumerate() {
            let key = format!("sources.{index}");
            self.source(&key, source);
            if let Some(first) = names.insert(&source.name, index) {
                self.wrong(format!("{key}.name"), format!("`{}` is the name of sources.{first} already", source.name));
            }
            for (at, glob) in source.paths.iter().enumerate() {
                if let Some(owner) = globs_seen.insert(glob, &source.name) {
                    self.wrong(format!("{key}.paths.{at}"), format!("`{glob}` is a path of source `{owner}` already"));
                }
            }
        }
        for (index, source) in sources.iter().enumerate() {
            let Some(archive) = source.archive_dir.as_ref().filter(|_| source.on_done == OnDone::Archive) else {
                continue;
            };
            let again = sources.iter().flat_map(|other| &other.paths).find(|glob| globs::matches_in(glob, archive));
            if let Some(glob) = again {
                let text =
                    format!("`{}` is where `{glob}` looks; files moved there would be read again", archive.display());
                self.wrong(format!("sources.{index}.archive_dir"), text);
            }
        }
    }

    /// What logweir says of itself has a data set and a template of its own.
    fn metrics_dataset(&mut self, config: &Config) {
        for (index, source) in config.sources.iter().enumerate() {
            if config.telemetry.documents.enabled && source.dataset == METRICS_DATASET {
                let text = format!("`{METRICS_DATASET}` is where `telemetry.documents` go; take another name");
                self.wrong(format!("sources.{index}.dataset"), text);
            }
        }
    }

    fn source(&mut self, key: &str, source: &Source) {
        let named = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if source.name.is_empty() || !source.name.chars().all(named) {
            let text = format!("`{}` must be letters, digits, `-`, `_` and `.`, at least one", source.name);
            self.wrong(format!("{key}.name"), text);
        }
        self.name_part(&format!("{key}.dataset"), &source.dataset);
        if source.paths.is_empty() {
            self.wrong(format!("{key}.paths"), "is empty; name at least one glob");
        }
        for (index, glob) in source.paths.iter().enumerate() {
            self.glob(&format!("{key}.paths.{index}"), glob);
        }
        for (index, glob) in source.exclude.iter().enumerate() {
            self.glob(&format!("{key}.exclude.{index}"), glob);
        }
        for (name, patterns) in [("include_lines", &source.include_lines), ("exclude_lines", &source.exclude_lines)] {
            for (index, pattern) in patterns.iter().enumerate() {
                if let Err(error) = regex::bytes::Regex::new(pattern) {
                    let text = format!("`{pattern}` is not a regular expression: {}", last_line(&error.to_string()));
                    self.wrong(format!("{key}.{name}.{index}"), text);
                }
            }
        }
        match &source.format {
            Format::Apache(text) | Format::Nginx(text) if text.trim().is_empty() => {
                self.wrong(
                    format!("{key}.format"),
                    "has an empty text; write the format as the server's own file has it",
                );
            }
            _ => {}
        }
        if !source.map.is_empty() && source.format != Format::Json {
            self.wrong(format!("{key}.map"), "is for `format: json` only");
        }
        self.mode(key, source);
        if let Some(index) = &source.index {
            self.index(&format!("{key}.index"), index);
        }
        if source.pipeline.as_deref() == Some("") {
            self.wrong(format!("{key}.pipeline"), "is empty; leave it out for none");
        }
    }

    fn mode(&mut self, key: &str, source: &Source) {
        if source.mode == Mode::Tail && source.on_done != OnDone::Keep {
            self.wrong(format!("{key}.on_done"), "is for `mode: chunks` only; a file that grows is never done");
        }
        if source.mode == Mode::Chunks && source.start_at == StartAt::End {
            self.wrong(format!("{key}.start_at"), "`end` is for `mode: tail` only; a chunk is read whole");
        }
        match (&source.archive_dir, source.on_done) {
            (None, OnDone::Archive) => {
                self.wrong(format!("{key}.on_done"), "`archive` needs `archive_dir`");
            }
            (Some(_), OnDone::Keep | OnDone::Delete) => {
                self.wrong(format!("{key}.archive_dir"), "is for `on_done: archive` only");
            }
            (Some(_), OnDone::Archive) | (None, OnDone::Keep | OnDone::Delete) => {}
        }
    }

    fn glob(&mut self, key: &str, glob: &str) {
        if glob.is_empty() {
            self.wrong(key, "is empty; write a glob such as `/var/log/nginx/access.log*`");
        } else if glob.split('/').any(|part| part == "..") {
            self.wrong(key, format!("`{glob}` has `..` in it; write the path that is meant"));
        } else if let Err(error) = globs::compile(glob) {
            self.wrong(key, format!("`{glob}` is not a glob: {}", error.kind()));
        }
    }

    /// A part of a data stream's name.
    fn name_part(&mut self, key: &str, name: &str) {
        let illegal = name.chars().find(|c| c.is_uppercase() || *c == '-' || ILLEGAL.contains(c));
        if name.is_empty() {
            self.wrong(key, "is empty; write a name such as `nginx.access`");
        } else if let Some(illegal) = illegal {
            let text = format!("`{name}` has a {illegal:?}; lower case letters, digits, `.` and `_` make a name");
            self.wrong(key, text);
        } else if name.len() > MAX_PART {
            self.wrong(key, format!("is {} bytes long; at most {MAX_PART} make a name", name.len()));
        }
    }

    /// An index name with `strftime` fields, judged by the name that it gives for some day.
    fn index(&mut self, key: &str, pattern: &str) {
        let name = match jiff::fmt::strtime::format(pattern, jiff::Timestamp::UNIX_EPOCH) {
            Ok(name) => name,
            Err(error) => {
                self.wrong(key, format!("`{pattern}` is not a pattern such as `web-%Y.%m.%d`: {error}"));
                return;
            }
        };
        let illegal = name.chars().find(|c| c.is_uppercase() || ILLEGAL.contains(c));
        if name.is_empty() {
            self.wrong(key, "is empty; leave it out for data streams");
        } else if let Some(illegal) = illegal {
            self.wrong(key, format!("`{pattern}` gives `{name}`, and no index may have a {illegal:?} in its name"));
        } else if name.starts_with(['-', '_', '+', '.']) {
            self.wrong(key, format!("`{pattern}` gives `{name}`, and no index may start with `-`, `_`, `+` or `.`"));
        } else if name.len() > MAX_INDEX {
            self.wrong(key, format!("gives a name of {} bytes; at most {MAX_INDEX} make one", name.len()));
        }
    }

    fn limits(&mut self, config: &Config) {
        let elasticsearch = &config.elasticsearch;
        let spans: [(&str, Span); 11] = [
            ("read.scan_interval", config.read.scan_interval),
            ("read.poll_interval", config.read.poll_interval),
            ("read.settle_time", config.read.settle_time),
            ("enrich.max_past", config.enrich.max_past),
            ("enrich.max_future", config.enrich.max_future),
            ("batch.max_age", config.batch.max_age),
            ("elasticsearch.request_timeout", elasticsearch.request_timeout),
            ("elasticsearch.retry.min_delay", elasticsearch.retry.min_delay),
            ("checkpoint.interval", config.checkpoint.interval),
            ("telemetry.otlp_interval", config.telemetry.otlp_interval),
            ("elasticsearch.template.retention", elasticsearch.template.retention.unwrap_or(Span::secs(1))),
        ];
        for (key, span) in spans {
            if span.0.is_zero() {
                self.wrong(key, "must be more than 0");
            }
        }
        let rate = &elasticsearch.rate_limit;
        let counts = [
            ("read.max_open_files", config.read.max_open_files as u64),
            ("batch.max_docs", config.batch.max_docs as u64),
            ("elasticsearch.max_in_flight", elasticsearch.max_in_flight as u64),
            ("elasticsearch.template.shards", elasticsearch.template.shards.into()),
            ("elasticsearch.rate_limit.max_docs", rate.max_docs.unwrap_or(1).into()),
            ("elasticsearch.rate_limit.max_bytes", rate.max_bytes.unwrap_or(ByteSize(1)).0),
            ("checkpoint.reserve_ahead", config.checkpoint.reserve_ahead.0),
            ("dead_letters.max_segment_bytes", config.dead_letters.max_segment_bytes.0),
        ];
        for (key, count) in counts {
            if count == 0 {
                self.wrong(key, "must be more than 0");
            }
        }
        for (key, path) in
            [("checkpoint.path", &config.checkpoint.path), ("dead_letters.path", &config.dead_letters.path)]
        {
            if path.as_os_str().is_empty() {
                self.wrong(key, "is empty; name a directory");
            }
        }
        let dead_letters = &config.dead_letters;
        if dead_letters.max_segment_bytes > dead_letters.max_bytes {
            let text = format!(
                "`{}` is more than dead_letters.max_bytes, `{}`",
                dead_letters.max_segment_bytes, dead_letters.max_bytes
            );
            self.wrong("dead_letters.max_segment_bytes", text);
        }
    }

    fn batch(&mut self, batch: &Batch, max_line: ByteSize) {
        if max_line.0 == 0 {
            self.wrong("read.max_line_bytes", "must be more than 0");
        } else if max_line > MAX_LINE {
            self.wrong("read.max_line_bytes", format!("`{max_line}` is more than `{MAX_LINE}`"));
        }
        if max_line > batch.max_bytes {
            let text = format!("`{}` is less than read.max_line_bytes, `{max_line}`", batch.max_bytes);
            self.wrong("batch.max_bytes", text);
        }
        // One batch is filled while another is on its way.
        if batch.max_memory.0 / 2 < batch.max_bytes.0 {
            let text = format!("`{}` is less than twice batch.max_bytes, `{}`", batch.max_memory, batch.max_bytes);
            self.wrong("batch.max_memory", text);
        }
    }

    fn elasticsearch(&mut self, elasticsearch: &Elasticsearch) {
        if elasticsearch.urls.is_empty() {
            self.wrong("elasticsearch.urls", "is empty; name at least one node, such as `http://localhost:9200`");
        }
        for (index, url) in elasticsearch.urls.iter().enumerate() {
            self.url(&format!("elasticsearch.urls.{index}"), url);
        }
        self.auth("elasticsearch.auth", &elasticsearch.auth);
        self.name_part("elasticsearch.namespace", &elasticsearch.namespace);
        if let Some(index) = &elasticsearch.index {
            self.index("elasticsearch.index", index);
        }
        if elasticsearch.pipeline.as_deref() == Some("") {
            self.wrong("elasticsearch.pipeline", "is empty; leave it out for none");
        }
        let retry = &elasticsearch.retry;
        if retry.min_delay > retry.max_delay {
            let text =
                format!("`{}` is more than elasticsearch.retry.max_delay, `{}`", retry.min_delay, retry.max_delay);
            self.wrong("elasticsearch.retry.min_delay", text);
        }
        if elasticsearch.template.priority <= 100 {
            let text = format!(
                "`{}` is not above 100, the priority of the built-in template",
                elasticsearch.template.priority
            );
            self.wrong("elasticsearch.template.priority", text);
        }
    }

    fn kibana(&mut self, kibana: &Kibana) {
        if let Some(url) = &kibana.url {
            self.url("kibana.url", url);
        }
        self.auth("kibana.auth", &kibana.auth);
        if let Some(space) = &kibana.space {
            let named = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-');
            if space.is_empty() || !space.chars().all(named) {
                let text = format!(
                    "`{space}` is not the id of a space, as its address has it after `/s/`: lower case letters, digits, `_` and `-`"
                );
                self.wrong("kibana.space", text);
            }
        }
        if let Some(pattern) = &kibana.index_pattern {
            // As for an index, but several may be named, and with `*` and the names of other clusters.
            let illegal = |c: char| c.is_uppercase() || (ILLEGAL.contains(&c) && !matches!(c, '*' | ',' | ':'));
            if pattern.is_empty() {
                self.wrong("kibana.index_pattern", "is empty; leave it out to have it told from the sources");
            } else if let Some(illegal) = pattern.chars().find(|c| illegal(*c)) {
                let text = format!("`{pattern}` has a {illegal:?}; write a pattern such as `logs-*,web-*`");
                self.wrong("kibana.index_pattern", text);
            }
        }
    }

    fn auth(&mut self, key: &str, auth: &Auth) {
        let api_key = auth.api_key.is_some() || auth.api_key_file.is_some();
        let password = auth.password.is_some() || auth.password_file.is_some();
        if api_key && (password || auth.username.is_some()) {
            self.wrong(key, "has an API key and a user name or password; choose one");
        }
        if auth.api_key.is_some() && auth.api_key_file.is_some() {
            self.wrong(key, "has both `api_key` and `api_key_file`; choose one");
        }
        if auth.password.is_some() && auth.password_file.is_some() {
            self.wrong(key, "has both `password` and `password_file`; choose one");
        }
        if auth.username.is_some() && !password {
            self.wrong(key, "has `username` without `password` or `password_file`");
        }
        if password && auth.username.is_none() {
            self.wrong(key, "has a password without `username`");
        }
        if auth.username.as_deref() == Some("") {
            self.wrong(format!("{key}.username"), "is empty");
        }
        for (name, secret) in [("api_key", &auth.api_key), ("password", &auth.password)] {
            if secret.as_ref().is_some_and(|secret| secret.expose().is_empty()) {
                self.wrong(format!("{key}.{name}"), "is empty");
            }
        }
    }

    /// An address. Its text is not repeated when it may hold a password.
    fn url(&mut self, key: &str, text: &str) {
        let url = match url::Url::parse(text) {
            Ok(url) => url,
            Err(_) if text.contains('@') => {
                self.wrong(key, "is not an address such as `http://localhost:9200`");
                return;
            }
            Err(error) => {
                self.wrong(key, format!("`{text}` is not an address such as `http://localhost:9200`: {error}"));
                return;
            }
        };
        if !url.username().is_empty() || url.password().is_some() {
            self.wrong(key, "has a login in it; that goes into the section `auth`, where it is not shown");
        } else if !matches!(url.scheme(), "http" | "https") {
            self.wrong(key, format!("`{text}` must start with `http://` or `https://`"));
        } else if url.query().is_some() || url.fragment().is_some() {
            self.wrong(key, format!("`{text}` must end with its path"));
        }
    }

    fn telemetry(&mut self, telemetry: &Telemetry) {
        if telemetry.documents.interval < Span::secs(1) {
            let text = format!("`{}` is less than `1s`", telemetry.documents.interval);
            self.wrong("telemetry.documents.interval", text);
        }
        let listen = &telemetry.listen;
        if !listen.is_empty() && listen.parse::<SocketAddr>().is_err() {
            let text = format!("`{listen}` is not an address with its port, such as `127.0.0.1:9464`");
            self.wrong("telemetry.listen", text);
        }
        if let Some(url) = &telemetry.otlp_endpoint {
            self.url("telemetry.otlp_endpoint", url);
        }
        let level = &telemetry.log_level;
        // A directive without `=` may also be a target, so that a misspelt level would pass as one.
        let misspelt = level
            .split(',')
            .map(str::trim)
            .find(|part| !part.contains(['=', '[', ':']) && part.parse::<tracing::Level>().is_err() && *part != "off");
        if let Some(part) = misspelt {
            let text =
                format!("`{part}` is not a level; write error, warn, info, debug, trace or off, or `target=level`");
            self.wrong("telemetry.log_level", text);
        } else if let Err(error) = tracing_subscriber::EnvFilter::try_new(level) {
            self.wrong("telemetry.log_level", format!("`{level}` is not a filter: {error}"));
        }
    }
}

/// The line of a long message that says what is wrong.
fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or(text).trim_start_matches("error: ")
}
