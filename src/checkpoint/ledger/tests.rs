use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::testing::{created, full_row, id, new_row, run};
use super::*;

const AHEAD: u64 = 1000;

fn ledger_with(files: u64) -> Ledger {
    let mut ledger = Ledger::default();
    for n in 0..files {
        ledger.admit(new_row(n), AHEAD).unwrap();
    }
    ledger
}

fn commit(ledger: &mut Ledger) {
    let changes = ledger.take_changes();
    ledger.committed(&changes);
}

fn offset(ledger: &Ledger, n: u64) -> u64 {
    ledger.position(id(n)).unwrap().offset
}

#[test]
fn checkpoint_stops_before_an_unsettled_span() {
    let mut ledger = ledger_with(1);
    for (start, end) in [(0, 10), (10, 20), (20, 30)] {
        ledger.read(&run(0, start, end, 1), None).unwrap();
    }
    ledger.settle(id(0), Span { start: 10, end: 20 }, created(1)).unwrap();
    ledger.settle(id(0), Span { start: 20, end: 30 }, created(1)).unwrap();
    assert_eq!(offset(&ledger, 0), 0);
    let position = ledger.settle(id(0), Span { start: 0, end: 10 }, created(1)).unwrap();
    assert_eq!(position, Position { offset: 30, tail_hash: 30 ^ 0xabcd });
}

#[test]
fn a_row_counts_only_what_lies_before_its_checkpoint() {
    let mut ledger = ledger_with(1);
    ledger.read(&run(0, 0, 10, 2), None).unwrap();
    ledger.read(&run(0, 10, 20, 3), None).unwrap();
    ledger.settle(id(0), Span { start: 10, end: 20 }, created(3)).unwrap();
    assert_eq!(ledger.row(id(0)).unwrap().outcomes.total(), 0, "a restart reads these lines again");
    assert_eq!(ledger.file_totals(id(0)).unwrap().outcomes.total(), 3);
    assert_eq!(ledger.file_totals(id(0)).unwrap().in_flight, 2);
}

#[test]
fn last_time_is_that_of_the_last_settled_run_that_has_one() {
    let mut ledger = ledger_with(1);
    let times = [Some(7), None, Some(9)];
    for (i, time) in (0..).zip(times) {
        ledger.read(&run(0, i, i + 1, 1), time).unwrap();
    }
    let mut seen = Vec::new();
    for i in 0..3 {
        ledger.settle(id(0), Span { start: i, end: i + 1 }, created(1)).unwrap();
        seen.push(ledger.row(id(0)).unwrap().last_time_ns);
    }
    assert_eq!(seen, [Some(7), Some(7), Some(9)]);
}

#[test]
fn calls_that_contradict_the_ledger_are_named() {
    let mut ledger = ledger_with(1);
    ledger.read(&run(0, 0, 10, 2), None).unwrap();
    ledger.read(&run(0, 10, 20, 2), None).unwrap();
    let file = id(0);
    let mut read = |start, end| ledger.read(&run(0, start, end, 1), None).unwrap_err();
    for (start, end) in [(21, 30), (19, 30), (0, 10), (20, 20), (20, 1 << 48)] {
        assert_eq!(read(start, end), LedgerError::Gap { file, expected: 20, span: Span { start, end } });
    }
    let mut settle = |start, end, lines| ledger.settle(file, Span { start, end }, created(lines));
    let span = |start, end| Span { start, end };
    assert_eq!(settle(0, 20, 4), Err(LedgerError::NotRead { file, span: span(0, 20) }));
    assert_eq!(settle(20, 30, 1), Err(LedgerError::NotRead { file, span: span(20, 30) }));
    assert_eq!(settle(10, 20, 3), Err(LedgerError::Count { file, span: span(10, 20), lines: 2, outcomes: 3 }));
    assert!(settle(10, 20, 2).is_ok());
    assert_eq!(
        settle(10, 20, 2),
        Err(LedgerError::SettledTwice { file, span: span(10, 20) }),
        "behind an unsettled one"
    );
    assert!(settle(0, 10, 2).is_ok());
    assert_eq!(settle(10, 20, 2), Err(LedgerError::SettledTwice { file, span: span(10, 20) }), "before the checkpoint");
    assert_eq!(ledger.admit(new_row(0), AHEAD), Err(LedgerError::Known { file }));
    assert_eq!(ledger.read(&run(5, 0, 1, 1), None), Err(LedgerError::Unknown { file: id(5) }));
    let wanted = [(file, 10), (id(5), 10)];
    assert_eq!(ledger.raise_reservations(&wanted, AHEAD), Err(LedgerError::Unknown { file: id(5) }));
}

#[test]
fn a_reservation_counts_only_once_it_is_committed() {
    let mut ledger = ledger_with(1);
    assert!(!ledger.is_reserved(id(0), 1));
    let changes = ledger.take_changes();
    assert_eq!(changes.rows[0].reserved, AHEAD);
    assert!(!ledger.is_reserved(id(0), 1), "on its way is not on disk");
    ledger.committed(&changes);
    assert!(ledger.is_reserved(id(0), AHEAD));
    assert!(!ledger.is_reserved(id(0), AHEAD + 1));
}

#[test]
fn one_request_raises_every_file_with_something_in_flight() {
    let mut ledger = ledger_with(4);
    commit(&mut ledger);
    for (n, end) in [(0, 900), (1, 900), (2, 100)] {
        ledger.read(&run(n, 0, end, 1), None).unwrap();
    }
    ledger.raise_reservations(&[(id(0), 900)], AHEAD).unwrap();
    let mut raised: Vec<_> = ledger.take_changes().rows.iter().map(|row| (row.id, row.reserved)).collect();
    raised.sort_unstable();
    assert_eq!(raised, [(id(0), 1900), (id(1), 1900)], "file 2 has half of its reservation left, file 3 is idle");
}

#[test]
fn a_reservation_that_is_being_lowered_is_not_relied_on() {
    let mut ledger = ledger_with(1);
    commit(&mut ledger);
    ledger.lower_reservations();
    let lowering = ledger.take_changes();
    assert_eq!(lowering.rows[0].reserved, 0);
    assert!(!ledger.is_reserved(id(0), 1), "the commit that takes it back may be through at any moment");
    ledger.raise_reservations(&[(id(0), 1)], AHEAD).unwrap();
    ledger.committed(&lowering);
    assert!(!ledger.is_reserved(id(0), 1));
    commit(&mut ledger);
    assert!(ledger.is_reserved(id(0), AHEAD));
}

#[test]
fn a_lowered_reservation_still_covers_what_is_in_flight_and_what_was_in_doubt_before() {
    let mut ledger = Ledger::default();
    ledger.restore(FileRow { reserved: 500, ..new_row(0) }).unwrap();
    ledger.admit(new_row(1), AHEAD).unwrap();
    ledger.admit(new_row(2), AHEAD).unwrap();
    ledger.read(&run(1, 0, 70, 1), None).unwrap();
    ledger.read(&run(2, 0, 70, 1), None).unwrap();
    ledger.settle(id(2), Span { start: 0, end: 70 }, created(1)).unwrap();
    ledger.lower_reservations();
    let doubt = |n| ledger.row(id(n)).unwrap().doubt();
    assert_eq!(doubt(0), Some(Span { start: 0, end: 500 }), "an earlier run may have sent it");
    assert_eq!(doubt(1), Some(Span { start: 0, end: 70 }));
    assert_eq!(doubt(2), None);
}

#[test]
fn a_failed_commit_comes_again_with_what_changed_since() {
    let mut ledger = ledger_with(3);
    commit(&mut ledger);
    ledger.mark_done(id(0));
    ledger.set_format(id(1), "json");
    ledger.forget(id(2));
    let failed = ledger.take_changes();
    ledger.set_format(id(0), "text");
    ledger.forget(id(1));
    ledger.admit(new_row(2), AHEAD).unwrap();
    ledger.put_back(&failed);
    let mut again = ledger.take_changes();
    again.rows.sort_unstable_by_key(|row| row.id);
    let rows: Vec<_> = again.rows.iter().map(|row| (row.id, row.format.as_deref(), row.done)).collect();
    assert_eq!(rows, [(id(0), Some("text"), true), (id(2), None, false)]);
    assert_eq!(again.forgotten, [id(1)]);
    assert!(ledger.take_changes().is_empty());
}

#[test]
fn a_file_is_forgotten_when_what_is_in_flight_is_settled() {
    let mut ledger = ledger_with(1);
    ledger.read(&run(0, 0, 10, 1), None).unwrap();
    ledger.forget(id(0));
    let span = Span { start: 10, end: 20 };
    assert_eq!(ledger.read(&run(0, 10, 20, 1), None), Err(LedgerError::Forgotten { file: id(0), span }));
    assert!(ledger.take_changes().forgotten.is_empty());
    ledger.settle(id(0), Span { start: 0, end: 10 }, created(1)).unwrap();
    assert_eq!(ledger.position(id(0)), None);
    assert_eq!(ledger.take_changes().forgotten, [id(0)]);
    assert_eq!(ledger.totals().outcomes, created(1), "totals remember it");
    assert_eq!(ledger.imbalances(), []);
}

#[test]
fn what_a_source_settled_stays_its_own_when_files_are_forgotten() {
    let mut ledger = Ledger::default();
    for (n, source) in [(0, "web"), (1, "web"), (2, "app")] {
        ledger.admit(FileRow { source: source.into(), ..new_row(n) }, AHEAD).unwrap();
        ledger.read(&run(n, 0, 10, n + 1), None).unwrap();
        ledger.read(&run(n, 10, 20, 5), None).unwrap();
        // Behind an unsettled span it counts too.
        ledger.settle(id(n), Span { start: 10, end: 20 }, created(5)).unwrap();
    }
    let all = |ledger: &Ledger| {
        let of = |name: &str| ledger.by_source().get(name).copied().unwrap_or_default().created;
        (of("web"), of("app"))
    };
    assert_eq!(all(&ledger), (10, 5));
    for n in 0..3 {
        ledger.settle(id(n), Span { start: 0, end: 10 }, created(n + 1)).unwrap();
    }
    assert_eq!(all(&ledger), (13, 8));
    ledger.forget(id(0));
    ledger.forget(id(2));
    assert_eq!(all(&ledger), (13, 8));
    assert_eq!(ledger.imbalances(), []);
}

#[test]
fn counts_that_do_not_add_up_are_named_with_their_file() {
    let mut ledger = ledger_with(3);
    ledger.read(&run(1, 0, 10, 2), None).unwrap();
    ledger.settle(id(1), Span { start: 0, end: 10 }, created(2)).unwrap();
    assert_eq!(ledger.imbalances(), []);
    ledger.unbalance(id(1));
    let path = Arc::clone(&ledger.row(id(1)).unwrap().path);
    let totals = Totals { lines: 3, outcomes: created(2), in_flight: 0, lag: 0 };
    let rule = "lines read = settled + in flight";
    assert_eq!(ledger.imbalances(), [Imbalance { file: Some((id(1), path)), totals, rule }]);
    // And where each file adds up, all together must.
    let mut ledger = ledger_with(1);
    ledger.totals.in_flight += 1;
    let totals = Totals { in_flight: 1, ..Totals::default() };
    assert_eq!(ledger.imbalances(), [Imbalance { file: None, totals, rule: "the sum over all files = totals" }]);
}

#[test]
fn seeing_an_unchanged_file_again_is_written_once_an_hour() {
    let mut ledger = ledger_with(1);
    commit(&mut ledger);
    let row = ledger.row(id(0)).unwrap().clone();
    let hour = row.last_seen / 3600 * 3600 + 3600;
    let mut rows_after = |size, at| {
        let seen = Seen { path: row.path.clone(), inode: row.inode, size, mtime_ns: row.mtime_ns, at };
        assert!(ledger.see(id(0), &seen));
        ledger.take_changes().rows.len()
    };
    assert_eq!(rows_after(row.size, hour - 1), 0);
    assert_eq!(rows_after(row.size, hour), 1);
    assert_eq!(rows_after(row.size, hour + 10), 0);
    assert_eq!(rows_after(row.size + 1, hour + 20), 1);
}

#[test]
fn every_column_is_covered_by_the_checksum() {
    let base = full_row(7);
    let variants = [
        FileRow { id: id(8), ..base.clone() },
        FileRow { source: "x".into(), ..base.clone() },
        FileRow { path: Path::new("/x").into(), ..base.clone() },
        FileRow { inode: 1, ..base.clone() },
        FileRow { birth_ns: 1, ..base.clone() },
        FileRow { head_len: 1, ..base.clone() },
        FileRow { head_hash: 1, ..base.clone() },
        FileRow { ordinal: 9, ..base.clone() },
        FileRow { position: Position { offset: 1, ..base.position }, ..base.clone() },
        FileRow { position: Position { tail_hash: 1, ..base.position }, ..base.clone() },
        FileRow { reserved: 1, ..base.clone() },
        FileRow { size: 1, ..base.clone() },
        FileRow { mtime_ns: 1, ..base.clone() },
        FileRow { format: None, ..base.clone() },
        FileRow { last_time_ns: Some(0), ..base.clone() },
        FileRow { done: false, ..base.clone() },
        FileRow { outcomes: Outcomes { created: 99, ..base.outcomes }, ..base.clone() },
        FileRow { outcomes: Outcomes { duplicate: 99, ..base.outcomes }, ..base.clone() },
        FileRow { outcomes: Outcomes { dead_lettered: 99, ..base.outcomes }, ..base.clone() },
        FileRow { outcomes: Outcomes { skipped: 99, ..base.outcomes }, ..base.clone() },
        FileRow { first_seen: 1, ..base.clone() },
        FileRow { last_seen: 1, ..base.clone() },
    ];
    for variant in variants {
        assert_ne!(variant.checksum(), base.checksum(), "{variant:?}");
    }
}

/// What a file is, told in the plainest way: all its spans, each with its lines and its outcome.
#[derive(Debug, Default)]
struct Model {
    spans: Vec<(Span, u64, Option<Outcomes>)>,
}

impl Model {
    fn end(&self) -> u64 {
        self.spans.last().map_or(0, |(span, ..)| span.end)
    }

    fn settled_prefix(&self) -> u64 {
        let unsettled = self.spans.iter().find(|(.., outcomes)| outcomes.is_none());
        unsettled.map_or(self.end(), |(span, ..)| span.start)
    }

    fn totals(&self) -> Totals {
        let mut totals = Totals { lag: self.end() - self.settled_prefix(), ..Totals::default() };
        for (_, lines, outcomes) in &self.spans {
            totals.lines += lines;
            match outcomes {
                Some(outcomes) => totals.outcomes += *outcomes,
                None => totals.in_flight += lines,
            }
        }
        totals
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Reads on; `skew` bytes off the place where reading stands.
    Read {
        file: u64,
        skew: i64,
        len: u64,
        lines: u64,
    },
    /// Settles one of the spans, by index; `extra` outcomes too many.
    Settle {
        file: u64,
        index: prop::sample::Index,
        kind: u8,
        extra: u64,
    },
    /// Settles a span that need not exist.
    SettleAny {
        file: u64,
        start: u64,
        end: u64,
    },
    Reserve {
        file: u64,
    },
    Commit {
        fails: bool,
    },
    Lower,
}

fn step() -> impl Strategy<Value = Step> {
    let file = 0..4_u64; // file 3 does not exist
    let mostly_zero = prop_oneof![9 => Just(0_i64), 1 => -2..3_i64];
    prop_oneof![
        6 => (file.clone(), mostly_zero, 0..40_u64, 0..5_u64)
            .prop_map(|(file, skew, len, lines)| Step::Read { file, skew, len, lines }),
        8 => (file.clone(), any::<prop::sample::Index>(), 0..4_u8, prop_oneof![9 => Just(0_u64), 1 => Just(1)])
            .prop_map(|(file, index, kind, extra)| Step::Settle { file, index, kind, extra }),
        1 => (file.clone(), 0..60_u64, 0..60_u64).prop_map(|(file, start, end)| Step::SettleAny { file, start, end }),
        2 => file.prop_map(|file| Step::Reserve { file }),
        2 => any::<bool>().prop_map(|fails| Step::Commit { fails }),
        1 => Just(Step::Lower),
    ]
}

fn outcomes_of(kind: u8, lines: u64) -> Outcomes {
    let mut outcomes = Outcomes::default();
    match kind {
        0 => outcomes.created = lines,
        1 => outcomes.duplicate = lines,
        2 => outcomes.dead_lettered = lines,
        _ => outcomes.skipped = lines,
    }
    outcomes
}

proptest! {
    #[test]
    fn any_interleaving_agrees_with_the_model(steps in prop::collection::vec(step(), 1..120)) {
        let mut ledger = ledger_with(3);
        let mut models: [Model; 3] = Default::default();
        let mut disk: BTreeMap<FileId, FileRow> = BTreeMap::new();
        for step in steps {
            let before = format!("{ledger:?}");
            let refused = match step {
                Step::Read { file, skew, len, lines } => {
                    let model = models.get_mut(usize::try_from(file).unwrap());
                    let stands = model.as_ref().map_or(0, |model| model.end());
                    let start = stands.saturating_add_signed(skew);
                    let valid = model.is_some() && start == stands && len > 0;
                    let result = ledger.read(&run(file, start, start + len, lines), None);
                    prop_assert_eq!(result.is_ok(), valid);
                    if let Some(model) = model.filter(|_| valid) {
                        model.spans.push((Span { start, end: start + len }, lines, None));
                    }
                    !valid
                }
                Step::Settle { file, index, kind, extra } => {
                    let Some(model) = models.get_mut(usize::try_from(file).unwrap()) else { continue };
                    if model.spans.is_empty() { continue }
                    let (span, lines, outcomes) = index.get(&model.spans);
                    let (span, lines, valid) = (*span, *lines, outcomes.is_none() && extra == 0);
                    let given = outcomes_of(kind, lines + extra);
                    prop_assert_eq!(ledger.settle(id(file), span, given).is_ok(), valid);
                    if valid {
                        model.spans.iter_mut().find(|(other, ..)| *other == span).unwrap().2 = Some(given);
                    }
                    !valid
                }
                Step::SettleAny { file, start, end } => {
                    let model = models.get(usize::try_from(file).unwrap());
                    let exists = model.is_some_and(|model| model.spans.iter().any(|(span, ..)| *span == Span { start, end }));
                    if exists { continue }
                    let result = ledger.settle(id(file), Span { start, end }, Outcomes::default());
                    prop_assert!(result.is_err());
                    true
                }
                Step::Reserve { file } => {
                    let end = models.get(usize::try_from(file).unwrap()).map(Model::end);
                    let result = ledger.raise_reservations(&[(id(file), end.unwrap_or(0))], AHEAD);
                    prop_assert_eq!(result.is_ok(), end.is_some());
                    end.is_none()
                }
                Step::Commit { fails } => {
                    let changes = ledger.take_changes();
                    if fails {
                        ledger.put_back(&changes);
                    } else {
                        disk.extend(changes.rows.iter().map(|row| (row.id, row.clone())));
                        ledger.committed(&changes);
                    }
                    false
                }
                Step::Lower => {
                    ledger.lower_reservations();
                    false
                }
            };
            if refused {
                prop_assert_eq!(before, format!("{ledger:?}"), "a refused call changes nothing");
            }
            assert_eq!(ledger.imbalances(), []);
            let mut sum = Totals::default();
            for (n, model) in (0..).zip(&models) {
                prop_assert_eq!(offset(&ledger, n), model.settled_prefix());
                let totals = ledger.file_totals(id(n)).unwrap();
                prop_assert_eq!(totals, model.totals());
                sum.lines += totals.lines;
                sum.outcomes += totals.outcomes;
                sum.in_flight += totals.in_flight;
                sum.lag += totals.lag;
                if let Some(row) = disk.get(&id(n)) {
                    prop_assert!(row.position.offset <= model.settled_prefix());
                    prop_assert!(row.reserved >= row.position.offset);
                    prop_assert!(!ledger.is_reserved(id(n), row.reserved + 1), "relied on more than the disk has");
                }
            }
            prop_assert_eq!(ledger.totals(), sum);
            let mut of_sources = Outcomes::default();
            ledger.by_source().into_values().for_each(|outcomes| of_sources += outcomes);
            prop_assert_eq!(of_sources, sum.outcomes);
        }
        // What is on disk after one more commit is what the ledger holds.
        disk.extend(ledger.take_changes().rows.into_iter().map(|row| (row.id, row)));
        for n in 0..3 {
            prop_assert_eq!(disk.get(&id(n)), ledger.row(id(n)));
        }
    }
}
