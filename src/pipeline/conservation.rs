//! Conservation: lines read = created + duplicate + dead-lettered + skipped + in flight, per file, at any instant.
//!
//! The ledger refuses what would break it; here its counts are added up again, now and then and at the end, and at the end
//! compared with what the stages themselves counted. What does not add up is a defect: an error in the log and a fault.

use std::sync::Arc;
use std::time::Duration;

use crate::checkpoint::{Checkpoints, Imbalance, Totals};
use crate::telemetry::events::Unbalanced;
use crate::telemetry::{Lines, Metrics};

/// How often all counts are added up: some microseconds a thousand files.
const INTERVAL: Duration = Duration::from_secs(10);

/// The ledger's counts as telemetry has them.
#[must_use]
pub fn lines(totals: Totals) -> Lines {
    Lines { read: totals.lines, outcomes: totals.outcomes, in_flight: totals.in_flight }
}

/// Adds up all counts, file by file, and tells what does not come out.
pub fn check(checkpoints: &Checkpoints, metrics: &Metrics) {
    for Imbalance { file, totals, rule } in checkpoints.imbalances() {
        let file = file.as_ref().map(|(id, path)| (*id, &**path));
        Unbalanced { file, lines: lines(totals), why: &rule }.emit(metrics);
    }
}

/// Does so for ever.
pub async fn watch(checkpoints: Arc<Checkpoints>, metrics: Metrics) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        check(&checkpoints, &metrics);
    }
}

/// What the whole run came to, once no stage works any more: read as the pump counted it, the rest as the ledger did.
#[must_use]
pub fn settle_up(checkpoints: &Checkpoints, metrics: &Metrics) -> Lines {
    check(checkpoints, metrics);
    let (account, counted) = (lines(checkpoints.since_start()), metrics.counted());
    if counted.read != account.read || counted.outcomes != account.outcomes {
        let why = format!("the stages counted {counted:?}");
        Unbalanced { file: None, lines: account, why: &why }.emit(metrics);
    }
    Lines { read: counted.read, ..account }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::pipeline::testing::{file_row, run_of};
    use crate::record::{FileId, Outcomes, Progress};
    use crate::telemetry::FaultCause;
    use crate::telemetry::logs::tests::logged;

    fn opened(dir: &tempfile::TempDir) -> (Arc<Checkpoints>, Metrics) {
        let config = Config::for_test(dir.path());
        let metrics = Metrics::new("host");
        (Checkpoints::open(&config.checkpoint, 100, |_| {}).unwrap().0, metrics)
    }

    #[test]
    fn a_file_whose_lines_do_not_add_up_is_an_error_with_its_numbers_and_a_fault() {
        let dir = tempfile::tempdir().unwrap();
        let (checkpoints, metrics) = opened(&dir);
        let id = FileId([1; 8]);
        checkpoints.admit(file_row(id, "/a.log")).unwrap();
        let run = run_of(id, "/a.log", 0, 10, 5);
        checkpoints.read(&run, None).unwrap();
        checkpoints.settle(&run, Outcomes { created: 3, skipped: 2, ..Outcomes::default() });
        assert_eq!(logged(|| check(&checkpoints, &metrics)), "");
        checkpoints.unbalance(id);
        let log = logged(|| {
            check(&checkpoints, &metrics);
            check(&checkpoints, &metrics);
        });
        assert_eq!(metrics.faults(FaultCause::Conservation), 2, "each time counted");
        assert_eq!(log.lines().count(), 1, "and said once: {log}");
        assert!(log.contains("ERROR") && log.contains(r#"path="/a.log" file="0101010101010101""#), "{log}");
        assert!(log.contains("read=6 created=3 duplicate=0 dead_lettered=0 skipped=2 in_flight=0"), "{log}");
    }

    #[test]
    fn a_line_that_was_read_and_never_accounted_for_shows_at_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let (checkpoints, metrics) = opened(&dir);
        let id = FileId([1; 8]);
        checkpoints.admit(file_row(id, "/a.log")).unwrap();
        let run = run_of(id, "/a.log", 0, 10, 5);
        metrics.lines_read(5, 10);
        checkpoints.read(&run, None).unwrap();
        let mut lines = Lines::default();
        assert_eq!(logged(|| lines = settle_up(&checkpoints, &metrics)), "");
        assert!(lines.are_conserved() && lines.in_flight == 5, "{lines:?}");
        metrics.lines_read(1, 2);
        let log = logged(|| lines = settle_up(&checkpoints, &metrics));
        assert!(!lines.are_conserved(), "{lines:?}");
        assert_eq!(metrics.faults(FaultCause::Conservation), 1, "{log}");
        assert!(log.contains("ERROR") && log.contains("read=5"), "{log}");
    }
}
