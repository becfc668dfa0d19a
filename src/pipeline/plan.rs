//! A source, compiled: everything that can be known before the first line.

use std::sync::Arc;

use crate::config::{self, Config, Target};
use crate::discover::scan::Globs;
use crate::encode::{IndexPattern, Layout};
use crate::parse::{Format, LineFilter};
use crate::record::Destination;

/// A source, compiled.
#[derive(Debug)]
pub struct Plan {
    /// Its configuration.
    pub source: config::Source,
    /// Its globs.
    pub globs: Globs,
    /// Its rules on lines.
    pub filter: LineFilter,
    /// Its format; `None` where each file decides.
    pub format: Option<Arc<Format>>,
    /// How its documents are written.
    pub layout: Layout,
    /// Where its documents go.
    pub destination: Destination,
    /// For dated indices: how the name comes from the time.
    pub dated: Option<IndexPattern>,
}

/// A source that cannot be used as it is configured.
#[derive(Debug, thiserror::Error)]
#[error("sources[{index}] ({name}): {reason}")]
pub struct PlanError {
    /// Its place in the configuration.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// What is wrong, and what would be right.
    pub reason: String,
}

impl Plan {
    /// Compiles all sources of `config`.
    ///
    /// # Errors
    /// The first source that cannot be used.
    pub fn compile(config: &Config, host: &str) -> Result<Vec<Self>, PlanError> {
        let compile = |(index, source): (usize, &config::Source)| {
            let fail = |reason: String| PlanError { index, name: source.name.clone(), reason };
            let format = match &source.format {
                config::Format::Auto => None,
                format => Some(Arc::new(
                    Format::compile(format, &source.map).map_err(|error| fail(format!("format: {error}")))?,
                )),
            };
            let target = source.target(&config.elasticsearch);
            let dated = match &target {
                Target::DataStream(_) => None,
                Target::Dated(pattern) => {
                    Some(IndexPattern::parse(pattern).map_err(|error| fail(format!("index: {error}")))?)
                }
            };
            Ok(Self {
                globs: Globs::compile(&source.paths, &source.exclude).map_err(|error| fail(error.to_string()))?,
                filter: LineFilter::compile(source).map_err(|error| fail(error.to_string()))?,
                format,
                layout: Layout::new(source, &config.enrich, &config.elasticsearch, host)
                    .map_err(|error| fail(error.to_string()))?,
                destination: Destination {
                    target: target.everything().into(),
                    pipeline: source
                        .pipeline
                        .as_ref()
                        .or(config.elasticsearch.pipeline.as_ref())
                        .map(|name| name.as_str().into()),
                },
                dated,
                source: source.clone(),
            })
        };
        config.sources.iter().enumerate().map(compile).collect()
    }
}
