//! What all histories on a thread share, because it is made once and never changes: compiled sources, and the instruments.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use super::history::{Mode, Setup};
use crate::config::{self, ByteSize, Compression, Config, Format, OnDone, Span};
use crate::pipeline::plan::Plan;
use crate::telemetry::Metrics;

pub struct Fixture {
    config: Config,
    pub plans: Arc<[Plan]>,
    pub metrics: Metrics,
}

impl Fixture {
    /// The one for `mode`.
    pub fn of(mode: Mode) -> Rc<Self> {
        thread_local! {
            static METRICS: Metrics = Metrics::new("host");
            static ALL: RefCell<BTreeMap<Mode, Rc<Fixture>>> = const { RefCell::new(BTreeMap::new()) };
        }
        ALL.with_borrow_mut(|all| {
            Rc::clone(all.entry(mode).or_insert_with(|| Rc::new(Self::new(mode, METRICS.with(Metrics::clone)))))
        })
    }

    fn new(mode: Mode, metrics: Metrics) -> Self {
        let mut config = Config::for_test(Path::new("/none"));
        let source = config::Source {
            name: "sim".to_owned(),
            paths: vec!["/logs/*.log*".to_owned()],
            exclude: Vec::new(),
            mode: if mode == Mode::Tail { config::Mode::Tail } else { config::Mode::Chunks },
            on_done: match mode {
                Mode::Tail | Mode::ChunksKept => OnDone::Keep,
                Mode::ChunksDeleted => OnDone::Delete,
                Mode::ChunksArchived => OnDone::Archive,
            },
            archive_dir: Some(PathBuf::from("/archive")),
            format: Format::Text,
            map: BTreeMap::new(),
            include_lines: Vec::new(),
            exclude_lines: vec!["^#".to_owned()],
            dataset: "sim".to_owned(),
            fields: BTreeMap::new(),
            keep_fields: Vec::new(),
            start_at: config::StartAt::default(),
            ignore_older: None,
            index: None,
            pipeline: None,
        };
        config.sources = vec![source];
        config.enrich.user_agent = false;
        config.enrich.url = false;
        config.read.notify = false;
        config.read.scan_interval = Span::secs(1);
        config.read.poll_interval = Span::millis(700);
        config.read.settle_time = Span::millis(800);
        config.batch.max_age = Span::millis(50);
        config.elasticsearch.compression = Compression::Off;
        config.elasticsearch.request_timeout = Span::secs(2);
        config.elasticsearch.retry = config::Retry { min_delay: Span::millis(100), max_delay: Span::secs(1) };
        let plans = Plan::compile(&config, "host").expect("the source compiles").into();
        Self { config, plans, metrics }
    }

    pub fn config(&self, setup: &Setup) -> Config {
        let mut config = self.config.clone();
        config.read.max_open_files = setup.max_open_files;
        config.batch.max_docs = setup.max_docs;
        config.batch.max_bytes = ByteSize(setup.max_bytes);
        // A share is an eighth more than a body.
        config.batch.max_memory = ByteSize(setup.shares * (setup.max_bytes + setup.max_bytes / 8));
        config.checkpoint.reserve_ahead = ByteSize(setup.reserve_ahead);
        config.elasticsearch.max_in_flight = setup.max_in_flight;
        config
    }
}
