//! The stage against a scripted node. Delays are configured to milliseconds, so that nothing here waits for long.

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use integration_tests::Proxy;
use integration_tests::fake::{Act, Fake, Refusal};
use integration_tests::proxy::{Fault, Response, Times, Which};
use rand_like::Dice;
use tokio::sync::mpsc;

use super::dead_letter::DeadLetters;
use super::*;
use crate::client::{Client, Kind, Method, Request};
use crate::config::{ByteSize, Login, Retry};
use crate::record::{FileId, Item, LineId, Span};

const STREAM: &str = "logs-test-default";
const MS: Duration = Duration::from_millis(1);

/// Records what the stage says; panics where it says it twice or out of order.
#[derive(Default)]
struct Ledger {
    reserved: Mutex<Vec<u64>>,
    settled: Mutex<BTreeMap<u64, Outcomes>>,
    holds: Mutex<Vec<(String, String)>>,
    released: AtomicUsize,
}

impl Progress for Ledger {
    fn reserve<'a>(&'a self, runs: &'a [Run]) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        self.reserved.lock().expect("lock").extend(runs.iter().map(|run| run.span.start));
        Box::pin(std::future::ready(()))
    }

    fn settle(&self, run: &Run, outcomes: Outcomes) {
        assert_eq!(outcomes.total(), run.lines);
        let twice = self.settled.lock().expect("lock").insert(run.span.start, outcomes);
        assert!(twice.is_none(), "settled twice: {run:?}");
    }
}

impl Events for Ledger {
    fn hold(&self, _target: &str, cause: &str, words: &str) {
        self.holds.lock().expect("lock").push((cause.to_owned(), words.to_owned()));
    }

    fn released(&self, _target: &str) {
        self.released.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    }
}

/// A stage, its node, and everything it was told.
struct Bench {
    fake: Fake,
    ledger: Arc<Ledger>,
    cfg: config::Elasticsearch,
    letters: config::DeadLetters,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        let fake = Fake::start().await.expect("fake");
        let dir = tempfile::tempdir().expect("directory");
        let cfg = config::Elasticsearch {
            urls: vec![fake.url().to_owned()],
            retry: Retry { min_delay: config::Span::millis(1), max_delay: config::Span::millis(5) },
            request_timeout: config::Span::secs(20),
            ..config::Elasticsearch::default()
        };
        let letters = config::DeadLetters { path: dir.path().join("letters"), ..config::DeadLetters::default() };
        Self { fake, ledger: Arc::default(), cfg, letters, _dir: dir }
    }

    fn start(&self) -> (mpsc::Sender<Batch>, CancellationToken, tokio::task::JoinHandle<()>) {
        let deps = Deps {
            client: Arc::new(Client::new(&self.cfg, Login::None).expect("client")),
            progress: Arc::clone(&self.ledger) as Arc<dyn Progress>,
            dead_letters: Arc::new(DeadLetters::open(&self.letters).expect("dead letters")),
            events: Arc::clone(&self.ledger) as Arc<dyn Events>,
            instance: "test".to_owned(),
        };
        let (sender, receiver) = mpsc::channel(4);
        let stop = CancellationToken::new();
        let stage = tokio::spawn(Indexer::new(self.cfg.clone(), deps).run(receiver, stop.clone()));
        (sender, stop, stage)
    }

    /// Sends the batches through the stage to the end.
    async fn index(&self, batches: impl IntoIterator<Item = Batch>) {
        let (sender, _stop, stage) = self.start();
        for batch in batches {
            sender.send(batch).await.expect("stage");
        }
        drop(sender);
        tokio::time::timeout(Duration::from_secs(60), stage).await.expect("the stage ends").expect("no panic");
    }

    fn outcomes(&self) -> Outcomes {
        let mut all = Outcomes::default();
        self.ledger.settled.lock().expect("lock").values().for_each(|outcomes| all += *outcomes);
        all
    }

    fn letters(&self) -> Vec<dead_letter::Letter> {
        let mut letters = Vec::new();
        dead_letter::list(&self.letters.path, |letter| letters.push(letter)).expect("list");
        letters
    }

    #[track_caller]
    fn ended(&self, created: u64, duplicate: u64, dead_lettered: u64) {
        assert_eq!(self.outcomes(), Outcomes { created, duplicate, dead_lettered, skipped: 0 });
        for (id, copies) in self.fake.copies() {
            assert_eq!(copies, 1, "{id}");
        }
        assert_eq!(self.letters().len() as u64, dead_lettered);
    }

    /// Waits until `holds`.
    async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let wait = async {
            while !holds(self) {
                tokio::time::sleep(MS).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("what is waited for");
    }

    fn holds(&self) -> Vec<(String, String)> {
        self.ledger.holds.lock().expect("lock").clone()
    }
}

fn id(n: u64) -> LineId {
    LineId::new(FileId([7; 8]), n, b"")
}

/// A batch of documents `from..to`, two a run.
fn batch(from: u64, to: u64) -> Batch {
    let mut body = String::new();
    let mut items = Vec::new();
    let mut runs: Vec<Run> = Vec::new();
    for n in from..to {
        if (n - from).is_multiple_of(2) {
            runs.push(run(n));
        }
        let last = runs.last_mut().expect("a run");
        last.span.end = n + 1;
        last.lines += 1;
        let start = body.len() as u32;
        body.push_str(&format!("{{\"create\":{{\"_id\":\"{}\"}}}}\n", id(n).as_str()));
        let source = body.len() as u32;
        body.push_str(&format!("{{\"n\":{n}}}\n"));
        items.push(Item { start, source, run: runs.len() as u32 - 1, id: id(n), offset: n });
    }
    Batch { target: STREAM.into(), pipeline: None, body: Bytes::from(body), items, runs, share: None }
}

fn run(start: u64) -> Run {
    Run {
        file: FileId([7; 8]),
        path: Path::new("/var/log/a.log").into(),
        span: Span { start, end: start + 1 },
        tail_hash: 0,
        lines: 0,
        skipped: 0,
        doubtful: false,
        read_at: Instant::now(),
    }
}

fn doubtful(mut batch: Batch) -> Batch {
    batch.runs.iter_mut().for_each(|run| run.doubtful = true);
    batch
}

fn refusal(status: u16, kind: &'static str) -> Refusal {
    Refusal { status, kind, reason: "because", applied: false }
}

#[tokio::test]
async fn what_is_created_is_settled_once_a_run_and_reserved_before() {
    let bench = Bench::new().await;
    let mut skipped = run(100);
    (skipped.lines, skipped.skipped) = (3, 3);
    let mut third = batch(20, 24);
    third.runs.push(skipped.clone());
    bench.index([batch(0, 10), batch(10, 20), third]).await;
    assert_eq!(bench.outcomes(), Outcomes { created: 24, skipped: 3, ..Outcomes::default() });
    assert_eq!(bench.fake.copies().len(), 24);
    let mut reserved = bench.ledger.reserved.lock().expect("lock").clone();
    reserved.sort_unstable();
    assert_eq!(reserved.len(), 13);
    let names: std::collections::BTreeSet<_> =
        bench.fake.seen("_bulk").iter().map(|seen| seen.headers["x-opaque-id"].clone()).collect();
    assert_eq!(names.len(), 3);
    assert!(names.iter().all(|name| name.starts_with("logweir-test-")));
}

#[tokio::test]
async fn a_batch_without_documents_is_settled_without_a_request() {
    let bench = Bench::new().await;
    let mut empty = batch(0, 0);
    empty.runs.push(Run { lines: 5, skipped: 5, ..run(0) });
    bench.index([empty]).await;
    assert_eq!(bench.outcomes().skipped, 5);
    assert!(bench.fake.seen("").is_empty());
}

#[tokio::test]
async fn each_item_ends_by_its_own_answer() {
    let bench = Bench::new().await;
    bench.fake.put(STREAM, id(1).as_str());
    bench.fake.refuse(id(2).as_str(), refusal(400, "document_parsing_exception"));
    bench.fake.refuse(id(3).as_str(), refusal(429, "es_rejected_execution_exception"));
    bench.fake.refuse(id(4).as_str(), refusal(503, "unavailable_shards_exception"));
    bench.fake.refuse(id(5).as_str(), Refusal { applied: true, ..refusal(503, "unavailable_shards_exception") });
    bench.fake.refuse(id(6).as_str(), refusal(400, "something_new_exception"));
    bench.index([batch(0, 8)]).await;
    bench.ended(4, 2, 2);
    let letters = bench.letters();
    assert_eq!((letters[0].offset, letters[0].kind.as_str()), (2, "document_parsing_exception"));
    assert_eq!((letters[0].document.get(), letters[0].path.as_str()), (r#"{"n":2}"#, "/var/log/a.log"));
    assert_eq!(letters[1].kind, "something_new_exception");
    // Only what was left over was sent again.
    let again = &bench.fake.seen("_bulk")[1].body;
    assert_eq!(again.lines().filter(|line| line.contains("create")).count(), 2, "{again}");
}

#[tokio::test]
async fn what_had_no_whole_answer_is_looked_up_before_it_is_sent_again() {
    let html = Act::Say(200, "<html>busy</html>".to_owned());
    for (script, created, duplicate) in [
        (vec![Act::Apply, Act::Close], 0, 4),
        (vec![Act::Close], 4, 0),
        (vec![Act::Apply, Act::Cut], 0, 4),
        (vec![Act::Apply, Act::Half], 0, 4),
        (vec![Act::Apply, Act::OneShort], 0, 4),
        (vec![Act::Apply, html.clone()], 0, 4),
        (vec![html], 4, 0),
        (vec![Act::Apply, Act::Say(502, "bad gateway".to_owned())], 0, 4),
        (vec![Act::Apply, Act::Rollover, Act::Cut], 0, 4),
        (vec![Act::SayLater(429, 1)], 4, 0),
    ] {
        let bench = Bench::new().await;
        bench.fake.script(&script);
        bench.index([batch(0, 4)]).await;
        bench.ended(created, duplicate, 0);
        let looked_up = !bench.fake.seen("_search").is_empty();
        assert_eq!(looked_up, duplicate > 0, "{script:?}: nothing to search while there is no index");
    }
}

#[tokio::test]
async fn a_look_up_that_is_not_answered_whole_proves_nothing() {
    let html = "<html>not found</html>";
    for (path, status, body) in [
        ("_tasks", 200, html),
        ("_tasks", 200, r#"{"status":"ok"}"#),
        ("_tasks", 200, r#"{"node_failures":[{"type":"failed_node_exception"}],"nodes":{"n":{"name":"n"}}}"#),
        ("_tasks", 503, html),
        ("_settings", 200, html),
        ("_settings", 404, html),
        ("_refresh", 200, html),
        ("_refresh", 200, r#"{"_shards":{"failed":1}}"#),
        ("_refresh", 404, html),
        ("_refresh", 503, html),
        ("_search", 200, html),
        ("_search", 200, r#"{"timed_out":false,"_shards":{"failed":1},"hits":{"hits":[]}}"#),
        ("_search", 200, r#"{"timed_out":true,"_shards":{"failed":0},"hits":{"hits":[]}}"#),
        ("_search", 404, html),
        ("_search", 503, html),
    ] {
        let bench = Bench::new().await;
        bench.fake.script(&[Act::Apply, Act::Rollover, Act::Close]);
        bench.fake.deny(path, status, body);
        let (sender, _stop, stage) = bench.start();
        sender.send(batch(0, 4)).await.expect("stage");
        drop(sender);
        bench.until(|bench| bench.fake.seen(path).len() >= 3).await;
        assert_eq!(bench.fake.seen("_bulk").len(), 1, "{path} {status} {body}");
        bench.fake.relent();
        tokio::time::timeout(Duration::from_secs(60), stage).await.expect("the stage ends").expect("no panic");
        bench.ended(0, 4, 0);
    }
}

#[tokio::test]
async fn what_lands_behind_a_rollover_where_there_was_no_index_before_is_looked_up_once_more() {
    let mut bench = Bench::new().await;
    bench.cfg.request_timeout = config::Span::millis(300);
    bench.fake.script(&[Act::Close]);
    bench.fake.script(&[Act::Apply, Act::Rollover, Act::Apply, Act::Answer]);
    bench.index([batch(0, 2)]).await;
    bench.ended(2, 0, 0);
    assert_eq!(bench.fake.homes(id(1).as_str()), [format!(".ds-{STREAM}-2026.01.01-000001")]);
}

#[tokio::test]
async fn a_request_that_was_given_up_is_waited_for() {
    let mut bench = Bench::new().await;
    bench.cfg.request_timeout = config::Span::millis(400);
    bench.fake.put(STREAM, "other");
    bench.fake.script(&[Act::Wait(700 * MS), Act::Apply, Act::Rollover, Act::Answer]);
    bench.index([batch(0, 4)]).await;
    bench.ended(0, 4, 0);
    assert_eq!(bench.fake.seen("_bulk").len(), 1);
}

#[tokio::test]
async fn a_node_that_hangs_with_a_request_is_waited_for_although_the_others_know_nothing_of_it() {
    let mut bench = Bench::new().await;
    bench.cfg.request_timeout = config::Span::millis(400);
    bench.fake.put(STREAM, "other");
    let url = bench.fake.url().to_owned();
    let hangs = tokio::task::spawn_blocking(move || Proxy::start(&url)).await.expect("a proxy");
    bench.cfg.urls.insert(0, hangs.url());
    let kept = hangs.inject(Which::Bulk, Fault::Keep, Times::Next(1));
    let busy = Response::new(503, "application/json", "{}");
    let busy = hangs.inject(Which::Line("/_tasks"), Fault::Say(busy), Times::Always);
    let (sender, _stop, stage) = bench.start();
    sender.send(batch(0, 4)).await.expect("stage");
    drop(sender);
    // Through the proxy none of these comes: the other node has answered that it knows of none.
    bench.until(|bench| hangs.count("say") >= 3 && bench.fake.seen("_tasks").len() >= 3).await;
    assert_eq!(bench.fake.seen("_bulk").len(), 0, "not sent again");
    // It goes on, with what it knew before the rollover.
    hangs.lift(kept);
    bench.until(|bench| bench.fake.seen("_bulk").len() == 1).await;
    bench.fake.rollover(STREAM);
    hangs.lift(busy);
    tokio::time::timeout(Duration::from_secs(60), stage).await.expect("the stage ends").expect("no panic");
    bench.ended(0, 4, 0);
}

#[tokio::test]
async fn after_a_crash_requests_of_the_process_before_are_waited_for() {
    let bench = Bench::new().await;
    bench.fake.put(STREAM, "other");
    bench.fake.script(&[Act::Wait(300 * MS), Act::Apply, Act::Rollover, Act::Answer]);
    let client = Client::new(&bench.cfg, Login::None).expect("client");
    let before = batch(0, 4);
    let path = bulk_path(STREAM);
    let request = Request {
        body: Some(before.body.clone()),
        kind: Kind::Ndjson,
        opaque_id: Some("logweir-test-1234-1"),
        ..Request::new(Method::Post, &path, 50 * MS)
    };
    client.send(request).await.expect_err("killed");
    bench.index([doubtful(before)]).await;
    bench.ended(0, 4, 0);
}

#[tokio::test]
async fn doubtful_lines_are_looked_up_across_the_whole_data_stream() {
    let bench = Bench::new().await;
    for n in [0, 3] {
        bench.fake.put(STREAM, id(n).as_str());
        bench.fake.rollover(STREAM);
    }
    bench.index([doubtful(batch(0, 5))]).await;
    bench.ended(3, 2, 0);
}

#[tokio::test]
async fn a_look_up_that_is_too_large_is_halved() {
    let bench = Bench::new().await;
    for n in 0..20 {
        bench.fake.put(STREAM, id(n).as_str());
    }
    bench.fake.rollover(STREAM);
    bench.fake.limit_body(400);
    bench.index([doubtful(batch(0, 20))]).await;
    bench.ended(0, 20, 0);
    assert!(bench.fake.seen("_search").len() > 2);
}

#[tokio::test]
async fn of_two_copies_the_younger_is_deleted() {
    let bench = Bench::new().await;
    bench.fake.put(STREAM, id(0).as_str());
    bench.fake.rollover(STREAM);
    bench.fake.put(STREAM, id(0).as_str());
    bench.index([doubtful(batch(0, 1))]).await;
    bench.ended(0, 1, 0);
    assert_eq!(bench.fake.homes(id(0).as_str()), [format!(".ds-{STREAM}-2026.01.01-000001")]);
}

#[tokio::test]
async fn what_lands_in_another_index_than_noted_is_looked_up_once_more() {
    let mut bench = Bench::new().await;
    bench.cfg.request_timeout = config::Span::millis(300);
    bench.fake.put(STREAM, "other");
    bench.fake.script(&[Act::Close]);
    // The lost request arrives after the look-up, then a rollover, then ours.
    bench.fake.script(&[Act::Apply, Act::Rollover, Act::Apply, Act::Answer]);
    bench.index([batch(0, 2)]).await;
    bench.ended(2, 0, 0);
    assert_eq!(bench.fake.homes(id(1).as_str()), [format!(".ds-{STREAM}-2026.01.01-000001")]);
}

#[tokio::test]
async fn a_copy_that_comes_long_after_all_was_settled_is_deleted() {
    let mut bench = Bench::new().await;
    bench.cfg.request_timeout = config::Span::millis(300);
    bench.fake.put(STREAM, "other");
    bench.fake.script(&[Act::Close]);
    let (sender, _stop, stage) = bench.start();
    sender.send(batch(0, 2)).await.expect("stage");
    bench.until(|bench| bench.outcomes().created == 2).await;
    bench.fake.rollover(STREAM);
    bench.fake.put(STREAM, id(1).as_str());
    assert_eq!(bench.fake.homes(id(1).as_str()).len(), 2, "the copy is there");
    bench.until(|bench| bench.fake.homes(id(1).as_str()).len() == 1).await;
    assert_eq!(bench.fake.homes(id(1).as_str()), [format!(".ds-{STREAM}-2026.01.01-000001")]);
    drop(sender);
    stage.await.expect("no panic");
    bench.ended(2, 0, 0);
}

#[tokio::test]
async fn documents_that_name_their_index_need_no_look_up() {
    let bench = Bench::new().await;
    let mut dated = batch(0, 1);
    let action = format!("{{\"create\":{{\"_index\":\"web-2026.01.01\",\"_id\":\"{}\"}}}}\n", id(0).as_str());
    dated.target = "web-%Y.%m.%d".into();
    dated.items[0].source = action.len() as u32;
    dated.body = Bytes::from(format!("{action}{{}}\n"));
    bench.fake.script(&[Act::Apply, Act::Close]);
    bench.index([dated]).await;
    bench.ended(0, 1, 0);
    assert_eq!(bench.fake.seen("POST /_bulk?").len(), 2);
    assert!(bench.fake.seen("_search").is_empty());
}

#[tokio::test]
async fn a_request_that_is_too_large_is_halved_until_one_document_is_alone() {
    let bench = Bench::new().await;
    bench.fake.limit_body(200);
    let mut large = batch(0, 8);
    let huge = format!("{{\"create\":{{\"_id\":\"{}\"}}}}\n{{\"n\":\"{}\"}}\n", id(9).as_str(), "x".repeat(300));
    let start = large.body.len() as u32;
    large.items.push(Item { start, source: start + 50, run: 0, id: id(9), offset: 9 });
    large.runs[0].lines += 1;
    large.body = Bytes::from([&large.body[..], huge.as_bytes()].concat());
    bench.index([large]).await;
    bench.ended(8, 0, 1);
    assert_eq!((bench.letters()[0].offset, bench.letters()[0].status), (9, 413));
}

#[tokio::test]
async fn what_somebody_has_to_act_on_is_held_and_told_once() {
    for (status, body, advice) in [
        (401, r#"{"error":{"type":"security_exception","reason":"unable to authenticate"}}"#, "check the API key"),
        (403, r#"{"error":{"type":"security_exception","reason":"unauthorized"}}"#, "create_doc and auto_configure"),
        (404, r#"{"error":{"type":"index_not_found_exception","reason":"no such index"}}"#, "no such index"),
        (400, r#"{"error":{"type":"parse_exception","reason":"odd"}}"#, "odd"),
    ] {
        let bench = Bench::new().await;
        bench.fake.deny("_bulk", status, body);
        let (sender, _stop, stage) = bench.start();
        sender.send(batch(0, 4)).await.expect("stage");
        bench.until(|bench| bench.fake.seen("_bulk").len() > 5).await;
        assert_eq!(bench.holds().len(), 1);
        assert!(bench.holds()[0].1.contains(advice), "{:?}", bench.holds());
        bench.fake.relent();
        drop(sender);
        stage.await.expect("no panic");
        bench.ended(4, 0, 0);
        assert_eq!(bench.ledger.released.load(std::sync::atomic::Ordering::Relaxed), 1);
    }
}

#[tokio::test]
async fn what_is_held_with_an_error_of_the_server_may_have_been_applied() {
    let bench = Bench::new().await;
    bench.fake.script(&[Act::Apply, Act::Rollover, Act::Answer]);
    let refusal = Refusal { applied: true, ..refusal(503, "cluster_block_exception") };
    bench.fake.refuse(id(0).as_str(), refusal);
    bench.index([batch(0, 2)]).await;
    bench.ended(1, 1, 0);
}

#[tokio::test]
async fn a_look_up_that_is_not_allowed_holds_and_names_the_privileges() {
    let bench = Bench::new().await;
    bench.fake.put(STREAM, id(0).as_str());
    bench.fake.deny("_refresh", 403, r#"{"error":{"type":"security_exception","reason":"unauthorized"}}"#);
    let (sender, _stop, stage) = bench.start();
    sender.send(doubtful(batch(0, 2))).await.expect("stage");
    bench.until(|bench| bench.fake.seen("_refresh").len() > 3).await;
    assert!(bench.holds()[0].1.contains("maintenance"), "{:?}", bench.holds());
    assert!(bench.fake.seen("_bulk").is_empty());
    bench.fake.relent();
    drop(sender);
    stage.await.expect("no panic");
    bench.ended(1, 1, 0);
}

#[tokio::test]
async fn a_refusal_of_every_document_is_held_and_of_one_among_others_is_not() {
    let bench = Bench::new().await;
    for n in 0..4 {
        bench.fake.refuse(id(n).as_str(), refusal(400, "something_new_exception"));
    }
    bench.index([batch(0, 4)]).await;
    bench.ended(4, 0, 0);
    assert_eq!(bench.holds()[0].0, "something_new_exception");
}

#[tokio::test]
async fn a_document_refused_alone_is_dead_once_others_pass() {
    let bench = Bench::new().await;
    for _ in 0..10_000 {
        bench.fake.refuse(id(0).as_str(), refusal(400, "something_new_exception"));
    }
    let (sender, _stop, stage) = bench.start();
    sender.send(batch(0, 1)).await.expect("stage");
    bench.until(|bench| !bench.holds().is_empty()).await;
    assert!(bench.letters().is_empty());
    sender.send(batch(1, 3)).await.expect("stage");
    drop(sender);
    stage.await.expect("no panic");
    bench.ended(2, 0, 1);
}

#[tokio::test]
async fn full_dead_letters_hold_until_there_is_room() {
    let mut bench = Bench::new().await;
    bench.letters.max_bytes = ByteSize(300);
    for n in 0..2 {
        bench.fake.refuse(id(n).as_str(), refusal(400, "mapper_parsing_exception"));
    }
    let (sender, _stop, stage) = bench.start();
    sender.send(batch(0, 1)).await.expect("stage");
    bench.until(|bench| bench.letters().len() == 1).await;
    sender.send(batch(1, 2)).await.expect("stage");
    bench.until(|bench| bench.holds().iter().any(|(cause, _)| cause == "dead_letters_full")).await;
    assert_eq!(bench.outcomes().total(), 1);
    dead_letter::drop(&bench.letters.path, None).expect("drop");
    drop(sender);
    stage.await.expect("no panic");
    assert_eq!(bench.outcomes().dead_lettered, 2);
    assert_eq!(bench.letters().len(), 1);
}

#[tokio::test]
async fn stop_ends_everything_at_once_and_settles_nothing_more() {
    let bench = Bench::new().await;
    bench.fake.deny("_bulk", 429, "");
    let (sender, stop, stage) = bench.start();
    sender.send(batch(0, 4)).await.expect("stage");
    bench.until(|bench| !bench.fake.seen("_bulk").is_empty()).await;
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(5), stage).await.expect("at once").expect("no panic");
    assert_eq!(bench.outcomes().total(), 0);
    assert!(sender.is_closed());
}

#[tokio::test]
async fn in_an_outage_no_more_batches_are_taken_than_may_be_in_flight() {
    let bench = Bench::new().await;
    bench.fake.deny("_bulk", 503, "");
    let budget = crate::budget::Budget::new(1000);
    let (sender, stop, stage) = bench.start();
    let mut sent = 0;
    let deadline = Instant::now() + 300 * MS;
    loop {
        let share = budget.take(10, Duration::ZERO);
        let next = Batch { share, ..batch(sent * 2, sent * 2 + 2) };
        match tokio::time::timeout_at(deadline, sender.send(next)).await {
            Ok(result) => result.expect("stage"),
            Err(_) => break,
        }
        sent += 1;
    }
    // Eight in flight to start with, fewer later; four wait in the channel.
    assert!((5..=12).contains(&sent), "{sent}");
    stop.cancel();
    stage.await.expect("no panic");
    assert_eq!(budget.used(), 0);
}

#[tokio::test]
async fn bodies_can_be_compressed_and_documents_sent_through_a_pipeline() {
    let mut bench = Bench::new().await;
    bench.cfg.compression = Compression::Gzip;
    let piped = Batch { pipeline: Some("mine".into()), ..batch(0, 4) };
    bench.index([piped]).await;
    bench.ended(4, 0, 0);
    let seen = bench.fake.seen("pipeline=mine").remove(0);
    assert_eq!(seen.headers["content-encoding"], "gzip");
}

/// Whatever the node does, in whatever order, every document is there once or is a dead letter.
#[tokio::test]
async fn every_document_ends_once_whatever_the_node_does() {
    for seed in 0..16 {
        let mut bench = Bench::new().await;
        // Also the wait before what landed elsewhere is looked up once more.
        bench.cfg.request_timeout = config::Span::millis(100);
        let mut dice = Dice(seed);
        for _ in 0..12 {
            let mut acts = Vec::new();
            for _ in 0..dice.roll(2) {
                acts.push(Act::Rollover);
            }
            acts.extend((0..dice.roll(2)).map(|_| Act::Apply));
            for _ in 0..dice.roll(2) {
                acts.push(Act::Rollover);
            }
            acts.push(match dice.roll(9) {
                0 => Act::Close,
                1 => Act::Cut,
                2 => Act::Half,
                3 => Act::OneShort,
                4 => Act::Say(503, String::new()),
                5 => Act::Say(504, "<html>".to_owned()),
                6 => Act::Say(200, "<html>".to_owned()),
                7 => Act::Say(200, String::new()),
                _ => Act::Close,
            });
            bench.fake.script(&acts);
            bench.fake.script(&[Act::Apply, Act::Answer]);
        }
        let mut dead = std::collections::BTreeSet::new();
        for n in 0..60 {
            for _ in 0..dice.roll(3) {
                let (status, kind) = match dice.roll(12) {
                    0 => (429, "es_rejected_execution_exception"),
                    1 | 2 => (503, "unavailable_shards_exception"),
                    3 => (403, "cluster_block_exception"),
                    4 => (400, "document_parsing_exception"),
                    _ => continue,
                };
                let applied = status == 503 && dice.roll(2) == 0;
                bench.fake.refuse(id(n).as_str(), Refusal { applied, ..refusal(status, kind) });
                if status == 400 {
                    dead.insert(n);
                }
            }
        }
        bench.index((0..6).map(|n| batch(n * 10, n * 10 + 10))).await;
        assert_eq!(bench.outcomes().total(), 60, "seed {seed}");
        let letters: std::collections::BTreeSet<_> = bench.letters().iter().map(|letter| letter.offset).collect();
        let copies = bench.fake.copies();
        for n in 0..60 {
            let copies = copies.get(id(n).as_str()).copied().unwrap_or(0);
            let lettered = usize::from(letters.contains(&n));
            assert_eq!(copies + lettered, 1, "seed {seed}, document {n}: {copies} copies, {lettered} letters");
            assert!(lettered == 0 || dead.contains(&n));
        }
    }
}

mod rand_like {
    /// A small generator with a seed, so that a failure can be seen again.
    pub struct Dice(pub u64);

    impl Dice {
        /// A number below `sides`.
        pub fn roll(&mut self, sides: u64) -> u64 {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) % sides
        }
    }
}
