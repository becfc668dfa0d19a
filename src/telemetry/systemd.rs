//! What systemd is told: when the process is ready, how it is doing, that it moves, and that it stops.
//!
//! The crate `sd-notify` spells the messages and reads the watchdog's interval; it sends only to the socket named by the
//! environment and knows no abstract ones, so the datagrams are sent from here. Without a socket everything here does
//! nothing.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use tokio_util::sync::CancellationToken;

use super::events::Fault;
use super::health::{Health, Verdict};
use super::metrics::Metrics;
use super::names::FaultCause;
use super::progress::{RateMeter, one_line, status};

/// How often `STATUS=` is renewed.
const STATUS_EVERY: Duration = Duration::from_secs(5);
/// A status is cut to so many characters.
const MAX_STATUS: usize = 240;
/// systemd's socket is shared by all services and may be full for a moment.
const SEND_TIMEOUT: Duration = Duration::from_secs(1);

/// Sends to systemd's notification socket, if there is one.
#[derive(Clone, Debug, Default)]
pub struct Notifier {
    socket: Option<OsString>,
}

impl Notifier {
    /// With the socket that `NOTIFY_SOCKET` names.
    #[must_use]
    pub fn from_env() -> Self {
        Self::new(std::env::var_os("NOTIFY_SOCKET"))
    }

    /// With `socket`: an absolute path, or `@` and the name of an abstract socket.
    #[must_use]
    pub fn new(socket: Option<OsString>) -> Self {
        Self { socket: socket.filter(|socket| !socket.is_empty()) }
    }

    /// `READY=1`: the configuration stands and the sources are watched.
    ///
    /// # Errors
    /// Where the socket does not take it within a second.
    pub async fn ready(&self) -> io::Result<()> {
        self.send(&[NotifyState::Ready]).await
    }

    /// `STOPPING=1`.
    ///
    /// # Errors
    /// Where the socket does not take it within a second.
    pub async fn stopping(&self) -> io::Result<()> {
        self.send(&[NotifyState::Stopping, NotifyState::Status("finishing what is on its way")]).await
    }

    /// `STATUS=`, as one line, and with it `WATCHDOG=1` if the process is `alive`.
    async fn report(&self, status: &str, alive: bool) -> io::Result<()> {
        let status = one_line(status, MAX_STATUS);
        let states = [NotifyState::Status(&status), NotifyState::Watchdog];
        self.send(if alive { &states } else { &states[..1] }).await
    }

    async fn send(&self, states: &[NotifyState<'_>]) -> io::Result<()> {
        let Some(name) = &self.socket else { return Ok(()) };
        let message: String = states.iter().map(|state| format!("{state}\n")).collect();
        // A socket for each message: nothing to go stale when systemd starts itself anew.
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address(name)?)?;
        socket.set_nonblocking(true)?;
        let socket = tokio::net::UnixDatagram::from_std(socket)?;
        tokio::time::timeout(SEND_TIMEOUT, socket.send(message.as_bytes())).await??;
        Ok(())
    }
}

fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(name),
    }
}

/// How often the watchdog must hear from this process: half of `WATCHDOG_USEC`; `None` if it does not listen.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

/// Tells systemd how it goes until `end`: the status every few seconds, and, at least every `watchdog` interval, that the
/// process moves, but only while [`Health::verdict`] says so.
pub async fn report(
    notifier: Notifier,
    metrics: Metrics,
    health: Health,
    watchdog: Option<Duration>,
    end: CancellationToken,
) {
    if notifier.socket.is_none() {
        return;
    }
    let every = watchdog.map_or(STATUS_EVERY, |interval| interval.min(STATUS_EVERY));
    let mut meter = RateMeter::new(metrics.snapshot(), Instant::now());
    loop {
        let verdict = health.verdict();
        let snapshot = metrics.snapshot();
        let mut words = status(meter.rates(snapshot, Instant::now()), &snapshot, &health.waiting());
        if let Verdict::Stuck(still) = verdict {
            words = format!("nothing has moved for {} s, {words}", still.as_secs());
        }
        let alive = watchdog.is_some() && verdict == Verdict::Alive;
        if let Err(error) = notifier.report(&words, alive).await {
            let subject = notifier.socket.as_deref().unwrap_or_default().as_ref();
            Fault { cause: FaultCause::Telemetry, doing: "notifying systemd", subject, error: &error }.emit(&metrics);
        }
        tokio::select! {
            () = end.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::health::Stage;
    use crate::telemetry::names::HoldCause;

    struct Systemd {
        socket: tokio::net::UnixDatagram,
        notifier: Notifier,
        _directory: Option<tempfile::TempDir>,
    }

    impl Systemd {
        fn at_path() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("notify");
            let socket = tokio::net::UnixDatagram::bind(&path).unwrap();
            Self { socket, notifier: Notifier::new(Some(path.into())), _directory: Some(directory) }
        }

        fn abstract_named(name: &str) -> Self {
            let name = format!("logweir-test-{}-{name}", std::process::id());
            let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
            socket.set_nonblocking(true).unwrap();
            let socket = tokio::net::UnixDatagram::from_std(socket).unwrap();
            Self { socket, notifier: Notifier::new(Some(format!("@{name}").into())), _directory: None }
        }

        async fn receive(&self) -> String {
            let mut block = [0; 4096];
            let n = self.socket.recv(&mut block).await.unwrap();
            String::from_utf8(block[..n].to_vec()).unwrap()
        }
    }

    #[tokio::test]
    async fn ready_and_stopping_arrive_on_both_kinds_of_socket() {
        for systemd in [Systemd::at_path(), Systemd::abstract_named("both")] {
            systemd.notifier.ready().await.unwrap();
            assert_eq!(systemd.receive().await, "READY=1\n");
            systemd.notifier.stopping().await.unwrap();
            assert_eq!(systemd.receive().await, "STOPPING=1\nSTATUS=finishing what is on its way\n");
        }
    }

    #[tokio::test]
    async fn without_a_socket_nothing_is_sent() {
        for socket in [None, Some(OsString::new())] {
            Notifier::new(socket).ready().await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_status_cannot_smuggle_in_another_message() {
        let systemd = Systemd::at_path();
        systemd.notifier.report("waiting for elasticsearch: no\nREADY=1", false).await.unwrap();
        assert_eq!(systemd.receive().await, "STATUS=waiting for elasticsearch: no READY=1\n");
    }

    #[tokio::test]
    async fn the_watchdog_hears_only_from_a_process_that_moves_or_waits() {
        let systemd = Systemd::at_path();
        let metrics = Metrics::new("web-1");
        let health = Health::new(metrics.clone(), Duration::ZERO);
        let end = CancellationToken::new();
        let reporting = report(
            systemd.notifier.clone(),
            metrics.clone(),
            health.clone(),
            Some(Duration::from_millis(1)),
            end.clone(),
        );
        let reporting = tokio::spawn(reporting);
        assert_eq!(systemd.receive().await, "STATUS=0 lines/s, up to date\nWATCHDOG=1\n");

        health.beat(Stage::Read);
        let stuck = async {
            loop {
                let message = systemd.receive().await;
                if message.starts_with("STATUS=nothing has moved for ") {
                    return message;
                }
            }
        };
        assert!(!stuck.await.contains("WATCHDOG"));

        health.hold(HoldCause::Unreachable, "connection refused");
        let held = "waiting for elasticsearch: connection refused\nWATCHDOG=1\n";
        while !systemd.receive().await.ends_with(held) {}
        end.cancel();
        // A sender that waits for room learns that there is nobody.
        drop(systemd);
        reporting.await.unwrap();
    }
}
