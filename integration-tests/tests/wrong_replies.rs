//! What stands between logweir and Elasticsearch may answer anything: nothing is taken for an answer that is none, what
//! may have been applied is looked up, and a look-up that is not answered whole proves nothing.

use std::io::Write as _;

use integration_tests::Way;
use integration_tests::numbered::counted;
use integration_tests::proxy::{Fault, Response, Times, Which};
use serde_json::{Value, json};

const HTML: &str = "<html><body>Welcome to the hotel's network</body></html>";

fn way(name: &str, sections: &str) -> Way {
    Way::new(&format!("wrong.{name}"), "request_timeout: 20s, retry: {max_delay: 300ms}", sections)
}

/// Changes what the cluster said.
fn said(body: impl Fn(Vec<u8>) -> Vec<u8> + Send + Sync + 'static) -> Fault {
    Fault::change(move |reply| Response { body: body(reply.body.clone()), ..reply })
}

fn html(status: u16) -> Response {
    Response::new(status, "text/html", HTML)
}

fn gzip_garbage() -> Fault {
    Fault::change(|mut reply| {
        reply.headers.push(("content-encoding".to_owned(), "gzip".to_owned()));
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&reply.body).expect("memory");
        reply.body = packed.finish().expect("memory");
        let middle = reply.body.len() / 2;
        reply.body[middle..].fill(0x55);
        reply
    })
}

fn one_item_short() -> Fault {
    said(|body| {
        let mut answer: Value = serde_json::from_slice(&body).expect("JSON");
        answer["items"].as_array_mut().and_then(Vec::pop).expect("an item");
        answer.to_string().into_bytes()
    })
}

#[test]
fn a_wrong_reply_to_documents_is_no_answer_whether_they_were_applied_or_not() {
    let way = way("bulk", "");
    let daemon = way.started(10);
    let mut lines = 10;
    // Applied, then another answer; each before a rollover, so that only a look-up can know.
    let applied = [
        ("html 200", Fault::change(|_| html(200))),
        ("html 502", Fault::change(|_| html(502))),
        ("html 504", Fault::change(|_| html(504))),
        ("nothing", said(|_| Vec::new())),
        ("half of the JSON", said(|body| body[..body.len() / 2].to_vec())),
        ("JSON of another shape", said(|_| br#"{"acknowledged":true}"#.to_vec())),
        ("a list", said(|_| b"[]".to_vec())),
        ("no items", said(|_| br#"{"errors":false,"items":[]}"#.to_vec())),
        ("an item less", one_item_short()),
        ("gzip garbage", gzip_garbage()),
        ("half a reply", Fault::HalfReply),
    ];
    for (what, fault) in applied {
        let name = fault.name();
        let times = way.proxy.count(name) + 1;
        way.proxy.inject(Which::Bulk, fault, Times::Next(1));
        let kept = way.proxy.inject(Which::Any, Fault::Keep, Times::Always);
        way.append(lines..lines + 20);
        lines += 20;
        way.done(name, times);
        way.roll_over();
        way.proxy.lift(kept);
        counted(way.node, &way.target, lines, &daemon);
        println!("{what}");
        way.looked_up(&daemon, lines - 10);
    }
    // Not passed on at all.
    for status in [200, 204, 302, 400, 403, 404, 405, 429, 500, 502, 503] {
        let times = way.proxy.count("say") + 2;
        way.proxy.inject(Which::Bulk, Fault::Say(html(status)), Times::Next(2));
        way.append(lines..lines + 20);
        lines += 20;
        way.done("say", times);
        counted(way.node, &way.target, lines, &daemon);
    }
    way.ends(daemon, lines);
}

#[test]
fn a_look_up_that_is_answered_wrongly_or_in_part_never_means_not_there() {
    let way = way("lookup", "");
    let daemon = way.started(10);
    let mut lines = 10;
    let in_part = r#"{"timed_out":false,"_shards":{"total":2,"successful":1,"failed":1},"hits":{"hits":[]}}"#;
    let json = |status, body| Response::new(status, "application/json", body);
    for (part, response) in [
        ("/_search", html(200)),
        ("/_search", html(404)),
        (
            "/_search",
            json(503, r#"{"error":{"type":"search_phase_execution_exception","reason":"all shards failed"}}"#),
        ),
        ("/_search", json(200, in_part)),
        ("/_refresh", html(200)),
        ("/_refresh", html(404)),
        ("/_refresh", json(200, r#"{"_shards":{"total":2,"successful":1,"failed":1}}"#)),
        ("/_tasks", html(200)),
        ("/_tasks", html(502)),
        ("/_settings", html(404)),
        ("/_settings", json(200, "")),
    ] {
        let what = format!("{part}: {response:?}");
        let lost = way.proxy.count("lose_reply") + 1;
        way.proxy.inject(Which::Bulk, Fault::LoseReply, Times::Next(1));
        let said = way.proxy.count("say");
        let wrong = way.proxy.inject(Which::Line(part), Fault::Say(response), Times::Always);
        let kept = way.proxy.inject(Which::Any, Fault::Keep, Times::Always);
        way.append(lines..lines + 20);
        lines += 20;
        way.done("lose_reply", lost);
        let bulk = way.proxy.count("bulk");
        way.roll_over();
        way.proxy.lift(kept);
        way.done("say", said + 3);
        assert_eq!(way.proxy.count("bulk"), bulk, "sent again after {what}\n{}", daemon.log());
        way.proxy.lift(wrong);
        println!("{what}");
        way.looked_up(&daemon, lines - 10);
    }
    way.ends(daemon, lines);
}

#[test]
fn templates_are_in_place_only_when_the_cluster_itself_has_said_so() {
    let way = way("setup", "");
    way.append(0..10);
    let page = way.proxy.inject(Which::Any, Fault::Say(html(200)), Times::Always);
    let daemon = way.workspace.start(&[]);
    way.done("say", 3);
    way.proxy.lift(page);
    // Now only what is put is answered by somebody else.
    let put = way.proxy.inject(Which::Line("PUT "), Fault::Say(html(200)), Times::Always);
    let said = way.proxy.count("say");
    way.done("say", said + 3);
    assert_eq!(way.proxy.count("bulk"), 0, "sent without templates\n{}", daemon.log());
    way.proxy.lift(put);
    counted(way.node, &way.target, 10, &daemon);
    let mapping = way.node.ok("GET", &format!("{}/_mapping/field/url.path", way.target), None);
    assert!(mapping.to_string().contains(r#""type":"keyword""#), "as templates have it: {mapping}");
    way.ends(daemon, 10);
}

#[test]
fn a_target_that_another_server_calls_empty_is_not_trusted_by_a_new_store() {
    let way = way("origin", "");
    way.append(0..100);
    let _ = way.workspace.run(&["run", "--once"]).ok();
    way.roll_over();
    std::fs::remove_dir_all(way.workspace.path("state")).expect("the store is there");
    // The first search is that which asks whether the target is empty.
    way.proxy.inject(Which::Line("/_search"), Fault::Say(html(200)), Times::Next(1));
    let red = r#"{"timed_out":false,"_shards":{"total":2,"successful":0,"failed":2},"hits":{"total":{"value":0}}}"#;
    let red = Response::new(200, "application/json", red);
    way.proxy.inject(Which::Line("/_search"), Fault::Say(red), Times::Next(1));
    way.proxy.inject(Which::Line("/_search"), Fault::Say(html(404)), Times::Next(1));
    let daemon = way.workspace.start(&[]);
    way.done("say", 3);
    way.looked_up(&daemon, 100);
    way.ends(daemon, 100);
}

#[test]
fn check_tells_elasticsearch_and_kibana_from_other_servers() {
    let way = way("check", "kibana: {url: '{url}'}");
    // Kibana is scripted: the same proxy answers for it at its own path.
    let kibana = json!({
        "name": "kibana", "version": {"number": "9.2.0", "build_number": 1},
        "status": {"overall": {"level": "available", "summary": "All services are available"}},
    });
    // To those who may not see more it tells only this.
    let little = json!({"status": {"overall": {"level": "available"}}});
    let json = |value: &Value| Response::new(200, "application/json", &value.to_string());
    for (path, response, status, words) in [
        ("/api/status", json(&kibana), 0, "kibana 9.2.0 answers"),
        ("/api/status", json(&little), 0, "kibana of unknown version answers"),
        ("/api/status", html(200), 69, "another server than kibana answers"),
        ("/api/status", html(502), 69, "kibana answers GET api/status with status 502"),
        (
            "/api/status",
            Response::new(401, "application/json", "{}"),
            69,
            "kibana answers GET api/status with status 401",
        ),
        ("GET / ", html(200), 69, "another server than elasticsearch answers"),
        ("GET / ", html(503), 69, "elasticsearch answers with status 503"),
    ] {
        let rule = way.proxy.inject(Which::Line(path), Fault::Say(response), Times::Always);
        let run = way.workspace.run(&["check"]);
        assert_eq!(run.status, Some(status), "{path} {words}: {}\n{}", run.stdout, run.stderr);
        assert!(run.stderr.contains(words), "{words}: {}", run.stderr);
        way.proxy.lift(rule);
    }
    let asked = way.proxy.count("request");
    let _ = way.workspace.run(&["check", "--offline"]).ok();
    assert_eq!(way.proxy.count("request"), asked, "asked nobody");
    // One of them is not there.
    let run = way.workspace.run(&["check", "--set", "kibana.url=http://127.0.0.1:9"]);
    assert!(run.status == Some(69) && run.stderr.contains("kibana: "), "{}\n{}", run.stdout, run.stderr);
    way.proxy.refuse(true);
    let run = way.workspace.run(&["check"]);
    assert!(run.status == Some(69) && run.stderr.contains("elasticsearch: "), "{}\n{}", run.stdout, run.stderr);
}
