//! A TCP proxy that spoils what passes through it: in front of a real node it makes the faults of a network and of the
//! proxies that people have there, at the moment a test chooses, and counts what it did.
//!
//! It knows as little HTTP as it must: where a request and its reply end, and the request line. A request is read whole,
//! then passed on, then its reply is read whole and passed back; a client that goes away meanwhile does not stop what was
//! passed on. What is to happen is a list of rules that can be changed at any time; a request meets the first that fits.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// What happens to a request or its reply.
#[derive(Clone)]
pub enum Fault {
    /// The request is passed on after so long, whether the client is still there or not.
    Delay(Duration),
    /// The request is kept until the rule is lifted, then passed on, whether the client is still there or not.
    Keep,
    /// The reply comes in pieces of so many bytes, one each time.
    Drip(usize, Duration),
    /// The request is passed on; its reply is not: the connection is closed instead.
    LoseReply,
    /// The request is passed on; of its reply only half comes, then the connection is closed.
    HalfReply,
    /// The request is swallowed and never answered; the connection stays open until the rule is lifted.
    BlackHole,
    /// The request is not passed on, and answered so.
    Say(Response),
    /// The request is passed on, and its reply changed.
    Change(Arc<dyn Fn(Response) -> Response + Send + Sync>),
}

impl Fault {
    /// A reply that is changed by `change` after the request was done.
    pub fn change(change: impl Fn(Response) -> Response + Send + Sync + 'static) -> Self {
        Self::Change(Arc::new(change))
    }

    /// The name by which it is counted.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Delay(_) => "delay",
            Self::Keep => "keep",
            Self::Drip(..) => "drip",
            Self::LoseReply => "lose_reply",
            Self::HalfReply => "half_reply",
            Self::BlackHole => "black_hole",
            Self::Say(_) => "say",
            Self::Change(_) => "change",
        }
    }
}

/// A reply, without the headers that only its transport needs.
#[derive(Clone, Debug, Default)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Name and value of each header; the length is added.
    pub headers: Vec<(String, String)>,
    /// All of the body.
    pub body: Vec<u8>,
}

impl Response {
    /// A reply of this type.
    #[must_use]
    pub fn new(status: u16, content_type: &str, body: &str) -> Self {
        let headers = vec![("content-type".to_owned(), content_type.to_owned())];
        Self { status, headers, body: body.as_bytes().to_vec() }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = format!("HTTP/1.1 {} scripted\r\n", self.status);
        for (name, value) in &self.headers {
            bytes += &format!("{name}: {value}\r\n");
        }
        bytes += &format!("content-length: {}\r\n\r\n", self.body.len());
        [bytes.into_bytes(), self.body.clone()].concat()
    }
}

/// Which requests meet a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Every one.
    Any,
    /// `_bulk` with documents.
    Bulk,
    /// Those whose request line, such as `POST /logs/_search?x=y HTTP/1.1`, contains this.
    Line(&'static str),
}

impl Which {
    fn fits(self, line: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Bulk => line.starts_with("POST ") && line.contains("/_bulk"),
            Self::Line(part) => line.contains(part),
        }
    }
}

/// How many requests meet a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// The next so many.
    Next(u64),
    /// All until the rule is lifted.
    Always,
}

/// A rule, to be lifted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RuleId(u64);

struct Rule {
    id: u64,
    which: Which,
    fault: Fault,
    times: Times,
    /// A rule that is used up is kept while a request that met it waits for it to be lifted.
    waiting: u64,
}

struct Shared {
    target: Mutex<SocketAddr>,
    rules: Mutex<Vec<Rule>>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    /// Grows with each change of the rules.
    changes: watch::Sender<u64>,
    /// Grows with each cut.
    cuts: watch::Sender<u64>,
    accepts: watch::Sender<bool>,
    open: watch::Sender<usize>,
}

/// The proxy; it ends when this is dropped.
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    /// Keeps the port while nothing listens there.
    _port: TcpSocket,
    runtime: Option<Runtime>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Proxy {
    /// A proxy on a free port of the loopback address, to `target`: `127.0.0.1:9200`, with or without `http://` before it.
    ///
    /// # Panics
    /// If there is no port, or `target` is no address.
    #[must_use]
    pub fn start(target: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let socket = |port| {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind((Ipv4Addr::LOCALHOST, port).into())?;
            Ok::<_, std::io::Error>(socket)
        };
        let port = socket(0).expect("a port");
        let address = port.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            target: Mutex::new(parse(target)),
            rules: Mutex::default(),
            counts: Mutex::default(),
            changes: watch::Sender::new(0),
            cuts: watch::Sender::new(0),
            accepts: watch::Sender::new(true),
            open: watch::Sender::new(0),
        });
        let listen = move || {
            // The loop below may have dropped the one before only just now.
            socket(address.port())?.listen(64)
        };
        let first = runtime.block_on(async { listen() }).expect("the port is ours");
        runtime.spawn(accept(Arc::clone(&shared), first, listen));
        Self { shared, address, _port: port, runtime: Some(runtime) }
    }

    /// Where it answers.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// New connections go to another target from now on.
    ///
    /// # Panics
    /// If it is no address.
    pub fn set_target(&self, target: &str) {
        *lock(&self.shared.target) = parse(target);
    }

    /// From now on these requests meet this fault, so many times.
    pub fn inject(&self, which: Which, fault: Fault, times: Times) -> RuleId {
        let mut rules = lock(&self.shared.rules);
        self.shared.changes.send_modify(|changes| *changes += 1);
        let id = *self.shared.changes.borrow();
        rules.push(Rule { id, which, fault, times, waiting: 0 });
        RuleId(id)
    }

    /// Ends a rule.
    pub fn lift(&self, rule: RuleId) {
        lock(&self.shared.rules).retain(|kept| kept.id != rule.0);
        self.shared.changes.send_modify(|changes| *changes += 1);
    }

    /// Ends all rules, and accepts connections.
    pub fn lift_all(&self) {
        lock(&self.shared.rules).clear();
        self.shared.changes.send_modify(|changes| *changes += 1);
        self.shared.accepts.send_replace(true);
    }

    /// Resets every connection that is open now; how many there were.
    pub fn cut(&self) -> usize {
        let open = *self.shared.open.borrow();
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
        self.shared.count("cut");
        open
    }

    /// Whether new connections are refused, as where nothing listens; those that are open stay.
    pub fn refuse(&self, refuses: bool) {
        if self.shared.accepts.send_replace(!refuses) && refuses {
            self.shared.count("refuse");
        }
    }

    /// How often so much happened, by the name of the fault: also `cut`, `refuse`, and beside the faults `request`, `bulk`
    /// (each that arrived) and `passed` (each that was answered by the target).
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        lock(&self.shared.counts).get(name).copied().unwrap_or(0)
    }

    /// All of these counts.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.shared.counts).clone()
    }
}

impl Shared {
    fn count(&self, name: &'static str) {
        *lock(&self.counts).entry(name).or_default() += 1;
    }

    /// The fault that a request meets, and its rule.
    fn meet(&self, line: &str) -> Option<(u64, Fault)> {
        let mut rules = lock(&self.rules);
        let rule = rules.iter_mut().find(|rule| rule.times != Times::Next(0) && rule.which.fits(line))?;
        if let Times::Next(times) = &mut rule.times {
            *times -= 1;
        }
        rule.waiting += u64::from(matches!(rule.fault, Fault::Keep | Fault::BlackHole));
        let met = (rule.id, rule.fault.clone());
        rules.retain(|rule| rule.times != Times::Next(0) || rule.waiting > 0);
        Some(met)
    }

    async fn lifted(&self, rule: u64) {
        let mut changes = self.changes.subscribe();
        while lock(&self.rules).iter().any(|kept| kept.id == rule) {
            // It cannot be closed: its sender is here.
            let _ = changes.changed().await;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn parse(target: &str) -> SocketAddr {
    let address = target.trim_start_matches("http://").trim_end_matches('/');
    address.parse().unwrap_or_else(|error| panic!("{target}: {error}"))
}

async fn accept(shared: Arc<Shared>, first: TcpListener, listen: impl Fn() -> std::io::Result<TcpListener>) {
    let mut accepts = shared.accepts.subscribe();
    let mut listener = Some(first);
    loop {
        let wanted = *accepts.borrow_and_update();
        match (&listener, wanted) {
            (Some(_), false) => listener = None,
            (None, true) => {
                listener = listen().ok();
                if listener.is_none() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                    continue;
                }
            }
            _ => {}
        }
        let Some(listener) = &listener else {
            if accepts.changed().await.is_err() {
                return;
            }
            continue;
        };
        tokio::select! {
            changed = accepts.changed() => if changed.is_err() { return },
            accepted = listener.accept() => if let Ok((client, _)) = accepted {
                tokio::spawn(serve(Arc::clone(&shared), client));
            },
        }
    }
}

async fn serve(shared: Arc<Shared>, mut client: TcpStream) {
    let mut cuts = shared.cuts.subscribe();
    shared.open.send_modify(|open| *open += 1);
    let _ = client.set_nodelay(true);
    let was_cut = tokio::select! {
        _ = cuts.changed() => true,
        _ = converse(&shared, &mut client) => false,
    };
    if was_cut {
        // Closed so, it is reset.
        let _ = client.set_zero_linger();
    }
    drop(client);
    shared.open.send_modify(|open| *open -= 1);
}

/// Passes requests and replies until one side ends.
async fn converse(shared: &Shared, client: &mut TcpStream) -> std::io::Result<()> {
    let mut upstream: Option<(SocketAddr, TcpStream)> = None;
    let (mut left, mut right) = (Vec::new(), Vec::new());
    while let Some(request) = read(client, &mut left, false).await? {
        let line = request.line();
        shared.count("request");
        if Which::Bulk.fits(&line) {
            shared.count("bulk");
        }
        let (rule, fault) = shared.meet(&line).unzip();
        let rule = rule.unwrap_or_default();
        if let Some(fault) = &fault {
            shared.count(fault.name());
        }
        match &fault {
            Some(Fault::Delay(time)) => tokio::time::sleep(*time).await,
            Some(Fault::Keep) => shared.lifted(rule).await,
            Some(Fault::BlackHole) => {
                shared.lifted(rule).await;
                return Ok(());
            }
            Some(Fault::Say(response)) => {
                client.write_all(&response.to_bytes()).await?;
                continue;
            }
            _ => {}
        }

        let target = *lock(&shared.target);
        let kept = upstream.take_if(|(at, stream)| *at == target && is_open(stream));
        let mut stream = match kept {
            Some((_, stream)) => stream,
            None => {
                right.clear();
                TcpStream::connect(target).await?
            }
        };
        let _ = stream.set_nodelay(true);
        stream.write_all(&request.bytes()).await?;
        let reply = read(&mut stream, &mut right, line.starts_with("HEAD ")).await?;
        let Some(reply) = reply else { return Ok(()) };
        shared.count("passed");
        upstream = Some((target, stream));
        match fault {
            Some(Fault::LoseReply) => return Ok(()),
            Some(Fault::HalfReply) => {
                let bytes = reply.bytes();
                client.write_all(&bytes[..reply.head.len() + reply.body.len() / 2]).await?;
                return Ok(());
            }
            Some(Fault::Drip(piece, every)) => {
                for piece in reply.bytes().chunks(piece.max(1)) {
                    client.write_all(piece).await?;
                    tokio::time::sleep(every).await;
                }
            }
            Some(Fault::Change(change)) => client.write_all(&change(reply.response()).to_bytes()).await?,
            _ => client.write_all(&reply.bytes()).await?,
        }
    }
    Ok(())
}

/// Whether the other side has not closed it.
fn is_open(stream: &TcpStream) -> bool {
    matches!(stream.try_read(&mut [0; 1]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

/// A request or a reply as it came.
struct Message {
    /// With the blank line at its end.
    head: Vec<u8>,
    /// With the frames of its chunks, if it is in chunks.
    body: Vec<u8>,
}

impl Message {
    fn bytes(&self) -> Vec<u8> {
        [&self.head[..], &self.body[..]].concat()
    }

    fn line(&self) -> String {
        let line = self.head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        String::from_utf8_lossy(line).into_owned()
    }

    fn headers(&self) -> Vec<(String, String)> {
        let head = String::from_utf8_lossy(&self.head);
        let pairs = head.lines().skip(1).filter_map(|line| line.split_once(':'));
        pairs.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect()
    }

    fn header(&self, name: &str) -> Option<String> {
        self.headers().into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    fn is_chunked(&self) -> bool {
        self.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"))
    }

    /// Status of a reply; 0 for a request.
    fn status(&self) -> u16 {
        self.line().split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
    }

    fn response(&self) -> Response {
        let mut headers = self.headers();
        headers.retain(|(name, _)| name != "content-length" && name != "transfer-encoding");
        let body = if self.is_chunked() { without_frames(&self.body) } else { self.body.clone() };
        Response { status: self.status(), headers, body }
    }
}

fn without_frames(mut framed: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = find(framed, b"\r\n") {
        let length = chunk_length(&framed[..end]);
        let rest = &framed[end + 2..];
        if length == 0 || rest.len() < length + 2 {
            break;
        }
        body.extend_from_slice(&rest[..length]);
        framed = &rest[length + 2..];
    }
    body
}

fn chunk_length(line: &[u8]) -> usize {
    let text = String::from_utf8_lossy(line);
    usize::from_str_radix(text.split(';').next().unwrap_or_default().trim(), 16).unwrap_or(0)
}

/// Reads a message from `stream`; `buffer` holds what was read beyond the one before. `None` at a clean end.
async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>, bare: bool) -> std::io::Result<Option<Message>> {
    let end = loop {
        match find(buffer, b"\r\n\r\n") {
            Some(end) => break end + 4,
            None if !more(stream, buffer).await? => return Ok(None),
            None => {}
        }
    };
    let head = buffer.drain(..end).collect();
    let mut message = Message { head, body: Vec::new() };
    let status = message.status();
    let length = message.header("content-length").and_then(|value| value.parse::<usize>().ok());
    if bare || matches!(status, 100..=199 | 204 | 304) {
        return Ok(Some(message));
    }
    if message.is_chunked() {
        loop {
            let line = upto(stream, buffer, &mut message.body, b"\r\n").await?;
            let length = chunk_length(&line);
            if length == 0 {
                break;
            }
            take(stream, buffer, &mut message.body, length + 2).await?;
        }
        // What follows the last chunk ends with a blank line.
        while upto(stream, buffer, &mut message.body, b"\r\n").await? != b"\r\n" {}
    } else if let Some(length) = length {
        take(stream, buffer, &mut message.body, length).await?;
    } else if status != 0 {
        while more(stream, buffer).await? {}
        message.body.append(buffer);
    }
    Ok(Some(message))
}

async fn more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> std::io::Result<bool> {
    buffer.reserve(64 << 10);
    Ok(stream.read_buf(buffer).await? > 0)
}

async fn take(stream: &mut TcpStream, buffer: &mut Vec<u8>, into: &mut Vec<u8>, length: usize) -> std::io::Result<()> {
    while buffer.len() < length {
        if !more(stream, buffer).await? {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    into.extend(buffer.drain(..length));
    Ok(())
}

async fn upto(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    into: &mut Vec<u8>,
    end: &[u8],
) -> std::io::Result<Vec<u8>> {
    let at = loop {
        match find(buffer, end) {
            Some(at) => break at + end.len(),
            None if !more(stream, buffer).await? => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            None => {}
        }
    };
    let line: Vec<u8> = buffer.drain(..at).collect();
    into.extend_from_slice(&line);
    Ok(line)
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, part)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::time::Instant;

    use super::*;
    use crate::node::{PATIENCE, until};

    /// Answers each request with its request line and body, in two chunks.
    fn echo() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound").to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                std::thread::spawn(move || {
                    let mut seen = Vec::new();
                    let mut piece = [0; 1000];
                    while let Ok(read @ 1..) = stream.read(&mut piece) {
                        seen.extend_from_slice(&piece[..read]);
                        let Some(end) = find(&seen, b"\r\n\r\nbody") else { continue };
                        let line = seen.split(|byte| *byte == b'\r').next().unwrap_or_default().to_vec();
                        seen.drain(..end + 8);
                        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                        let _ = write!(stream, "{head}{:x}\r\n", line.len());
                        let _ = stream.write_all(&[&line[..], b"\r\n4\r\nbody\r\n0\r\n\r\n"].concat());
                    }
                });
            }
        });
        address
    }

    fn connect(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect(proxy.address).expect("it accepts");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time");
        stream
    }

    fn send(stream: &mut TcpStream, path: &str) {
        write!(stream, "POST {path} HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody").expect("sent");
    }

    /// What comes until the end of the last chunk, or until the connection ends.
    fn receive(stream: &mut TcpStream) -> Result<String, std::io::Error> {
        let mut all = Vec::new();
        let mut piece = [0; 1000];
        while !all.ends_with(b"0\r\n\r\n") {
            match stream.read(&mut piece)? {
                0 => break,
                read => all.extend_from_slice(&piece[..read]),
            }
        }
        Ok(String::from_utf8_lossy(&all).into_owned())
    }

    fn ask(stream: &mut TcpStream, path: &str) -> String {
        send(stream, path);
        receive(stream).unwrap_or_else(|error| format!("{error:?}"))
    }

    #[test]
    fn without_a_rule_everything_passes_unchanged_on_one_connection() {
        let proxy = Proxy::start(&echo());
        let mut stream = connect(&proxy);
        for n in 0..3 {
            let reply = ask(&mut stream, &format!("/{n}/_bulk"));
            assert!(reply.ends_with(&format!("POST /{n}/_bulk HTTP/1.1\r\n4\r\nbody\r\n0\r\n\r\n")), "{reply}");
        }
        assert_eq!(proxy.counts(), BTreeMap::from([("bulk", 3), ("passed", 3), ("request", 3)]));
    }

    #[test]
    fn a_reply_is_lost_halved_changed_and_dripped_after_the_request_was_passed() {
        let proxy = Proxy::start(&echo());
        proxy.inject(Which::Bulk, Fault::LoseReply, Times::Next(1));
        let mut stream = connect(&proxy);
        assert!(ask(&mut stream, "/other").contains("/other"));
        assert_eq!(ask(&mut stream, "/_bulk"), "");
        assert_eq!(proxy.count("passed"), 2);

        proxy.inject(Which::Any, Fault::HalfReply, Times::Next(1));
        let half = ask(&mut connect(&proxy), "/_bulk");
        assert!(half.starts_with("HTTP/1.1 200") && !half.contains("body"), "{half}");

        let upper = |reply: Response| Response { body: reply.body.to_ascii_uppercase(), ..reply };
        proxy.inject(Which::Any, Fault::change(upper), Times::Next(1));
        let mut stream = connect(&proxy);
        send(&mut stream, "/_bulk");
        let mut reply = vec![0; 500];
        let read = stream.read(&mut reply).expect("a reply");
        assert!(String::from_utf8_lossy(&reply[..read]).ends_with("POST /_BULK HTTP/1.1BODY"), "{reply:?}");

        proxy.inject(Which::Any, Fault::Drip(10, Duration::from_millis(10)), Times::Next(1));
        let began = Instant::now();
        assert!(ask(&mut stream, "/slow").contains("/slow"));
        assert!(began.elapsed() >= Duration::from_millis(50), "{:?}", began.elapsed());
        assert_eq!(proxy.count("passed"), 5);
    }

    #[test]
    fn a_request_is_kept_or_swallowed_until_told() {
        let proxy = Proxy::start(&echo());
        let kept = proxy.inject(Which::Any, Fault::Keep, Times::Next(1));
        let mut stream = connect(&proxy);
        send(&mut stream, "/kept");
        until("the request", PATIENCE, || (proxy.count("keep") > 0).then_some(()));
        drop(stream);
        assert!(ask(&mut connect(&proxy), "/other").contains("/other"), "a rule for one request is for one");
        assert_eq!(proxy.count("passed"), 1);
        proxy.lift(kept);
        until("it to be passed on", PATIENCE, || (proxy.count("passed") == 2).then_some(()));

        let hole = proxy.inject(Which::Line("/hole"), Fault::BlackHole, Times::Always);
        let mut stream = connect(&proxy);
        stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a time");
        send(&mut stream, "/hole");
        assert!(receive(&mut stream).is_err());
        proxy.lift(hole);
        stream.set_read_timeout(None).expect("a time");
        assert_eq!(receive(&mut stream).expect("an end"), "");
        assert_eq!(proxy.count("passed"), 2);
    }

    #[test]
    fn connections_are_reset_and_refused_and_accepted_again_at_the_same_port() {
        let proxy = Proxy::start(&echo());
        let mut stream = connect(&proxy);
        assert!(ask(&mut stream, "/a").contains("/a"));
        assert_eq!(proxy.cut(), 1);
        let error = receive(&mut stream).expect_err("reset");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        for _ in 0..3 {
            let mut open = connect(&proxy);
            assert!(ask(&mut open, "/open").contains("/open"));
            proxy.refuse(true);
            until("it to refuse", PATIENCE, || TcpStream::connect(proxy.address).is_err().then_some(()));
            let error = TcpStream::connect(proxy.address).expect_err("refused");
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
            assert!(ask(&mut open, "/open").contains("/open"), "what is open stays");
            proxy.refuse(false);
            until("it to accept", PATIENCE, || TcpStream::connect(proxy.address).ok());
            assert!(ask(&mut connect(&proxy), "/b").contains("/b"));
        }
        assert_eq!((proxy.count("cut"), proxy.count("refuse")), (1, 3));
    }

    #[test]
    fn the_target_can_be_replaced_and_a_reply_invented() {
        let proxy = Proxy::start("127.0.0.1:9");
        assert_eq!(ask(&mut connect(&proxy), "/nowhere"), "");
        proxy.set_target(&format!("http://{}/", echo()));
        let mut stream = connect(&proxy);
        assert!(ask(&mut stream, "/somewhere").contains("/somewhere"));
        let rule = proxy.inject(Which::Any, Fault::Say(Response::new(502, "text/html", "0\r\n\r\n")), Times::Always);
        let said = ask(&mut stream, "/somewhere");
        assert!(said.starts_with("HTTP/1.1 502") && said.contains("content-type: text/html"), "{said}");
        proxy.lift(rule);
        assert!(ask(&mut stream, "/somewhere").contains("/somewhere"));
    }
}
