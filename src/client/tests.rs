use std::time::Duration;

use integration_tests::fake::{Act, Fake};

use super::*;
use crate::config::units::Secret;

const DEADLINE: Duration = Duration::from_secs(20);

fn client(urls: &[&str], login: Login) -> Client {
    let urls = urls.iter().map(|&url| url.to_owned()).collect();
    let cfg = config::Elasticsearch { urls, ..config::Elasticsearch::default() };
    Client::new(&cfg, login).expect("client")
}

fn bulk(deadline: Duration) -> Request<'static> {
    let body = Some(Bytes::from_static(b"{\"create\":{\"_id\":\"a\"}}\n{}\n"));
    Request {
        body,
        kind: Kind::Ndjson,
        opaque_id: Some("me-1"),
        ..Request::new(Method::Post, "logs-x/_bulk", deadline)
    }
}

#[tokio::test]
async fn a_request_says_who_it_is_and_keeps_to_plain_content_types() {
    let fake = Fake::start().await.expect("fake");
    let client = client(&[fake.url()], Login::ApiKey(Secret::new("a2V5".to_owned())));
    let query = &[("filter_path", "items.*.status,errors")];
    let reply = client.send(Request { query, ..bulk(DEADLINE) }).await.expect("reply");
    assert_eq!((reply.status, reply.node), (200, 0));
    let seen = fake.seen("_bulk").remove(0);
    assert_eq!(seen.line, "POST /logs-x/_bulk?filter_path=items.*.status,errors HTTP/1.1");
    for (name, value) in [
        ("content-type", "application/x-ndjson"),
        ("accept", "application/json"),
        ("user-agent", AGENT),
        ("authorization", "ApiKey a2V5"),
        ("x-opaque-id", "me-1"),
    ] {
        assert_eq!(seen.headers.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!seen.headers.contains_key("x-elastic-client-meta"));
}

#[tokio::test]
async fn the_path_of_an_address_is_kept() {
    let fake = Fake::start().await.expect("fake");
    let login = Login::Basic { username: "u".to_owned(), password: Secret::new("p".to_owned()) };
    let client = client(&[&format!("{}/behind/proxy", fake.url())], login);
    client.send(bulk(DEADLINE)).await.expect("reply");
    let seen = fake.seen("POST /behind/proxy/logs-x/_bulk").remove(0);
    assert_eq!(seen.headers["authorization"], "Basic dTpw");
}

#[tokio::test]
async fn a_node_that_is_not_there_is_told_from_one_that_does_not_answer() {
    let fake = Fake::start().await.expect("fake");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("port").local_addr().expect("address");
    let nobody = client(&[&format!("http://{closed}")], Login::None);
    assert!(matches!(nobody.send(bulk(DEADLINE)).await, Err(SendError::NotSent { .. })));

    let there = client(&[fake.url()], Login::None);
    fake.script(&[Act::Close]);
    assert!(matches!(there.send(bulk(DEADLINE)).await, Err(SendError::Ambiguous { .. })));
    fake.script(&[Act::Apply, Act::Cut]);
    assert!(matches!(there.send(bulk(DEADLINE)).await, Err(SendError::Ambiguous { .. })));
    fake.script(&[Act::Wait(Duration::from_secs(3600))]);
    assert!(matches!(there.send(bulk(Duration::from_millis(50))).await, Err(SendError::Ambiguous { .. })));
}

#[tokio::test]
async fn requests_go_to_nodes_that_answer() {
    let fake = Fake::start().await.expect("fake");
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("port").local_addr().expect("address");
    let client = client(&[&format!("http://{closed}"), fake.url()], Login::None);
    assert!(client.send(bulk(DEADLINE)).await.is_err());
    for _ in 0..4 {
        assert_eq!(client.send(bulk(DEADLINE)).await.expect("the other node").node, 1);
    }
}

#[tokio::test]
async fn retry_after_is_told() {
    let fake = Fake::start().await.expect("fake");
    fake.script(&[Act::SayLater(429, 7)]);
    let reply = client(&[fake.url()], Login::None).send(bulk(DEADLINE)).await.expect("reply");
    assert_eq!((reply.status, reply.retry_after), (429, Some(Duration::from_secs(7))));
}

#[tokio::test]
async fn a_cluster_without_a_front_page_is_a_cluster() {
    let fake = Fake::start().await.expect("fake");
    let client = client(&[fake.url()], Login::None);
    assert_eq!(client.info(DEADLINE).await.expect("info").version.as_deref(), Some("9.2.0"));
    fake.deny("/", 404, "no handler");
    assert_eq!(client.info(DEADLINE).await.expect("info"), Info::default());
}

#[tokio::test]
async fn what_is_no_cluster_says_nothing_of_a_cluster() {
    let fake = Fake::start().await.expect("fake");
    let client = client(&[fake.url()], Login::None);
    for (status, body) in [(200, "<html>welcome</html>"), (502, "<html>bad gateway</html>"), (503, "{}"), (429, "")] {
        fake.relent();
        fake.deny("/", status, body);
        assert!(client.info(DEADLINE).await.is_err(), "{status} {body}");
    }
}

#[test]
fn a_wrong_address_names_itself_and_no_password() {
    for (url, words) in [
        ("localhost:9200", "expected http:// or https://"),
        ("http://", "expected http://HOST:PORT"),
        ("http://me:secret@host:9200", "belongs into auth"),
        ("http://host:9200/?a=b", "nothing after the path"),
    ] {
        let cfg = config::Elasticsearch { urls: vec![url.to_owned()], ..config::Elasticsearch::default() };
        let error = Client::new(&cfg, Login::None).expect_err(url).to_string();
        assert!(error.contains(words) && !error.contains("secret"), "{url}: {error}");
    }
}

#[test]
fn a_certificate_file_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().expect("directory");
    let file = dir.path().join("ca.pem");
    std::fs::write(&file, "nonsense").expect("file");
    let ca = config::Tls { ca_file: Some(file.clone()), ..config::Tls::default() };
    let own = config::Tls { client_certificate_file: Some(file), ..config::Tls::default() };
    for tls in [ca, own] {
        let cfg = config::Elasticsearch { tls, ..config::Elasticsearch::default() };
        let error = Client::new(&cfg, Login::None).expect_err("nonsense").to_string();
        assert!(error.contains("ca.pem"), "{error}");
    }
}

#[test]
fn loopback_is_known_in_every_spelling() {
    assert!(client(&["http://localhost:1", "http://127.0.0.1:1", "http://[::1]:1"], Login::None).is_loopback());
    assert!(!client(&["http://localhost:1", "http://es.example:1"], Login::None).is_loopback());
}
