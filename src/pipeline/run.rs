//! One life of the daemon: what is opened in which order, how it starts, how it drains, what it ends with.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::conservation;
use super::events::Told;
use super::follow::{Claimed, Follower};
use super::metrics_documents;
use super::origin;
use super::plan::{Plan, PlanError};
use super::pump::Pump;
use super::{Counted, Parts, Shared};
use crate::checkpoint::{Checkpoints, StoreError, Trouble};
use crate::client::{Client, ClientError};
use crate::config::{AuthError, Config};
use crate::filesystem::Os;
use crate::index::dead_letter::DeadLetters;
use crate::index::{Deps, Indexer};
use crate::record::Batch;
use crate::setup;
use crate::telemetry::events::{Fault, Unbalanced};
use crate::telemetry::export::OtlpError;
use crate::telemetry::server::ListenError;
use crate::telemetry::{
    FaultCause, Gauge, Health, HoldCause, Metrics, Notifier, OtlpPush, Snapshot, TelemetryServer, progress, systemd,
};

/// Batches between the pump and the index stage: enough that neither waits for the other's pause.
const BATCHES: usize = 2;

/// How long a first start waits to hear whether the target is empty; then it goes on, looking up what it sends.
const ORIGIN_PATIENCE: Duration = Duration::from_secs(3);

/// How long the last commit may take, beside what is left of the grace period: a disk that refuses keeps nobody.
const FLUSH_PATIENCE: Duration = Duration::from_secs(3);

/// How long the follower may take to look at its files once more at the end, which it does within a tick.
const LEVELS_PATIENCE: Duration = Duration::from_secs(1);

/// How often a store is tried again that found no room.
const ROOM_PAUSE: Duration = Duration::from_secs(1);

/// How to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Index all there is, then end.
    pub once: bool,
    /// With `once`: give up after this.
    pub deadline: Option<Duration>,
}

/// What stops the daemon.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A source cannot be used as it is configured.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Two sources claim one file.
    #[error(transparent)]
    Claimed(#[from] Claimed),
    /// A secret cannot be read.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// Elasticsearch's address, certificate or login cannot be used.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The address of telemetry cannot be used.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The address that metrics are pushed to cannot be used.
    #[error(transparent)]
    Otlp(#[from] OtlpError),
    /// The checkpoint store cannot be used.
    #[error("checkpoint.path: {0}")]
    Store(#[from] StoreError),
    /// The dead letters cannot be used.
    #[error("dead_letters.path: cannot use the directory {}: {source}", path.display())]
    DeadLetters {
        /// Where.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The runtime, a thread or a signal handler cannot be had.
    #[error("cannot {doing}: {source}")]
    System {
        /// What for.
        doing: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// With `--once`: some files could not be read.
    #[error("files that could not be read: {files}; the log names them and says why")]
    Unreadable {
        /// How many.
        files: usize,
    },
    /// `--deadline` passed.
    #[error("not done within the deadline: {0}")]
    Deadline(String),
    /// The second phase of shutting down was over before everything on its way was settled.
    #[error("ended with {lines} lines on their way: they are sent again at the next start")]
    Cut {
        /// Lines without an outcome.
        lines: u64,
    },
    /// The checkpoint store took no last commit.
    #[error("checkpoint.path: the last progress could not be written, and is looked up at the next start: {0}")]
    Unsaved(String),
}

/// Why the pipeline ends.
enum End {
    /// All done, but for so many files that cannot be read.
    Done { unreadable: usize },
    /// A signal.
    Signal,
    /// The deadline.
    Deadline,
    /// The follower's first scan says no.
    Follower(Claimed),
}

/// Runs until a signal, or with [`Options::once`] until all is done.
///
/// # Errors
/// What kept it from starting, or from finishing.
pub async fn run(config: Config, options: Options) -> Result<Snapshot, RunError> {
    let began = Instant::now();
    // First of all: whoever stops it from here on gets an end in order.
    let mut signals = Signals::new()?;
    let host = config.host.clone().unwrap_or_else(host_name);
    let plans = Plan::compile(&config, &host)?;
    let client = Arc::new(Client::new(&config.elasticsearch, config.elasticsearch.auth.resolve()?)?);
    let metrics = Metrics::new(&host);
    let health = Health::new(metrics.clone(), Health::stuck_after(config.elasticsearch.request_timeout.0));
    let dead_letters = DeadLetters::open(&config.dead_letters)
        .map(Arc::new)
        .map_err(|source| RunError::DeadLetters { path: config.dead_letters.path.clone(), source })?;
    let now_s = jiff::Timestamp::now().as_second();
    if config.enrich.user_agent {
        // Its rules take some ten milliseconds to read: beside the rest of the start.
        std::thread::spawn(crate::enrich::prepare);
    }
    let open_store = || {
        let (health, metrics) = (health.clone(), metrics.clone());
        let path = config.checkpoint.path.clone();
        Checkpoints::open(&config.checkpoint, now_s, move |trouble| match trouble {
            Trouble::CannotCommit { error, .. } => {
                health.hold(HoldCause::Store, &error.to_string());
                Fault { cause: FaultCause::Store, doing: "commit", subject: &path, error: &error }.emit(&metrics);
            }
            Trouble::Recovered { .. } => health.clear(HoldCause::Store),
            Trouble::Refused { error, path, totals } => {
                let file = Some((error.file(), &*path));
                Unbalanced { file, lines: conservation::lines(totals), why: &error }.emit(&metrics);
            }
        })
    };
    // Before telemetry, so that of two processes on one store the second says so.
    let opened = match open_store() {
        Err(error) if !error.is_no_room() => return Err(error.into()),
        opened => opened,
    };

    let everything = CancellationToken::new();
    if !config.telemetry.listen.is_empty() {
        TelemetryServer::start(&config.telemetry.listen, metrics.clone(), health.clone(), everything.clone()).await?;
    }
    let otlp = match &config.telemetry.otlp_endpoint {
        Some(endpoint) => {
            let push = OtlpPush::new(endpoint, config.telemetry.otlp_interval.0, metrics.clone())?;
            Some(tokio::spawn(push.run(everything.clone())))
        }
        None => None,
    };
    let notifier = Notifier::from_env();
    let interval = systemd::watchdog_interval();
    tokio::spawn(systemd::report(notifier.clone(), metrics.clone(), health.clone(), interval, everything.clone()));

    let deadline = async {
        match options.deadline {
            Some(limit) => tokio::time::sleep_until((began + limit).into()).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(deadline);
    let (checkpoints, rows) = tokio::select! {
        opened = wait_for_room(opened, open_store, &health) => opened?,
        () = &mut deadline => return Err(RunError::Deadline(waiting_for(&health, 0))),
        // Nothing was begun.
        () = signals.next() => {
            let snapshot = metrics.snapshot();
            tracing::info!("{}", progress::summary(&snapshot, began.elapsed()));
            return Ok(snapshot);
        }
    };

    let first_start = rows.is_empty();
    let parts = Parts {
        plans: plans.into(),
        host,
        checkpoints: Arc::clone(&checkpoints),
        first_start,
        once: options.once,
        files: Arc::new(Os),
        metrics: metrics.clone(),
        health: health.clone(),
    };
    let shared = Shared::new(config, parts);
    let budget = Arc::clone(&shared.budget);
    let in_flight = Arc::clone(&shared.budget);
    metrics.own(Gauge::MemoryUsage, move || budget.used());
    metrics.own(Gauge::InFlight, move || in_flight.in_flight());
    let letters = Arc::clone(&dead_letters);
    metrics.own(Gauge::DeadLetters, move || letters.size());
    // Weak: what the checkpoints tell of trouble holds the metrics.
    let account = Arc::downgrade(&checkpoints);
    metrics.own_lines(move || {
        account.upgrade().map(|account| conservation::lines(account.since_start())).unwrap_or_default()
    });
    tokio::spawn(conservation::watch(Arc::clone(&checkpoints), metrics.clone()));
    metrics.set(Gauge::MemoryLimit, shared.config.batch.max_memory.0);
    let slots = shared.slots.clone();
    metrics.own(Gauge::OpenFiles, move || slots.used() as u64);

    // Elasticsearch is prepared beside the rest; documents wait for it, files do not.
    let instance = origin::instance(&shared.host, &shared.config.checkpoint.path);
    let (prepared, on_prepared) = oneshot::channel();
    let templates = CancellationToken::new();
    let documents = metrics_documents::Task::start(&shared, &client, templates.clone());
    let (trusted, on_trusted) = oneshot::channel();
    let ask_origin = checkpoints.doubtful_origin() && first_start;
    tokio::spawn(prepare(
        Arc::clone(&client),
        Arc::clone(&shared),
        instance.clone(),
        ask_origin.then_some(trusted),
        prepared,
        templates,
    ));
    if ask_origin {
        // Whether the answer comes in time or not, the start goes on: without it, what is sent is looked up first.
        let _ = tokio::time::timeout(ORIGIN_PATIENCE, on_trusted).await;
    }

    let (sender, receiver) = mpsc::channel::<Batch>(BATCHES);
    let cut = CancellationToken::new();
    let deps = Deps {
        client,
        progress: Arc::new(Counted {
            checkpoints: Arc::clone(&checkpoints),
            metrics: metrics.clone(),
            health: health.clone(),
        }),
        dead_letters,
        events: Arc::new(Told { metrics: metrics.clone(), health: health.clone(), spares: Arc::clone(&shared.spares) }),
        instance,
    };
    let indexer = Indexer::new(shared.config.elasticsearch.clone(), deps);
    let stop_indexing = cut.clone();
    let unprepared = CancellationToken::new();
    let given_up = unprepared.clone();
    let indexing = tokio::spawn(async move {
        // Nothing is sent before the templates are there: the first document would fix the mapping.
        tokio::select! {
            prepared = on_prepared => if prepared.is_ok() {
                indexer.run(receiver, stop_indexing).await;
            },
            // Nothing was sent, so nothing is waited for: what was read is read again.
            () = given_up.cancelled() => {}
        }
    });

    let pumps = start_pumps(&shared, sender)?;
    let (watching, on_watching) = oneshot::channel();
    shared.tell_watching(watching);
    let mut following = follow(&shared, rows)?;
    let ready = async {
        if on_watching.await.is_ok() {
            shared.health.running();
            if let Err(error) = notifier.ready().await {
                tracing::warn!(%error, "systemd could not be told that the start is complete");
            }
        }
        std::future::pending::<()>().await;
    };
    let live = live_line(&metrics, &health);
    let end = tokio::select! {
        result = &mut following => match result {
            Ok(Ok(unreadable)) => End::Done { unreadable },
            Ok(Err(claimed)) => End::Follower(claimed),
            // It panicked, and said so: what is on its way is still sent.
            Err(_) => End::Signal,
        },
        () = signals.next() => End::Signal,
        () = &mut deadline => End::Deadline,
        () = ready => End::Signal,
        () = live => End::Signal,
    };

    health.stopping();
    if let Err(error) = notifier.stopping().await {
        tracing::warn!(%error, "systemd could not be told of the end");
    }
    shared.stop();
    unprepared.cancel();
    // Past the deadline nothing more is waited for.
    let grace = if matches!(end, End::Deadline) { Duration::ZERO } else { shared.config.shutdown.grace_period.0 };
    let grace_ends = tokio::time::Instant::now() + grace;
    let drained = async {
        for pump in pumps {
            // A pump that panicked has said so; what it had read is not settled and is read again.
            let _ = tokio::task::spawn_blocking(move || pump.join()).await;
        }
        let _ = indexing.await;
    };
    let late = tokio::select! {
        () = drained => false,
        () = tokio::time::sleep(grace) => true,
        () = signals.next() => true,
    };
    cut.cancel();
    let saved = tokio::select! {
        () = checkpoints.flush(!late) => true,
        () = tokio::time::sleep_until(grace_ends.max(tokio::time::Instant::now() + FLUSH_PATIENCE)) => false,
        () = signals.next() => false,
    };
    if let Some(documents) = documents {
        let finish = async {
            if !late && !following.is_terminated() {
                // It measures once more what is left.
                let _ = tokio::time::timeout(LEVELS_PATIENCE, &mut following).await;
            }
            documents.finish(grace_ends).await;
        };
        tokio::select! {
            () = finish => {}
            () = signals.next() => {}
        }
    }
    let unsaved = waiting_for(&health, checkpoints.totals().in_flight);
    everything.cancel();
    if let Some(push) = otlp {
        let _ = tokio::time::timeout(Duration::from_secs(5), push).await;
    }
    let mut snapshot = metrics.snapshot();
    if late {
        // The pump may be in the middle of a turn: what it counted is no account.
        conservation::check(&checkpoints, &metrics);
    } else {
        snapshot.lines = conservation::settle_up(&checkpoints, &metrics);
    }
    tracing::info!("{}", progress::summary(&snapshot, began.elapsed()));
    let in_flight = checkpoints.totals().in_flight;
    match end {
        End::Follower(claimed) => Err(claimed.into()),
        End::Deadline => Err(RunError::Deadline(waiting_for(&health, in_flight))),
        _ if !saved => Err(RunError::Unsaved(unsaved)),
        End::Done { unreadable } if unreadable > 0 => Err(RunError::Unreadable { files: unreadable }),
        _ if in_flight > 0 && options.once => Err(RunError::Cut { lines: in_flight }),
        _ => Ok(snapshot),
    }
}

/// A store that could not be opened for want of room is tried again for as long as that is all that is wrong.
async fn wait_for_room<T>(
    mut opened: Result<T, StoreError>,
    open: impl Fn() -> Result<T, StoreError>,
    health: &Health,
) -> Result<T, StoreError> {
    while let Err(error) = &opened
        && error.is_no_room()
    {
        health.hold(HoldCause::Store, &format!("{error}: there is no room on its disk"));
        tokio::time::sleep(ROOM_PAUSE).await;
        opened = open();
    }
    health.clear(HoldCause::Store);
    opened
}

fn waiting_for(health: &Health, in_flight: u64) -> String {
    let waiting: Vec<String> = health
        .waiting()
        .into_iter()
        .map(|waiting| format!("waiting for {}: {}", waiting.words, waiting.reason))
        .collect();
    if waiting.is_empty() { format!("{in_flight} lines are on their way") } else { waiting.join("; ") }
}

/// Puts templates in place and finds out whether the target is empty, for as long as it takes. Neither waits for the other,
/// and who waits for one of them, not for the other.
async fn prepare(
    client: Arc<Client>,
    shared: Arc<Shared>,
    instance: String,
    mut trusted: Option<oneshot::Sender<()>>,
    prepared: oneshot::Sender<()>,
    templates: CancellationToken,
) {
    let (min, max) = (shared.config.elasticsearch.retry.min_delay.0, shared.config.elasticsearch.retry.max_delay.0);
    let mut delay = min;
    loop {
        let ask_origin = async {
            if trusted.is_some() && origin::targets_are_empty(&*client, &shared.destinations, &instance).await? {
                shared.checkpoints.trust_origin();
            }
            // Whoever waited may have stopped waiting.
            let _ = trusted.take().map(|trusted| trusted.send(()));
            Ok(())
        };
        let set_up = async {
            if shared.config.elasticsearch.setup {
                for change in setup::apply(&client, &shared.config, false).await? {
                    if !change.differences.is_empty() {
                        tracing::info!(object = change.path, new = change.new, "template put in place");
                    }
                }
            }
            Ok(())
        };
        let (origin, templates) = tokio::join!(ask_origin, set_up);
        match origin.and(templates) {
            Ok(()) => break,
            Err(error) => {
                let cause = match &error {
                    setup::SetupError::Unreachable(_) => HoldCause::Unreachable,
                    setup::SetupError::Refused { status: 401 | 403, .. } => HoldCause::Login,
                    setup::SetupError::Refused { .. } | setup::SetupError::Unable(_) => HoldCause::Setup,
                };
                shared.health.hold(cause, &error.to_string());
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(max);
            }
        }
    }
    for cause in [HoldCause::Unreachable, HoldCause::Login, HoldCause::Setup] {
        shared.health.clear(cause);
    }
    templates.cancel();
    // Whoever waited may have stopped waiting.
    let _ = prepared.send(());
}

fn start_pumps(
    shared: &Arc<Shared>,
    sender: mpsc::Sender<Batch>,
) -> Result<Vec<std::thread::JoinHandle<()>>, RunError> {
    let wanted = shared.config.read.threads;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = if wanted == 0 { cores } else { wanted };
    let spawn = |number| {
        let pump = Pump::new(Arc::clone(shared), sender.clone());
        std::thread::Builder::new()
            .name(format!("pump-{number}"))
            .spawn(move || pump.run())
            .map_err(|source| RunError::System { doing: "start a thread", source })
    };
    (0..threads).map(spawn).collect()
}

fn follow(
    shared: &Arc<Shared>,
    rows: Vec<crate::checkpoint::FileRow>,
) -> Result<oneshot::Receiver<Result<usize, Claimed>>, RunError> {
    let (done, on_done) = oneshot::channel();
    let follower = Follower::new(Arc::clone(shared), rows);
    std::thread::Builder::new()
        .name("follow".to_owned())
        .spawn(move || {
            // The pipeline may have ended first: then nobody asks.
            let _ = done.send(follower.run());
        })
        .map_err(|source| RunError::System { doing: "start a thread", source })?;
    Ok(on_done)
}

/// On a terminal, how it goes, once a second; else nothing.
async fn live_line(metrics: &Metrics, health: &Health) {
    if !std::io::stderr().is_terminal() {
        std::future::pending::<()>().await;
    }
    let mut meter = progress::RateMeter::new(metrics.snapshot(), Instant::now());
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let snapshot = metrics.snapshot();
        let rates = meter.rates(snapshot, Instant::now());
        eprint!("\r\x1b[2K{}", progress::live(rates, &snapshot, &health.waiting(), 100));
    }
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self, RunError> {
        use tokio::signal::unix::{SignalKind, signal};
        let system = |source| RunError::System { doing: "listen for signals", source };
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(system)?,
            interrupt: signal(SignalKind::interrupt()).map_err(system)?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The system's name for this host.
#[must_use]
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
