//! `logweir check`: the configuration in force, where each value came from, and what it would read now.
//!
//! Changes nothing. Secrets are never shown.

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde_json::Value;

use super::{CliError, ConfigArgs, Output};
use crate::client::{Client, Cluster, Method};
use crate::config::{Config, Loaded, Mode, Origin, Setting, Source};
use crate::discover::scan::Globs;
use crate::setup::dashboards::Site;

/// How long Elasticsearch may take to say who it is.
const DEADLINE: Duration = Duration::from_secs(10);

/// Show the configuration in force and where each value came from; what would be read; whether Elasticsearch answers
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Reach neither Elasticsearch nor Kibana
    #[arg(long)]
    pub offline: bool,
    /// Print text, or one JSON value
    #[arg(long, value_enum, default_value_t)]
    pub output: Output,
}

/// All that `check` has to say.
#[derive(Debug, Serialize)]
struct Report {
    settings: Vec<Row>,
    sources: Vec<SourceReport>,
}

#[derive(Debug, Serialize)]
struct Row {
    key: String,
    value: Value,
    origin: String,
}

#[derive(Debug, Serialize)]
struct SourceReport {
    name: String,
    files: usize,
    unreadable: Vec<Unreadable>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Unreadable {
    path: String,
    error: String,
}

/// Prints the report to `out`.
///
/// # Errors
/// [`CliError::Config`] if a source or a secret is missing; [`CliError::AnswerNo`] if a matching file cannot be read.
pub fn run(args: &CheckArgs, loaded: &Loaded, out: &mut impl Write) -> Result<(), CliError> {
    let sources: Vec<SourceReport> = loaded.config.sources.iter().map(inspect).collect();
    let unreadable: usize = sources.iter().map(|source| source.unreadable.len()).sum();
    let write_failed = |source: io::Error| CliError::InputOutput { what: "cannot write the report".to_owned(), source };
    let settings = loaded.settings().map_err(|error| write_failed(error.into()))?;
    let report = Report { settings: settings.into_iter().map(row).collect(), sources };
    match args.output {
        Output::Text => write_text(&report, out),
        Output::Json => {
            serde_json::to_writer_pretty(&mut *out, &report).map_err(Into::into).and_then(|()| writeln!(out))
        }
    }
    .or_else(quiet_when_closed)
    .map_err(write_failed)?;
    loaded.ready()?;
    if !args.offline {
        reach(&loaded.config)?;
    }
    match unreadable {
        0 => Ok(()),
        1 => Err(CliError::AnswerNo("1 file or directory cannot be read".to_owned())),
        _ => Err(CliError::AnswerNo(format!("{unreadable} files or directories cannot be read"))),
    }
}

/// A reader that has seen enough, such as `head`, is no error.
fn quiet_when_closed(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
}

/// Asks Elasticsearch, and Kibana if there is one, who they are, with the configured login.
fn reach(config: &Config) -> Result<(), CliError> {
    let runtime = super::runtime()?;
    let client = Client::new(&config.elasticsearch, config.elasticsearch.auth.resolve()?)?;
    let answer = runtime.block_on(elasticsearch(&client))?;
    let word = |value: &Value, otherwise: &str| value.as_str().unwrap_or(otherwise).to_owned();
    let version = word(&answer["version"]["number"], "");
    // Not part of the report: its JSON is one value.
    eprintln!("elasticsearch {version} answers, cluster {}", word(&answer["cluster_name"], "without a name"));
    let Some(url) = &config.kibana.url else { return Ok(()) };
    let login = config.kibana_auth().1.resolve()?;
    let kibana = Client::kibana(url, config.kibana_tls(), login.clone())?;
    let site = runtime.block_on(Site::meet(kibana, config))?;
    let space = config.kibana_space().map(|space| format!(", space {space} is there")).unwrap_or_default();
    eprintln!("{} answers{space}", site.server());
    if let Err(error) = site.server().set(&login, config.kibana_auth().0) {
        eprintln!("no dashboards: {error}");
    }
    Ok(())
}

/// What Elasticsearch says of itself; an error if it is not what only Elasticsearch says.
async fn elasticsearch(client: &Client) -> Result<Value, CliError> {
    let answer = client.json(Method::Get, "", &[], None, DEADLINE).await;
    let (status, answer) = answer.map_err(|error| CliError::Unavailable(format!("elasticsearch: {error}")))?;
    if status >= 300 {
        return Err(CliError::Unavailable(format!("elasticsearch answers with status {status}: {answer}")));
    }
    if !answer["version"]["number"].is_string() {
        let words =
            format!("another server than elasticsearch answers at its address: check the URL. It says: {answer}");
        return Err(CliError::Unavailable(words));
    }
    Ok(answer)
}

fn row(setting: Setting) -> Row {
    Row { key: setting.key, value: setting.value, origin: setting.origin.to_string() }
}

/// Values that somebody gave come first, since they are what one looks for.
fn write_text(report: &Report, out: &mut impl Write) -> io::Result<()> {
    let default = Origin::Default.to_string();
    let (defaults, given): (Vec<&Row>, Vec<&Row>) = report.settings.iter().partition(|row| row.origin == default);
    for (title, rows) in [("configured", given), ("by default", defaults)] {
        writeln!(out, "# {title}")?;
        let key_width = rows.iter().map(|row| row.key.len()).max().unwrap_or(0);
        let value_width =
            rows.iter().map(|row| row.value.to_string().len()).filter(|len| *len <= 40).max().unwrap_or(0);
        for row in rows {
            let line = format!("{:key_width$}  {:value_width$}", row.key, row.value.to_string());
            match row.origin == default {
                true => writeln!(out, "{}", line.trim_end())?,
                false => writeln!(out, "{line}  # {}", row.origin)?,
            }
        }
        writeln!(out)?;
    }
    writeln!(out, "# sources")?;
    for source in &report.sources {
        let files = if source.files == 1 { "file" } else { "files" };
        writeln!(out, "{}: {} {files} now", source.name, source.files)?;
        for Unreadable { path, error } in &source.unreadable {
            writeln!(out, "  cannot read {path}: {error}")?;
        }
        for warning in &source.warnings {
            writeln!(out, "  warning: {warning}")?;
        }
    }
    Ok(())
}

fn inspect(source: &Source) -> SourceReport {
    let mut report = SourceReport {
        name: source.name.clone(),
        files: 0,
        unreadable: Vec::new(),
        warnings: rotation_warnings(source),
    };
    // Their text was checked when the configuration was loaded.
    let Ok(globs) = Globs::compile(&source.paths, &source.exclude) else { return report };
    let listing = globs.list();
    let refused = listing.files.iter().filter_map(|(path, _)| Some((path.clone(), std::fs::File::open(path).err()?)));
    report.unreadable = listing
        .faults
        .into_iter()
        .chain(refused)
        .map(|(path, error)| Unreadable { path: path.display().to_string(), error: error.to_string() })
        .collect();
    report.files = listing.files.len();
    report.unreadable.sort_by(|a, b| a.path.cmp(&b.path));
    // Several globs may look into one directory.
    report.unreadable.dedup_by(|a, b| a.path == b.path);
    if report.files == 0 && report.unreadable.is_empty() {
        report.warnings.push("nothing matches now; files that come later will be read".to_owned());
    }
    report
}

/// What a rotated file would be missed by: a glob of growing files that ends where their name ends.
fn rotation_warnings(source: &Source) -> Vec<String> {
    if source.mode != Mode::Tail {
        return Vec::new();
    }
    let narrow = source.paths.iter().filter(|glob| !glob.ends_with('*'));
    narrow
        .map(|glob| {
            let name = glob.rsplit('/').next().unwrap_or(glob);
            format!(
                "`{glob}` does not match a rotated `{name}.1`: what was not read of it before it was renamed is found \
                 only while logweir runs and the file stays in its directory; better `{glob}*`"
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    fn check(dir: &Path, yaml: &str, output: Output) -> (String, Result<(), CliError>) {
        let file = dir.join("logweir.yaml");
        std::fs::write(&file, yaml.replace("DIR", &dir.display().to_string())).unwrap();
        let loaded = config::load(Some(&file), std::iter::empty(), &["batch.max_docs=5".to_owned()]).unwrap();
        let args = CheckArgs { config: ConfigArgs { config: None, set: Vec::new() }, offline: true, output };
        let mut out = Vec::new();
        let result = run(&args, &loaded, &mut out);
        (String::from_utf8(out).unwrap().replace(&dir.display().to_string(), "DIR"), result)
    }

    const YAML: &str = "sources:
  - name: web
    dataset: nginx.access
    paths: [DIR/logs/*.log, DIR/logs/*/deep.log*]
    exclude: ['b.*']
elasticsearch:
  auth: {api_key: hunter2}
";

    #[test]
    fn text_shows_values_origins_files_and_warnings_but_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("logs/sub/subsub")).unwrap();
        for name in ["a.log", "b.log", "c.txt", "sub/deep.log.1", "sub/subsub/deep.log"] {
            std::fs::write(dir.path().join("logs").join(name), "").unwrap();
        }
        let (text, result) = check(dir.path(), YAML, Output::Text);
        assert!(result.is_ok());
        let given = "# configured
batch.max_docs              5                                  # --set batch.max_docs
elasticsearch.auth.api_key  \"***\"                              # DIR/logweir.yaml:7
sources.0.dataset           \"nginx.access\"                     # DIR/logweir.yaml:3
sources.0.exclude           [\"b.*\"]                            # DIR/logweir.yaml:5
sources.0.name              \"web\"                              # DIR/logweir.yaml:2
";
        let without_paths: Vec<&str> = text.lines().filter(|line| !line.starts_with("sources.0.paths")).collect();
        let squeeze = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        for (line, expected) in without_paths.iter().zip(given.lines()) {
            assert_eq!(squeeze(line), squeeze(expected));
        }
        let sources = "# sources
web: 2 files now
  warning: `DIR/logs/*.log` does not match a rotated `*.log.1`: what was not read of it before it was renamed is found \
only while logweir runs and the file stays in its directory; better `DIR/logs/*.log*`
";
        assert!(text.ends_with(sources), "{text}");
        assert!(!text.contains("hunter2"));
    }

    #[test]
    fn json_holds_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let (text, result) = check(dir.path(), YAML, Output::Json);
        let report: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(report["settings"][0]["key"], "batch.max_age");
        assert_eq!(
            report["settings"][1],
            serde_json::json!({"key": "batch.max_bytes", "value": "2MiB", "origin": "default"})
        );
        assert_eq!(report["sources"][0]["files"], 0);
        assert_eq!(report["sources"][0]["unreadable"][0]["path"], "DIR/logs");
        assert_eq!(result.unwrap_err().to_string(), "1 file or directory cannot be read");
    }

    #[test]
    fn a_configuration_without_sources_is_shown_and_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (text, result) = check(dir.path(), "host: a\n", Output::Text);
        assert!(text.starts_with("# configured\n"));
        assert_eq!(result.unwrap_err().to_string(), "sources: there is none; name at least one");
    }
}
